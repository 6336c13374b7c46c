"""The live table says how each backend stands and why, and a service that nobody serves is loud."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import live, standing
from cluster.actions import backends
from cluster.ipvs.traffic.effective import Standing
from cluster.models import Backend, Cluster, Director, VirtualService
from tests.panel.conftest import ANN, TalkingDirector, apply_draft

KEY = {"protocol": "tcp", "address": "192.168.50.10", "port": 80}


@pytest.fixture
def checked(web: Cluster, service: VirtualService, backend: Backend, director: Director) -> VirtualService:
    """Two backends with a check that takes out what is down, applied."""
    backends.add_backend(service, backends.BackendFields("192.168.50.12", 80), by=ANN)
    set_policy(service, on_failure="remove")
    return service


def set_policy(service: VirtualService, **said: Any) -> None:
    VirtualService.objects.filter(pk=service.pk).update(policy={"check": {"kind": "tcp"}} | said)
    apply_draft(service.cluster)


def verdict(last: int, *, up: bool, reason: str = "") -> dict[str, Any]:
    address = f"192.168.50.{last}"
    return {
        "service": KEY,
        "address": address,
        "port": 80,
        "up": up,
        "reason": reason,
        "since": time.time() - 60,
    }


def show(
    talker: TalkingDirector, *verdicts: dict[str, Any], held: tuple[int, ...] = (11, 12), **said: Any
) -> None:
    kept = [
        {"address": f"192.168.50.{last}", "port": 80, "forwarding": "masquerade", "weight": 1}
        for last in held
    ]
    service = KEY | {"scheduler": "rr", "owned": True, "backends": kept}
    talker.frame(services=[service], observed={"verdicts": list(verdicts)}, **said)


def test_a_backend_that_was_taken_out_is_still_shown_with_the_reason(
    web: Cluster, checked: VirtualService, talker: TalkingDirector, vera: Client
) -> None:
    show(talker, verdict(11, up=False, reason="connect timeout 3/3"), verdict(12, up=True), held=(12,))
    page = vera.get(reverse("live", args=[web.pk])).content.decode()
    assert "192.168.50.11:80" in page and "connect timeout 3/3" in page
    assert ">removed" in page and ">up" in page


def test_directors_that_disagree_are_named(web: Cluster, checked: VirtualService, director: Director) -> None:
    row = live.Row("a", "a")
    up, down = (
        standing.Note(Standing.UP, 1),
        standing.Note(Standing.DOWN, 0, "connect timeout 3/3"),
    )
    row.notes = {"director1": up, "director2": down}
    assert row.standings == [(up, "director1"), (down, "director2")]
    row.notes = {"director1": up, "director2": up}
    assert row.standings == [(up, "")]


def test_all_down_is_loud_on_overview_cluster_and_service(
    web: Cluster, checked: VirtualService, talker: TalkingDirector, vera: Client
) -> None:
    pages = [
        reverse("overview"),
        reverse("cluster-list"),
        reverse("cluster-detail", args=[web.pk]),
        reverse("service-detail", args=[checked.pk]),
    ]
    down = [verdict(last, up=False, reason="connection refused 3/3") for last in (11, 12)]
    show(talker, verdict(11, up=True), down[1], held=(11,))
    assert not any("Clients are refused." in vera.get(page).content.decode() for page in pages)
    show(talker, *down, held=())
    for page in pages:
        shown = vera.get(page).content.decode()
        assert "TCP 192.168.50.10:80 on director1:" in shown
        assert "2 removed (connection refused 3/3). Clients are refused." in shown


def test_what_still_answers_when_all_are_down_is_said(
    web: Cluster, checked: VirtualService, talker: TalkingDirector, director: Director
) -> None:
    def said() -> list[str]:
        return [outage.text for outage in standing.outages([web], live.read([director]).directors)]

    down = [verdict(last, up=False, reason="refused 3/3") for last in (11, 12)]
    set_policy(checked, most_out_percent=50)
    show(talker, *down)
    assert said() == [
        "no backend is healthy: 1 down, 1 kept (refused 3/3)."
        " Clients still go to those that may not be taken out."
    ]
    set_policy(
        checked, sorry={"address": "192.168.50.9", "port": 80, "forwarding": "masquerade", "weight": 1}
    )
    show(talker, *down)
    assert said() == ["no backend serves: 2 down (refused 3/3). The sorry server 192.168.50.9:80 answers."]


def test_a_service_that_operators_set_to_nothing_is_no_outage(
    web: Cluster, checked: VirtualService, talker: TalkingDirector, director: Director
) -> None:
    Backend.objects.update(weight=0)
    apply_draft(web)
    show(talker)
    assert standing.outages([web], live.read([director]).directors) == []


@pytest.mark.parametrize("odd", [None, "x", {"verdicts": 5}, {"verdicts": [{"service": "x"}]}])
def test_an_older_or_broken_director_has_observed_nothing(
    web: Cluster, checked: VirtualService, talker: TalkingDirector, director: Director, odd: Any
) -> None:
    talker.frame(observed=odd)
    found = standing.standings(web, live.read([director]))[director.pk]
    (service,) = standing.ordered(web).table
    assert {found.note(service.key, one).standing for one in service.backends} == {Standing.UNCHECKED}


def test_a_silent_director_raises_no_alarm_about_services(
    web: Cluster, checked: VirtualService, talker: TalkingDirector, director: Director
) -> None:
    down = [verdict(last, up=False) for last in (11, 12)]
    talker.frame(observed={"verdicts": down}, age_s=live.STALE_AFTER_S + 60)
    assert standing.outages([web], live.read([director]).directors) == []


def standing_of(last: int, director: Director) -> list[Standing]:
    """How a backend of the service stands in the live table."""
    answers = live.read([director])
    rows = live.rows(answers)
    standing.mark(rows, answers)
    found = rows[0].backends.get(f"192.168.50.{last}:80")
    return [note.standing for note, _ in found.standings] if found else []


def test_a_director_that_a_revision_has_not_reached_is_judged_by_the_one_that_it_has(
    web: Cluster, checked: VirtualService, talker: TalkingDirector, director: Director, vera: Client
) -> None:
    down = [verdict(last, up=False, reason="refused 3/3") for last in (11, 12)]
    show(talker, *down, ordered=1)
    set_policy(checked, on_failure="weight")
    assert standing_of(11, director) == [Standing.REMOVED]
    assert "2 removed (refused 3/3)" in vera.get(reverse("overview")).content.decode()
    show(talker, *down, ordered=2)
    assert standing_of(11, director) == [Standing.DOWN]
    # What it steers by counts, whether or not the kernel was seen to hold it; an older release does not say.
    show(talker, *down, ordered=1, revision=2)
    assert standing_of(11, director) == [Standing.REMOVED]
    show(talker, *down, revision=1)
    assert standing_of(11, director) == [Standing.REMOVED]


@pytest.mark.parametrize(
    "said", [{"ordered": 0}, {"ordered": 77}, {"ordered": "x"}, {"ordered": 1, "epoch": 9}]
)
def test_of_a_revision_that_nobody_knows_nothing_is_said(
    web: Cluster,
    checked: VirtualService,
    talker: TalkingDirector,
    director: Director,
    vera: Client,
    said: dict[str, Any],
) -> None:
    show(talker, *[verdict(last, up=False) for last in (11, 12)], **said)
    assert standing_of(11, director) == []
    assert standing.outages([web], live.read([director]).directors) == []
    assert vera.get(reverse("live", args=[web.pk])).status_code == 200
