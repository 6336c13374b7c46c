"""Weights that follow the load: what an agent's answer means, and a controller that follows the connections.

Each backend is steered by how far it is from its share now, never by the sum of what was: connections that
last long go on for a while after a weight is lowered, and whoever adds up meanwhile swings to and fro.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Final

from cluster.ipvs.state import Backend, BackendKey, Service
from cluster.ipvs.stats import BackendCounters
from cluster.ipvs.traffic.effective import Effective
from cluster.ipvs.traffic.policy import LoadRule, Place

# How often a director steers: a pace at which connections can answer.
STEERING_PERIOD_S: Final = 5.0
# Of the way to what the connections say now, and in percent of the weight: what one call may move.
DAMPING: Final = 0.3
LARGEST_STEP: Final = 10


def percent_in(said: str) -> int | None:
    """What an agent says: `up` is 100, `drain` is 0, `75%` and `75` are 75; None for anything else."""
    word = said.strip().lower()
    if word in ("up", "ready"):
        return 100
    if word == "drain":
        return 0
    number = word.removesuffix("%").strip()
    if number.isascii() and number.isdigit() and len(number) <= 4:
        return min(int(number), 1000)
    return None


def steered(
    service: Service,
    rule: LoadRule,
    held: Effective,
    counted: Mapping[Place, BackendCounters],
    loads: Mapping[Place, int],
) -> dict[Place, int]:
    """What one round makes of the loads of a service: percent for each backend that has a weight by `held`
    and connections in `counted`."""
    key = service.key
    active = {
        one: found.active
        for one in service.backends
        if held.note(key, one).weight and (found := counted.get((key, one.key))) is not None
    }
    before = {one.key: loads[key, one.key] for one in active if (key, one.key) in loads}
    return {(key, backend): percent for backend, percent in balanced(active, rule, before).items()}


def settled(
    service: Service,
    rule: LoadRule,
    held: Effective,
    counted: Mapping[Place, BackendCounters],
    loads: Mapping[Place, int],
) -> tuple[dict[Place, int], int]:
    """The loads at which rounds of `steered` come to rest while the connections stay as they are, and how
    many rounds move something until then. Each goes a part of the way to a fixed aim, so they do."""
    now, rounds = dict(loads), 0
    while (then := now | steered(service, rule, held, counted, now)) != now:
        # A first round says 100 of those that nothing was said of, which moves no weight.
        rounds += any(now.get(place, 100) != percent for place, percent in then.items())
        now = then
    return now, rounds


def balanced(
    connections: Mapping[Backend, int], rule: LoadRule, previous: Mapping[BackendKey, int]
) -> dict[BackendKey, int]:
    """Percent of its weight for each backend of a service that has one, within the limits of the rule. A
    backend with more connections for its weight than the others gets less. `previous` is what the last call
    said; a backend that is not in it begins at 100."""
    serving = {backend: active for backend, active in connections.items() if backend.weight}
    weights, total = sum(backend.weight for backend in serving), sum(serving.values())
    percents = {}
    for backend, active in serving.items():
        fair = total * backend.weight / weights
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
