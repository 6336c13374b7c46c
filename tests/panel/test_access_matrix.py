"""Every URL, every role, in one's own cluster and in somebody else's.

The names come from the URL conf, so a page without a row here fails. What each role holds is said here once
more, by hand: the table of the product must not be its own judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from cluster.actions import drains, tokens
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.state import Table
from cluster.ipvs.traffic.policy import Target
from cluster.models import (
    AuditEntry,
    Backend,
    ChangeRequest,
    Cluster,
    CustomRole,
    Director,
    Drift,
    Job,
    PlannedApply,
    RoleBinding,
    Rollout,
    Run,
    VirtualService,
    WeightProfile,
)
from cluster.permissions import PERMISSIONS, may
from tests.panel.conftest import ANN, person

ALL = "everywhere"
SIGNED_IN = ""


@dataclass(frozen=True)
class Row:
    """The arguments of a URL, and which permission its methods need: in the cluster `web`, or everywhere.
    A method that is not named is answered with 405."""

    arguments: tuple[str, ...] = ()
    get: str | None = None
    post: str | None = None
    where: str = "web"


def _form(*arguments: str, needs: str, where: str = "web") -> Row:
    return Row(arguments, needs, needs, where)


MATRIX = {
    "overview": Row(get=SIGNED_IN),
    "cluster-list": Row(get=SIGNED_IN),
    "cluster-table": Row(get=SIGNED_IN),
    "cluster-directors": Row(("cluster",), get="view"),
    "cluster-new": _form(needs="administer", where=ALL),
    "cluster-detail": Row(("cluster",), get="view"),
    "cluster-edit": _form("cluster", needs="administer"),
    "cluster-remove": _form("cluster", needs="administer"),
    "cluster-switches": Row(("cluster",), get="view", post="administer"),
    "cluster-review": Row(("cluster",), get="view", post="apply"),
    "live": Row(("cluster",), get="view"),
    "live-table": Row(("cluster",), get="view"),
    "cluster-bulk": Row(("cluster",), post="operate"),
    "drift-list": Row(("cluster",), get="view"),
    "drift-table": Row(("cluster",), get="view"),
    "drift-adopt": Row(("drift",), post="edit"),
    "drift-revert": _form("drift", needs="apply"),
    "cluster-enforce": _form("cluster", needs="administer"),
    "change-settings": _form("cluster", needs="administer"),
    "planned-list": Row(("cluster",), get="view"),
    "planned-cancel": Row(("planned",), post="apply"),
    "rollout-live": Row(("rollout",), get="view"),
    "rollout-confirm": Row(("rollout",), post="apply"),
    "rollout-go-back": _form("rollout", needs="apply"),
    "drain-list": Row(("cluster",), get="view"),
    "drain-new": _form("cluster", needs="operate"),
    "drain-detail": Row(("drain",), get="view"),
    "drain-live": Row(("drain",), get="view"),
    "drain-edit": _form("drain", needs="operate"),
    "drain-cut": _form("drain", needs="operate"),
    "drain-undrain": _form("drain", needs="operate"),
    "change-list": Row(get=SIGNED_IN),
    "change-detail": Row(("change",), get="view"),
    "change-answer": Row(("change",), post="approve"),
    "change-withdraw": Row(("change",), post="edit"),
    "revision-compare": Row(("cluster",), get="view"),
    "revision-roll-back": _form("cluster", "revision", needs="edit"),
    "revision-tag": Row(("cluster", "revision"), post="edit"),
    "revision-export": Row(("cluster", "revision", "kind"), post="view"),
    "cluster-draft": Row(("cluster",), get="view"),
    "draft-discard": Row(("cluster",), post="edit"),
    "revision-list": Row(("cluster",), get="view"),
    "revision-detail": Row(("cluster", "revision"), get="view"),
    "cluster-import": _form("cluster", needs="edit"),
    "service-new": _form("cluster", needs="edit"),
    "service-list": Row(get=SIGNED_IN),
    "service-detail": Row(("service",), get="view"),
    "service-edit": _form("service", needs="edit"),
    "service-remove": _form("service", needs="edit"),
    "service-health": _form("service", needs="edit"),
    "service-try": Row(("service",), post="operate"),
    "backend-health": _form("backend", needs="edit"),
    "backend-new": _form("service", needs="edit"),
    "backend-edit": _form("backend", needs="edit"),
    "backend-set-weight": Row(("backend",), post="operate"),
    "backend-remove": _form("removed backend", needs="edit"),
    "profile-list": Row(("cluster",), get="view"),
    "profile-new": _form("cluster", needs="operate"),
    "profile-detail": Row(("profile",), get="view"),
    "profile-edit": _form("profile", needs="operate"),
    "profile-remove": _form("removed profile", needs="operate"),
    "profile-use": _form("profile", needs="operate"),
    "profile-stop": _form("profile", needs="operate"),
    "director-list": Row(get=SIGNED_IN),
    "director-table": Row(get=SIGNED_IN),
    "director-detail": Row(("director",), get="view"),
    "director-facts": Row(("director",), get="view"),
    "director-enrol": _form("director", needs="administer", where=ALL),
    "director-release": _form("director", needs="administer"),
    "director-adopt": _form("director", needs="edit"),
    "director-load-module": Row(("director",), post="operate"),
    "job-list": Row(get=SIGNED_IN),
    "job-detail": Row(("job",), get="view"),
    "job-live": Row(("job",), get="view"),
    "job-again": Row(("job",), post="apply"),
    "audit-list": Row(get=SIGNED_IN),
    "audit-form": Row(get=SIGNED_IN),
    "audit-export": Row(post=SIGNED_IN),
    "audit-save-search": Row(post=SIGNED_IN),
    "audit-remove-search": Row(("token",), post=SIGNED_IN),
    "audit-detail": Row(("audit",), get="view"),
    "person-list": Row(get="audit", where=ALL),
    "person-detail": Row(("user",), get="audit", where=ALL),
    "person-new": _form(needs="administer", where=ALL),
    "person-give-role": _form("user", needs="administer", where=ALL),
    "person-set-active": Row(("user",), post="administer", where=ALL),
    "person-reset-password": _form("user", needs="administer", where=ALL),
    "person-token-new": _form("program", needs="administer", where=ALL),
    "person-token-revoke": Row(("user", "token"), post="administer", where=ALL),
    "service-account-new": _form(needs="administer", where=ALL),
    "binding-take": Row(("binding",), post="administer", where=ALL),
    "group-list": Row(get="audit", where=ALL),
    "group-new": _form(needs="administer", where=ALL),
    "group-detail": Row(("group",), get="audit", where=ALL),
    "group-remove": _form("group", needs="administer", where=ALL),
    "group-give-role": _form("group", needs="administer", where=ALL),
    "group-add-member": Row(("group",), post="administer", where=ALL),
    "group-remove-member": Row(("group", "user"), post="administer", where=ALL),
    "role-list": Row(get="audit", where=ALL),
    "role-new": _form(needs="administer", where=ALL),
    "role-edit": _form("role", needs="administer", where=ALL),
    "role-remove": _form("role", needs="administer", where=ALL),
    "account": Row(get=SIGNED_IN, post=SIGNED_IN),
    "token-new": Row(get=SIGNED_IN, post=SIGNED_IN),
    "token-revoke": Row(("token",), post=SIGNED_IN),
    "logout": Row(post=SIGNED_IN),
    "sessions": Row(get=SIGNED_IN),
    "sessions-end-others": Row(post=SIGNED_IN),
    "session-end": Row(("token",), post=SIGNED_IN),
    "person-end-sessions": Row(("user",), post="administer", where=ALL),
}
PUBLIC = {
    *("login", "healthz", "one-time-link", "account_login", "mfa_authenticate", "mfa_login_webauthn"),
    *("openid_connect_login", "openid_connect_callback"),
}
# Pages of the library that signs people in: each shows what is one's own, where there is something.
OWN = {
    *("account_reauthenticate", "mfa_reauthenticate", "mfa_reauthenticate_webauthn", "go-on"),
    *("mfa_index", "mfa_list_webauthn", "mfa_activate_totp", "mfa_deactivate_totp", "mfa_add_webauthn"),
    *("mfa_remove_webauthn", "mfa_view_recovery_codes", "mfa_generate_recovery_codes"),
}
# With a token in place of a session; what the token's owner needs.
API = {
    "api-clusters": Row(get=SIGNED_IN),
    "api-cluster-live": Row(("cluster",), get="view"),
    "api-nowhere": Row(("rest",), get="nobody has this"),
}
HELD = {
    "viewer": {"view"},
    "operator": {"view", "edit", "operate", "apply"},
    "approver": {"view", "approve"},
    "auditor": {"view", "audit"},
    "administrator": {"view", "edit", "operate", "apply", "approve", "administer", "audit"},
    "night shift": {"view", "operate"},
    "nobody": set(),
}
PLACES = ("everywhere", "web", "other", "web, by a group")
# A group is another way to the same grants: two roles show that it leads there.
EVERYBODY = [
    (role, place)
    for role in HELD
    for place in PLACES
    if (role in ("operator", "administrator") or not place.endswith("by a group"))
    and (role != "nobody" or place == "everywhere")
]
# Whoever sees a cluster brings nothing along from another one where they may do everything.
EVERYBODY.append(("viewer", "web, and all of other"))


def _patterns(resolver: URLResolver) -> Iterator[URLPattern]:
    for one in resolver.url_patterns:
        if isinstance(one, URLResolver):
            yield from _patterns(one)
        else:
            yield one


VIEWS = {str(one.name): one.callback for one in _patterns(get_resolver())}


@pytest.fixture
def nouns(run: Run, backend: Backend, service: VirtualService, director: Director) -> dict[str, Any]:
    """Arguments by noun. What a request would remove is made anew for each."""
    target = Target(address=backend.address)
    drain = drains.drain(
        service.cluster,
        [target],
        begins_at=None,
        ends_at=None,
        cut_at=None,
        reason="a test",
        by=ANN,
        may_refuse_clients=True,
    )
    entry = AuditEntry.objects.filter(cluster="web").first()
    assert entry is not None
    victim = User.objects.create_user("victim")
    program = tokens.add_service_account(username="bot", purpose="a test", by=ANN)
    counted = iter(range(10_000))

    def another_backend() -> int:
        address = f"192.168.60.{next(counted) % 250 + 1}"
        return Backend.objects.get_or_create(service=service, address=address, port=80)[0].pk

    rollout = Rollout.objects.create(cluster=service.cluster, revision=run.job.revision, job=run.job)
    planned = PlannedApply.objects.create(
        cluster=service.cluster, table={}, begins_at=timezone.now(), ends_at=timezone.now()
    )
    drift = Drift.objects.create(
        cluster=service.cluster,
        director=director,
        label="TCP 192.168.50.10:80",
        place={"service": {"protocol": "tcp", "address": "192.168.50.10", "port": 80}, "backend": None},
        right_at=timezone.now(),
        wrong_at=timezone.now(),
    )
    return {
        "cluster": service.cluster_id,
        "drift": drift.pk,
        "rollout": rollout.pk,
        "planned": planned.pk,
        "drain": drain.pk,
        "service": service.pk,
        "backend": backend.pk,
        "removed backend": another_backend,
        "director": director.pk,
        "job": run.job_id,
        "revision": 1,
        "kind": "json",
        "profile": WeightProfile.objects.create(cluster=service.cluster, name="night").pk,
        "removed profile": lambda: (
            WeightProfile.objects.create(cluster=service.cluster, name=f"p{next(counted)}").pk
        ),
        "audit": entry.sequence,
        "user": victim.pk,
        "change": ChangeRequest.objects.create(
            cluster=service.cluster, author_name="ann", reason="x", table=to_document(Table())
        ).pk,
        "program": program.pk,
        "token": 10_000,
        "binding": lambda: (
            RoleBinding.objects.get_or_create(user=victim, role="viewer", cluster=service.cluster)[0].pk
        ),
        "group": lambda: Group.objects.create(name=f"g{next(counted)}").pk,
        "role": lambda: CustomRole.objects.create(name=f"r{next(counted)}", permissions=["view"]).pk,
        "rest": "no/such/page/",
    }


def somebody(role: str, place: str, clusters: dict[str, Cluster]) -> Client:
    """A browser of somebody new with this role in this place."""
    client = person(f"{role} {place}".replace(" ", "-").replace(",", ""), None)
    user = User.objects.get(pk=client.session["_auth_user_id"])
    if role == "nobody":
        return client
    columns: dict[str, Any] = {"role": role}
    if role == "night shift":
        own, _ = CustomRole.objects.get_or_create(name=role, permissions=["view", "operate"])
        columns = {"custom": own}
    if place.endswith("by a group"):
        columns["group"] = Group.objects.create(name=user.get_username())
        columns["group"].user_set.add(user)
    else:
        columns["user"] = user
    RoleBinding.objects.create(cluster=clusters.get(place.partition(",")[0]), **columns)
    if place.endswith("all of other"):
        RoleBinding.objects.create(user=user, role="administrator", cluster=clusters["other"])
    return client


def expected(needs: str, where: str, role: str, place: str) -> str:
    """What the answer has to be: "in", "refused" (403), or "unseen" (404)."""
    if needs == SIGNED_IN:
        return "in"
    held = HELD[role] if place != "other" else set()
    if where == ALL:
        return "in" if place == "everywhere" and needs in held else "out"
    if "view" not in held:
        return "unseen"
    return "in" if needs in held else "refused"


def check(status: int, wanted: str, what: str) -> None:
    if wanted == "in":
        assert status in (200, 204, 286, 302, 422), (what, status)
    else:
        assert status in {"refused": (403,), "unseen": (404,), "out": (403, 404)}[wanted], (what, status)


def url_of(name: str, row: Row, nouns: dict[str, Any]) -> str:
    found: list[Any] = [nouns[noun] for noun in row.arguments]
    return reverse(name, args=[one() if callable(one) else one for one in found])


def test_every_url_is_in_the_matrix() -> None:
    assert set(VIEWS) == set(MATRIX) | PUBLIC | OWN | set(API)


def test_the_table_of_roles_is_the_one_that_is_written_here() -> None:
    from cluster.permissions import BUILT_IN

    assert {name: set(held) for name, held in BUILT_IN.items()} == {
        name: held for name, held in HELD.items() if name not in ("night shift", "nobody")
    }
    assert set(PERMISSIONS) == HELD["administrator"]


@pytest.mark.parametrize("name", MATRIX)
def test_a_page_opens_for_whom_it_should_alone(
    name: str, nouns: dict[str, Any], web: Cluster, other: Cluster, ann: Client
) -> None:
    row, clusters = MATRIX[name], {"web": web, "other": other}
    for role, place in EVERYBODY:
        client = somebody(role, place, clusters)
        for method in ("get", "post"):
            needs = getattr(row, method)
            status = getattr(client, method)(url_of(name, row, nouns)).status_code
            if needs is None:
                assert status == 405, (method, status)
                continue
            check(status, expected(needs, row.where, role, place), f"{method} as {role} of {place}")
        if getattr(VIEWS[name], "is_poll", False):
            headers = {"HX-Request": "true"}
            status = client.get(url_of(name, row, nouns), headers=headers).status_code
            check(status, expected(row.get or "", row.where, role, place), f"part as {role} of {place}")


@pytest.mark.parametrize("name", API)
def test_the_api_answers_each_role_with_what_is_its_own(
    name: str, nouns: dict[str, Any], web: Cluster, other: Cluster, ann: Client
) -> None:
    row, url = API[name], url_of(name, API[name], nouns)
    for role, place in EVERYBODY:
        if role == "nobody":
            continue
        client = somebody(role, place, {"web": web, "other": other})
        owner = User.objects.get(pk=client.session["_auth_user_id"])
        text = tokens.create_token(owner, name="t", permissions=HELD[role], by=ANN)
        response = Client().get(url, headers={"Authorization": f"Bearer {text}"})
        if name == "api-nowhere":
            assert response.status_code == 404
        else:
            check(response.status_code, expected(row.get or "", "web", role, place), f"{role} of {place}")
        if name == "api-clusters":
            seen = {one["name"] for one in response.json()["clusters"]}
            both = place in ("everywhere", "web, and all of other")
            assert seen == ({"web", "other"} if both else {place.partition(",")[0]})
        assert client.get(url).status_code == 401, "a session is not a token"


@pytest.mark.parametrize("name", API)
def test_every_failure_of_the_api_has_one_form(name: str, nouns: dict[str, Any]) -> None:
    url = url_of(name, API[name], nouns)
    for response in (Client().get(url), Client().post(url), Client().delete(url)):
        said = json.loads(response.content)["error"]
        assert response.status_code in (401, 405)
        assert set(said) == {"code", "text", "request_id"} and said["request_id"]


@pytest.mark.parametrize("name", MATRIX)
def test_a_stranger_is_sent_to_the_sign_in_page(name: str, nouns: dict[str, Any]) -> None:
    row = MATRIX[name]
    for method in ("get", "post"):
        if getattr(row, method) is not None:
            response = getattr(Client(), method)(url_of(name, row, nouns))
            assert response.status_code == 302 and response["Location"].startswith("/sign-in/")


def test_ids_of_another_cluster_do_nothing_in_ones_own(
    other: Cluster, service: VirtualService, backend: Backend, director: Director, mallory: Client
) -> None:
    """Bulk ids, choices and query strings: everything that names an object besides the path."""
    chosen = f"{backend.pk}:{backend.version}:{backend.weight}"
    for do in ("set-weight", "drain", "undrain"):
        mallory.post(
            reverse("cluster-bulk", args=[other.pk]),
            {"backend": chosen, "do": do, "weight": 0, "reason": "a test"},
        )
    page = mallory.get(reverse("drain-new", args=[other.pk]), {"backend": backend.pk, "service": service.pk})
    assert backend.address not in page.content.decode()
    page = mallory.get(reverse("live-table", args=[other.pk]), {"director": director.pk})
    assert director.name not in page.content.decode()
    said = {"name": "t", "permissions": ["view"], "days": 1, "cluster": service.cluster_id}
    assert "not one of the available choices" in mallory.post(reverse("token-new"), said).content.decode()
    backend.refresh_from_db()
    assert backend.weight == 1 and not Job.objects.exists() and not service.cluster.drains.exists()


@pytest.mark.parametrize("name", sorted(OWN))
def test_what_is_ones_own_is_shown_to_who_is_signed_in_and_to_no_stranger(name: str, vera: Client) -> None:
    url = reverse(name, args=[1] if name in ("mfa_remove_webauthn", "go-on") else [])
    assert vera.get(url).status_code in (200, 302, 404)
    response = Client().get(url)
    assert response.status_code == 302 and response["Location"].startswith("/sign-in/")


def test_a_fragment_answers_a_stranger_with_a_redirect_of_the_whole_page(job: Job) -> None:
    response = Client().get(reverse("job-live", args=[job.pk]), headers={"HX-Request": "true"})
    assert response.status_code == 401 and response["HX-Redirect"].startswith("/sign-in/")


def test_a_refusal_says_what_is_missing_who_has_it_and_who_gives_it(
    vera: Client, ann: Client, job: Job
) -> None:
    CustomRole.objects.create(name="deployer", permissions=["view", "apply"])
    response = vera.post(reverse("cluster-review", args=[job.cluster_id]), {"seen": "x"})
    assert response.status_code == 403
    page = response.content.decode()
    assert "needs the permission “apply” in web; you are signed in with viewer" in page
    assert "Roles with it: operator, administrator, deployer" in page and "Who can give you one: ann." in page
    entry = AuditEntry.objects.first()
    assert entry and (entry.actor, entry.action, entry.result) == ("vera", "access.refused", "refused")


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.get is not None])
def test_no_get_changes_anything(name: str, nouns: dict[str, Any], ann: Client) -> None:
    url = url_of(name, MATRIX[name], nouns)

    def counted() -> tuple[int, ...]:
        rows = (AuditEntry, Job, Backend, RoleBinding, Group, CustomRole, User)
        return tuple(one.objects.count() for one in rows)

    before = counted()
    ann.get(url)
    assert counted() == before


@pytest.mark.parametrize("way", ["binding", "group", "closed"])
def test_a_revoked_role_is_gone_at_the_next_click(
    way: str, web: Cluster, other: Cluster, service: VirtualService
) -> None:
    client = somebody("viewer", "web, by a group" if way == "group" else "web", {"web": web, "other": other})
    user = User.objects.get(pk=client.session["_auth_user_id"])
    url = reverse("service-detail", args=[service.pk])
    assert client.get(url).status_code == 200
    revoke: dict[str, Callable[[], Any]] = {
        "binding": user.role_bindings.all().delete,
        "group": user.groups.clear,
        "closed": lambda: User.objects.filter(pk=user.pk).update(is_active=False),
    }
    revoke[way]()
    assert client.get(url).status_code == (302 if way == "closed" else 404)


def test_several_roles_add_up(web: Cluster, other: Cluster, db: None) -> None:
    user = User.objects.create_user("both")
    RoleBinding.objects.create(user=user, role="viewer")
    RoleBinding.objects.create(user=user, role="operator", cluster=web)
    RoleBinding.objects.create(user=user, role="approver", cluster=web)
    held = {(name, place.name) for name in PERMISSIONS for place in (web, other) if may(user, name, place)}
    assert held == {
        *((name, "web") for name in ("view", "edit", "operate", "apply", "approve")),
        ("view", "other"),
    }
    assert not may(user, "edit")
