"""Planned applies: what was reviewed goes out in its window, if whoever planned it still may."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import due
from cluster.actions import approvals, backends, clusters, rollouts, schedules
from cluster.actions.problems import Rejected
from cluster.desired import draft_policies, draft_print, draft_said, draft_table
from cluster.models import AuditEntry, Backend, Cluster, Director, Job, PlannedApply, Revision, Run
from tests.panel.conftest import ANN, apply_draft, approver


@pytest.fixture
def planned(web: Cluster, backend: Backend, director: Director, otto: Client) -> PlannedApply:
    """Weight 7 instead of 1, planned by otto for in an hour."""
    apply_draft(web)
    backends.set_weight(backend, seen_version=backend.version, weight=7, by=ANN)
    response = post(otto, web, begins_at=moment(60))
    assert response["Location"] == reverse("planned-list", args=[web.pk])
    return PlannedApply.objects.get()


def moment(minutes: float) -> str:
    return f"{timezone.now() + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S}"


def post(client: Client, web: Cluster, **said: Any) -> Any:
    web = Cluster.objects.get(pk=web.pk)
    seen = draft_print(draft_table(web), draft_policies(web))
    return client.post(reverse("cluster-review", args=[web.pk]), {"seen": seen, "reason": "night"} | said)


def let_it_be_time(**shifts: int) -> None:
    times = {name: timezone.now() + timedelta(minutes=minutes) for name, minutes in shifts.items()}
    PlannedApply.objects.update(**{"begins_at": timezone.now() - timedelta(seconds=1)} | times)
    due.sweep()


def newest() -> tuple[int, int, str]:
    revision = Revision.objects.first()
    assert revision is not None
    weight = revision.table["services"][0]["backends"][0].get("weight", 1)
    return revision.number, weight, revision.author_name


def test_it_waits_for_its_hour_and_then_goes_out_as_whoever_planned_it(planned: PlannedApply) -> None:
    assert timedelta(minutes=59) < planned.ends_at - planned.begins_at <= timedelta(minutes=60)
    due.sweep()
    assert newest() == (1, 1, "ann")
    let_it_be_time()
    assert newest() == (2, 7, "otto")
    planned.refresh_from_db()
    assert planned.status == "done" and planned.job and planned.job.reason == "night"
    entry = AuditEntry.objects.filter(action="cluster.apply").first()
    assert entry and entry.actor == "otto" and (entry.after or {})["planned"] == planned.pk
    by_plan = AuditEntry.objects.get(action="apply.plan")
    for name in ("role", "session", "address", "request_id"):
        assert getattr(entry, name) == getattr(by_plan, name) != "", name
    due.sweep()
    assert newest()[0] == 2


def test_what_was_reviewed_is_applied_whatever_the_draft_says_then(planned: PlannedApply) -> None:
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=9, by=ANN)
    let_it_be_time()
    assert newest()[:2] == (2, 7) and Backend.objects.get().weight == 9


def test_another_apply_meanwhile_is_not_undone(planned: PlannedApply, web: Cluster) -> None:
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=9, by=ANN)
    apply_draft(web)
    let_it_be_time()
    planned.refresh_from_db()
    assert newest()[:2] == (2, 9) and planned.status == "refused"
    assert "revision 2 was applied after it was reviewed" in planned.cause
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.result) == ("apply.refuse", "refused")


def take_from(name: str, lost: str) -> None:
    """Somebody loses the role, is closed, or is removed."""
    user = User.objects.get(username=name)
    if lost == "role":
        user.role_bindings.all().delete()
    elif lost == "account":
        User.objects.filter(pk=user.pk).update(is_active=False)
    else:
        user.delete()


@pytest.mark.parametrize("lost", ["role", "account", "person"])
def test_who_lost_the_right_meanwhile_applies_nothing(planned: PlannedApply, lost: str) -> None:
    take_from("otto", lost)
    let_it_be_time()
    planned.refresh_from_db()
    assert (newest()[0], planned.status) == (1, "refused")
    assert planned.cause == "otto may not apply here any more"


def test_after_its_window_it_does_not_go_out(planned: PlannedApply) -> None:
    let_it_be_time(ends_at=-1)
    planned.refresh_from_db()
    assert newest()[0] == 1 and "its window is over" in planned.cause


def test_while_another_revision_waits_it_waits_too(planned: PlannedApply, web: Cluster, otto: Client) -> None:
    job = Job.objects.get()
    rollout = job.rollouts.create(cluster=web, revision=job.revision, job=job)
    let_it_be_time()
    planned.refresh_from_db()
    assert planned.status == "planned"
    Run.objects.update(status="applied")
    rollouts.confirm(rollout, by=ANN)
    due.sweep()
    planned.refresh_from_db()
    assert planned.status == "done"


def test_it_can_carry_a_confirmation_and_be_cancelled(
    planned: PlannedApply, web: Cluster, otto: Client, vera: Client
) -> None:
    page = vera.get(reverse("planned-list", args=[web.pk])).content.decode()
    assert "This needs the permission “apply” in web" in page and "all at once" in page
    assert "A change is planned." in otto.get(reverse("cluster-detail", args=[web.pk])).content.decode()
    otto.post(reverse("planned-cancel", args=[planned.pk]))
    assert (
        "is over already"
        in otto.post(reverse("planned-cancel", args=[planned.pk]), follow=True).content.decode()
    )
    let_it_be_time()
    assert newest()[0] == 1
    post(otto, web, begins_at=moment(5), confirm_min=3)
    let_it_be_time()
    rollout = web.rollouts.get()
    assert rollout.within_min == 3 and newest()[0] == 2


def test_times_that_cannot_be_are_refused_at_their_field(
    web: Cluster, backend: Backend, director: Director, otto: Client
) -> None:
    for said, sentence in [
        ({"begins_at": moment(-5)}, "That moment is over."),
        ({"ends_at": moment(-5)}, "ends before it begins"),
        ({"begins_at": moment(60), "ends_at": moment(30)}, "ends before it begins"),
        ({"begins_at": moment(60 * 24 * 400)}, "more than a year ahead"),
        ({"begins_at": "soon"}, "Write the moment like"),
    ]:
        page = post(otto, web, **said).content.decode()
        assert sentence in page and 'value="night"' in page
    assert not PlannedApply.objects.exists()


def test_a_window_that_is_open_goes_out_at_the_next_round(
    web: Cluster, backend: Backend, director: Director, otto: Client
) -> None:
    post(otto, web, ends_at=moment(30))
    due.sweep()
    assert newest()[0] == 1 and PlannedApply.objects.get().status == "done"


def test_a_draft_that_moved_since_the_review_is_not_planned(
    web: Cluster, backend: Backend, director: Director
) -> None:
    with pytest.raises(Rejected, match="draft has changed"):
        schedules.plan(web, seen="x", reason="", by=ANN, how=schedules.How(), begins_at=None, ends_at=None)


def test_what_needs_an_approval_has_it_before_it_is_planned_and_keeps_it(
    web: Cluster, backend: Backend, director: Director, otto: Client
) -> None:
    Cluster.objects.filter(pk=web.pk).update(approvals=1)
    clusters.set_switches(web, {"conntrack": "1"}, seen_version=1, by=ANN)
    seen = draft_print(*draft_said(Cluster.objects.get(pk=web.pk)))
    refused = post(otto, web, seen=seen, begins_at=moment(60))
    assert "Ask for approval first" in refused.content.decode() and not PlannedApply.objects.exists()
    change = approvals.ask(web, seen=seen, reason="peak", ticket="NET-7", by=ANN)
    approvals.approve(change, sentence="fine", by=approver("olga"))
    assert post(otto, web, seen=seen, begins_at=moment(60)).status_code == 302
    # Another edit makes the request void, and not what was planned by it.
    backends.set_weight(backend, seen_version=backend.version, weight=9, by=ANN)
    let_it_be_time()
    revision = Revision.objects.get()
    assert newest()[1] == 1 and revision.traffic["switches"] == {"conntrack": "1"}
    assert (revision.reason, revision.ticket) == ("peak", "NET-7")
    change.refresh_from_db()
    assert (change.status, change.revision) == ("applied", revision)
    entry = AuditEntry.objects.filter(action="cluster.apply").first()
    assert entry and entry.after["approved_by"] == ["olga"]


@pytest.fixture
def approved(planned: PlannedApply, web: Cluster, otto: Client) -> PlannedApply:
    """Weight 7 again, approved by olga and then planned."""
    schedules.cancel(planned, by=ANN)
    Cluster.objects.filter(pk=web.pk).update(approvals=1)
    seen = draft_print(*draft_said(Cluster.objects.get(pk=web.pk)))
    change = approvals.ask(web, seen=seen, reason="peak", ticket="", by=ANN)
    approvals.approve(change, sentence="fine", by=approver("olga"))
    assert post(otto, web, begins_at=moment(60), first="director1").status_code == 302
    return PlannedApply.objects.get(status="planned")


@pytest.mark.parametrize("lost", ["role", "account", "person"])
def test_who_approved_has_to_be_allowed_to_when_it_goes_out(
    approved: PlannedApply, web: Cluster, vera: Client, lost: str
) -> None:
    take_from("olga", lost)
    let_it_be_time()
    approved.refresh_from_db()
    assert (newest()[0], approved.status, web.rollouts.count()) == (1, "refused", 0)
    assert approved.cause == (
        "olga may no longer approve here, so that approval does not count. It needs one other person to"
        " approve it. Ask for that, and plan it again."
    )
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.result, entry.reason) == ("apply.refuse", "refused", approved.cause)
    page = vera.get(reverse("planned-list", args=[web.pk])).content.decode()
    assert "olga may no longer approve here" in page


def test_an_approver_that_is_not_needed_any_more_may_go(approved: PlannedApply) -> None:
    User.objects.get(username="olga").delete()
    Cluster.objects.update(approvals=0)
    let_it_be_time()
    assert newest()[:2] == (2, 7)


def test_what_needs_more_approvals_when_its_hour_comes_does_not_go_out(planned: PlannedApply) -> None:
    Cluster.objects.update(approvals=2)
    let_it_be_time()
    planned.refresh_from_db()
    assert newest()[0] == 1 and planned.cause.startswith("It needs 2 other people to approve it.")


def test_what_is_in_force_already_goes_out_without_an_approval(web: Cluster, job: Job, otto: Client) -> None:
    assert post(otto, web, begins_at=moment(60)).status_code == 302
    Cluster.objects.update(approvals=1)
    let_it_be_time()
    assert PlannedApply.objects.get().status == "done"
