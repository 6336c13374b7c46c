"""A reading of the kernel as plain values: what a frame and a command's JSON hold."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from cluster.ipvs.formats.document import backend_to_document, service_to_document
from cluster.ipvs.state import Backend, Service, ServiceKey
from cluster.ipvs.stats import BackendCounters, Counters, Rates, Reading, rates

# Written out once: dataclasses.asdict takes half a second of each round at 10,000 backends.
_COUNTERS = tuple(f.name for f in fields(Counters))
_NOTHING = Reading()


def counted_service(
    service: Service,
    reading: Reading,
    *,
    owned: frozenset[ServiceKey],
    before: Reading = _NOTHING,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """The service of the table's document with its totals, and the rates since `before`, `seconds` ago."""
    key = service.key
    totals = reading.services.get(key, Counters())
    return service_to_document(service.header) | {
        "owned": key in owned,
        "totals": _numbers(totals),
        "rates": _numbers(rates(before.services.get(key), totals, seconds=seconds)),
        "backends": [_backend_out(key, backend, reading, before, seconds) for backend in service.backends],
    }


def _backend_out(
    key: ServiceKey, backend: Backend, reading: Reading, before: Reading, seconds: float
) -> dict[str, Any]:
    counted = reading.backends.get((key, backend.key), BackendCounters())
    earlier = before.backends.get((key, backend.key))
    return backend_to_document(backend) | {
        "active": counted.active,
        "inactive": counted.inactive,
        "persistent": counted.persistent,
        "totals": _numbers(counted.totals),
        "rates": _numbers(rates(earlier.totals if earlier else None, counted.totals, seconds=seconds)),
    }


def _numbers(counted: Counters | Rates) -> dict[str, float]:
    return {name: getattr(counted, name) for name in _COUNTERS}
