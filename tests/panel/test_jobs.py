"""Orders go out until an answer comes; only a director's own signed word changes its run."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import jobs, reports
from cluster.actions.directors import enrol_director, raise_epochs
from cluster.actions.problems import Rejected
from cluster.models import AuditEntry, Backend, Cluster, Director, Job, Run
from cluster.wire.envelope import verify
from cluster.wire.messages import Event, Frame, Order
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft

Sent = list[dict[str, Any]]


def _age(run: Run, **columns: float) -> None:
    Run.objects.filter(pk=run.pk).update(
        **{name: timezone.now() - timedelta(seconds=seconds) for name, seconds in columns.items()}
    )


def test_an_order_leaves_when_the_change_commits(
    web: Cluster, backend: Backend, director: Director, sent: Sent, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        job = apply_draft(web)
    assert [order["queue"] for order in sent] == ["director.director1"]
    order = Order.from_body(verify(sent[0]["args"][0], "order", public=jobs.signing_key().public))
    run = job.runs.get()
    assert (order.run, order.director, order.cluster) == (str(run.uuid), "director1", str(web.uuid))
    assert (order.revision, order.epoch, order.operator) == (1, director.epoch, "ann")
    assert job.revision
    assert order.payload == {"table": job.revision.table, "traffic": job.revision.traffic}
    assert (run.status, run.sends) == ("sent", 1)


def test_with_redis_down_nothing_fails_and_the_sweep_sends_later(
    run: Run, redis: FakeRedis, sent: Sent, talker: TalkingDirector
) -> None:
    redis.is_up = False
    assert jobs.send(run) is False
    _age(run, queued_at=5)
    jobs.sweep()
    run.refresh_from_db()
    assert run.status == "queued" and not sent
    redis.is_up = True
    jobs.sweep()
    run.refresh_from_db()
    assert run.status == "sent" and len(sent) == 1


def test_the_sweep_does_not_come_between_a_click_and_its_sending(run: Run, sent: Sent) -> None:
    jobs.sweep()
    assert not sent
    assert jobs.send(run)
    assert len(sent) == 1


def test_a_lost_order_is_sent_again_to_a_director_that_is_there(
    run: Run, sent: Sent, talker: TalkingDirector
) -> None:
    jobs.send(run)
    talker.frame()
    jobs.sweep()
    assert len(sent) == 1, "five seconds have not passed"
    _age(run, sent_at=6)
    jobs.sweep()
    assert len(sent) == 2


def test_a_director_that_is_away_gets_one_message_and_not_a_pile(
    run: Run, sent: Sent, talker: TalkingDirector
) -> None:
    jobs.send(run)
    talker.frame(age_s=60)
    _age(run, sent_at=600)
    for _ in range(5):
        jobs.sweep()
    assert len(sent) == 1
    talker.frame()
    jobs.sweep()
    assert len(sent) == 2, "it is back"


def test_silence_of_a_director_that_is_there_becomes_unknown_and_is_asked_again(
    run: Run, sent: Sent, talker: TalkingDirector
) -> None:
    jobs.send(run)
    Run.objects.update(sends=6)
    _age(run, sent_at=100, queued_at=200)
    talker.frame()
    jobs.sweep()
    run.refresh_from_db()
    assert run.status == "unknown" and not run.is_over and len(sent) == 2
    talker.finish(run)
    run.refresh_from_db()
    assert run.status == "applied"


def test_started_and_finished_move_the_run(run: Run, talker: TalkingDirector, director: Director) -> None:
    reports.take(talker.signed(Event.STARTED, run))
    run.refresh_from_db()
    assert run.status == "running"
    talker.finish(run)
    run.refresh_from_db()
    director.refresh_from_db()
    assert run.status == "applied" and run.finished_at
    assert director.applied_revision == 1 and director.owned
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor) == ("run.applied", "director director1")


def test_what_a_director_did_belongs_to_the_request_that_ordered_it(
    web: Cluster, backend: Backend, director: Director, talker: TalkingDirector
) -> None:
    run = apply_draft(web, by=replace(ANN, request_id="2b7c0a9e51d4f836")).runs.get()
    talker.finish(run)
    entries = AuditEntry.objects.filter(request_id="2b7c0a9e51d4f836")
    assert set(entries.values_list("action", "actor")) >= {
        ("cluster.apply", "ann"),
        ("run.applied", "director director1"),
    }


def test_a_repeated_report_changes_nothing(run: Run, talker: TalkingDirector) -> None:
    report = talker.signed(Event.FINISHED, run, payload={"outcome": "failed", "text": "No."})
    reports.take(report)
    entries = AuditEntry.objects.count()
    reports.take(report)
    assert AuditEntry.objects.count() == entries


def test_a_late_report_does_not_undo_an_end(run: Run, talker: TalkingDirector) -> None:
    talker.finish(run)
    talker.finish(run, "failed")
    run.refresh_from_db()
    assert run.status == "applied"


@pytest.mark.parametrize("wrong", ["key", "kind", "body", "shape", "nothing"])
def test_a_forged_report_changes_nothing(run: Run, talker: TalkingDirector, wrong: str) -> None:
    genuine: Any = talker.signed(Event.FINISHED, run, payload={"outcome": "applied", "text": "x"})
    stranger = TalkingDirector("director1", talker.redis)
    forged: Any = {
        "key": stranger.signed(Event.FINISHED, run, payload={"outcome": "applied"}, sequence=99),
        "kind": talker.key.sign("frame", {"event": "finished"}),
        "body": genuine | {"body": genuine["body"].replace("director1", "director2")},
        "shape": {"body": "[]", "signature": genuine["signature"]},
        "nothing": None,
    }[wrong]
    reports.take(forged)
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_director_cannot_end_the_run_of_another(
    run: Run, talker: TalkingDirector, redis: FakeRedis
) -> None:
    second = TalkingDirector("director2", redis)
    second.hello()
    second.finish(run)
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_stranger_cannot_take_over_the_name_of_an_enrolled_director(
    director: Director, redis: FakeRedis
) -> None:
    key = director.public_key
    TalkingDirector("director1", redis).hello()
    director.refresh_from_db()
    assert director.public_key == key


def test_strangers_cannot_fill_the_list_of_waiting_directors(db: None, redis: FakeRedis) -> None:
    for number in range(reports.MOST_WAITING + 5):
        TalkingDirector(f"stranger{number}", redis).hello()
    TalkingDirector("Bad Name/..", redis).hello()
    assert Director.objects.count() == reports.MOST_WAITING


def test_the_facts_of_a_stranger_are_bounded(db: None, redis: FakeRedis) -> None:
    TalkingDirector("big", redis).hello(noise="x" * 100_000)
    assert "noise" not in Director.objects.get().facts
    TalkingDirector("odd", redis).hello(modules=["x", {"name": 1}], schedulers="rr", stand_in="yes")
    facts = Director.objects.get(name="odd").facts
    assert facts["modules"] == [] and "schedulers" not in facts and facts["stand_in"] is False


def test_the_job_page_follows_until_the_end(
    otto: Client, run: Run, talker: TalkingDirector, job: Job
) -> None:
    url = reverse("job-live", args=[job.pk])
    page = otto.get(reverse("job-detail", args=[job.pk]))
    assert "queued" in page.content.decode() and "hx-get" in page.content.decode()
    assert otto.get(url, {"stamp": page.context["stamp"]}).status_code == 204
    reports.take(talker.signed(Event.STARTED, run))
    answer = otto.get(url, {"stamp": page.context["stamp"]})
    assert answer.status_code == 200 and "running" in answer.content.decode()
    talker.finish(run, text="director1's kernel holds revision 1.")
    answer = otto.get(url)
    assert answer.status_code == 286 and "verified" in answer.content.decode()
    assert "hx-get" not in answer.content.decode()


def test_the_job_page_says_that_a_director_is_away(
    otto: Client, run: Run, talker: TalkingDirector, job: Job
) -> None:
    talker.frame(age_s=30)
    page = otto.get(reverse("job-detail", args=[job.pk])).content.decode()
    assert "waiting for director" in page and "goes out when it is back" in page


def test_a_failed_run_shows_sentence_remedy_and_another_try(
    otto: Client, run: Run, talker: TalkingDirector, job: Job
) -> None:
    talker.finish(
        run,
        "failed",
        text="The kernel of director1 has no IPVS: the module ip_vs is not loaded.",
        remedy="Load it on the director's page.",
        steps=[
            {"kind": "add", "text": "Add it.", "command": "ipvsadm -A", "status": "failed", "error": "No."}
        ],
    )
    page = otto.get(reverse("job-detail", args=[job.pk])).content.decode()
    for words in (
        "has no IPVS",
        "Load it on the director&#x27;s page.",
        "Add it.",
        "ipvsadm -A",
        "Try again",
    ):
        assert words in page
    assert otto.post(reverse("job-again", args=[job.pk])).status_code == 302
    assert Job.objects.count() == 2


def test_a_reinstalled_director_is_shown_as_another_machine_with_its_name(
    ann: Client, director: Director, redis: FakeRedis, talker: TalkingDirector
) -> None:
    TalkingDirector("director1", redis).hello()
    url = reverse("director-detail", args=[director.pk])
    assert "Another machine announces this name." in ann.get(url).content.decode()
    talker.hello()
    assert "Another machine announces this name." not in ann.get(url).content.decode()


def test_who_stopped_announcing_is_not_waiting_any_more(talker: TalkingDirector, director: Director) -> None:
    TalkingDirector("gone", talker.redis).hello()
    Director.objects.update(announced_at=timezone.now() - timedelta(minutes=11))
    jobs.sweep()
    assert [one.name for one in Director.objects.all()] == ["director1"]


def test_after_a_restored_backup_the_directors_get_a_higher_epoch(director: Director, job: Job) -> None:
    (again,) = raise_epochs(by=ANN)
    before, run = director.epoch, again.runs.get()
    assert run.director is not None and run.director.epoch > before and again.revision == job.revision


def test_an_odd_frame_is_no_frame(ann: Client, director: Director, talker: TalkingDirector) -> None:
    for odd in (
        ["x"],
        [{"protocol": "tcp"}],
        [{"protocol": "tcp", "address": "x", "port": 1, "backends": []}],
    ):
        talker.frame(services=odd)
        response = ann.get(reverse("live-table", args=[director.cluster_id]))
        assert response.status_code == 200 and response.context["live_at"] is None


def test_numbers_that_are_none_stop_neither_sweep_nor_page(
    ann: Client, director: Director, talker: TalkingDirector, redis: FakeRedis
) -> None:
    key = {"protocol": "tcp", "address": "192.0.2.1", "port": 80, "scheduler": "rr", "owned": True}
    part = {"address": "192.0.2.2", "port": 80, "forwarding": "masquerade", "weight": 1, "active": 0}
    for odd in (
        part | {"active": float("inf")},
        part | {"inactive": "many"},
        part | {"totals": {"connections": 10**400}},
        part | {"rates": {"connections": float("nan")}},
        part | {"rates": 5},
        part | {"persistent": "x"},
        {name: value for name, value in part.items() if name != "active"},
    ):
        frame = Frame("director1", "", 99, time.time(), 2.0, {"services": [key | {"backends": [odd]}]})
        redis.values["live:director1"] = json.dumps(talker.genuine("frame", frame.to_body()))
        jobs.sweep()
        assert ann.get(reverse("overview")).status_code == 200
        for name in ("live", "cluster-review"):
            assert ann.get(reverse(name, args=[director.cluster_id])).status_code == 200


def test_a_key_that_changed_after_the_comparison_is_not_enrolled(
    web: Cluster, talker: TalkingDirector, redis: FakeRedis
) -> None:
    compared = Director.objects.get()
    TalkingDirector("director1", redis).hello()
    with pytest.raises(Rejected, match="announces another key now"):
        enrol_director(compared, web, seen_fingerprint=compared.fingerprint, by=ANN)


def test_a_wrong_clock_is_named(ann: Client, director: Director, talker: TalkingDirector) -> None:
    reports.take(talker.signed(Event.HELLO, at=time.time() - 30, payload={"public_key": talker.key.public}))
    page = ann.get(reverse("director-detail", args=[director.pk])).content.decode()
    assert "Its clock is wrong." in page


def test_a_report_of_an_earlier_life_does_not_count_as_applied(
    run: Run, talker: TalkingDirector, director: Director
) -> None:
    payload = {"outcome": "applied", "text": "x"}
    reports.take(talker.signed(Event.FINISHED, run, epoch=director.epoch - 1, payload=payload))
    director.refresh_from_db()
    assert director.applied_revision == 0


def test_a_worker_that_has_started_anew_is_sent_its_open_runs_at_once(
    run: Run, talker: TalkingDirector, sent: list[dict[str, Any]]
) -> None:
    talker.hello(worker="first")
    reports.take(talker.signed(Event.STARTED, run))
    sent.clear()
    talker.hello(worker="first")
    assert sent == []
    talker.hello(worker="second")
    assert len(sent) == 1
    run.refresh_from_db()
    assert run.status == "running" and run.sends >= 2
    reports.take(talker.signed(Event.FINISHED, run, payload={"outcome": "applied", "text": "x"}))
    sent.clear()
    talker.hello(worker="third")
    assert sent == []
