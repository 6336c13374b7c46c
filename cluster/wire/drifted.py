"""What a DRIFT report says, and the places that a REPAIR order names, read once and strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cluster.ipvs.drift import Thing, Value
from cluster.ipvs.formats.document import (
    VERSION,
    backend_from_document,
    backend_to_document,
    from_document,
    key_from_document,
    key_to_document,
    service_to_document,
)
from cluster.ipvs.state import BackendKey, Service, canonical_address
from cluster.wire.envelope import Refused
from cluster.wire.payloads import LARGEST_TIME, storable

MOST_OBJECTS = 200
MOST_PLACES = 200


@dataclass(frozen=True, slots=True)
class Drifted:
    """One thing that is not as it should be, or was not until the director healed it. `fought` says that
    healing it was given up."""

    thing: Thing
    wanted: Value
    actual: Value
    right_at: float
    wrong_at: float
    fought: bool = False


@dataclass(frozen=True, slots=True)
class DriftTold:
    """All that is wrong on one director now, and what it healed since its last report; `more` were cut."""

    objects: tuple[Drifted, ...]
    healed: tuple[Drifted, ...]
    more: int

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Refused, with a sentence that names the place, where any part is not what it should be."""
        try:
            objects, healed = (
                tuple(
                    _drifted(said, f"{name}[{index}]")
                    for index, said in enumerate(_list(payload, name)[:MOST_OBJECTS])
                )
                for name in ("objects", "healed")
            )
        except ValueError as error:
            raise Refused(str(error)) from None
        more = payload.get("more", 0)
        if not isinstance(more, int) or isinstance(more, bool) or not 0 <= more < 10**9:
            raise Refused("more is not a number of objects.")
        return cls(objects, healed, more)


def place_to_document(thing: Thing) -> dict[str, Any]:
    """How an order names a thing."""
    service, backend = thing
    place = {"address": backend.address, "port": backend.port} if backend else None
    return {"service": key_to_document(service), "backend": place}


def places_from(payload: Mapping[str, Any]) -> list[Thing]:
    """The things that a REPAIR order names. ValueError for anything else, and for none or too many."""
    places = _list(payload, "places")
    if not 0 < len(places) <= MOST_PLACES:
        raise ValueError(f"places are not between 1 and {MOST_PLACES}.")
    return [thing_in(said, f"places[{index}]") for index, said in enumerate(places)]


def label(thing: Thing) -> str:
    """A thing for people."""
    service, backend = thing
    return f"{backend} of {service}" if backend else str(service)


def value_to_document(value: Value) -> dict[str, Any] | None:
    """One side of a drifted thing."""
    if value is None:
        return None
    return service_to_document(value) if isinstance(value, Service) else backend_to_document(value)


def value_in(said: object, thing: Thing) -> Value:
    """Read what `value_to_document` wrote of this thing. ValueError for anything else."""
    if said is None:
        return None
    if thing[1] is not None:
        return backend_from_document(said)
    (service,) = from_document({"version": VERSION, "services": [said]})
    return service


def _drifted(said: object, place: str) -> Drifted:
    if not isinstance(said, dict):
        raise ValueError(f"{place} is not an object.")
    thing = thing_in(said, place)
    wanted, actual = (value_in(said.get(name), thing) for name in ("wanted", "actual"))
    moments = [said.get(name) for name in ("right_at", "wrong_at")]
    # NaN is in no interval.
    if not all(isinstance(at, int | float) and 0 <= at <= LARGEST_TIME for at in moments):
        raise ValueError(f"{place} has no times.")
    right, wrong = (float(at) for at in moments if at is not None)
    return Drifted(thing, wanted, actual, right, wrong, said.get("fought") is True)


def thing_in(said: object, place: str = "The place") -> Thing:
    """Read what `place_to_document` wrote. ValueError, with a sentence, for anything else."""
    if not isinstance(said, dict):
        raise ValueError(f"{place} is not an object.")
    service, backend = key_from_document(said.get("service"), f"{place}.service"), said.get("backend")
    if backend is None:
        return service, None
    if not isinstance(backend, dict) or not isinstance(backend.get("address"), str):
        raise ValueError(f"{place}.backend is no address.")
    port = backend.get("port")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65536:
        raise ValueError(f"{place}.backend has no port.")
    return service, BackendKey(canonical_address(storable(backend["address"], 64)), port)


def _list(said: Mapping[str, Any], name: str) -> list[Any]:
    value = said.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list.")
    return value
