"""Which part of the new connections each backend is to expect, as far as weights decide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster.ipvs.state import BackendKey, Service

_LASTING: Final = "as long as connections last equally long on all backends"
_BY_WEIGHT: Final = {
    "wrr": "",
    "wlc": _LASTING,
    "sed": _LASTING,
    "nq": f"while no backend is idle, and {_LASTING}",
    "sh": "over many clients: each stays with its backend",
    "mh": "over many clients: each stays with its backend",
}
_EVENLY: Final = {
    "rr": "round robin does not look at weights above 0",
    "lc": f"least connections does not look at weights above 0; {_LASTING}",
    "dh": "destination hashing does not look at weights, and refuses what falls to a backend at 0",
}
_FAILOVER: Final = "weighted failover sends everything to the backend with the highest weight"
_UNKNOWN: Final = {
    "fo": f"{_FAILOVER}, and several have it",
    "ovf": "weighted overflow fills the backend with the highest weight first, up to as many connections",
    "lblc": "it depends on the destinations that clients ask for",
    "lblcr": "it depends on the destinations that clients ask for",
    "twos": "it depends on which two backends are drawn, and on their connections",
}
_HELD: Final = "clients that persistence holds stay where they are"


@dataclass(frozen=True, slots=True)
class Shares:
    """`of` is each backend's part of 1, empty where nobody can say; `remark` is under which condition, or why
    nobody can."""

    of: Mapping[BackendKey, float] = field(default_factory=dict)
    remark: str = ""


def expected_shares(service: Service) -> Shares:
    """By the scheduler and the weights, before thresholds and persistence, which no table can foresee."""
    weights = {backend.key: backend.weight for backend in service.backends}
    if not any(weights.values()):
        return Shares(dict.fromkeys(weights, 0.0), "no backend has a weight above 0, so clients are refused")
    scheduler = service.scheduler
    if scheduler in _BY_WEIGHT:
        counted, remark = weights, _BY_WEIGHT[scheduler]
    elif scheduler in _EVENLY:
        counted, remark = {key: int(weight > 0) for key, weight in weights.items()}, _EVENLY[scheduler]
    elif scheduler == "fo" and len(first := _highest(weights)) == 1:
        counted, remark = {key: int(key in first) for key in weights}, _FAILOVER
    else:
        return Shares(remark=_UNKNOWN.get(scheduler, f"nobody can say how {scheduler} chooses"))
    # Destination hashing deals its slots out to those at 0 as well.
    total = len(weights) if scheduler == "dh" else sum(counted.values())
    remark = "; ".join(filter(None, (remark, _HELD if service.persistence else "")))
    return Shares({key: part / total for key, part in counted.items()}, remark)


def _highest(weights: Mapping[BackendKey, int]) -> list[BackendKey]:
    highest = max(weights.values())
    return [key for key, weight in weights.items() if weight == highest]
