"""Weights that follow connections: towards a fair share, within limits, and at rest once they are there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.state import Backend, BackendKey, Protocol, Service, ServiceKey, Table
from cluster.ipvs.stats import BackendCounters
from cluster.ipvs.traffic.effective import Effective
from cluster.ipvs.traffic.loads import LARGEST_STEP, balanced, settled, steered
from cluster.ipvs.traffic.policy import LoadRule, LoadSource
from tests.ipvs.tables import few

RULE = LoadRule(LoadSource.CONNECTIONS)
ONE, TWO, THREE = (Backend(f"10.0.0.{number}", 80, weight=100 * number) for number in (1, 2, 3))


@dataclass
class Simulated:
    """A service under weighted round robin: `comes` new connections between two calls, which stay `lasts`
    calls on each backend on average. Connections are a fluid: what swings, swings because of the
    controller."""

    lasts: dict[Backend, float]
    comes: float
    rule: LoadRule

    def run(self, rounds: int) -> list[dict[BackendKey, int]]:
        said: list[dict[BackendKey, int]] = [{}]
        held = dict.fromkeys(self.lasts, 0.0)
        for _ in range(rounds):
            weights = {one: max(1, one.weight * said[-1].get(one.key, 100) // 100) for one in held}
            total = sum(weights.values())
            held = {
                one: active * (1 - 1 / self.lasts[one]) + self.comes * weights[one] / total
                for one, active in held.items()
            }
            said.append(balanced({one: round(active) for one, active in held.items()}, self.rule, said[-1]))
        self.held = held
        return said[1:]


def test_who_holds_what_its_weight_says_stays_as_it_is() -> None:
    assert set(balanced({ONE: 100, TWO: 200, THREE: 300}, RULE, {}).values()) == {100}
    assert set(balanced({ONE: 0, TWO: 0, THREE: 0}, RULE, {}).values()) == {100}
    before = {ONE.key: 98, TWO.key: 100, THREE.key: 99}
    assert balanced({ONE: 100, TWO: 200, THREE: 300}, RULE, before) == before


def test_chance_is_no_imbalance() -> None:
    assert set(balanced({ONE: 2, TWO: 0, THREE: 4}, RULE, {}).values()) == {100}
    assert set(balanced({ONE: 115, TWO: 190, THREE: 295}, RULE, {}).values()) == {100}


def test_who_has_too_many_gets_less_and_gets_it_back() -> None:
    first = balanced({ONE: 400, TWO: 200, THREE: 300}, RULE, {})
    assert first == {ONE.key: 100 - LARGEST_STEP, TWO.key: 100, THREE.key: 100}
    low = {ONE.key: 40, TWO.key: 100, THREE.key: 100}
    assert balanced({ONE: 100, TWO: 200, THREE: 300}, RULE, low)[ONE.key] == 50


def test_who_takes_no_connections_is_left_out() -> None:
    drained = ONE._replace(weight=0)
    assert set(balanced({drained: 500, TWO: 200, THREE: 300}, RULE, {})) == {TWO.key, THREE.key}
    assert balanced({drained: 500}, RULE, {}) == balanced({}, RULE, {}) == {}


def test_a_backend_whose_connections_last_longer_is_relieved() -> None:
    lasts = {Backend("10.0.0.1", 80, weight=100): 40.0, Backend("10.0.0.2", 80, weight=100): 10.0}
    left_alone = Simulated(lasts, 100, replace(RULE, least_percent=100))
    left_alone.run(300)
    steered = Simulated(lasts, 100, RULE)
    steered.run(300)
    slow, fast = lasts
    assert left_alone.held[slow] / left_alone.held[fast] > 3.9
    assert steered.held[slow] / steered.held[fast] < 3


@few
@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(1, 50)), min_size=1, max_size=6),
    st.floats(0, 5000),
    st.integers(0, 100),
    st.integers(100, 300),
)
def test_it_comes_to_rest_within_the_limits(
    found: list[tuple[int, float]], comes: float, least: int, most: int
) -> None:
    lasts = {Backend(f"10.0.0.{at}", 80, weight=weight): last for at, (weight, last) in enumerate(found)}
    said = Simulated(lasts, comes, replace(RULE, least_percent=least, most_percent=most)).run(400)
    assert all(least <= percent <= most for percents in said for percent in percents.values())
    for before, after in zip(said, said[1:], strict=False):
        assert all(abs(after[one] - before[one]) <= LARGEST_STEP for one in before)
    # A weight of 1 or 2 cannot follow a percent; it must not make the others swing.
    for one, percent in said[-1].items():
        assert all(abs(percents[one] - percent) <= 5 for percents in said[-50:])


@few
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 2000), st.integers(0, 1000)), min_size=1, max_size=6
    ),
    st.integers(1, 100),
    st.integers(100, 1000),
)
def test_where_it_settles_is_where_it_stays(found: list[tuple[int, int, int]], least: int, most: int) -> None:
    rule = replace(RULE, least_percent=least, most_percent=most)
    backends = tuple(Backend(f"10.0.0.{at}", 80, weight=weight) for at, (weight, _, _) in enumerate(found))
    service = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), backends=backends)
    held = Effective(Table((service,)))
    both = list(zip(backends, found, strict=True))
    counted = {(service.key, one.key): BackendCounters(active=active) for one, (_, active, _) in both}
    before = {(service.key, one.key): percent for one, (_, _, percent) in both}
    loads, rounds = settled(service, rule, held, counted, before)
    assert loads == loads | steered(service, rule, held, counted, loads)
    moving = before
    for _ in range(rounds):
        moving = moving | steered(service, rule, held, counted, moving)
    assert moving == loads


def test_a_service_at_rest_settles_at_once_and_nobody_is_told_of_the_first_round() -> None:
    service = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), backends=(ONE, TWO))
    counted = {(service.key, one.key): BackendCounters(active=one.weight) for one in (ONE, TWO)}
    loads, rounds = settled(service, RULE, Effective(Table((service,))), counted, {})
    assert rounds == 0 and set(loads.values()) == {100}
    assert settled(service, RULE, Effective(Table((service,))), {}, {}) == ({}, 0)
