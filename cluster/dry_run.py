"""What a weight profile would change, before anybody uses it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cluster import desired, live
from cluster.ipvs.formats.document import from_document
from cluster.ipvs.state import Backend, Service, ServiceKey
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.effective import effective
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import Place, Profile, Traffic
from cluster.ipvs.traffic.shares import Shares, expected_shares
from cluster.models import Cluster

# Of each service.
MOST_SHOWN = 200


@dataclass(frozen=True)
class BackendRun:
    """Weights and shares of one backend now and then; shares are None where nobody can say, connections are
    None where no director is heard."""

    backend: Backend
    now: int
    then: int
    share_now: float | None
    share_then: float | None
    active: int | None

    @property
    def changes(self) -> bool:
        return self.now != self.then


@dataclass(frozen=True)
class ServiceRun:
    key: ServiceKey
    scheduler: str
    remark: str
    backends: list[BackendRun]

    @property
    def shown(self) -> list[BackendRun]:
        """All of them; of very many MOST_SHOWN, those whose weight changes first."""
        if len(self.backends) <= MOST_SHOWN:
            return self.backends
        return sorted(self.backends, key=lambda one: not one.changes)[:MOST_SHOWN]

    @property
    def hidden(self) -> int:
        return len(self.backends) - len(self.shown)


def dry_run(cluster: Cluster, profile: Profile) -> list[ServiceRun]:
    """Of the services that the profile names or changes, by the newest revision with the drains of now. What
    checks have found is left out: it comes and goes."""
    newest = cluster.revisions.first()
    if newest is None:
        return []
    table = from_document(newest.table)
    policies = traffic_document.from_document(newest.traffic) if newest.traffic else Traffic()
    traffic = desired.with_operations(policies, cluster)
    now = time.time()
    used = replace(traffic, profiles=(replace(profile, pinned=True),))
    before = effective(table, traffic, Observed(), now=now).table
    after = effective(table, used, Observed(), now=now).table
    counted = _connections(live.read(cluster.directors.all()).directors)
    named = {service for service, _ in profile.weights}
    return [
        _run(service, before.by_key[service.key], after.by_key[service.key], counted)
        for service in table
        if service.key in named or before.by_key[service.key] != after.by_key[service.key]
    ]


def _run(service: Service, before: Service, after: Service, counted: dict[Place, int] | None) -> ServiceRun:
    shares, then = expected_shares(before), expected_shares(after)
    weights = [{one.key: one.weight for one in side.backends} for side in (before, after)]
    rows = [
        BackendRun(
            backend,
            weights[0].get(backend.key, 0),
            weights[1].get(backend.key, 0),
            _share(shares, backend),
            _share(then, backend),
            None if counted is None else counted.get((service.key, backend.key), 0),
        )
        for backend in service.backends
    ]
    return ServiceRun(service.key, service.scheduler, then.remark, rows)


def _share(shares: Shares, backend: Backend) -> float | None:
    return shares.of.get(backend.key, 0.0) if shares.of else None


def _connections(directors: Iterable[live.DirectorLive]) -> dict[Place, int] | None:
    heard = [found for one in directors if (found := live.open_connections(one)) is not None]
    if not heard:
        return None
    total: dict[Place, int] = {}
    for found in heard:
        for service, backends in found.items():
            for backend, counters in backends.items():
                total[service, backend] = total.get((service, backend), 0) + counters.active
    return total
