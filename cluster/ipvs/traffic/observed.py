"""What a director has found out by itself: verdicts, who is coming back, loads. With its document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cluster.ipvs.formats.document import key_from_document, key_to_document
from cluster.ipvs.state import BackendKey, canonical_address
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.policy import Place

_Value = TypeVar("_Value")

LONGEST_REASON = 200
MOST_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class Observed:
    """`verdicts` are those of checks that have ended at least once; `returning` is when a backend came back
    into service, for its ramp; `loads` are percent of the weight, 0 where an agent wants to be drained."""

    verdicts: Mapping[Place, Verdict] = field(default_factory=dict)
    returning: Mapping[Place, float] = field(default_factory=dict)
    loads: Mapping[Place, int] = field(default_factory=dict)


def to_document(observed: Observed) -> dict[str, Any]:
    """As JSON. Backends that are up and never were anything else say nothing that effective() needs, but a
    page wants to show them; so all are there."""
    return {
        "verdicts": [
            _place_to_document(place)
            | {"up": one.is_up, "reason": one.reason, "since": one.since}
            | ({"flapping": True} if one.is_flapping else {})
            for place, one in sorted(observed.verdicts.items(), key=_by_place)
        ],
        "returning": [
            _place_to_document(place) | {"since": since}
            for place, since in sorted(observed.returning.items(), key=_by_place)
        ],
        "loads": [
            _place_to_document(place) | {"percent": percent}
            for place, percent in sorted(observed.loads.items(), key=_by_place)
        ],
    }


def from_document(document: object) -> Observed:
    """Read what `to_document` wrote. ValueError, with a sentence, for anything else."""
    if not isinstance(document, dict):
        raise ValueError("What was observed is not an object.")
    verdicts, returning, loads = (_list(document, name) for name in ("verdicts", "returning", "loads"))
    return Observed(
        {
            _place(said): Verdict(
                said.get("up") is True,
                str(said.get("reason", ""))[:LONGEST_REASON],
                _number(said, "since"),
                said.get("flapping") is True,
            )
            for said in verdicts
        },
        {_place(said): _number(said, "since") for said in returning},
        {_place(said): int(_number(said, "percent")) for said in loads},
    )


def _by_place(item: tuple[Place, _Value]) -> Place:
    return item[0]


def _place_to_document(place: Place) -> dict[str, Any]:
    service, backend = place
    return {"service": key_to_document(service), "address": backend.address, "port": backend.port}


def _place(said: dict[str, Any]) -> Place:
    service = key_from_document(said.get("service"), "An observation's service")
    address, port = said.get("address"), said.get("port")
    if not isinstance(address, str) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ValueError("An observation names no backend.")
    return service, BackendKey(canonical_address(address), port)


def _number(said: dict[str, Any], name: str) -> float:
    value = said.get(name)
    # NaN is in no interval.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 4e10:
        raise ValueError(f"An observation's {name} is not a number.")
    return value


def _list(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name, [])
    if not isinstance(found, list) or len(found) > MOST_ENTRIES:
        raise ValueError(f"The observation's {name} are not a list.")
    if not all(isinstance(said, dict) for said in found):
        raise ValueError(f"The observation's {name} are not objects.")
    return found
