"""Two people, or a person and a director, at the same moment: real transactions that wait for each other.

SQLite lets only one write at a time, so these run in the stage `postgres` alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from cluster import audit
from cluster.actions import backends, changes, clusters, directors, imports, people, services
from cluster.actions.problems import Rejected
from cluster.audit import Actor, chain
from cluster.desired import draft_table
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.state import Protocol, Service, ServiceKey, Table
from cluster.models import AuditHead, Backend, Cluster, Director, Job, Role, RoleBinding, Run, VirtualService
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft

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
            people.set_role(user, role=Role.VIEWER, cluster=None, by=by)

    with transaction.atomic():
        remove(otto, ANN)
        other = Other(lambda: remove(ann, OTTO))
        other.until_it_waits()
    _refused(other.outcome(), "last administrator")
    left = RoleBinding.objects.filter(role=Role.ADMINISTRATOR, cluster=None, user__is_active=True)
    assert [binding.user for binding in left] == [ann]


def test_two_roles_at_once_for_the_same_person_leave_the_later_one(web: Cluster) -> None:
    _administrators()
    user = User.objects.create_user("new")
    with transaction.atomic():
        people.set_role(user, role=Role.VIEWER, cluster=web, by=ANN)
        other = Other(lambda: people.set_role(user, role=Role.OPERATOR, cluster=web, by=OTTO))
        other.until_it_waits()
    assert other.outcome() is None
    assert [binding.role for binding in user.role_bindings.all()] == [Role.OPERATOR]


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
        other = Other(lambda: clusters.edit_cluster(web, name="dns", description="", by=OTTO))
        other.until_it_waits()
    assert _refused(other.outcome(), "already") == "name"


def test_entries_of_many_at_once_make_one_chain() -> None:
    others = [Other(lambda: audit.record("test", "at once", by=OTTO)) for _ in range(8)]
    assert not any(isinstance(other.outcome(), Exception) for other in others)
    assert chain.verify() is None and AuditHead.objects.get().sequence == 8
