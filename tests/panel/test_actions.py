"""Each verb writes what it says, with exactly one audit entry, or nothing at all."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.utils import timezone

from cluster import audit
from cluster.actions import (
    approvals,
    backends,
    changes,
    clusters,
    directors,
    drafts,
    one_time_links,
    people,
    revisions,
    roles,
    services,
    tokens,
)
from cluster.actions.problems import Rejected
from cluster.desired import draft_print, draft_said
from cluster.models import (
    AuditEntry,
    Backend,
    ChangeRequest,
    Cluster,
    CustomRole,
    Director,
    Job,
    Revision,
    Role,
    RoleBinding,
    Run,
    VirtualService,
)
from cluster.permissions import may
from tests.panel.conftest import ANN, TalkingDirector, apply_draft, approver, remove

SERVICE = services.ServiceFields("tcp", "192.168.50.20", 443)
BACKEND = backends.BackendFields("192.168.50.12", 80)


def _writes_one_entry(action: str, do: Callable[[], Any]) -> AuditEntry:
    before = AuditEntry.objects.count()
    do()
    assert AuditEntry.objects.count() == before + 1
    entry = AuditEntry.objects.first()
    assert entry is not None and entry.action == action and entry.actor in ("ann", "panel")
    assert entry.object_kind and entry.object_id, "it is in the history of what it is about"
    return entry


def test_clusters(db: None, web: Cluster) -> None:
    _writes_one_entry("cluster.create", lambda: clusters.create_cluster(name="b", description="", by=ANN))
    entry = _writes_one_entry(
        "cluster.edit",
        lambda: clusters.edit_cluster(web, name="shop", description="x", approvals=1, seen_version=1, by=ANN),
    )
    assert entry.before == {"name": "web", "description": "", "approvals": 0, "ticket_url": ""}
    assert entry.after == {"name": "shop", "description": "x", "approvals": 1, "ticket_url": ""}
    _writes_one_entry("cluster.remove", lambda: clusters.remove_cluster(web, by=ANN))
    assert not Cluster.objects.filter(name="shop").exists()


def test_services(web: Cluster, service: VirtualService, backend: Backend) -> None:
    _writes_one_entry("service.add", lambda: services.add_service(web, SERVICE, by=ANN))
    entry = _writes_one_entry(
        "service.edit",
        lambda: services.edit_service(
            service,
            services.ServiceFields("tcp", "192.168.50.10", 80, scheduler="wrr"),
            seen_version=1,
            by=ANN,
        ),
    )
    assert entry.before and entry.before["scheduler"] == "rr"
    service.refresh_from_db()
    assert (service.scheduler, service.version) == ("wrr", 2)
    remove(backends.add_backend(service, BACKEND, by=ANN), by=ANN)
    remove(service, by=ANN)
    entry, beside = AuditEntry.objects.all()[:2]
    assert (entry.action, beside.action) == ("service.remove", "backend.remove")
    assert entry.before and entry.before["backends"] == ["192.168.50.11:80"]


def test_backends(service: VirtualService, backend: Backend) -> None:
    _writes_one_entry("backend.add", lambda: backends.add_backend(service, BACKEND, by=ANN))
    changed = backends.BackendFields("192.168.50.11", 80, weight=4)
    _writes_one_entry("backend.edit", lambda: backends.edit_backend(backend, changed, seen_version=1, by=ANN))
    entry = _writes_one_entry(
        "backend.set-weight", lambda: backends.set_weight(backend, seen_version=2, weight=9, by=ANN)
    )
    assert (entry.before, entry.after) == ({"weight": 4}, {"weight": 9})
    _writes_one_entry("backend.remove", lambda: remove(backend, by=ANN))


def test_change_control(web: Cluster, backend: Backend, director: Director) -> None:
    def seen() -> str:
        return draft_print(*draft_said(Cluster.objects.get(pk=web.pk)))

    def ask() -> ChangeRequest:
        return approvals.ask(web, seen=seen(), reason="peak", ticket="", by=audit.Actor("otto"))

    def answered(act: Callable[..., Any]) -> Callable[[], Any]:
        change = ChangeRequest.objects.get(status="open")
        return lambda: act(change, by=ANN)

    Cluster.objects.update(approvals=1)
    change = ask()
    _writes_one_entry("change.withdraw", answered(approvals.withdraw))
    ask()
    _writes_one_entry("change.refuse", answered(partial(approvals.refuse, sentence="no")))
    ask()
    olga = approver("olga")
    approvals.approve(ChangeRequest.objects.get(status="open"), sentence="yes", by=olga)
    apply_draft(web)
    change.refresh_from_db()
    assert change.status == "withdrawn"
    backends.set_weight(backend, seen_version=1, weight=7, by=olga)
    ask()
    _writes_one_entry("change.approve", answered(partial(approvals.approve, sentence="yes")))
    revision = Revision.objects.get()
    item = f"backend {backend} of {backend.service}"
    _writes_one_entry("draft.discard", lambda: drafts.discard(web, item=item, seen=seen(), by=ANN))
    _writes_one_entry("draft.discard-all", lambda: drafts.discard_all(web, seen=seen(), by=ANN))
    _writes_one_entry("draft.roll-back", lambda: drafts.roll_back(web, revision, seen=seen(), by=ANN))
    _writes_one_entry("revision.tag", lambda: revisions.tag(revision, name="a", by=ANN))
    _writes_one_entry("revision.untag", lambda: revisions.untag(revision, name="a", by=ANN))


def test_directors(web: Cluster, talker: TalkingDirector) -> None:
    director = Director.objects.get()
    _writes_one_entry(
        "director.enrol",
        lambda: directors.enrol_director(director, web, seen_fingerprint=director.fingerprint, by=ANN),
    )
    director.refresh_from_db()
    _writes_one_entry(
        "director.load-module", lambda: directors.load_module(director, module="ip_vs_sh", by=ANN)
    )
    _writes_one_entry("director.release", lambda: directors.release_director(director, by=ANN))
    assert Run.objects.get().status == "cancelled"


def test_people(db: None, web: Cluster) -> None:
    _writes_one_entry(
        "person.add",
        lambda: people.add_person(username="root1", role=Role.ADMINISTRATOR, cluster=None, by=ANN),
    )
    user, token = people.add_person(username="new", role=Role.VIEWER, cluster=None, by=ANN)
    assert token and not user.has_usable_password()
    _writes_one_entry("role.give", lambda: roles.give_role(user, role=Role.OPERATOR, cluster=web, by=ANN))
    given = [str(binding) for binding in user.role_bindings.all()]
    assert given == ["new: viewer of all clusters", "new: operator of web"]
    _writes_one_entry("token.create", lambda: tokens.create_token(user, name="t", by=ANN))
    _writes_one_entry("token.revoke", lambda: tokens.revoke_token(user, user.api_tokens.get().pk, by=ANN))
    _writes_one_entry("role.take", lambda: roles.take_role(user.role_bindings.all()[0], by=ANN))
    _writes_one_entry("person.close", lambda: people.set_active(user, active=False, by=ANN))
    _writes_one_entry("person.reset-password", lambda: one_time_links.reset_password(user, by=ANN))
    _writes_one_entry(
        "account.set-password", lambda: people.set_own_password(user, "a long new word", by=ANN)
    )


def test_roles_and_groups(db: None, web: Cluster) -> None:
    user = User.objects.create_user("new")
    _writes_one_entry("group.add", lambda: roles.add_group("night", by=ANN))
    group = Group.objects.get()
    _writes_one_entry("group.add-member", lambda: roles.add_member(group, user, by=ANN))
    _writes_one_entry(
        "role.add",
        lambda: roles.add_role(name="deployer", description="", permissions=["apply"], by=ANN),
    )
    role = CustomRole.objects.get()
    assert role.permissions == ["view", "apply"]
    _writes_one_entry("role.give", lambda: roles.give_role(group, role=role, cluster=web, by=ANN))
    assert may(user, "apply", web) and not may(user, "apply")
    _writes_one_entry(
        "role.edit",
        lambda: roles.edit_role(role, description="", permissions=["approve"], seen_version=1, by=ANN),
    )
    changed = User.objects.get()
    assert may(changed, "approve", web) and not may(changed, "apply", web)
    _writes_one_entry("group.remove-member", lambda: roles.remove_member(group, user, by=ANN))
    assert not may(User.objects.get(), "view", web)
    _writes_one_entry("role.remove", lambda: roles.remove_role(role, by=ANN))
    assert not RoleBinding.objects.exists()
    _writes_one_entry("group.remove", lambda: roles.remove_group(group, by=ANN))
    _writes_one_entry(
        "service-account.add",
        lambda: tokens.add_service_account(username="bot", purpose="reports", by=ANN),
    )


def test_apply_makes_a_revision_a_job_and_a_run(web: Cluster, backend: Backend, director: Director) -> None:
    entry = _writes_one_entry("cluster.apply", lambda: apply_draft(web, reason="peak"))
    assert entry.reason == "peak"
    revision = Revision.objects.get()
    assert (revision.number, revision.author_name) == (1, "ann")
    assert Job.objects.get().runs.get().director == director


def test_a_second_apply_of_the_same_draft_makes_no_second_revision(
    web: Cluster, backend: Backend, director: Director
) -> None:
    apply_draft(web)
    apply_draft(web)
    assert Revision.objects.count() == 1 and Job.objects.count() == 2


def test_a_newer_apply_supersedes_the_runs_that_have_not_ended(
    web: Cluster, backend: Backend, run: Run
) -> None:
    backends.set_weight(backend, seen_version=1, weight=5, by=ANN)
    newer = apply_draft(web)
    run.refresh_from_db()
    assert run.status == "superseded" and newer.runs.get().status == "queued"


def test_an_apply_of_another_draft_than_was_reviewed_is_rejected(
    web: Cluster, backend: Backend, director: Director
) -> None:
    with pytest.raises(Rejected, match="has changed since you opened this review"):
        changes.apply(web, seen="0" * 64, reason="x", by=ANN)
    assert not Revision.objects.exists()


def test_an_apply_without_a_director_is_rejected(web: Cluster, backend: Backend) -> None:
    with pytest.raises(Rejected, match="has no director yet"):
        apply_draft(web)


def test_another_try_goes_to_the_directors_that_failed(run: Run, talker: TalkingDirector, job: Job) -> None:
    talker.finish(run, "failed")
    again = changes.apply_again(job, by=ANN)
    assert again.revision == job.revision and again.runs.get().director == run.director
    with pytest.raises(Rejected, match="needs another try"):
        changes.apply_again(again, by=ANN)


def test_a_cluster_with_directors_cannot_be_removed(web: Cluster, director: Director) -> None:
    with pytest.raises(Rejected, match="still has directors"):
        clusters.remove_cluster(web, by=ANN)


def test_a_director_that_announces_another_key_is_not_enrolled(web: Cluster, talker: TalkingDirector) -> None:
    with pytest.raises(Rejected, match="announces another key now"):
        directors.enrol_director(Director.objects.get(), web, seen_fingerprint="SHA256:seen", by=ANN)


def test_a_director_that_joins_later_gets_the_newest_revision(web: Cluster, job: Job, redis: Any) -> None:
    TalkingDirector("director2", redis).hello()
    second = Director.objects.get(name="director2")
    joined = directors.enrol_director(second, web, seen_fingerprint=second.fingerprint, by=ANN)
    assert joined is not None and joined.revision == job.revision
    assert [run.director for run in joined.runs.all()] == [second]


def test_the_loser_of_two_edits_is_told_and_nothing_is_overwritten(backend: Backend) -> None:
    mine = Backend.objects.get()
    backends.set_weight(backend, seen_version=1, weight=7, by=audit.Actor("otto"))
    with pytest.raises(
        Rejected, match="otto has changed it since you opened this form. It now says: weight 7"
    ):
        backends.set_weight(mine, seen_version=1, weight=3, by=ANN)
    assert Backend.objects.get().weight == 7


RESERVED = ["anonymous", "panel", "first_admin", "raise_epoch", "Panel", "director lb1", "Director  lb1"]


@pytest.mark.parametrize("name", RESERVED)
def test_nobody_gets_a_name_that_the_audit_log_uses_for_a_part_of_the_system(db: None, name: str) -> None:
    with pytest.raises(Rejected, match="is a part of the system") as rejected:
        people.add_person(username=name, role=Role.VIEWER, cluster=None, by=ANN)
    assert rejected.value.problems[0].field == "username"
    with pytest.raises(CommandError, match="is a part of the system"), _typed("correct horse battery"):
        call_command("first_admin", name)
    assert not User.objects.exists()


def test_a_name_that_only_begins_like_a_part_of_the_system_is_free(db: None) -> None:
    for name in ("director1", "panels", "ann.panel"):
        people.add_person(username=name, role=Role.VIEWER, cluster=None, by=ANN)
    assert User.objects.count() == 3


def test_every_part_of_the_system_that_acts_has_a_reserved_name() -> None:
    written = [
        found
        for path in (settings.BASE_DIR / "cluster").rglob("*.py")
        for found in re.findall(r'\bActor\(f?"([^"]+)"', path.read_text())
    ]
    assert len(written) >= 4 and [name for name in written if not audit.is_reserved(name)] == []


def test_the_first_administrator_is_written_down_and_can_sign_in(db: None) -> None:
    with _typed("correct horse battery"):
        call_command("first_admin", "ann")
    user = User.objects.get()
    assert user.check_password("correct horse battery")
    assert [str(binding) for binding in user.role_bindings.all()] == ["ann: administrator of all clusters"]
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.target) == ("first_admin", "person.add", "ann")
    with pytest.raises(CommandError, match="an account named Ann already"), _typed("correct horse battery"):
        call_command("first_admin", "Ann")


@contextmanager
def _typed(line: str) -> Iterator[None]:
    with mock.patch("sys.stdin", io.StringIO(f"{line}\n")):
        yield


def test_an_edit_moves_the_time_of_the_last_change(service: VirtualService, backend: Backend) -> None:
    long_ago = timezone.now() - timedelta(days=3)
    Backend.objects.update(changed_at=long_ago)
    VirtualService.objects.update(changed_at=long_ago)
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    said = services.ServiceFields("tcp", "192.168.50.10", 80, scheduler="wrr")
    services.edit_service(service, said, seen_version=1, by=ANN)
    for row in (Backend.objects.get(), VirtualService.objects.get()):
        assert timezone.now() - row.changed_at < timedelta(minutes=5)


def test_the_last_administrator_cannot_be_lost(db: None) -> None:
    user, _ = people.add_person(username="only", role=Role.ADMINISTRATOR, cluster=None, by=ANN)
    with pytest.raises(Rejected, match="the last administrator"):
        people.set_active(user, active=False, by=ANN)
    with pytest.raises(Rejected, match="the last administrator"):
        roles.take_role(user.role_bindings.get(), by=ANN)
    assert User.objects.get().is_active


def test_a_service_that_its_backends_would_not_fit_is_not_saved(
    service: VirtualService, backend: Backend
) -> None:
    changed = services.ServiceFields("tcp", "fd00:50::10", 80)
    with pytest.raises(Rejected, match="192.168.50.11:80 would not fit"):
        services.edit_service(service, changed, seen_version=1, by=ANN)
    service.refresh_from_db()
    assert service.address == "192.168.50.10"


def test_a_rolled_back_action_leaves_no_audit_entry(service: VirtualService, backend: Backend) -> None:
    before = AuditEntry.objects.count()
    with pytest.raises(Rejected):
        backends.add_backend(service, backends.BackendFields("192.168.50.11", 80), by=ANN)
    assert AuditEntry.objects.count() == before
