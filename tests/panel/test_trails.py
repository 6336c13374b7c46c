"""The chart of a drain is kept by the panel's worker: a page that is opened late shows it from the start."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import live, trails
from cluster.actions import drains
from cluster.models import Backend, Cluster, Director, Drain
from cluster.tasks import sweep
from tests.panel.conftest import ANN, TalkingDirector
from tests.panel.test_drains import begin, pair, show

__all__ = ["pair"]


class Clock:
    """The panel's time, as trails.py sees it."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(trails, "time", clock)
    return clock


def counted(drain: Drain) -> list[int]:
    drain.refresh_from_db()
    return [left for _, left in drain.trail]


def test_the_chart_begins_with_the_drain_and_not_with_the_page(
    web: Cluster, pair: list[Backend], talker: TalkingDirector, vera: Client, clock: Clock
) -> None:
    row = begin(web)
    for left in (9, 6, 4):
        show(talker, web, b11={"weight": 0, "active": left})
        sweep()
        clock.now += 2
    page = vera.get(reverse("drain-detail", args=[row.pk]))
    assert counted(row) == [9, 6, 4]
    assert page.context["points"] == "2,2 81,14 159,22 238,22"
    assert "4 now, 9 at most since" in page.content.decode()
    drains.undrain(row, reason="a test", by=ANN)
    clock.now += 2
    sweep()
    assert (
        counted(row) == [9, 6, 4]
        and "polyline" in vera.get(reverse("drain-detail", args=[row.pk])).content.decode()
    )


def test_where_a_director_is_silent_no_point_looks_like_an_end(
    web: Cluster, pair: list[Backend], talker: TalkingDirector, clock: Clock
) -> None:
    row = begin(web)
    show(talker, web, b11={"weight": 0, "active": 9})
    sweep()
    clock.now += 2
    talker.frame(age_s=live.STALE_AFTER_S + 60)
    sweep()
    talker.redis.is_up = False
    sweep()
    assert counted(row) == [9]


def test_another_clusters_directors_count_for_nothing(
    web: Cluster, other: Cluster, pair: list[Backend], talker: TalkingDirector, clock: Clock
) -> None:
    row = begin(web)
    show(talker, web, b11={"weight": 0, "active": 9})
    Director.objects.filter(cluster=web).update(cluster=other)
    sweep()
    assert counted(row) == []


def test_a_long_drain_has_rare_points_from_its_beginning_on() -> None:
    trail: Any = []
    for second in range(0, 100_000, 2):
        if trails.is_due(trail, second):
            trail = trails.longer(trail, (second, 5000 if second == 600 else second % 3))
    assert trails.MOST_POINTS / 3 < len(trail) <= trails.MOST_POINTS
    assert trail[0][0] < 3000 and trail[-1][0] > 95_000
    assert max(left for _, left in trail) == 5000, "a peak stays"


def test_a_chart_of_one_moment_has_no_line() -> None:
    assert trails.corners([]) == trails.corners([(1.0, 5)]) == trails.corners([(1.0, 5), (1.0, 4)]) == ""
    assert trails.corners([(1.0, 0), (2.0, 0)]) == "2,38 238,38"
