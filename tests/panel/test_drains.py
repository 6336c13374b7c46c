"""Drains: what they send to directors, what they refuse, and what their pages say as connections end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import live, review
from cluster.actions import backends, drains
from cluster.actions.problems import Rejected
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Drain as DrainValue
from cluster.ipvs.traffic.policy import Target
from cluster.models import AuditEntry, Backend, Cluster, Director, Drain, Job, VirtualService
from tests.panel.conftest import ANN, TalkingDirector, apply_draft

WHY = {"reason": "a test"}
ONE, TWO = Target(address="192.168.50.11"), Target(address="192.168.50.12")


@pytest.fixture
def pair(service: VirtualService, backend: Backend, director: Director) -> list[Backend]:
    """Two backends, applied."""
    second = backends.add_backend(service, backends.BackendFields("192.168.50.12", 80, weight=5), by=ANN)
    apply_draft(service.cluster)
    return [backend, second]


def begin(cluster: Cluster, *targets: Target, **said: Any) -> Drain:
    asked: dict[str, Any] = {
        "begins_at": None,
        "ends_at": None,
        "cut_at": None,
        "reason": "a test",
        "by": ANN,
    }
    return drains.drain(cluster, targets or (ONE,), **asked | said)


def newest_drains(cluster: Cluster) -> tuple[DrainValue, ...]:
    revision = cluster.revisions.first()
    assert revision is not None
    return traffic_document.from_document(revision.traffic).drains


def show(talker: TalkingDirector, cluster: Cluster, **by_address: dict[str, Any]) -> None:
    """A frame of the newest revision's table, with what is said of each backend; None takes it out."""
    revision = cluster.revisions.first()
    assert revision is not None
    services = []
    for service in revision.table["services"]:
        said = [
            backend | by_address.get("b" + backend["address"].rpartition(".")[2], {})
            for backend in service["backends"]
        ]
        held = [backend for backend in said if not backend.pop("gone", False)]
        services.append(service | {"owned": True, "backends": held})
    talker.frame(services=services, revision=revision.number)


def test_a_drain_reaches_every_director_at_once_and_leaves_the_draft_alone(
    web: Cluster, pair: list[Backend]
) -> None:
    backends.set_weight(pair[1], seen_version=1, weight=9, by=ANN)
    row = begin(web, reason="new kernel")
    job = Job.objects.first()
    assert job and job.revision and job.revision.number == 2
    weights = [backend.get("weight", 1) for backend in job.revision.table["services"][0]["backends"]]
    assert weights == [1, 5], "the weight of the draft must wait for Apply, and the old one is remembered"
    assert [drain.id for drain in newest_drains(web)] == [row.pk]
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "drain.begin" and entry.reason == "new kernel"
    assert entry.target == f"Drain {row.pk}: host 192.168.50.11" and entry.after["job"] == job.pk


def test_what_begins_at_once_does_so_by_any_directors_clock(web: Cluster, pair: list[Backend]) -> None:
    begin(web)
    assert newest_drains(web)[0].is_on(1.0)


def test_what_is_cut_by_force_is_cut_by_any_directors_clock(web: Cluster, pair: list[Backend]) -> None:
    row = begin(web)
    planned = begin(web, TWO, begins_at=timezone.now() + timedelta(seconds=1), may_refuse_clients=True)
    Drain.objects.filter(pk=planned.pk).update(begins_at=timezone.now())
    for one in (row, planned):
        drains.cut_now(one, reason="a test", by=ANN)
    assert all(one.cuts(1.0) for one in newest_drains(web))
    with pytest.raises(Rejected, match="was cut already, by ann"):
        drains.cut_now(row, reason="a test", by=ANN)
    # A deadline is a moment that was planned, and goes by the director's own clock.
    drains.undrain(row, reason="a test", by=ANN)
    later = begin(web, cut_at=timezone.now() + timedelta(hours=1), may_refuse_clients=True)
    assert not next(one for one in newest_drains(web) if one.id == later.pk).cuts(timezone.now().timestamp())
    # Over by our clock, and a director's may be late: force helps there.
    Drain.objects.filter(pk=later.pk).update(cut_at=timezone.now() - timedelta(seconds=9))
    drains.cut_now(later, reason="a test", by=ANN)
    assert next(one for one in newest_drains(web) if one.id == later.pk).cuts(1.0)


def test_undrain_takes_it_out_of_what_directors_are_told(web: Cluster, pair: list[Backend]) -> None:
    row = begin(web)
    drains.undrain(row, reason="done", by=ANN)
    assert newest_drains(web) == ()
    row.refresh_from_db()
    assert row.ended_at is not None and row.ended_by == "ann"
    with pytest.raises(Rejected, match="was ended by ann already"):
        drains.undrain(row, reason="a test", by=ANN)
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.before["ended_at"]) == ("drain.end", None)


def test_a_form_that_is_sent_twice_makes_one_drain(web: Cluster, pair: list[Backend]) -> None:
    assert begin(web) == begin(web)
    assert Drain.objects.count() == 1 and Job.objects.count() == 2


def test_what_is_drained_is_not_drained_again_and_the_page_says_by_which(
    web: Cluster, pair: list[Backend]
) -> None:
    row = begin(web)
    with pytest.raises(Rejected, match=f"drained already, by Drain {row.pk} of ann"):
        begin(web, Target(pair_key(web), "192.168.50.11", 80), reason="other")
    # A window that begins later keeps nobody from draining now.
    later = timezone.now() + timedelta(days=1)
    window = {"begins_at": later, "ends_at": later + timedelta(hours=1)}
    begin(web, TWO, may_refuse_clients=True, **window)
    begin(web, TWO, may_refuse_clients=True, reason="now")


def pair_key(cluster: Cluster) -> Any:
    from cluster.desired import draft_table

    return draft_table(cluster).services[0].key


def test_what_is_over_already_is_no_moment_to_begin_or_cut(web: Cluster, pair: list[Backend]) -> None:
    past = timezone.now() - timedelta(hours=1)
    with pytest.raises(Rejected, match="That moment is over"):
        begin(web, begins_at=past)
    row = begin(web)
    Drain.objects.update(begins_at=past)
    with pytest.raises(Rejected, match="That deadline is over"):
        drains.change_end(
            row, ends_at=None, cut_at=past + timedelta(minutes=5), seen_version=1, reason="a test", by=ANN
        )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"ends": -1}, "The end must be later than the beginning"),
        ({"cut": -1}, "Nothing can be cut before the drain begins"),
        ({"ends": 1, "cut": 2}, "the drain is over already"),
    ],
)
def test_moments_in_a_wrong_order_are_refused(
    web: Cluster, pair: list[Backend], said: dict[str, int], sentence: str
) -> None:
    begins = timezone.now() + timedelta(days=2)
    moments = {f"{name}_at": begins + timedelta(days=days) for name, days in said.items()}
    with pytest.raises(Rejected, match=sentence):
        begin(web, begins_at=begins, **moments)
    assert not Drain.objects.exists()


def test_what_was_never_applied_cannot_be_drained(web: Cluster, pair: list[Backend]) -> None:
    with pytest.raises(Rejected, match="Nothing that is applied would be drained"):
        begin(web, Target(address="192.168.50.99"))


def test_the_last_backend_in_service_needs_a_yes(web: Cluster, pair: list[Backend]) -> None:
    begin(web)
    with pytest.raises(Rejected, match=r"no backend in service. Clients would be refused"):
        begin(web, TWO)
    begin(web, TWO, may_refuse_clients=True)


def test_a_backend_that_is_down_counts_as_none(
    web: Cluster, service: VirtualService, pair: list[Backend], talker: TalkingDirector
) -> None:
    VirtualService.objects.filter(pk=service.pk).update(
        policy={
            "check": {"kind": "tcp"},
            "sorry": {"address": "192.168.50.9", "port": 80, "forwarding": "masquerade", "weight": 1},
        }
    )
    apply_draft(web)
    key = {"protocol": "tcp", "address": "192.168.50.10", "port": 80}
    down = {"service": key, "address": "192.168.50.12", "port": 80, "up": False, "since": 1.0, "reason": "x"}
    talker.frame(observed={"verdicts": [down]})
    with pytest.raises(Rejected, match=r"Its sorry server 192.168.50.9:80 would answer"):
        begin(web)


def test_a_cut_takes_effect_now_and_only_once_it_has_begun(web: Cluster, pair: list[Backend]) -> None:
    planned = begin(web, begins_at=timezone.now() + timedelta(hours=1))
    with pytest.raises(Rejected, match="has not begun"):
        drains.cut_now(planned, reason="a test", by=ANN)
    row = begin(web, reason="now")
    drains.cut_now(row, reason="a test", by=ANN)
    assert next(one for one in newest_drains(web) if one.id == row.pk).cuts(timezone.now().timestamp())
    row.refresh_from_db()
    assert row.cut_by == "ann"
    with pytest.raises(Rejected, match="was cut already"):
        drains.cut_now(row, reason="a test", by=ANN)


def test_an_end_can_be_moved_and_the_log_says_from_what_to_what(web: Cluster, pair: list[Backend]) -> None:
    row = begin(web)
    at = datetime(2040, 3, 1, 4, 0, tzinfo=UTC)
    drains.change_end(row, ends_at=at, cut_at=None, seen_version=1, reason="longer", by=ANN)
    assert newest_drains(web)[0].ends_at == at.timestamp()
    entry = AuditEntry.objects.first()
    assert entry and (entry.before["ends_at"], entry.after["ends_at"]) == (None, "2040-03-01 04:00:00 UTC")


def test_the_page_says_how_far_each_director_is(
    web: Cluster, pair: list[Backend], otto: Client, talker: TalkingDirector
) -> None:
    row = begin(web)
    url = reverse("drain-detail", args=[row.pk])
    show(talker, web)
    assert "waiting for director" in otto.get(url).content.decode(), "its weight is not 0 there yet"
    show(talker, web, b11={"weight": 0, "active": 7})
    assert "draining" in (page := otto.get(url).content.decode()) and "7 now" in page
    show(talker, web, b11={"weight": 0, "inactive": 4})
    assert ">drained" in otto.get(url).content.decode()
    drains.cut_now(row, reason="a test", by=ANN)
    show(talker, web, b11={"gone": True})
    assert ">cut" in (page := otto.get(url).content.decode()) and "Cut now" not in page


def test_the_polled_part_is_silent_without_news_and_stops_at_the_end(
    web: Cluster, pair: list[Backend], otto: Client, talker: TalkingDirector
) -> None:
    row = begin(web)
    show(talker, web, b11={"weight": 0, "active": 7})
    context = otto.get(reverse("drain-detail", args=[row.pk])).context
    url = reverse("drain-live", args=[row.pk])
    asked = {"stamp": context["stamp"]}
    assert otto.get(url, asked).status_code == 204
    show(talker, web, b11={"weight": 0, "active": 3})
    assert "3 now" in otto.get(url, asked).content.decode()
    talker.redis.is_up = False
    assert otto.get(url, asked).status_code == 503
    talker.redis.is_up = True
    drains.undrain(row, reason="a test", by=ANN)
    assert otto.get(url, asked).status_code == 286


def test_a_director_that_obeys_persistence_is_named_with_the_sysctl(
    web: Cluster, service: VirtualService, pair: list[Backend], otto: Client, talker: TalkingDirector
) -> None:
    VirtualService.objects.filter(pk=service.pk).update(persistence_s=360)
    apply_draft(web)
    timeouts = {"tcp_s": 900, "tcp_fin_s": 120, "udp_s": 300}
    facts = Director.objects.get().facts

    def say(value: str) -> str:
        Director.objects.update(
            facts=facts
            | {"settings": {"timeouts": timeouts, "sysctls": {"expire_quiescent_template": value}}}
        )
        show(talker, web, b11={"weight": 0, "persistent": 5})
        return otto.get(reverse("drain-detail", args=[row.pk])).content.decode()

    row = begin(web)
    page = say("0")
    assert "sysctl -w net.ipv4.vs.expire_quiescent_template=1" in page
    assert "5 clients held by persistence" in page and "360 s after its last connection" in page
    assert ">draining" in page
    page = say("1")
    assert "sysctl -w" not in page and ">drained" in page


def test_a_director_that_remembers_closed_connections_is_named_with_the_sysctl(
    web: Cluster, pair: list[Backend], otto: Client, talker: TalkingDirector
) -> None:
    facts = Director.objects.get().facts
    timeouts = {"tcp_s": 900, "tcp_fin_s": 120, "udp_s": 300}

    def page(value: str) -> str:
        sysctls = {"expire_nodest_conn": value, "expire_quiescent_template": "0"}
        said = facts | {"settings": {"timeouts": timeouts, "sysctls": sysctls}}
        Director.objects.update(facts=said)
        show(talker, web, b11={"weight": 0})
        return otto.get(reverse("drain-detail", args=[row.pk])).content.decode()

    apply_draft(web)
    row = begin(web)
    assert "sysctl -w" not in page("0"), "masquerading sees both directions"
    Backend.objects.update(forwarding="direct")
    apply_draft(web)
    assert "sysctl -w net.ipv4.vs.expire_nodest_conn=1" in page("0")
    assert "sysctl -w" not in page("1")


def test_a_window_is_planned_shown_and_cancelled(web: Cluster, pair: list[Backend], otto: Client) -> None:
    url = reverse("drain-new", args=[web.pk]) + "?address=192.168.50.11"
    assert "192.168.50.11:80" in otto.get(url).content.decode()
    said = {"begins_at": "2040-03-01T04:00", "ends_at": "2040-03-01T06:00", "cut_after_min": "30"}
    answer = otto.post(url, said | {"reason": "memory"}, follow=True)
    page, row = answer.content.decode(), Drain.objects.get()
    assert row.cut_at == datetime(2040, 3, 1, 4, 30, tzinfo=UTC)
    assert ">planned" in page and "Cancel the window" in page
    assert "drain planned" in otto.get(reverse("cluster-detail", args=[web.pk])).content.decode()
    assert ">planned" in otto.get(reverse("drain-list", args=[web.pk])).content.decode()
    otto.post(reverse("drain-undrain", args=[row.pk]), WHY)
    assert ">cancelled" in otto.get(reverse("drain-list", args=[web.pk])).content.decode()


def test_the_form_of_the_last_backend_asks_before_it_refuses_clients(
    web: Cluster, service: VirtualService, pair: list[Backend], otto: Client
) -> None:
    url = reverse("drain-new", args=[web.pk]) + f"?service={service.pk}"
    page = otto.post(url, WHY).content.decode()
    assert "Clients would be refused." in page and 'name="may_refuse_clients"' in page
    assert not Drain.objects.exists()
    otto.post(url, WHY | {"may_refuse_clients": "on"})
    assert Drain.objects.exists()


def test_the_end_form_keeps_what_was_planned(web: Cluster, pair: list[Backend], otto: Client) -> None:
    row = begin(web, cut_at=timezone.now() + timedelta(minutes=30))
    url = reverse("drain-edit", args=[row.pk])
    assert otto.get(url).context["form"]["cut_after_min"].value() == 30
    page = otto.post(url, WHY | {"ends_at": "2001-01-01T00:00", "version": 1}).content.decode()
    assert "The end must be later" in page
    otto.post(url, WHY | {"cut_after_min": "60", "version": 1})
    row.refresh_from_db()
    assert row.cut_at == row.begins_at + timedelta(minutes=60)


def test_the_cut_page_lists_what_it_cuts(
    web: Cluster, pair: list[Backend], otto: Client, talker: TalkingDirector
) -> None:
    row = begin(web)
    show(talker, web, b11={"weight": 0, "active": 7})
    page = otto.get(reverse("drain-cut", args=[row.pk])).content.decode()
    assert "192.168.50.11:80" in page and "7 connections" in page
    otto.post(reverse("drain-cut", args=[row.pk]), WHY)
    row.refresh_from_db()
    assert row.cut_at is not None


def test_drained_backends_are_marked_and_an_address_that_is_none_is_refused(
    web: Cluster, service: VirtualService, pair: list[Backend], otto: Client
) -> None:
    row = begin(web)
    for page in (reverse("cluster-detail", args=[web.pk]), reverse("service-detail", args=[service.pk])):
        shown = otto.get(page).content.decode()
        assert shown.count(reverse("drain-detail", args=[row.pk])) == 1
    answer = otto.get(reverse("drain-new", args=[web.pk]) + "?address=nonsense")
    assert "is not an IP address" in answer.content.decode()


def test_the_review_does_not_undo_a_drain(web: Cluster, pair: list[Backend], talker: TalkingDirector) -> None:
    begin(web)
    show(talker, web, b11={"weight": 0})
    assert [part.steps for part in review.review(web).directors] == [[]]
    show(talker, web)
    steps = review.review(web).directors[0].steps
    assert len(steps) == 1 and "-w 0" in steps[0].command


def test_a_job_follows_a_drain_that_a_silent_director_will_hear_later(
    web: Cluster, pair: list[Backend], otto: Client, talker: TalkingDirector
) -> None:
    row = begin(web)
    talker.frame(age_s=live.STALE_AFTER_S + 60)
    page = otto.get(reverse("drain-detail", args=[row.pk])).content.decode()
    assert ">unknown" in page and ">drained" not in page
