"""Every URL of the panel. The name is the view's and the test's."""

from django.urls import include, path

from cluster.account_urls import account_urls
from cluster.views import (
    account,
    api,
    approvals,
    audit,
    backends,
    bulk,
    clusters,
    directors,
    drains,
    drifts,
    health,
    imports,
    jobs,
    live,
    overview,
    people,
    profiles,
    revisions,
    roles,
    rollouts,
    services,
    switches,
)

# /clusters/…
cluster_urls = [
    path("", clusters.cluster_list, name="cluster-list"),
    path("table/", clusters.cluster_table, name="cluster-table"),
    path("new/", clusters.cluster_new, name="cluster-new"),
    path("<int:pk>/", clusters.cluster_detail, name="cluster-detail"),
    path("<int:pk>/directors/", clusters.cluster_directors, name="cluster-directors"),
    path("<int:pk>/edit/", clusters.cluster_edit, name="cluster-edit"),
    path("<int:pk>/remove/", clusters.cluster_remove, name="cluster-remove"),
    path("<int:pk>/switches/", switches.cluster_switches, name="cluster-switches"),
    path("<int:pk>/review/", clusters.cluster_review, name="cluster-review"),
    path("<int:pk>/live/", live.live_page, name="live"),
    path("<int:pk>/live/table/", live.live_table, name="live-table"),
    path("<int:pk>/import/", imports.cluster_import, name="cluster-import"),
    path("<int:pk>/draft/", revisions.cluster_draft, name="cluster-draft"),
    path("<int:pk>/draft/discard/", revisions.draft_discard, name="draft-discard"),
    path("<int:pk>/compare/", revisions.revision_compare, name="revision-compare"),
    path("<int:pk>/revisions/", revisions.revision_list, name="revision-list"),
    path("<int:pk>/revisions/<int:number>/", revisions.revision_detail, name="revision-detail"),
    path(
        "<int:pk>/revisions/<int:number>/roll-back/", revisions.revision_roll_back, name="revision-roll-back"
    ),
    path("<int:pk>/revisions/<int:number>/tag/", revisions.revision_tag, name="revision-tag"),
    path(
        "<int:pk>/revisions/<int:number>/export/<slug:kind>/",
        revisions.revision_export,
        name="revision-export",
    ),
    path("<int:pk>/drains/", drains.drain_list, name="drain-list"),
    path("<int:pk>/drains/new/", drains.drain_new, name="drain-new"),
    path("<int:pk>/bulk/", bulk.cluster_bulk, name="cluster-bulk"),
    path("<int:cluster_pk>/services/new/", services.service_new, name="service-new"),
]

# /services/…, /backends/…
service_urls = [
    path("services/", services.service_list, name="service-list"),
    path("services/<int:pk>/", services.service_detail, name="service-detail"),
    path("services/<int:pk>/edit/", services.service_edit, name="service-edit"),
    path("services/<int:pk>/remove/", services.service_remove, name="service-remove"),
    path("services/<int:pk>/health/", health.service_health, name="service-health"),
    path("services/<int:pk>/try/", health.service_try, name="service-try"),
    path("services/<int:service_pk>/backends/new/", backends.backend_new, name="backend-new"),
    path("backends/<int:pk>/edit/", backends.backend_edit, name="backend-edit"),
    path("backends/<int:pk>/health/", health.backend_health, name="backend-health"),
    path("backends/<int:pk>/set-weight/", backends.backend_set_weight, name="backend-set-weight"),
    path("backends/<int:pk>/remove/", backends.backend_remove, name="backend-remove"),
]

# /clusters/…/drift/, /drift/…
drift_urls = [
    path("clusters/<int:pk>/drift/", drifts.drift_list, name="drift-list"),
    path("clusters/<int:pk>/drift/table/", drifts.drift_table, name="drift-table"),
    path("clusters/<int:pk>/enforce/", drifts.cluster_enforce, name="cluster-enforce"),
    path("drift/<int:pk>/adopt/", drifts.drift_adopt, name="drift-adopt"),
    path("drift/<int:pk>/revert/", drifts.drift_revert, name="drift-revert"),
]

# /clusters/…/planned/, /rollouts/…, /planned/…
rollout_urls = [
    path("clusters/<int:pk>/changes/", rollouts.change_settings, name="change-settings"),
    path("clusters/<int:pk>/planned/", rollouts.planned_list, name="planned-list"),
    path("planned/<int:pk>/cancel/", rollouts.planned_cancel, name="planned-cancel"),
    path("rollouts/<int:pk>/live/", rollouts.rollout_live, name="rollout-live"),
    path("rollouts/<int:pk>/confirm/", rollouts.rollout_confirm, name="rollout-confirm"),
    path("rollouts/<int:pk>/go-back/", rollouts.rollout_go_back, name="rollout-go-back"),
]

# /drains/…
drain_urls = [
    path("<int:pk>/", drains.drain_detail, name="drain-detail"),
    path("<int:pk>/live/", drains.drain_live, name="drain-live"),
    path("<int:pk>/edit/", drains.drain_edit, name="drain-edit"),
    path("<int:pk>/cut/", drains.drain_cut, name="drain-cut"),
    path("<int:pk>/undrain/", drains.drain_undrain, name="drain-undrain"),
]

# /clusters/…/profiles/, /profiles/…
profile_urls = [
    path("clusters/<int:cluster_pk>/profiles/", profiles.profile_list, name="profile-list"),
    path("clusters/<int:cluster_pk>/profiles/new/", profiles.profile_new, name="profile-new"),
    path("profiles/<int:pk>/", profiles.profile_detail, name="profile-detail"),
    path("profiles/<int:pk>/edit/", profiles.profile_edit, name="profile-edit"),
    path("profiles/<int:pk>/remove/", profiles.profile_remove, name="profile-remove"),
    path("profiles/<int:pk>/use/", profiles.profile_use, name="profile-use"),
    path("profiles/<int:pk>/stop/", profiles.profile_stop, name="profile-stop"),
]

# /changes/…
change_urls = [
    path("", approvals.change_list, name="change-list"),
    path("<int:pk>/", approvals.change_detail, name="change-detail"),
    path("<int:pk>/answer/", approvals.change_answer, name="change-answer"),
    path("<int:pk>/withdraw/", approvals.change_withdraw, name="change-withdraw"),
]

# /directors/…
director_urls = [
    path("", directors.director_list, name="director-list"),
    path("table/", directors.director_table, name="director-table"),
    path("<int:pk>/", directors.director_detail, name="director-detail"),
    path("<int:pk>/facts/", directors.director_facts, name="director-facts"),
    path("<int:pk>/enrol/", directors.director_enrol, name="director-enrol"),
    path("<int:pk>/release/", directors.director_release, name="director-release"),
    path("<int:pk>/adopt/", imports.director_adopt, name="director-adopt"),
    path("<int:pk>/load-module/", directors.director_load_module, name="director-load-module"),
]

# /jobs/…, /audit/…
history_urls = [
    path("jobs/", jobs.job_list, name="job-list"),
    path("jobs/<int:pk>/", jobs.job_detail, name="job-detail"),
    path("jobs/<int:pk>/live/", jobs.job_live, name="job-live"),
    path("jobs/<int:pk>/again/", jobs.job_again, name="job-again"),
    path("audit/", audit.audit_list, name="audit-list"),
    path("audit/form/", audit.audit_form, name="audit-form"),
    path("audit/export/", audit.audit_export, name="audit-export"),
    path("audit/searches/new/", audit.audit_save_search, name="audit-save-search"),
    path("audit/searches/<int:pk>/remove/", audit.audit_remove_search, name="audit-remove-search"),
    path("audit/<int:sequence>/", audit.audit_detail, name="audit-detail"),
]

# /people/…, /account/…
people_urls = [
    path("people/", people.person_list, name="person-list"),
    path("people/new/", people.person_new, name="person-new"),
    path("people/<int:pk>/", people.person_detail, name="person-detail"),
    path("people/<int:pk>/give-role/", people.person_give_role, name="person-give-role"),
    path("people/<int:pk>/set-active/", people.person_set_active, name="person-set-active"),
    path("people/<int:pk>/reset-password/", people.person_reset_password, name="person-reset-password"),
    path("people/<int:pk>/tokens/new/", people.person_token_new, name="person-token-new"),
    path(
        "people/<int:pk>/tokens/<int:token_pk>/revoke/",
        people.person_token_revoke,
        name="person-token-revoke",
    ),
    path("service-accounts/new/", people.service_account_new, name="service-account-new"),
    path("bindings/<int:pk>/take/", people.binding_take, name="binding-take"),
    path("sign-in/", account.sign_in, name="login"),
    path("sign-out/", account.sign_out, name="logout"),
    path("account/", account.account, name="account"),
    path("account/tokens/new/", account.token_new, name="token-new"),
    path("account/tokens/<int:pk>/revoke/", account.token_revoke, name="token-revoke"),
]

# /groups/…, /roles/…
role_urls = [
    path("groups/", roles.group_list, name="group-list"),
    path("groups/new/", roles.group_new, name="group-new"),
    path("groups/<int:pk>/", roles.group_detail, name="group-detail"),
    path("groups/<int:pk>/remove/", roles.group_remove, name="group-remove"),
    path("groups/<int:pk>/give-role/", roles.group_give_role, name="group-give-role"),
    path("groups/<int:pk>/members/add/", roles.group_add_member, name="group-add-member"),
    path(
        "groups/<int:pk>/members/<int:user_pk>/remove/", roles.group_remove_member, name="group-remove-member"
    ),
    path("roles/", roles.role_list, name="role-list"),
    path("roles/new/", roles.role_new, name="role-new"),
    path("roles/<int:pk>/edit/", roles.role_edit, name="role-edit"),
    path("roles/<int:pk>/remove/", roles.role_remove, name="role-remove"),
]

# /api/v1/…
api_urls = [
    path("clusters/", api.api_clusters, name="api-clusters"),
    path("clusters/<int:pk>/live/", api.api_cluster_live, name="api-cluster-live"),
    path("<path:rest>", api.api_nowhere, name="api-nowhere"),
]


urlpatterns = [
    path("", overview.overview, name="overview"),
    path("healthz", overview.healthz, name="healthz"),
    path("clusters/", include(cluster_urls)),
    path("changes/", include(change_urls)),
    path("directors/", include(director_urls)),
    path("drains/", include(drain_urls)),
    path("api/v1/", include(api_urls)),
    *service_urls,
    *profile_urls,
    *rollout_urls,
    *drift_urls,
    *history_urls,
    *people_urls,
    *role_urls,
    *account_urls,
]
