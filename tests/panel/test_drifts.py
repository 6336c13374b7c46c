"""Drift: what directors tell of it, what the page shows, and what adopt, revert and enforce do."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import jobs, reports
from cluster.actions import backends, changes, drifts
from cluster.actions.problems import Rejected
from cluster.desired import draft_table
from cluster.drifts import seen_of
from cluster.drifts import shown as drifts_shown
from cluster.models import AuditEntry, Backend, Cluster, Director, Drift, Job, Run, VirtualService
from cluster.wire.envelope import verify
from cluster.wire.messages import Event, Order
from tests.panel.conftest import ANN, TalkingDirector, apply_draft

Sent = list[dict[str, Any]]
KEY = {"protocol": "tcp", "address": "192.168.50.10", "port": 80}
PLACE = {"service": KEY, "backend": {"address": "192.168.50.11", "port": 80}}
BACKEND = {"address": "192.168.50.11", "port": 80, "forwarding": "masquerade", "weight": 1}
SERVICE = KEY | {"scheduler": "rr", "backends": []}
NAME = "192.168.50.11:80 of TCP 192.168.50.10:80"


@pytest.fixture
def applied(web: Cluster, backend: Backend, director: Director, talker: TalkingDirector) -> Cluster:
    run = apply_draft(web).runs.get()
    talker.finish(run)
    return web


def tell(talker: TalkingDirector, *objects: dict[str, Any], **said: Any) -> None:
    epoch = Director.objects.get(name=talker.name).epoch
    payload = {"objects": list(objects), "healed": [], "more": 0} | said
    reports.take(talker.signed(Event.DRIFT, epoch=epoch, payload=payload))


def wrong(**sides: Any) -> dict[str, Any]:
    """The backend has another weight, since some moment between two looks."""
    now = time.time()
    said = {"wanted": BACKEND, "actual": BACKEND | {"weight": 99}, "right_at": now - 2, "wrong_at": now}
    return PLACE | said | sides


def of_service(**sides: Any) -> dict[str, Any]:
    now = time.time()
    said = {"wanted": SERVICE, "actual": SERVICE | {"scheduler": "wlc"}, "right_at": now, "wrong_at": now}
    return {"service": KEY, "backend": None} | said | sides


def shown(row: Drift) -> dict[str, str]:
    """What the page of drift carries beside this."""
    part = next(part for part in drifts_shown(row.cluster) if part.row == row)
    return {"seen": part.seen, "seen_draft": part.seen_draft}


def adopt(row: Drift) -> None:
    """As somebody does who looks at the page just now."""
    drifts.adopt(row, **shown(row), by=ANN)


def logged() -> list[str]:
    return list(AuditEntry.objects.filter(action__startswith="drift").values_list("action", flat=True))[::-1]


def test_found_and_gone_are_in_the_log_with_the_window(applied: Cluster, talker: TalkingDirector) -> None:
    tell(talker, wrong())
    entry = AuditEntry.objects.get(action="drift.found")
    assert (entry.actor, entry.target) == ("director director1", f"{NAME} on director1")
    assert entry.before and entry.after and (entry.before["weight"], entry.after["weight"]) == (1, 99)
    assert round(entry.after["wrong_at"] - entry.after["right_at"]) == 2
    tell(talker, wrong(actual=BACKEND | {"weight": 98}))
    assert logged() == ["drift.found"], "it is the same, and says something else"
    assert Drift.objects.get().actual["weight"] == 98
    tell(talker)
    assert logged() == ["drift.found", "drift.gone"] and not Drift.objects.open()
    tell(talker, wrong())
    assert Drift.objects.count() == 2, "each time is a row of its own"


def test_a_healing_and_a_war_are_in_the_log(applied: Cluster, talker: TalkingDirector, ann: Client) -> None:
    tell(talker, wrong())
    tell(talker, healed=[wrong()])
    assert logged() == ["drift.found", "drift.healed", "drift.gone"] and Drift.objects.get().healed
    tell(talker, wrong(fought=True))
    tell(talker, wrong(fought=True))
    assert logged()[3:] == ["drift.found", "drift.fought"]
    page = ann.get(reverse("drift-list", args=[applied.pk])).content.decode()
    assert "changed again and again" in page and "healed by the director" in page


def test_what_was_cut_from_a_report_is_not_taken_for_gone(
    applied: Cluster, talker: TalkingDirector, vera: Client
) -> None:
    url = reverse("drift-list", args=[applied.pk])
    tell(talker, wrong())
    assert "more on director1" not in vera.get(url).content.decode()
    tell(talker, more=300)
    assert Drift.objects.open().count() == 1
    assert "And 300 more on director1" in vera.get(url).content.decode()
    tell(talker)
    assert not Drift.objects.open().exists() and "No drift" in vera.get(url).content.decode()


def test_a_report_of_another_epoch_or_without_sense_says_nothing(
    applied: Cluster, talker: TalkingDirector
) -> None:
    payload = {"objects": [wrong()], "healed": [], "more": 0}
    reports.take(talker.signed(Event.DRIFT, epoch=77, payload=payload))
    tell(talker, wrong(wanted=7))
    assert not Drift.objects.exists()


def test_the_page_shows_three_ways_and_who_may_do_what(
    applied: Cluster, talker: TalkingDirector, ann: Client, vera: Client
) -> None:
    url = reverse("drift-list", args=[applied.pk])
    assert "No drift" in vera.get(url).content.decode()
    tell(talker, wrong(wanted=BACKEND | {"weight": 0}))
    page = ann.get(url).content.decode()
    for words in ("weight 0, masquerade", "weight 1, masquerade", "weight 99, masquerade"):
        assert words in page
    assert (
        "Somebody else changed a kernel."
        in ann.get(reverse("cluster-detail", args=[applied.pk])).content.decode()
    )
    page = vera.get(url).content.decode()
    assert "This needs the permission “apply” in web" in page and 'id="revert-' not in page


def test_revert_is_an_order_for_this_thing_and_this_director(
    applied: Cluster, talker: TalkingDirector, sent: Sent, otto: Client
) -> None:
    tell(talker, wrong())
    row = Drift.objects.get()
    response = otto.post(reverse("drift-revert", args=[row.pk]), {"reason": "not ours", "seen": seen_of(row)})
    job = Job.objects.get(kind="repair")
    assert response["Location"] == reverse("job-detail", args=[job.pk])
    jobs.send(job.runs.get())
    order = Order.from_body(verify(sent[-1]["args"][0], "order", public=jobs.signing_key().public))
    assert order.operation == "repair" and order.payload["places"] == [PLACE]
    assert f"Put right in {applied}" in otto.get(response["Location"]).content.decode()
    tell(talker)
    with pytest.raises(Rejected, match="as it should be again"):
        drifts.revert(row, seen=seen_of(row), reason="a test", by=ANN)
    Run.objects.filter(job=job).update(status="failed")
    assert changes.apply_again(job, by=ANN).probe == {"places": [PLACE]}


def test_adopt_takes_a_backends_settings_into_the_draft(
    applied: Cluster, talker: TalkingDirector, otto: Client
) -> None:
    tell(talker, wrong())
    row = Drift.objects.get()
    page = otto.post(reverse("drift-adopt", args=[row.pk]), shown(row), follow=True).content.decode()
    assert "Review and apply it." in page
    saved = Backend.objects.get()
    assert (saved.weight, saved.version) == (99, 2)
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor) == ("drift.adopt", "otto")


def test_adopt_takes_what_was_added_and_what_was_removed(applied: Cluster, talker: TalkingDirector) -> None:
    new = BACKEND | {"address": "192.168.50.13", "weight": 3}
    place = {"service": KEY, "backend": {"address": "192.168.50.13", "port": 80}}
    tell(talker, wrong(actual=None), wrong(wanted=None, actual=new) | place)
    for row in Drift.objects.all():
        adopt(row)
    assert [(row.address, row.weight) for row in Backend.objects.all()] == [("192.168.50.13", 3)]
    with pytest.raises(Rejected, match="has no 192.168.50.11:80 of"):
        adopt(Drift.objects.get(label=NAME))


def test_adopt_takes_a_service_too(applied: Cluster, talker: TalkingDirector) -> None:
    VirtualService.objects.update(name="shop")
    tell(talker, of_service())
    adopt(Drift.objects.get())
    row = VirtualService.objects.get()
    assert (row.scheduler, row.name, len(draft_table(Cluster.objects.get()))) == ("wlc", "shop", 1)
    tell(talker, of_service(actual=None))
    adopt(Drift.objects.get(gone_at=None))
    assert not VirtualService.objects.exists()
    tell(talker, wrong())
    with pytest.raises(Rejected, match="has no TCP 192.168.50.10:80"):
        adopt(Drift.objects.get(gone_at=None, label=NAME))


def test_enforcing_is_told_at_once_and_with_each_order(
    applied: Cluster, sent: Sent, ann: Client, talker: TalkingDirector
) -> None:
    url = reverse("cluster-enforce", args=[applied.pk])
    ann.post(url, {"enforce": "1", "reason": "a test"})
    job = Job.objects.get(kind="enforce")
    jobs.send(job.runs.get())
    row = Backend.objects.get()
    backends.set_weight(row, seen_version=row.version, weight=4, by=ANN)
    jobs.send(apply_draft(applied).runs.get())
    key = jobs.signing_key().public
    orders = [Order.from_body(verify(one["args"][0], "order", public=key)) for one in sent]
    assert orders[0].payload["enforce"] is True and orders[1].payload["enforce"] is True
    assert "already" in ann.post(url, {"enforce": "1", "reason": "a test"}, follow=True).content.decode()
    ann.post(url, {"enforce": "0", "reason": "a test"})
    assert not Cluster.objects.get(pk=applied.pk).enforce
    job.runs.update(status="failed")
    with pytest.raises(Rejected, match="set otherwise since"):
        changes.apply_again(job, by=ANN)
