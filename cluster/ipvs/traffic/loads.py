"""Weights that follow the connections: a controller for load rules whose source they are.

Each backend is steered by how far it is from its share now, never by the sum of what was: connections that
last long go on for a while after a weight is lowered, and whoever adds up meanwhile swings to and fro.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Final

from cluster.ipvs.state import Backend, BackendKey
from cluster.ipvs.traffic.policy import LoadRule

# Of the way to what the connections say now, and in percent of the weight: what one call may move.
DAMPING: Final = 0.3
LARGEST_STEP: Final = 10


def balanced(
    connections: Mapping[Backend, int], rule: LoadRule, previous: Mapping[BackendKey, int]
) -> dict[BackendKey, int]:
    """Percent of its weight for each backend of a service that has one, within the limits of the rule. A
    backend with more connections for its weight than the others gets less. `previous` is what the last call
    said; a backend that is not in it begins at 100."""
    serving = {backend: active for backend, active in connections.items() if backend.weight}
    weights = sum(backend.weight for backend in serving)
    percents = {}
    for backend, active in serving.items():
        fair = sum(serving.values()) * backend.weight / weights
        before = previous.get(backend.key, 100)
        # The fraction is cut off, so that what is nearly right stays.
        step = int((_aim(active, fair) - before) * DAMPING)
        step = max(-LARGEST_STEP, min(LARGEST_STEP, step))
        percents[backend.key] = max(rule.least_percent, min(rule.most_percent, before + step))
    return percents


def _aim(active: int, fair: float) -> float:
    """The percent for that many connections where `fair` would be the share. What chance brings about is no
    imbalance; the aim moves smoothly from there on, or weights would flicker at that edge."""
    chance = 2 * sqrt(fair)
    off = active - fair
    beyond = max(0.0, off - chance) + min(0.0, off + chance)
    return 100 * fair / (fair + beyond) if fair + beyond > 0 else 100.0
