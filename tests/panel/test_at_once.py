"""Revisions, jobs, directors and drafts: two who act on the same cluster at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from cluster import audit, reports
from cluster.actions import (
    backends,
    changes,
    clusters,
    directors,
    imports,
    people,
    rollouts,
    schedules,
    services,
)
from cluster.audit import Actor, chain, mark
from cluster.audit.signed import MARK, Checkpoint, signing_key
from cluster.desired import draft_policies, draft_print, draft_table
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.state import Protocol, Service, ServiceKey, Table
from cluster.models import (
    AuditHead,
    Backend,
    Cluster,
    Director,
    Job,
    PlannedApply,
    Revision,
    Role,
    Rollout,
    Run,
    VirtualService,
)
from cluster.wire.messages import Event
from tests.panel.at_once import MARKS, OTTO, Other, newest_run, refused
from tests.panel.at_once import an_empty_log as an_empty_log
from tests.panel.at_once import the_log_can_be_emptied as the_log_can_be_emptied
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft, remove

pytestmark = MARKS

SERVICE = services.ServiceFields("tcp", "192.168.50.20", 443)
BACKEND = backends.BackendFields("192.168.50.12", 80)
MOVED = services.ServiceFields("tcp", "192.168.50.20", 443, scheduler="wrr")


def test_trying_again_beside_an_apply_does_not_send_the_older_revision(
    web: Cluster, job: Job, run: Run, talker: TalkingDirector, director: Director, backend: Backend
) -> None:
    talker.finish(run, "failed")
    backends.set_weight(backend, seen_version=1, weight=9, by=ANN)
    with transaction.atomic():
        apply_draft(web)
        other = Other(lambda: changes.apply_again(job, by=OTTO))
        other.until_it_waits()
    refused(other.outcome(), "not the newest any more")
    assert newest_run(director).job.revision.number == 2


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
    refused(other.outcome(), "is settled already")
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
    refused(other.outcome(), "is over already")
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
    assert newest_run(second).job.revision.number == 2


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
    assert newest_run(second).job.revision.number == 2


def test_raised_epochs_beside_an_apply_send_the_new_revision(
    web: Cluster, job: Job, backend: Backend, director: Director
) -> None:
    backends.set_weight(backend, seen_version=1, weight=9, by=ANN)
    with transaction.atomic():
        apply_draft(web)
        other = Other(lambda: directors.raise_epochs(by=OTTO))
        other.until_it_waits()
    assert isinstance(other.outcome(), list)
    assert newest_run(director).job.revision.number == 2


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
    refused(other.outcome(), "not in this cluster any more")


def test_a_cluster_is_not_removed_from_under_a_joining_director(
    web: Cluster, talker: TalkingDirector
) -> None:
    director = Director.objects.get()
    with transaction.atomic():
        directors.enrol_director(director, web, seen_fingerprint=director.fingerprint, by=ANN)
        other = Other(lambda: clusters.remove_cluster(Cluster.objects.get(), by=OTTO))
        other.until_it_waits()
    refused(other.outcome(), "still has directors")
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
        "backend": lambda: remove(backend, by=OTTO),
        "service": lambda: remove(VirtualService.objects.get(), by=OTTO),
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
    assert refused(other.outcome(), "already") == field


def test_a_backend_added_while_its_service_is_removed_is_refused_in_words(service: VirtualService) -> None:
    backend = backends.BackendFields("192.0.2.11", 80)
    with transaction.atomic():
        remove(VirtualService.objects.get(pk=service.pk), by=ANN)
        late = Other(lambda: backends.add_backend(service, backend, by=OTTO))
        late.until_it_waits()
    refused(late.outcome(), "Somebody has removed")
    assert not Backend.objects.exists()


def test_a_service_added_beside_an_import_of_the_same_is_refused_at_the_field(web: Cluster) -> None:
    found = Table((Service(ServiceKey(Protocol.TCP, "192.0.2.9", 80)),))
    seen = fingerprint(draft_table(web))
    said = services.ServiceFields("tcp", "192.0.2.9", 80)
    with transaction.atomic():
        imports.import_table(web, found, replace=False, seen=seen, source="a file", by=ANN)
        late = Other(lambda: services.add_service(web, said, by=OTTO))
        late.until_it_waits()
    refused(late.outcome(), "already")
    assert VirtualService.objects.count() == 1


def test_a_cluster_renamed_to_a_name_that_somebody_gives_at_once_isrefused(web: Cluster) -> None:
    with transaction.atomic():
        clusters.create_cluster(name="dns", description="", by=ANN)
        other = Other(lambda: clusters.edit_cluster(web, name="dns", description="", seen_version=1, by=OTTO))
        other.until_it_waits()
    assert refused(other.outcome(), "already") == "name"


def test_entries_of_many_at_once_make_one_chain() -> None:
    others = [Other(lambda: audit.record("test", "at once", by=OTTO)) for _ in range(8)]
    assert not any(isinstance(other.outcome(), Exception) for other in others)
    assert chain.verify() is None and AuditHead.objects.get().sequence == 8
    marked = Checkpoint.of(mark.read(), public=signing_key().public, kind=MARK)
    assert (marked.sequence, marked.hash) == (8, AuditHead.objects.get().hash)
