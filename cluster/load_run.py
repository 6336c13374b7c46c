"""What a load rule makes of a service's weights, by what each director hears and counts now, and with the
functions that it steers by: before the rule is saved, and while it runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster import desired, live, standing
from cluster.actions.problems import Rejected
from cluster.ipvs.state import Backend, BackendKey, Service, Table
from cluster.ipvs.traffic.effective import Effective, effective
from cluster.ipvs.traffic.loads import STEERING_PERIOD_S, settled
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import LoadRule, LoadSource, Place, Policy, Traffic
from cluster.ipvs.traffic.rules import policy_problems
from cluster.ipvs.traffic.shares import expected_shares
from cluster.models import Cluster, Director

MOST_SHOWN = 200


@dataclass(frozen=True)
class Stage:
    """Weight and share of a backend at one moment. The weight is None where it is not in the table, the share
    where nobody can say."""

    weight: int | None
    share: float | None


@dataclass(frozen=True)
class BackendLoad:
    """One backend. `said` is the last percent of its load, None for none; `stages` are the kernel now, under
    the rule at once, and, where connections steer, where that ends, with `end_percent`; `limit` is the one
    that holds it, `least` or `most`; `cause` is why its weight is that of the second stage."""

    backend: Backend
    active: int | None
    said: int | None
    is_tried: bool
    stages: list[Stage]
    end_percent: int | None
    limit: str
    cause: str

    @property
    def moves(self) -> bool:
        """Whether it has, or gets, another weight than the draft's."""
        return any(stage.weight not in (None, self.backend.weight) for stage in self.stages)


@dataclass(frozen=True)
class DirectorLoad:
    """The service on one director; on none where `one` is None, because none is heard. `settles_s` is how
    long its weights go on moving while the connections stay."""

    one: live.DirectorLive | None
    backends: list[BackendLoad]
    remark: str
    settles_s: float

    @property
    def shown(self) -> list[BackendLoad]:
        """All of them; of very many MOST_SHOWN, those that move first."""
        if len(self.backends) <= MOST_SHOWN:
            return self.backends
        return sorted(self.backends, key=lambda one: not one.moves)[:MOST_SHOWN]

    @property
    def hidden(self) -> int:
        return len(self.backends) - len(self.shown)

    @property
    def nothing_said(self) -> bool:
        return all(one.said is None for one in self.backends)


@dataclass(frozen=True)
class LoadRun:
    rule: LoadRule
    directors: list[DirectorLoad]
    silent: list[Director]
    redis_is_up: bool

    @property
    def by_connections(self) -> bool:
        return self.rule.source is LoadSource.CONNECTIONS


def load_run(
    cluster: Cluster, service: Service, policy: Policy, *, tried: Mapping[BackendKey, int] | None = None
) -> LoadRun | None:
    """The draft's service under this policy with the drains and profiles of now; None where the policy has no
    load rule. `tried` are answers of agents, in percent, instead of the last ones. Rejected where a rule
    forbids the policy."""
    if policy.load is None:
        return None
    if problems := list(policy_problems(policy, service)):
        raise Rejected(*problems)
    traffic = desired.with_operations(Traffic({service.key: policy}), cluster)
    answers = live.read(cluster.directors.all())
    heard = [one for one in answers.directors if one.shows_kernel]
    asked: list[live.DirectorLive | None] = [*heard] or [None]
    runs = [_run(one, service, traffic, policy.load, tried or {}) for one in asked]
    silent = [one.director for one in answers.directors if one not in heard]
    return LoadRun(policy.load, runs, silent, answers.redis_is_up)


def _run(
    one: live.DirectorLive | None,
    service: Service,
    traffic: Traffic,
    rule: LoadRule,
    tried: Mapping[BackendKey, int],
) -> DirectorLoad:
    key, seen = service.key, standing.observed_by(one) if one else Observed()
    seen = replace(seen, loads={**seen.loads, **{(key, backend): said for backend, said in tried.items()}})
    counted = (live.open_connections(one) or {}).get(key, {}) if one else {}
    now = one.frame.at if one and one.frame else time.time()

    def under(loads: Mapping[Place, int]) -> Effective:
        return effective(Table((service,)), traffic, replace(seen, loads=loads), now=now)

    then, ends, rounds = under(seen.loads), None, 0
    held = [one.table.by_key.get(key) if one else None, then.table.by_key[key]]
    if rule.source is LoadSource.CONNECTIONS:
        places = {(key, backend): found for backend, found in counted.items()}
        ends, rounds = settled(service, rule, then, places, seen.loads)
        held.append(under(ends).table.by_key[key])
    stages = list(map(_stages, held))
    rows = [
        BackendLoad(
            backend,
            counted[backend.key].active if backend.key in counted else None,
            seen.loads.get((key, backend.key)),
            backend.key in tried,
            [each.get(backend.key, Stage(None, None)) for each in stages],
            end := ends.get((key, backend.key)) if ends is not None else None,
            _limit(end, rule),
            then.note(key, backend).cause,
        )
        for backend in service.backends
    ]
    return DirectorLoad(one, rows, expected_shares(then.table.by_key[key]).remark, rounds * STEERING_PERIOD_S)


def _stages(service: Service | None) -> dict[BackendKey, Stage]:
    if service is None:
        return {}
    shares = expected_shares(service)
    return {
        backend.key: Stage(backend.weight, shares.of.get(backend.key, 0.0) if shares.of else None)
        for backend in service.backends
    }


def _limit(percent: int | None, rule: LoadRule) -> str:
    """Which limit of the rule holds a load; 100 is where all begin, and so is no news."""
    if percent is None or percent in (0, 100):
        return ""
    return "least" if percent <= rule.least_percent else "most" if percent >= rule.most_percent else ""
