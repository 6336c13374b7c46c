"""A report that cannot be read ends its run and breaks nothing; old and repeated ones change nothing."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import jobs, reports
from cluster.actions.directors import enrol_director, release_director
from cluster.models import AuditEntry, Backend, Cluster, Director, Run
from cluster.wire.messages import Event, Report
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, text_of

PAGES = ["overview", "cluster-list", "director-list", "job-list", "audit-list"]


def _spoilt(talker: TalkingDirector, run: Run, **changes: Any) -> dict[str, str]:
    """A FINISHED report as a broken worker would write it."""
    signed = talker.signed(Event.FINISHED, run, payload={"outcome": "applied", "text": "x"})
    return talker.genuine("report", json.loads(signed["body"]) | changes)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"outcome": "splendid"}, "outcome is not one of applied, partial"),
        ({"text": {"a": "b"}}, "text is not a text."),
        ({"steps": ["ipvsadm -A"]}, "steps[0] is not an object."),
        ({"steps": 5}, "steps is not a list."),
        ({"table": {"version": 1}, "owned": []}, "services is not a list."),
        ({"table": "all of them", "owned": []}, "The table document is not an object."),
        ({"owned": [7]}, "owned[0] is not an object."),
        ({"planned": float("nan")}, "planned is not a whole number"),
    ],
)
def test_a_report_that_cannot_be_read_ends_the_run_and_is_not_kept(
    ann: Client, run: Run, director: Director, talker: TalkingDirector, odd: dict[str, Any], said: str
) -> None:
    good = {"outcome": "applied", "text": "Done.", "table": {"version": 1, "services": []}, "facts": {}}
    reports.take(_spoilt(talker, run, payload=good | odd))
    run.refresh_from_db()
    assert run.status == "failed" and run.finished_at
    assert run.report["text"].startswith("director1's report could not be read: ")
    assert said in run.report["text"] and "versions that fit each other" in run.report["remedy"]
    entry = AuditEntry.objects.first()
    assert entry is not None and (entry.action, entry.result) == ("run.failed", "failed")
    kept = Director.objects.get()
    assert (kept.table, kept.owned, kept.applied_revision) == (None, [], 0)
    for name in PAGES:
        assert ann.get(reverse(name)).status_code == 200
    for name, pk in [
        ("job-detail", run.job_id),
        ("director-detail", director.pk),
        ("cluster-review", director.cluster_id),
    ]:
        assert ann.get(reverse(name, args=[pk])).status_code == 200


def test_texts_that_no_database_takes_are_cleaned_at_the_door(
    run: Run, director: Director, talker: TalkingDirector
) -> None:
    step = {"kind": "add", "text": "A\0dd", "command": "ipvs\ud800adm", "status": "failed", "error": ""}
    said = {"outcome": "failed", "text": "N\0o\udfff", "facts": {"hostname": "lb\x001"}, "steps": [step]}
    reports.take(_spoilt(talker, run, payload=said))
    hello = {"public_key": talker.key.public, "facts": {"notices": ["\0\ud800"], "ipvs": "1\0"}}
    run.refresh_from_db()
    director.refresh_from_db()
    assert run.report["text"] == "N\ufffdo\ufffd" and director.facts["hostname"] == "lb\ufffd1"
    assert run.report["steps"][0]["command"] == "ipvs\ufffdadm"
    entry = AuditEntry.objects.first()
    assert entry is not None and entry.after == {"steps": ["ipvs\ufffdadm"]} and "\0" not in entry.reason
    talker.sequence += 1
    report = Report(Event.HELLO, "", "director1", "", 0, 0, talker.sequence, time.time(), hello)
    reports.take(talker.genuine("report", report.to_body()))
    director.refresh_from_db()
    assert (director.facts["notices"], director.facts["ipvs"]) == (["\ufffd\ufffd"], "1\ufffd")


@pytest.mark.parametrize(
    "odd",
    [
        {"sequence": 10**30},
        {"sequence": -1},
        {"at": float("nan")},
        {"at": 10**400},
        {"director": "director1\0"},
        {"director": "\ud800"},
        {"event": "hello", "payload": {"public_key": ["x"]}},
        {"event": "hello"},
    ],
)
def test_a_report_with_impossible_numbers_or_names_changes_nothing(
    run: Run, director: Director, talker: TalkingDirector, odd: dict[str, Any]
) -> None:
    before = Director.objects.values().get()
    reports.take(_spoilt(talker, run, **odd))
    run.refresh_from_db()
    assert run.status == "queued" and Director.objects.values().get() == before


def test_the_same_unknown_end_is_written_to_the_log_once(
    run: Run, director: Director, talker: TalkingDirector
) -> None:
    for text in ("No answer.", "Still no answer."):
        reports.take(talker.signed(Event.STARTED, run))
        talker.finish(run, "unknown", text=text)
    run.refresh_from_db()
    assert (run.status, run.report["text"]) == ("unknown", "Still no answer.")
    assert AuditEntry.objects.filter(action="run.unknown").count() == 1
    talker.finish(run)
    assert AuditEntry.objects.filter(action="run.applied").count() == 1


def test_an_old_hello_does_not_overwrite_newer_facts(director: Director, talker: TalkingDirector) -> None:
    payload = {"public_key": talker.key.public, "facts": {"kernel": "5.10"}}
    old = talker.signed(Event.HELLO, payload=payload)
    talker.hello(kernel="6.1.0")
    reports.take(old)
    director.refresh_from_db()
    assert director.facts["kernel"] == "6.1.0"


def test_an_old_hello_does_not_clear_the_warning_about_a_rival(
    director: Director, talker: TalkingDirector, redis: FakeRedis
) -> None:
    old = talker.signed(Event.HELLO, payload={"public_key": talker.key.public})
    talker.hello()
    TalkingDirector("director1", redis).hello()
    reports.take(old)
    director.refresh_from_db()
    assert director.rival_key


def test_a_released_director_keeps_its_epoch_and_leaves_the_list_of_those_that_wait(
    ann: Client, web: Cluster, director: Director, talker: TalkingDirector
) -> None:
    Director.objects.update(epoch=2**40)
    director.refresh_from_db()
    release_director(director, by=ANN)
    assert "director1" in ann.get(reverse("director-list")).content.decode()
    Director.objects.update(announced_at=timezone.now() - timedelta(minutes=11))
    jobs.sweep()
    for name in ("director-list", "overview"):
        page = ann.get(reverse(name))
        assert "director1" not in page.content.decode()
        assert not any(entry["count"] for entry in page.context["shell"]["nav"])
    talker.hello()
    back = Director.objects.get()
    assert "director1" in ann.get(reverse("director-list")).content.decode()
    enrol_director(back, web, seen_fingerprint=back.fingerprint, by=ANN)
    back.refresh_from_db()
    assert back.epoch > 2**40, "it would refuse a lower one"


def test_directors_released_long_ago_do_not_keep_new_ones_out(director: Director, redis: FakeRedis) -> None:
    release_director(director, by=ANN)
    for number in range(reports.MOST_WAITING):
        Director.objects.create(
            name=f"old{number}", public_key=director.public_key, epoch=1, announced_at=director.enrolled_at
        )
    Director.objects.update(announced_at=timezone.now() - timedelta(days=1))
    TalkingDirector("fresh", redis).hello()
    assert Director.objects.filter(name="fresh").exists()


def test_what_a_director_did_by_itself_is_in_the_log_with_its_cause(
    ann: Client, director: Director, talker: TalkingDirector
) -> None:
    change = {
        "at": time.time(),
        "target": "10.0.0.1:80 of TCP 192.0.2.1:80",
        "before": "up",
        "standing": "down",
        "weight": 0,
        "cause": "connect timeout 3/3",
    }
    report = talker.signed(Event.TRAFFIC, payload={"changes": [change], "more": 0})
    reports.take(report)
    reports.take(report)
    entry = AuditEntry.objects.get(action="traffic.down")
    assert (entry.actor, entry.target, entry.reason) == (
        "director director1",
        change["target"],
        change["cause"],
    )
    assert entry.cluster == "web" and entry.before == {"standing": "up"}
    assert "connect timeout 3/3" in text_of(ann.get(reverse("audit-detail", args=[entry.sequence])))


def test_what_befell_a_backend_is_in_its_history(
    director: Director, talker: TalkingDirector, backend: Backend
) -> None:
    told = {"at": time.time(), "before": "up", "standing": "down", "weight": 0, "cause": "refused"}
    targets = [f"{backend} of {backend.service}", str(backend.service), "x:80 of nothing", "weights"]
    changes = [told | {"target": target} for target in targets]
    reports.take(talker.signed(Event.TRAFFIC, payload={"changes": changes, "more": 0}))
    entries = AuditEntry.objects.filter(action="traffic.down").order_by("sequence")
    service = backend.service
    assert list(entries.values_list("object_kind", "object_id")) == [
        ("backend", str(backend.pk)),
        ("service", str(service.pk)),
        ("", ""),
        ("", ""),
    ]


@pytest.mark.parametrize("changes", [5, ["down"], [{"at": "now"}], [{"at": 1, "target": 3}]])
def test_odd_changes_of_a_director_are_passed_over(
    director: Director, talker: TalkingDirector, changes: Any
) -> None:
    before = AuditEntry.objects.count()
    reports.take(talker.signed(Event.TRAFFIC, payload={"changes": changes}))
    assert AuditEntry.objects.count() == before
