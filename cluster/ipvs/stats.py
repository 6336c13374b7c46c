"""Counters of a table and the rates between two readings. The kernel refreshes them every 2 s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from cluster.ipvs.state import BackendKey, ServiceKey, Table


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the service or backend was made: connections, packets, bytes."""

    connections: int = 0
    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BackendCounters:
    """A backend's totals and the connections that it has now."""

    totals: Counters = Counters()
    active: int = 0
    inactive: int = 0
    persistent: int = 0


@dataclass(frozen=True)
class Reading:
    """One director's kernel at one moment: the table and what it has counted."""

    table: Table = Table()
    services: Mapping[ServiceKey, Counters] = field(default_factory=dict)
    backends: Mapping[tuple[ServiceKey, BackendKey], BackendCounters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second, over the time between two readings."""

    connections: float = 0.0
    in_packets: float = 0.0
    out_packets: float = 0.0
    in_bytes: float = 0.0
    out_bytes: float = 0.0


def rates(previous: Counters | None, now: Counters, *, seconds: float) -> Rates:
    """Growth per second. Zero without a previous reading, and where a counter went back: somebody
    zeroed it or made the service anew, and a negative rate would be a lie."""
    if previous is None or seconds <= 0:
        return Rates()
    grown = (getattr(now, f.name) - getattr(previous, f.name) for f in fields(Counters))
    return Rates(*(max(0, growth) / seconds for growth in grown))
