"""Two people, or a person and a director, at the same moment: real transactions that wait for each other.

SQLite lets only one write at a time, so these run in the stage `postgres` alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from cluster import audit, reports
from cluster.actions import (
    approvals,
    backends,
    changes,
    clusters,
    directors,
    drafts,
    imports,
    one_time_links,
    people,
    roles,
    rollouts,
    schedules,
    services,
)
from cluster.actions.problems import Changed, Rejected
from cluster.approval import approval_of, changes_nothing, editors
from cluster.audit import Actor, chain, mark
from cluster.audit.signed import Checkpoint, signing_key
from cluster.desired import draft_policies, draft_print, draft_said, draft_table
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.state import Protocol, Service, ServiceKey, Table
from cluster.models import (
    AuditEntry,
    AuditHead,
    Backend,
    ChangeRequest,
    Cluster,
    CustomRole,
    Director,
    Job,
    PlannedApply,
    Revision,
    Role,
    RoleBinding,
    Rollout,
    Run,
    VirtualService,
)
from cluster.wire.messages import Event
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft, approver

OTTO = Actor("otto")
TIMEOUT_S = 30.0

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL: lab.run_tests postgres"),
]


class Other:
    """What somebody else does at the same time, on a connection of its own."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self._connected, self._ended = threading.Event(), threading.Event()
        self._result: Any = None
        self._pid = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                (self._pid,) = cursor.fetchone()
            self._connected.set()
            self._result = self._do()
        except Exception as problem:
            self._result = problem
        finally:
            connection.close()
            self._connected.set()
            self._ended.set()

    def until_it_waits(self) -> None:
        """Return when it waits for a lock of somebody's, or has ended without waiting."""
        assert self._connected.wait(TIMEOUT_S)
        while not self._ended.wait(0.01):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_blocking_pids(%s) <> '{}'", [self._pid])
                if cursor.fetchone()[0]:
                    return

    def outcome(self) -> Any:
        """What it returned, or the exception that it ended with."""
        self._thread.join(TIMEOUT_S)
        assert self._ended.is_set(), "it still waits"
        return self._result


@pytest.fixture(scope="module", autouse=True)
def the_log_can_be_emptied(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """After each of these tests Django empties every table, which the audit log refuses by its trigger."""
    alter = "ALTER TABLE cluster_auditentry {} TRIGGER audit_no_truncate"
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(alter.format("DISABLE"))
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(alter.format("ENABLE"))
        AuditHead.objects.get_or_create(pk=1)


@pytest.fixture(autouse=True)
def an_empty_log(the_log_can_be_emptied: None, db: None) -> None:
    AuditHead.objects.get_or_create(pk=1)


def _refused(outcome: Any, text: str) -> str:
    """The field at fault of a Rejected that says this."""
    assert isinstance(outcome, Rejected), repr(outcome)
    assert text in str(outcome)
    return outcome.problems[0].field


def _newest_run(director: Director) -> Run:
    run = Run.objects.filter(director=director).order_by("-pk").select_related("job__revision").first()
    assert run is not None
    return run


def test_trying_again_beside_an_apply_does_not_send_the_older_revision(
    web: Cluster, job: Job, run: Run, talker: TalkingDirector, director: Director, backend: Backend
) -> None:
    talker.finish(run, "failed")
    backends.set_weight(backend, seen_version=1, weight=9, by=ANN)
    with transaction.atomic():
        apply_draft(web)
        other = Other(lambda: changes.apply_again(job, by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "not the newest any more")
    assert _newest_run(director).job.revision.number == 2


def _on_trial(web: Cluster, talker: TalkingDirector) -> Rollout:
    """Another weight, applied on director1 and waiting for its confirmation."""
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=9, by=ANN)
    fresh = Cluster.objects.get(pk=web.pk)
    seen = draft_print(draft_table(fresh), draft_policies(fresh))
    how = changes.How(confirm_min=5)
    job = changes.apply(fresh, seen=seen, reason="a test", by=ANN, how=how)
    talker.finish(job.runs.get())
    return job.rollouts.get()


def test_of_a_confirmation_and_a_way_back_at_once_one_counts(
    web: Cluster, run: Run, talker: TalkingDirector
) -> None:
    talker.finish(run)
    rollout = _on_trial(web, talker)
    with transaction.atomic():
        rollouts.confirm(rollout, by=ANN)
        other = Other(lambda: rollouts.go_back(rollout, by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "is settled already")
    assert Revision.objects.count() == 2


def test_a_director_that_goes_back_beside_a_confirmation_is_drawn_after(
    web: Cluster, run: Run, talker: TalkingDirector
) -> None:
    talker.finish(run)
    rollout = _on_trial(web, talker)
    payload = {"outcome": "applied", "text": "It went back.", "cause": "nobody confirmed it", "back": 1}
    report = talker.signed(Event.WENT_BACK, rollout.job.runs.get(), payload=payload)
    with transaction.atomic():
        rollouts.confirm(rollout, by=ANN)
        other = Other(lambda: reports.take(report))
        other.until_it_waits()
    assert other.outcome() is None
    rollout.refresh_from_db()
    assert rollout.status == "settled" and rollout.job.runs.get().status == "reverted"
    rollouts.settle()
    newest = Revision.objects.first()
    assert newest and (newest.number, newest.table) == (3, rollout.revision.table)


def test_what_is_cancelled_while_it_goes_out_is_one_or_the_other(web: Cluster, run: Run) -> None:
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=9, by=ANN)
    fresh = Cluster.objects.get(pk=web.pk)
    seen = draft_print(draft_table(fresh), draft_policies(fresh))
    later = {"begins_at": None, "ends_at": timezone.now() + timedelta(hours=1)}
    planned = schedules.plan(fresh, seen=seen, reason="a test", by=ANN, how=changes.How(), **later)
    with transaction.atomic():
        schedules.go_out(planned, refusal="")
        other = Other(lambda: schedules.cancel(planned, by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "is over already")
    assert PlannedApply.objects.get().status == "done" and Revision.objects.count() == 2


def test_a_director_that_joins_beside_an_apply_gets_the_new_revision(
    web: Cluster, job: Job, backend: Backend, redis: FakeRedis
) -> None:
    TalkingDirector("director2", redis).hello()
    second = Director.objects.get(name="director2")
    backends.set_weight(backend, seen_version=1, weight=9, by=ANN)
    with transaction.atomic():
        apply_draft(web)
        other = Other(
            lambda: directors.enrol_director(second, web, seen_fingerprint=second.fingerprint, by=OTTO)
        )
        other.until_it_waits()
    assert isinstance(other.outcome(), Job)
    assert _newest_run(second).job.revision.number == 2


def test_an_apply_beside_a_joining_director_reaches_it(
    web: Cluster, job: Job, backend: Backend, redis: FakeRedis
) -> None:
    TalkingDirector("director2", redis).hello()
    second = Director.objects.get(name="director2")
    backends.set_weight(backend, seen_version=1, weight=9, by=ANN)
    with transaction.atomic():
        directors.enrol_director(second, web, seen_fingerprint=second.fingerprint, by=ANN)
        other = Other(lambda: apply_draft(web))
        other.until_it_waits()
    assert isinstance(other.outcome(), Job)
    assert _newest_run(second).job.revision.number == 2


def test_raised_epochs_beside_an_apply_send_the_new_revision(
    web: Cluster, job: Job, backend: Backend, director: Director
) -> None:
    backends.set_weight(backend, seen_version=1, weight=9, by=ANN)
    with transaction.atomic():
        apply_draft(web)
        other = Other(lambda: directors.raise_epochs(by=OTTO))
        other.until_it_waits()
    assert isinstance(other.outcome(), list)
    assert _newest_run(director).job.revision.number == 2


def test_a_director_that_leaves_beside_an_apply_keeps_no_open_run(
    web: Cluster, job: Job, director: Director
) -> None:
    with transaction.atomic():
        apply_draft(web)
        other = Other(lambda: directors.release_director(director, by=OTTO))
        other.until_it_waits()
    assert other.outcome() is None
    assert not Run.objects.filter(director=director).exclude(status__in=Run.TERMINAL).exists()


def test_a_director_cannot_leave_twice_at_once(web: Cluster, director: Director) -> None:
    same = Director.objects.select_related("cluster").get(pk=director.pk)
    with transaction.atomic():
        directors.release_director(director, by=ANN)
        other = Other(lambda: directors.release_director(same, by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "not in this cluster any more")


def test_a_cluster_is_not_removed_from_under_a_joining_director(
    web: Cluster, talker: TalkingDirector
) -> None:
    director = Director.objects.get()
    with transaction.atomic():
        directors.enrol_director(director, web, seen_fingerprint=director.fingerprint, by=ANN)
        other = Other(lambda: clusters.remove_cluster(Cluster.objects.get(), by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "still has directors")
    assert Director.objects.get().cluster == web


def test_a_report_beside_the_release_of_its_director_is_no_deadlock(
    run: Run, director: Director, talker: TalkingDirector
) -> None:
    """Both want the director's row and the run's; who took them the other way round would never end."""
    with transaction.atomic():
        Director.objects.filter(pk=director.pk).update(seen_at=None)  # as the report's first step does
        other = Other(lambda: directors.release_director(director, by=OTTO))
        other.until_it_waits()
        talker.finish(run)
    assert other.outcome() is None
    run.refresh_from_db()
    assert run.status == "applied"


@pytest.mark.parametrize("action", ["backend", "service", "cluster", "director", "epochs"])
def test_an_action_beside_another_in_the_same_cluster_is_no_deadlock(
    other: Cluster, web: Cluster, backend: Backend, director: Director, action: str
) -> None:
    """The one here holds the row that the other wants, and then wants the head of the audit log."""
    row: Any = {"backend": backend, "service": backend.service, "cluster": web, "director": director}.get(
        action, director
    )
    if action == "cluster":
        directors.release_director(director, by=ANN)
        director.refresh_from_db()
    do: Callable[[], Any] = {
        "backend": lambda: backends.remove_backend(backend, by=OTTO),
        "service": lambda: services.remove_service(VirtualService.objects.get(), by=OTTO),
        "cluster": lambda: clusters.remove_cluster(web, by=OTTO),
        "director": lambda: directors.release_director(director, by=OTTO),
        "epochs": lambda: directors.raise_epochs(by=OTTO),
    }[action]
    with transaction.atomic():
        list(type(row).objects.select_for_update().filter(pk=row.pk))
        rival = Other(do)
        rival.until_it_waits()
        audit.record("test", "held meanwhile", by=ANN)
    assert not isinstance(rival.outcome(), Exception), repr(rival.outcome())


def _administrators() -> tuple[User, User]:
    pair = tuple(User.objects.create_user(name) for name in ("ann", "otto"))
    for user in pair:
        RoleBinding.objects.create(user=user, role=Role.ADMINISTRATOR)
    return pair[0], pair[1]


@pytest.mark.parametrize("way", ["demoted", "closed"])
def test_two_administrators_who_remove_each_other_leave_one(way: str) -> None:
    ann, otto = _administrators()

    def remove(user: User, by: Actor) -> None:
        if way == "closed":
            people.set_active(user, active=False, by=by)
        else:
            roles.take_role(user.role_bindings.get(), by=by)

    with transaction.atomic():
        remove(otto, ANN)
        other = Other(lambda: remove(ann, OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "last administrator")
    left = RoleBinding.objects.filter(role=Role.ADMINISTRATOR, cluster=None, user__is_active=True)
    assert [binding.user for binding in left] == [ann]


def test_the_same_role_given_twice_at_once_is_there_once(web: Cluster) -> None:
    user = User.objects.create_user("new")
    with transaction.atomic():
        roles.give_role(user, role=Role.VIEWER, cluster=web, by=ANN)
        other = Other(lambda: roles.give_role(user, role=Role.VIEWER, cluster=web, by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "has the role viewer in web already")
    assert user.role_bindings.count() == 1


def test_a_role_of_ones_own_that_is_removed_meanwhile_is_not_given(web: Cluster) -> None:
    user = User.objects.create_user("new")
    role = CustomRole.objects.create(name="deployer", permissions=["view", "apply"])
    with transaction.atomic():
        roles.remove_role(role, by=ANN)
        other = Other(lambda: roles.give_role(user, role=role, cluster=web, by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "removed the role deployer meanwhile")


SERVICE = services.ServiceFields("tcp", "192.168.50.20", 443)
BACKEND = backends.BackendFields("192.168.50.12", 80)
MOVED = services.ServiceFields("tcp", "192.168.50.20", 443, scheduler="wrr")


@pytest.mark.parametrize(
    "what", ["cluster", "service", "moved service", "backend", "moved backend", "person"]
)
def test_of_two_who_add_the_same_at_once_one_is_told_at_the_field(
    service: VirtualService, backend: Backend, what: str
) -> None:
    web = service.cluster
    add: dict[str, tuple[Callable[[Actor], Any], str]] = {
        "cluster": (lambda by: clusters.create_cluster(name="dns", description="", by=by), "name"),
        "service": (lambda by: services.add_service(web, SERVICE, by=by), "address"),
        "backend": (lambda by: backends.add_backend(service, BACKEND, by=by), "address"),
        "person": (
            lambda by: people.add_person(username="new", role=Role.VIEWER, cluster=None, by=by),
            "username",
        ),
    }
    move: dict[str, Callable[[], Any]] = {
        "moved service": lambda: services.edit_service(service, MOVED, seen_version=1, by=OTTO),
        "moved backend": lambda: backends.edit_backend(backend, BACKEND, seen_version=1, by=OTTO),
    }
    first, field = add[what.removeprefix("moved ")]
    if what == "moved service":
        Backend.objects.all().delete()
    with transaction.atomic():
        first(ANN)
        other = Other(move.get(what, lambda: first(OTTO)))
        other.until_it_waits()
    assert _refused(other.outcome(), "already") == field


def test_a_backend_added_while_its_service_is_removed_is_refused_in_words(service: VirtualService) -> None:
    backend = backends.BackendFields("192.0.2.11", 80)
    with transaction.atomic():
        services.remove_service(VirtualService.objects.get(pk=service.pk), by=ANN)
        late = Other(lambda: backends.add_backend(service, backend, by=OTTO))
        late.until_it_waits()
    _refused(late.outcome(), "Somebody has removed")
    assert not Backend.objects.exists()


def test_a_service_added_beside_an_import_of_the_same_is_refused_at_the_field(web: Cluster) -> None:
    found = Table((Service(ServiceKey(Protocol.TCP, "192.0.2.9", 80)),))
    seen = fingerprint(draft_table(web))
    said = services.ServiceFields("tcp", "192.0.2.9", 80)
    with transaction.atomic():
        imports.import_table(web, found, replace=False, seen=seen, source="a file", by=ANN)
        late = Other(lambda: services.add_service(web, said, by=OTTO))
        late.until_it_waits()
    _refused(late.outcome(), "already")
    assert VirtualService.objects.count() == 1


def test_a_cluster_renamed_to_a_name_that_somebody_gives_at_once_is_refused(web: Cluster) -> None:
    with transaction.atomic():
        clusters.create_cluster(name="dns", description="", by=ANN)
        other = Other(lambda: clusters.edit_cluster(web, name="dns", description="", seen_version=1, by=OTTO))
        other.until_it_waits()
    assert _refused(other.outcome(), "already") == "name"


def test_of_two_who_use_a_one_time_link_at_once_one_is_refused() -> None:
    user, token = people.add_person(username="new", role=Role.VIEWER, cluster=None, by=ANN)
    with transaction.atomic():
        one_time_links.use_link(token, "kettle walnut orbit", by=ANN)
        late = Other(lambda: one_time_links.use_link(token, "somebody else's words", by=OTTO))
        late.until_it_waits()
    _refused(late.outcome(), "was used")
    user.refresh_from_db()
    assert user.check_password("kettle walnut orbit")


def test_a_link_used_beside_its_replacement_is_refused() -> None:
    user, token = people.add_person(username="new", role=Role.VIEWER, cluster=None, by=ANN)
    with transaction.atomic():
        newer = one_time_links.reset_password(user, by=ANN)
        late = Other(lambda: one_time_links.use_link(token, "kettle walnut orbit", by=OTTO))
        late.until_it_waits()
    _refused(late.outcome(), "was used")
    user.refresh_from_db()
    assert not user.has_usable_password() and one_time_links.open_link(newer) is not None


def test_entries_of_many_at_once_make_one_chain() -> None:
    others = [Other(lambda: audit.record("test", "at once", by=OTTO)) for _ in range(8)]
    assert not any(isinstance(other.outcome(), Exception) for other in others)
    assert chain.verify() is None and AuditHead.objects.get().sequence == 8
    marked = Checkpoint.of(mark.read(), public=signing_key().public)
    assert (marked.sequence, marked.hash) == (8, AuditHead.objects.get().hash)


@pytest.fixture
def olga(db: None) -> Actor:
    return approver("olga")


@pytest.fixture
def paul(db: None) -> Actor:
    return approver("paul")


@pytest.fixture
def change(web: Cluster, backend: Backend, director: Director) -> ChangeRequest:
    """ann asks for the draft of web, which two others have to approve."""
    Cluster.objects.filter(pk=web.pk).update(approvals=2)
    seen = draft_print(*draft_said(Cluster.objects.get(pk=web.pk)))
    return approvals.ask(web, seen=seen, reason="peak", ticket="", by=ANN)


def _again(change: ChangeRequest) -> ChangeRequest:
    return ChangeRequest.objects.select_related("cluster").get(pk=change.pk)


def test_two_approvals_at_once_are_both_counted(
    web: Cluster, change: ChangeRequest, olga: Actor, paul: Actor
) -> None:
    with transaction.atomic():
        assert approvals.approve(_again(change), sentence="fine", by=olga).missing == 1
        other = Other(lambda: approvals.approve(_again(change), sentence="fine", by=paul))
        other.until_it_waits()
    assert other.outcome().missing == 0
    assert apply_draft(web).revision is not None


def test_one_person_in_two_windows_approves_once(web: Cluster, change: ChangeRequest, olga: Actor) -> None:
    with transaction.atomic():
        approvals.approve(_again(change), sentence="fine", by=olga)
        other = Other(lambda: approvals.approve(_again(change), sentence="fine", by=olga))
        other.until_it_waits()
    _refused(other.outcome(), "You have approved it already")
    assert approval_of(_again(change)).missing == 1


def test_an_apply_while_the_change_is_refused_does_not_happen(
    web: Cluster, change: ChangeRequest, olga: Actor, paul: Actor
) -> None:
    for who in (olga, paul):
        approvals.approve(_again(change), sentence="fine", by=who)
    with transaction.atomic():
        approvals.refuse(_again(change), sentence="not tonight", by=paul)
        other = Other(lambda: apply_draft(web))
        other.until_it_waits()
    _refused(other.outcome(), "Ask for approval first")
    assert not Job.objects.exists()


def test_a_refusal_while_the_change_is_applied_comes_too_late_and_says_so(
    web: Cluster, change: ChangeRequest, olga: Actor, paul: Actor
) -> None:
    for who in (olga, paul):
        approvals.approve(_again(change), sentence="fine", by=who)
    with transaction.atomic():
        apply_draft(web)
        other = Other(lambda: approvals.refuse(_again(change), sentence="not tonight", by=paul))
        other.until_it_waits()
    _refused(other.outcome(), "is applied already by ann")
    assert Job.objects.count() == 1


def test_an_approval_of_a_draft_that_is_edited_at_this_moment_is_refused(
    change: ChangeRequest, backend: Backend, olga: Actor
) -> None:
    with transaction.atomic():
        backends.set_weight(backend, seen_version=1, weight=9, by=OTTO)
        other = Other(lambda: approvals.approve(_again(change), sentence="fine", by=olga))
        other.until_it_waits()
    _refused(other.outcome(), "It is void")


def test_an_edit_beside_an_apply_is_not_applied_and_its_editor_is_known(
    web: Cluster, job: Job, backend: Backend
) -> None:
    """The edit's entry comes after that of the apply, which did not have it."""
    backends.set_weight(backend, seen_version=1, weight=5, by=ANN)
    with transaction.atomic():
        apply_draft(web)
        other = Other(lambda: backends.set_weight(backend, seen_version=2, weight=9, by=OTTO))
        other.until_it_waits()
    assert other.outcome() is None
    assert editors(web) == {"otto"} and not changes_nothing(Cluster.objects.get(pk=web.pk))


def test_of_two_who_ask_at_once_one_is_told_who_was_first(
    web: Cluster, backend: Backend, director: Director
) -> None:
    Cluster.objects.filter(pk=web.pk).update(approvals=1)
    seen = draft_print(*draft_said(Cluster.objects.get(pk=web.pk)))
    with transaction.atomic():
        approvals.ask(web, seen=seen, reason="peak", ticket="", by=ANN)
        other = Other(lambda: approvals.ask(web, seen=seen, reason="too", ticket="", by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "ann asks for just this already")


def test_nothing_is_discarded_that_is_edited_at_this_moment(web: Cluster, job: Job, backend: Backend) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    seen = draft_print(*draft_said(Cluster.objects.get(pk=web.pk)))
    with transaction.atomic():
        backends.set_weight(backend, seen_version=2, weight=9, by=ANN)
        other = Other(lambda: drafts.discard_all(web, seen=seen, by=OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "has changed since you opened this page")
    assert Backend.objects.get().weight == 9


def test_50_operators_on_one_service_lose_no_update(service: VirtualService) -> None:
    """Each wants a second of persistence more than what stands there, and looks again when it is told that
    somebody was faster."""
    people, start = 50, threading.Barrier(50, timeout=TIMEOUT_S)

    def one_more(number: int) -> int:
        refusals = 0
        start.wait()
        while True:
            row = VirtualService.objects.select_related("cluster").get(pk=service.pk)
            wanted = services.ServiceFields(
                "tcp", "192.168.50.10", 80, name="shop", persistence_s=(row.persistence_s or 0) + 1
            )
            try:
                services.edit_service(row, wanted, seen_version=row.version, by=Actor(f"operator{number}"))
                return refusals
            except Changed:
                refusals += 1

    began = time.monotonic()
    refusals = [other.outcome() for other in [Other(partial(one_more, number)) for number in range(people)]]
    seconds = time.monotonic() - began
    assert all(isinstance(one, int) for one in refusals), refusals
    row = VirtualService.objects.get(pk=service.pk)
    assert (row.persistence_s, row.version) == (people, people + 1)
    edits = AuditEntry.objects.filter(action="service.edit").order_by("sequence")
    steps = [(entry.before["persistence_s"], entry.after["persistence_s"]) for entry in edits]
    assert steps == [(number or None, number + 1) for number in range(people)]
    assert len({entry.actor for entry in edits}) == people and chain.verify() is None
    print(f"50 operators on one service: 0 lost updates, {sum(refusals)} told, {seconds:.1f} s")
