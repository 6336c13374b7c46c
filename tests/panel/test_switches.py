"""The kernel switches of a cluster: said in a form, reviewed, ordered, and seen where a director differs."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import jobs
from cluster.actions import changes, clusters, drafts, drains
from cluster.actions.problems import Rejected
from cluster.audit import Actor
from cluster.desired import draft_print, draft_said
from cluster.ipvs.traffic.policy import Target
from cluster.models import AuditEntry, Backend, Cluster, Director, Run
from cluster.overview import cluster_state
from cluster.review import review
from tests.panel.conftest import ANN, TalkingDirector, apply_draft
from tests.panel.test_three_way import Page

OTTO = Actor("otto")

ODD = {"name": "expire_nodest_conn", "wanted": "1", "held": "0", "problem": ""}


def url(cluster: Cluster) -> str:
    return reverse("cluster-switches", args=[cluster.pk])


def page(client: Client, address: str) -> str:
    return unescape(client.get(address).content.decode())


def save(client: Client, cluster: Cluster, version: int = 1, **said: str) -> Any:
    return client.post(url(cluster), {"version": version, **said})


@pytest.fixture
def heard(talker: TalkingDirector, director: Director) -> Director:
    """It has said which switches its kernel has."""
    sysctls = {"expire_nodest_conn": "0", "conn_reuse_mode": "1", "sync_threshold": "3 50"}
    talker.hello(settings={"timeouts": {"tcp_s": 900}, "sysctls": sysctls})
    talker.frame()
    return director


def test_a_new_cluster_is_offered_the_switch_that_a_drain_needs(ann: Client) -> None:
    form = page(ann, reverse("cluster-new"))
    assert "still goes to the old backend" in form
    said = {"name": "shop", "description": "", "approvals": "0"}
    ann.post(reverse("cluster-new"), said | {"expire_nodest_conn": "1"})
    ann.post(reverse("cluster-new"), said | {"name": "dns", "expire_nodest_conn": "leave"})
    assert Cluster.objects.get(name="shop").switches == {"expire_nodest_conn": "1"}
    assert Cluster.objects.get(name="dns").switches == {}
    entry = AuditEntry.objects.get(action="cluster.create", target="shop")
    assert entry.after["switches"] == {"expire_nodest_conn": "1"}
    assert re.search(r'name="expire_nodest_conn" value="1"[^>]* checked', form)


def test_a_cluster_of_before_leaves_everything_as_it_is(web: Cluster) -> None:
    assert web.switches == {}


def test_they_are_saved_in_the_draft_audited_reviewed_and_ordered(
    ann: Client, web: Cluster, backend: Backend, heard: Director, sent: list[dict[str, Any]]
) -> None:
    apply_draft(web)
    answer = save(ann, web, expire_nodest_conn="1", sync_threshold=" 3  60 ")
    assert answer["Location"] == reverse("cluster-review", args=[web.pk])
    web.refresh_from_db()
    assert web.switches == {"expire_nodest_conn": "1", "sync_threshold": "3 60"}
    entry = AuditEntry.objects.get(action="cluster.switches")
    assert (entry.before, entry.after) == ({"switches": {}}, {"switches": web.switches})
    assert cluster_state(web).draft_is_ahead
    shown = page(ann, answer["Location"])
    assert "Set net.ipv4.vs.expire_nodest_conn to 1; it is 0." in shown
    assert 'sysctl -w net.ipv4.vs.sync_threshold="3 60"' in shown and "left as it is" in shown
    seen = shown.split('name="seen" value="')[1].split('"')[0]
    ann.post(answer["Location"], {"seen": seen, "reason": "a test"})
    assert not cluster_state(web).draft_is_ahead
    revision = web.revisions.first()
    assert revision and revision.number == 2 and revision.traffic["switches"] == web.switches
    jobs.send(Run.objects.filter(job__revision=revision).get())
    order = json.loads(sent[-1]["args"][0]["body"])
    assert order["payload"]["traffic"]["switches"] == web.switches
    shown = page(ann, reverse("revision-detail", args=[web.pk, 2]))
    assert "expire_nodest_conn" in shown and "3 60" in shown


def test_a_review_that_saw_other_switches_is_not_applied(
    web: Cluster, backend: Backend, heard: Director
) -> None:

    seen = review(web).fingerprint
    clusters.set_switches(web, {"expire_nodest_conn": "1"}, seen_version=1, by=ANN)
    with pytest.raises(Rejected, match="changed since you opened"):
        changes.apply(web, seen=seen, reason="a test", by=ANN)


def test_a_drain_carries_the_applied_switches_and_not_those_of_the_draft(
    web: Cluster, backend: Backend, heard: Director
) -> None:

    clusters.set_switches(web, {"expire_nodest_conn": "1"}, seen_version=1, by=ANN)
    Run.objects.all().delete()
    seen = cluster_review_print(web)

    changes.apply(web, seen=seen, reason="a test", by=ANN)
    clusters.set_switches(web, {"expire_nodest_conn": "0"}, seen_version=2, by=ANN)
    none = dict.fromkeys(("begins_at", "ends_at", "cut_at"))
    drains.drain(
        web, [Target(address=backend.address)], **none, reason="a test", by=ANN, may_refuse_clients=True
    )
    newest = web.revisions.first()
    assert newest and newest.traffic["drains"] and newest.traffic["switches"] == {"expire_nodest_conn": "1"}


def cluster_review_print(cluster: Cluster) -> str:

    return review(Cluster.objects.get(pk=cluster.pk)).fingerprint


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("expire_nodest_conn", "9", "must be a whole number from 0 to 1"),
        ("sync_threshold", "60 3", "must be below the second"),
        ("sync_ports", "3", "a power of two"),
        ("debug_level", "loud", "must be a whole number from 0 to 12"),
    ],
)
def test_a_wrong_value_gets_its_sentence_and_loses_nothing(
    ann: Client, web: Cluster, name: str, value: str, said: str
) -> None:
    answer = save(ann, web, **{"lblc_expiration": "77", name: value})
    text = unescape(answer.content.decode())
    assert answer.status_code == 200 and said in text and 'value="77"' in text
    assert Cluster.objects.get(pk=web.pk).switches == {}


def test_leaving_a_switch_as_it_is_takes_it_out(ann: Client, web: Cluster) -> None:
    clusters.set_switches(web, {"expire_nodest_conn": "1"}, seen_version=1, by=ANN)
    save(ann, web, version=2, expire_nodest_conn="")
    assert Cluster.objects.get(pk=web.pk).switches == {}


def test_two_at_once_do_not_overwrite_each_other(ann: Client, web: Cluster) -> None:
    """Who comes second sees what the first one made of it, and keeps it without doing anything."""
    mine = Page(ann, url(web)).type(expire_nodest_conn="1", conntrack="0")
    clusters.set_switches(web, {"conntrack": "1"}, seen_version=1, by=OTTO)
    mine.press()
    assert "otto has changed it since you opened this form" in mine.text
    assert mine.rows["conntrack"] == ("leave as it is", "1", "0")
    assert Cluster.objects.get(pk=web.pk).switches == {"conntrack": "1"}
    mine.press(take="conntrack")
    assert mine.press().response.status_code == 302
    assert Cluster.objects.get(pk=web.pk).switches == {"conntrack": "1", "expire_nodest_conn": "1"}


def test_a_roll_back_beside_the_form_is_not_overwritten(
    ann: Client, web: Cluster, backend: Backend, director: Director
) -> None:
    apply_draft(web)
    clusters.set_switches(web, {"conntrack": "1"}, seen_version=1, by=OTTO)
    mine = Page(ann, url(web)).type(expire_nodest_conn="1")
    fresh = Cluster.objects.get(pk=web.pk)
    drafts.discard_all(fresh, seen=draft_print(*draft_said(fresh)), by=OTTO)
    mine.press()
    assert mine.rows["conntrack"] == ("1", "leave as it is", "1"), "what was not touched here is theirs"
    assert mine.press().response.status_code == 302
    assert Cluster.objects.get(pk=web.pk).switches == {"expire_nodest_conn": "1"}


def test_what_a_newer_panel_set_is_kept(ann: Client, web: Cluster) -> None:
    Cluster.objects.update(switches={"of_tomorrow": "1"})
    save(ann, web, conntrack="1")
    assert Cluster.objects.get(pk=web.pk).switches == {"of_tomorrow": "1", "conntrack": "1"}


def test_a_form_of_an_unknown_version_is_asked_about(ann: Client, web: Cluster) -> None:
    for version in (0, 7, -1):
        assert save(ann, web, version=version, conntrack="1").status_code == 200
    assert ann.post(url(web), {"conntrack": "1", "opened": "{"}).status_code == 200
    assert Cluster.objects.get(pk=web.pk).switches == {}


def test_whoever_may_not_change_them_sees_them(vera: Client, web: Cluster, heard: Director) -> None:
    shown = page(vera, url(web))
    assert "leave" not in shown.split("<tbody>")[1] and "This needs the permission “administer”" in shown
    assert save(vera, web, conntrack="1").status_code == 403


def test_a_switch_that_somebody_changed_shows_as_drift_everywhere(
    ann: Client, web: Cluster, backend: Backend, heard: Director, talker: TalkingDirector
) -> None:
    clusters.set_switches(web, {"expire_nodest_conn": "1"}, seen_version=1, by=ANN)
    seen = cluster_review_print(web)

    run = changes.apply(web, seen=seen, reason="a test", by=ANN).runs.get()
    talker.finish(run)
    talker.frame(switches=[])
    assert cluster_state(web).directors[0].sync == "in sync"
    talker.frame(switches=[ODD])
    assert cluster_state(web).directors[0].sync == "drift"
    for address in (url(web), reverse("director-detail", args=[heard.pk])):
        shown = " ".join(page(ann, address).split())
        assert (
            "<strong>net.ipv4.vs.expire_nodest_conn on director1</strong> is 0, and is meant to be 1."
            in shown
        )
        assert "Somebody has changed it" in shown
    talker.frame(switches=[ODD | {"problem": "/proc/sys is read-only for the worker."}])
    for address in (url(web), reverse("cluster-review", args=[web.pk])):
        assert "/proc/sys is read-only for the worker." in page(ann, address)
    talker.frame(switches=[ODD], age_s=60)
    assert "is meant to be" not in page(ann, url(web)), "nobody knows any more"


@pytest.mark.parametrize("said", [5, {}, [5], [{}], [{"name": 5, "held": None}], [ODD] * 500, None])
def test_odd_frames_break_no_page(
    ann: Client, web: Cluster, heard: Director, talker: TalkingDirector, said: object
) -> None:
    talker.frame(switches=said)
    for address in (url(web), reverse("director-detail", args=[heard.pk])):
        assert ann.get(address).status_code == 200


def test_the_warning_of_a_drain_leads_to_the_switches(ann: Client, web: Cluster, heard: Director) -> None:
    shown = page(ann, reverse("director-detail", args=[heard.pk]))
    assert f'href="{url(web)}"' in shown
