"""Approvals beside edits and applies, and many operators at one service."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
from django.db import transaction

from cluster.actions import (
    approvals,
    backends,
    drafts,
    services,
)
from cluster.actions.problems import Changed
from cluster.approval import approval_of, changes_nothing, editors
from cluster.audit import Actor, chain
from cluster.desired import draft_print, draft_said
from cluster.models import (
    AuditEntry,
    Backend,
    ChangeRequest,
    Cluster,
    Director,
    Job,
    VirtualService,
)
from tests.panel.at_once import MARKS, OTTO, TIMEOUT_S, Other, refused
from tests.panel.at_once import an_empty_log as an_empty_log
from tests.panel.at_once import the_log_can_be_emptied as the_log_can_be_emptied
from tests.panel.conftest import ANN, apply_draft, approver

pytestmark = MARKS


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
    refused(other.outcome(), "You have approved it already")
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
    refused(other.outcome(), "Ask for approval first")
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
    refused(other.outcome(), "is applied already by ann")
    assert Job.objects.count() == 1


def test_an_approval_of_a_draft_that_is_edited_at_this_moment_isrefused(
    change: ChangeRequest, backend: Backend, olga: Actor
) -> None:
    with transaction.atomic():
        backends.set_weight(backend, seen_version=1, weight=9, by=OTTO)
        other = Other(lambda: approvals.approve(_again(change), sentence="fine", by=olga))
        other.until_it_waits()
    refused(other.outcome(), "It is void")


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
    refused(other.outcome(), "ann asks for just this already")


def test_nothing_is_discarded_that_is_edited_at_this_moment(web: Cluster, job: Job, backend: Backend) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    seen = draft_print(*draft_said(Cluster.objects.get(pk=web.pk)))
    with transaction.atomic():
        backends.set_weight(backend, seen_version=2, weight=9, by=ANN)
        other = Other(lambda: drafts.discard_all(web, seen=seen, by=OTTO))
        other.until_it_waits()
    refused(other.outcome(), "has changed since you opened this page")
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
