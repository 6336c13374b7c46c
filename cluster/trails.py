"""How many were connected as a drain went on: points that the panel's worker keeps, for its page to draw.

The points become rarer as a drain gets longer, so that there are never more than MOST_POINTS from its
beginning on. There is none where a director was not heard: it would look as if connections had ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

from django.utils import timezone

from cluster import live
from cluster.draining import DrainState, drain_states
from cluster.models import Drain

MOST_POINTS = 120
# The frames come each 2 s, and the sweep that keeps the points with them.
LEAST_SPACING_S = 1.5

Trail = Sequence[tuple[float, int]]


def keep_trails(answers: live.Live) -> None:
    """Add a point to each drain that is on and due for one. `answers` are of any clusters."""
    on = Drain.objects.wanted().filter(begins_at__lte=timezone.now()).select_related("cluster")
    due = [row for row in on.order_by("cluster_id") if is_due(row.trail, time.time())]
    for cluster, rows in groupby(due, key=lambda row: row.cluster):
        heard = [one for one in answers.directors if one.director.cluster_id == cluster.pk]
        for state in drain_states(cluster, rows, live.Live(True, heard)):
            if state.is_counted:
                Drain.objects.filter(pk=state.row.pk).update(trail=longer(state.row.trail, point(state)))


def point(state: DrainState) -> tuple[float, int]:
    return round(time.time(), 1), state.left


def is_due(trail: Trail, now: float) -> bool:
    """Whether the next point is far enough from the last one, for a trail of this length."""
    return not trail or now - trail[-1][0] >= max(LEAST_SPACING_S, (now - trail[0][0]) / (MOST_POINTS / 2))


def longer(trail: Trail, added: tuple[float, int]) -> list[tuple[float, int]]:
    """The trail with one more point; where these are too many, with the higher one of each two."""
    points = [*trail, added]
    if len(points) <= MOST_POINTS:
        return points
    return [max(points[at : at + 2], key=lambda one: one[1]) for at in range(0, len(points), 2)]


def corners(trail: Trail) -> str:
    """The corners of the line in a chart of 240 by 40: time goes to the right. Empty for less than two."""
    if len(trail) < 2 or trail[-1][0] <= trail[0][0]:
        return ""
    begun, span, most = trail[0][0], trail[-1][0] - trail[0][0], max(left for _, left in trail) or 1
    return " ".join(f"{2 + 236 * (at - begun) / span:.0f},{38 - 36 * left / most:.0f}" for at, left in trail)
