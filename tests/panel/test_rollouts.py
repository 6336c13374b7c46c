"""Revisions that wait to be confirmed, or for the first director, and what follows by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import jobs, reports
from cluster.actions import backends, changes, directors, drains, rollouts
from cluster.actions.changes import How
from cluster.actions.problems import Rejected
from cluster.desired import draft_policies, draft_print, draft_table
from cluster.ipvs.traffic.policy import Target
from cluster.models import AuditEntry, Backend, Cluster, Director, Job, Revision, Rollout, Run
from cluster.wire.envelope import verify
from cluster.wire.messages import Event, Order
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft

Sent = list[dict[str, Any]]
CONFIRM = How(confirm_min=5, backends_percent=20)


@pytest.fixture
def second(web: Cluster, backend: Backend, director: Director, redis: FakeRedis) -> TalkingDirector:
    """director2, beside director1, and revision 1 in force on both."""
    second = TalkingDirector("director2", redis)
    second.hello()
    row = Director.objects.get(name="director2")
    directors.enrol_director(row, web, seen_fingerprint=row.fingerprint, by=ANN)
    apply_draft(web)
    return second


@pytest.fixture
def both(talker: TalkingDirector, second: TalkingDirector) -> dict[str, TalkingDirector]:
    found = {"director1": talker, "director2": second}
    finish(found)
    return found


def finish(both: dict[str, TalkingDirector], *names: str, outcome: str = "applied") -> None:
    """What was sent is done."""
    for run in Run.objects.exclude(status__in=[*Run.TERMINAL, "held"]):
        if not names or run.director_name in names:
            jobs.send(run)
            both[run.director_name].finish(run, outcome)


def change(web: Cluster, weight: int, how: How, **said: Any) -> Job:
    """Another weight in the draft, reviewed and applied."""
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=weight, by=ANN)
    return apply(web, how, **said)


def apply(web: Cluster, how: How, **said: Any) -> Job:
    fresh = Cluster.objects.get(pk=web.pk)
    seen = draft_print(draft_table(fresh), draft_policies(fresh))
    return changes.apply(fresh, seen=seen, **{"reason": "a test", "by": ANN} | said, how=how)


def went_back(talker: TalkingDirector, run: Run, cause: str = "nobody confirmed it in time") -> None:
    payload = {"outcome": "applied", "text": f"It went back, because {cause}.", "cause": cause, "back": 1}
    reports.take(talker.signed(Event.WENT_BACK, run, payload=payload))


def newest(web: Cluster) -> tuple[int, int]:
    """Number of the newest revision, and its backend's weight."""
    revision = Revision.objects.filter(cluster=web).first()
    assert revision is not None
    return revision.number, revision.table["services"][0]["backends"][0].get("weight", 1)


def orders(sent: Sent, operation: str) -> list[Order]:
    key = jobs.signing_key().public
    read = [Order.from_body(verify(one["args"][0], "order", public=key)) for one in sent]
    return [order for order in read if order.operation == operation]


def test_an_order_on_trial_says_how_long_and_what_may_fall(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    job = change(web, 7, CONFIRM)
    Rollout.objects.update(ends_at=timezone.now() + timedelta(seconds=200))
    sent.clear()
    finish(both)
    (one, two) = orders(sent, "apply")
    assert 195 < one.payload["trial"]["within_s"] <= 200, "what is left, not the whole"
    assert one.payload["trial"]["backends_percent"] == 20
    assert one.payload["trial"]["connections_percent"] is None and two.payload["trial"]
    assert job.rollouts.get().back == Revision.objects.get(number=1)


def test_a_confirmed_revision_stays_and_its_directors_are_told(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    rollout = change(web, 7, CONFIRM).rollouts.get()
    with pytest.raises(Rejected, match="No director has"):
        rollouts.confirm(rollout, by=ANN)
    finish(both)
    sent.clear()
    rollouts.confirm(rollout, by=ANN)
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor) == ("rollout.confirm", "ann")
    finish(both)
    assert [(order.director, order.revision) for order in orders(sent, "confirm")] == [
        ("director1", 2),
        ("director2", 2),
    ]
    rollout.refresh_from_db()
    assert (rollout.status, rollout.ended_by) == ("settled", "ann")
    with pytest.raises(Rejected, match="settled already"):
        rollouts.go_back(rollout, by=ANN)


def test_a_director_that_comes_after_the_confirmation_gets_it_without_a_trial(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    rollout = change(web, 7, CONFIRM).rollouts.get()
    finish(both, "director1")
    rollouts.confirm(rollout, by=ANN)
    sent.clear()
    finish(both)
    late = [order for order in orders(sent, "apply") if order.director == "director2"]
    assert late and "trial" not in late[0].payload
    assert [order.director for order in orders(sent, "confirm")] == ["director1"]


def test_nothing_else_is_applied_while_a_revision_waits(
    web: Cluster, both: dict[str, TalkingDirector]
) -> None:
    job = change(web, 7, CONFIRM)
    finish(both, "director1")
    finish(both, "director2", outcome="failed")
    with pytest.raises(Rejected, match="Revision 2 is not settled yet"):
        change(web, 8, How())
    with pytest.raises(Rejected, match="Revision 2 is not settled yet"):
        changes.apply_again(job, by=ANN)
    rollouts.go_back(job.rollouts.get(), by=ANN)
    apply(web, How())
    assert newest(web) == (4, 8)


def test_what_says_the_same_already_cannot_be_tried(web: Cluster, both: dict[str, TalkingDirector]) -> None:
    with pytest.raises(Rejected, match="there is nothing to wait"):
        apply(web, CONFIRM)
    assert not Rollout.objects.exists() and Job.objects.count() == 1


def test_going_back_is_a_new_revision_with_the_old_content(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    rollout = change(web, 7, CONFIRM).rollouts.get()
    finish(both)
    sent.clear()
    job = rollouts.go_back(rollout, by=ANN)
    assert job and newest(web) == (3, 1)
    finish(both)
    assert all("trial" not in order.payload for order in orders(sent, "apply"))
    entry = AuditEntry.objects.get(action="rollout.go-back")
    assert entry.before == {"revision": 2} and entry.after["content"] == "revision 1"  # type: ignore[index]
    assert Backend.objects.get().weight == 7, "the draft is as it was"


def test_a_first_revision_goes_back_to_an_empty_table(
    web: Cluster, backend: Backend, director: Director
) -> None:
    rollout = apply(web, CONFIRM).rollouts.get()
    rollouts.go_back(rollout, by=ANN)
    revision = Revision.objects.first()
    assert revision and (revision.number, revision.table["services"]) == (2, [])


def test_where_one_director_went_back_all_do(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    job = change(web, 7, CONFIRM)
    finish(both)
    run = job.runs.get(director_name="director1")
    went_back(both["director1"], run, "backends in service fell from 3 to 1")
    run.refresh_from_db()
    assert run.status == "reverted" and run.report["text"].startswith("It went back")
    sent.clear()
    rollouts.settle()
    assert newest(web) == (3, 1)
    rollout = job.rollouts.get()
    assert (rollout.status, rollout.ended_by) == ("went-back", "panel")
    assert rollout.cause == "director1: backends in service fell from 3 to 1"
    finish(both)
    assert {order.director for order in orders(sent, "apply")} == {"director1", "director2"}
    rollouts.settle()
    went_back(both["director1"], run, "backends in service fell from 3 to 1")
    assert newest(web) == (3, 1), "once is enough"
    assert AuditEntry.objects.filter(action="run.went-back").count() == 1
    about = AuditEntry.objects.filter(object_kind="job", object_id=str(job.pk))
    assert [entry.action for entry in about[:2]] == ["rollout.go-back", "run.went-back"]


def test_where_nobody_says_so_the_panel_stops_waiting_after_the_end(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    change(web, 7, CONFIRM)
    sent.clear()
    Rollout.objects.update(ends_at=timezone.now() - timedelta(seconds=10))
    for run in Run.objects.exclude(status__in=Run.TERMINAL):
        jobs.send(run)
    assert not sent, "what is over is not begun any more"
    rollouts.settle()
    assert Rollout.objects.get().status == "open", "the directors' reports may be on their way"
    with pytest.raises(Rejected, match="was to be confirmed before"):
        rollouts.confirm(Rollout.objects.get(), by=ANN)
    Rollout.objects.update(ends_at=timezone.now() - timedelta(seconds=40))
    rollouts.settle()
    assert newest(web) == (3, 1)


def test_a_director_that_heard_the_confirmation_too_late_is_drawn_after(
    web: Cluster, both: dict[str, TalkingDirector]
) -> None:
    job = change(web, 7, CONFIRM)
    finish(both)
    rollouts.confirm(job.rollouts.get(), by=ANN)
    for name, talker in both.items():
        went_back(talker, job.runs.get(director_name=name))
    rollouts.settle()
    assert newest(web) == (3, 7), "one revision for both"
    entry = AuditEntry.objects.get(action="rollout.repeat")
    assert (entry.object_kind, entry.object_id) == ("job", str(Job.objects.latest("pk").pk))
    entry = AuditEntry.objects.get(action="rollout.confirm")
    assert (entry.object_kind, entry.object_id) == ("job", str(job.pk))
    assert Run.objects.filter(job__revision__number=3).count() == 2
    rollouts.settle()
    assert newest(web) == (3, 7)


def test_a_drain_during_a_trial_goes_on_with_it(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    job = change(web, 7, CONFIRM)
    finish(both)
    sent.clear()
    drains.drain(
        web,
        [Target(address="192.168.50.11")],
        begins_at=None,
        ends_at=None,
        cut_at=None,
        reason="a test",
        by=ANN,
        may_refuse_clients=True,
    )
    finish(both)
    assert all(order.payload["trial"] for order in orders(sent, "apply"))
    rollout = job.rollouts.get()
    assert rollout.revision.number == 3
    went_back(both["director1"], job.runs.get(director_name="director1"))
    rollouts.settle()
    revision = Revision.objects.first()
    assert revision and newest(web) == (4, 1) and len(revision.traffic["drains"]) == 1


FIRST = How(first="director2")


def test_one_director_goes_first_and_the_others_follow(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    job = change(web, 7, FIRST)
    assert {run.director_name: run.status for run in job.runs.all()} == {
        "director1": "held",
        "director2": "queued",
    }
    sent.clear()
    jobs.sweep()
    jobs.send(job.runs.get(director_name="director1"))
    assert not [one for one in sent if one["queue"] == "director.director1"]
    rollouts.settle()
    finish(both, "director2")
    rollouts.settle()
    assert Rollout.objects.get().status == "settled"
    finish(both)
    assert {run.status for run in job.runs.all()} == {"applied"}
    entry = AuditEntry.objects.get(action="rollout.go-on")
    assert (entry.object_kind, entry.object_id) == ("job", str(job.pk))


def test_where_the_first_fails_the_others_keep_what_they_have(
    web: Cluster, both: dict[str, TalkingDirector], sent: Sent
) -> None:
    job = change(web, 7, FIRST)
    finish(both, "director2", outcome="failed")
    sent.clear()
    rollouts.settle()
    assert newest(web) == (3, 1) and job.runs.get(director_name="director1").status == "superseded"
    assert job.rollouts.get().cause == "director2: failed."
    finish(both)
    assert {order.revision for order in orders(sent, "apply")} == {3}


def test_with_a_confirmation_the_others_wait_for_that(web: Cluster, both: dict[str, TalkingDirector]) -> None:
    job = change(web, 7, How(confirm_min=5, first="director2"))
    finish(both, "director2")
    rollouts.settle()
    assert job.runs.get(director_name="director1").status == "held"
    rollouts.confirm(job.rollouts.get(), by=ANN)
    assert job.runs.get(director_name="director1").status == "queued"


def test_a_drain_does_not_slip_a_tried_revision_to_the_others(
    web: Cluster, both: dict[str, TalkingDirector]
) -> None:
    job = change(web, 7, FIRST)
    with pytest.raises(Rejected, match="is being tried"):
        changes.carry_out(web, reason="", by=ANN, newcomer=Director.objects.get(name="director1"))
    rollouts.go_back(job.rollouts.get(), by=ANN)
    changes.carry_out(web, reason="", by=ANN, newcomer=Director.objects.get(name="director1"))
    with pytest.raises(Rejected, match="is no director"):
        change(web, 8, How(first="director9"))


def test_a_worker_that_cannot_go_back_is_given_nothing_to_confirm(
    web: Cluster, both: dict[str, TalkingDirector]
) -> None:
    both["director2"].hello(goes_back=False)
    with pytest.raises(Rejected, match="The worker of director2 is of an older release"):
        change(web, 7, CONFIRM)
    apply(web, How(first="director1"))
    assert newest(web) == (2, 7)


def post(client: Client, web: Cluster, **said: Any) -> Any:
    seen = draft_print(draft_table(web), draft_policies(web))
    return client.post(reverse("cluster-review", args=[web.pk]), {"seen": seen, "reason": "peak"} | said)


def test_the_form_begins_with_the_clusters_own_and_the_banner_has_both_buttons(
    web: Cluster, both: dict[str, TalkingDirector], ann: Client, otto: Client, vera: Client
) -> None:
    url = reverse("change-settings", args=[web.pk])
    assert "within how many minutes" in ann.post(url, {"version": 1, "backends_percent": 20}).content.decode()
    assert ann.post(url, {"version": 1, "confirm_min": 7, "connections_percent": 30}).status_code == 302
    page = otto.get(reverse("cluster-review", args=[web.pk])).content.decode()
    assert 'name="confirm_min" value="7"' in page and 'name="connections_percent" value="30"' in page
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=7, by=ANN)
    web = Cluster.objects.get(pk=web.pk)
    response = post(otto, web, confirm_min=7, first="director2")
    rollout = Rollout.objects.get()
    assert response["Location"] == reverse("job-detail", args=[rollout.job_id])
    page = otto.get(response["Location"]).content.decode()
    assert "Confirm revision 2" in page and "Revert now" in page and "waits for the first" in page
    assert "6:5" in page or "7:00" in page
    for name, args in (("cluster-detail", [web.pk]), ("cluster-review", [web.pk])):
        assert "Revert now" in otto.get(reverse(name, args=args)).content.decode()
    assert (
        "This needs the permission “apply” in web"
        in vera.get(reverse("rollout-live", args=[rollout.pk])).content.decode()
    )
    finish(both, "director2")
    otto.post(reverse("rollout-confirm", args=[rollout.pk]))
    response = otto.get(reverse("rollout-live", args=[rollout.pk]))
    assert response.status_code == 286 and "Revision 2 is confirmed" in response.content.decode()
    page = otto.post(
        reverse("rollout-go-back", args=[rollout.pk]), {"reason": "a test"}, follow=True
    ).content.decode()
    assert "settled already" in page


def test_the_jobs_page_looks_on_until_what_was_applied_is_settled(
    web: Cluster, both: dict[str, TalkingDirector], otto: Client
) -> None:
    job = change(web, 7, CONFIRM)
    finish(both)
    url = reverse("job-live", args=[job.pk])
    assert otto.get(url).status_code == 200
    went_back(both["director1"], job.runs.get(director_name="director1"))
    assert "state-reverted" in otto.get(url).content.decode()
    rollouts.settle()
    assert otto.get(url).status_code == 286


def test_a_wrong_how_is_said_at_its_field_and_nothing_is_lost(
    web: Cluster, both: dict[str, TalkingDirector], otto: Client
) -> None:
    page = post(otto, web, confirm_min=0, backends_percent=120, first="nobody").content.decode()
    assert "greater than or equal to 1" in page and "less than or equal to 99" in page
    assert "nobody is not one of the available choices" in page and 'value="peak"' in page


def test_a_restored_panel_gives_nobody_what_was_only_being_tried(
    web: Cluster, both: dict[str, TalkingDirector]
) -> None:
    rollout = change(web, 7, changes.How(first="director1")).rollouts.get()
    finish(both, "director1")
    (job,) = directors.raise_epochs(by=ANN)
    rollout.refresh_from_db()
    assert rollout.status == "went-back" and "restored from a backup" in rollout.cause
    assert newest(web) == (3, 1) and job.revision and job.revision.number == 3
    assert {run.director_name for run in job.runs.all()} == {"director1", "director2"}
    entries = list(AuditEntry.objects.values_list("action", flat=True)[:2])
    assert entries == ["cluster.raise-epoch", "rollout.go-back"]
