"""Who edited what is not in force, and may not approve it: also after a revision went back or was planned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from cluster import due
from cluster.actions import approvals, backends, changes, directors, drafts, drains, rollouts, schedules
from cluster.actions.changes import AT_ONCE, How
from cluster.actions.problems import Rejected
from cluster.approval import editors
from cluster.audit import Actor
from cluster.draft import draft_changes
from cluster.ipvs.traffic.policy import Target
from cluster.models import Backend, Cluster, Director, Job, PlannedApply, Rollout, Run
from tests.panel.conftest import ANN, approver, remove
from tests.panel.test_approvals import ask, print_of

OTTO, PAUL = Actor("otto"), Actor("paul")
CONFIRM = How(confirm_min=5)


@pytest.fixture
def strict(web: Cluster, backend: Backend, director: Director) -> Cluster:
    """web, where one other person has to approve; what ann made is in force."""
    Cluster.objects.filter(pk=web.pk).update(approvals=1)
    apply(web)
    return fresh(web)


def fresh(cluster: Cluster) -> Cluster:
    return Cluster.objects.get(pk=cluster.pk)


def apply(cluster: Cluster, how: How = AT_ONCE) -> Job:
    """Asked for by ann, approved by olga."""
    approvals.approve(ask(cluster), sentence="fine", by=approver("olga"))
    return changes.apply(fresh(cluster), seen=print_of(cluster), reason="x", by=ANN, how=how)


def plan(cluster: Cluster, how: How = AT_ONCE) -> PlannedApply:
    approvals.approve(ask(cluster), sentence="fine", by=approver("olga"))
    begins = timezone.now() + timedelta(hours=1)
    seen = print_of(cluster)
    return schedules.plan(
        fresh(cluster), seen=seen, reason="night", by=approver("ann"), how=how, begins_at=begins, ends_at=None
    )


def let_it_go_out(row: PlannedApply) -> None:
    PlannedApply.objects.filter(pk=row.pk).update(begins_at=timezone.now() - timedelta(seconds=1))
    schedules.go_out(PlannedApply.objects.get(pk=row.pk), refusal="")
    row.refresh_from_db()
    assert row.status == "done", row.cause


def set_weight(weight: int, by: Actor) -> None:
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=weight, by=by)


def told(cluster: Cluster) -> list[list[str]]:
    """Who made each difference of the draft, newest first."""
    return [[edit.actor for edit in change.edits] for change in draft_changes(fresh(cluster))]


def go_back(rollout: Rollout) -> None:
    rollouts.go_back(rollout, by=OTTO)


def let_the_time_pass(rollout: Rollout) -> None:
    Rollout.objects.filter(pk=rollout.pk).update(ends_at=timezone.now() - timedelta(minutes=1))
    due.sweep()


def restore_a_backup(rollout: Rollout) -> None:
    directors.raise_epochs(by=OTTO)


def let_the_first_fail(rollout: Rollout) -> None:
    Run.objects.filter(job=rollout.job).update(status=Run.Status.FAILED)
    due.sweep()


@pytest.mark.parametrize(
    "how, end",
    [
        (CONFIRM, go_back),
        (CONFIRM, let_the_time_pass),
        (CONFIRM, restore_a_backup),
        (How(first="director1"), let_the_first_fail),
    ],
)
def test_who_edited_what_went_back_may_still_not_approve_it(
    strict: Cluster, how: How, end: Callable[[Rollout], None]
) -> None:
    set_weight(7, PAUL)
    rollout = apply(strict, how).rollouts.get()
    assert editors(strict) == frozenset()
    end(rollout)
    assert strict.rollouts.get().status == "went-back"
    assert editors(strict) == {"paul"} and told(strict) == [["paul"]]
    change = ask(strict)
    with pytest.raises(Rejected, match="You edited this draft"):
        approvals.approve(change, sentence="fine", by=approver("paul"))
    with pytest.raises(Rejected, match="still needs one other person"):
        changes.apply(strict, seen=print_of(strict), reason="x", by=ANN)


def test_an_approval_given_during_a_trial_counts_no_more_where_it_brings_back_ones_own_edit(
    strict: Cluster,
) -> None:
    set_weight(7, PAUL)
    rollout = apply(strict, CONFIRM).rollouts.get()
    set_weight(8, OTTO)
    approvals.approve(ask(strict), sentence="fine", by=approver("paul"))
    rollouts.go_back(rollout, by=OTTO)
    with pytest.raises(Rejected, match="still needs one other person"):
        changes.apply(strict, seen=print_of(strict), reason="x", by=ANN)


def test_a_drain_during_the_trial_changes_no_editor(strict: Cluster, backend: Backend) -> None:
    set_weight(7, PAUL)
    rollout = apply(strict, CONFIRM).rollouts.get()
    drains.drain(
        fresh(strict),
        [Target(address=backend.address)],
        begins_at=None,
        ends_at=None,
        cut_at=None,
        reason="a test",
        by=OTTO,
        may_refuse_clients=True,
    )
    rollout.refresh_from_db()
    assert rollout.revision.number == 3
    rollouts.go_back(rollout, by=OTTO)
    assert editors(strict) == {"paul"} and told(strict) == [["paul"]]


def test_what_is_applied_in_the_end_has_no_editors_any_more(strict: Cluster) -> None:
    """Nor has it, where another goes back afterwards."""
    set_weight(7, PAUL)
    rollouts.go_back(apply(strict, CONFIRM).rollouts.get(), by=OTTO)
    apply(strict)
    assert editors(strict) == frozenset() and told(strict) == []
    set_weight(8, OTTO)
    rollouts.go_back(apply(strict, CONFIRM).rollouts.get(), by=OTTO)
    assert editors(strict) == {"otto"} and told(strict) == [["otto"]]


def test_where_the_first_revision_goes_back_all_who_edited_are_editors(
    web: Cluster, backend: Backend, director: Director
) -> None:
    rollout = changes.apply(web, seen=print_of(web), reason="x", by=ANN, how=CONFIRM).rollouts.get()
    rollouts.go_back(rollout, by=OTTO)
    assert editors(web) == {"ann"}


def test_what_was_removed_and_went_back_is_still_known_by_its_name(strict: Cluster) -> None:
    Backend.objects.update(name="shop-1")
    remove(Backend.objects.get(), by=PAUL)
    rollouts.go_back(apply(strict, CONFIRM).rollouts.get(), by=OTTO)
    drafts.discard_all(fresh(strict), seen=print_of(strict), by=OTTO)
    assert Backend.objects.get().name == "shop-1"


def test_who_edited_after_a_planning_may_not_approve_that(strict: Cluster) -> None:
    set_weight(7, OTTO)
    row = plan(strict)
    set_weight(9, PAUL)
    assert editors(strict) == {"otto", "paul"}
    let_it_go_out(row)
    assert editors(strict) == {"paul"} and told(strict) == [["paul"]]
    with pytest.raises(Rejected, match="You edited this draft"):
        approvals.approve(ask(strict), sentence="fine", by=approver("paul"))


def test_a_planned_one_that_goes_back_leaves_all_who_edited(strict: Cluster) -> None:
    set_weight(7, OTTO)
    row = plan(strict, CONFIRM)
    set_weight(9, PAUL)
    let_it_go_out(row)
    assert editors(strict) == {"paul"}
    rollouts.go_back(strict.rollouts.get(), by=OTTO)
    assert editors(strict) == {"otto", "paul"} and told(strict) == [["paul", "otto"]]


def test_of_a_planned_one_what_was_edited_before_the_planning_is_done_with(strict: Cluster) -> None:
    """Also where an apply that changed nothing came between."""
    set_weight(7, OTTO)
    row = plan(strict)
    set_weight(1, PAUL)
    changes.apply(fresh(strict), seen=print_of(strict), reason="after drift", by=ANN)
    assert editors(strict) == frozenset()
    let_it_go_out(row)
    assert editors(strict) == {"paul"}, "the draft takes back what went out"
    assert told(strict) == [["paul"]]
