"""What operators want beside the table, as plain JSON values. What is at its default is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from enum import StrEnum
from typing import Any, TypeVar

from cluster.ipvs.formats.document import (
    backend_from_document,
    backend_to_document,
    key_from_document,
    key_to_document,
)
from cluster.ipvs.state import BackendKey, ServiceKey, canonical_address
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import (
    Drain,
    Hours,
    LoadRule,
    LoadSource,
    OnFailure,
    Place,
    Policy,
    Profile,
    Target,
    Traffic,
)

VERSION = 1
LONGEST_TEXT = 1000
LARGEST_NUMBER = 4e10
MOST_ENTRIES = 200_000
MOST_SWITCHES = 100
# What the documents of this version may say; another version may know more.
POLICY_NAMES = frozenset(f.name for f in fields(Policy))
CHECK_NAMES = frozenset(f.name for f in fields(Check))

_Flat = TypeVar("_Flat", Check, LoadRule, Hours)
_ENUMS: dict[str, type[StrEnum]] = {"CheckKind": CheckKind, "LoadSource": LoadSource}


def to_document(traffic: Traffic) -> dict[str, Any]:
    """`{"version": 1, "policies": [...], "drains": [...], "profiles": [...]}`, with `"voters"` and
    `"switches"` where there are any; the same for equal values."""
    voters = [{"director": name, "public_key": key} for name, key in sorted(traffic.voters.items())]
    return {
        "version": VERSION,
        "policies": policies_to_document(traffic.policies),
        "drains": [_drain_out(drain) for drain in traffic.drains],
        "profiles": [profile_to_document(profile) for profile in traffic.profiles],
    } | {
        name: said
        for name, said in {"voters": voters, "switches": dict(sorted(traffic.switches.items()))}.items()
        if said
    }


def from_document(document: object) -> Traffic:
    """Read what `to_document` wrote; names that it does not write are passed over. ValueError for anything
    else, with a sentence that names the place."""
    said = _object(document, "The traffic document")
    if said.get("version") != VERSION:
        raise ValueError(f"The traffic document's version is not {VERSION}, the only one that is known.")
    policies = {}
    for index, one in enumerate(_list(said, "policies")):
        place = f"policies[{index}]"
        inner = _object(one, place)
        policies[key_from_document(inner.get("service"), f"{place}.service")] = policy_from_document(
            inner, place
        )
    return Traffic(
        policies,
        tuple(_drain_in(one, f"drains[{index}]") for index, one in enumerate(_list(said, "drains"))),
        tuple(
            profile_from_document(one, f"profiles[{index}]")
            for index, one in enumerate(_list(said, "profiles"))
        ),
        dict(_voter(one, f"voters[{index}]") for index, one in enumerate(_list(said, "voters"))),
        switches_from_document(said.get("switches", {})),
    )


def policies_to_document(policies: Mapping[ServiceKey, Policy]) -> list[dict[str, Any]]:
    """The policies of a cluster's services, sorted."""
    return [
        {"service": key_to_document(key)} | policy_to_document(policy)
        for key, policy in sorted(policies.items(), key=lambda item: item[0])
    ]


def policy_to_document(policy: Policy) -> dict[str, Any]:
    """One service's policy."""
    out: dict[str, Any] = {}
    if policy.check:
        out["check"] = check_to_document(policy.check)
    if policy.overrides:
        out["overrides"] = [
            {"address": key.address, "port": key.port, "check": check_to_document(check)}
            for key, check in sorted(policy.overrides.items(), key=lambda item: item[0])
        ]
    if policy.on_failure is not OnFailure.WEIGHT:
        out["on_failure"] = policy.on_failure.value
    if policy.sorry:
        out["sorry"] = backend_to_document(policy.sorry)
    if policy.load:
        out["load"] = load_to_document(policy.load)
    plain = ("most_out_percent", "ramp_s", "flap_changes", "flap_window_s", "asks_others")
    defaults = Policy()
    return out | {
        name: getattr(policy, name) for name in plain if getattr(policy, name) != getattr(defaults, name)
    }


def policy_from_document(document: object, place: str = "The policy") -> Policy:
    """Read what `policy_to_document` wrote. ValueError, with a sentence, for anything else."""
    said = _object(document, place)
    defaults = Policy()
    check, load, sorry = said.get("check"), said.get("load"), said.get("sorry")
    overrides = {}
    for index, one in enumerate(_list(said, "overrides", place)):
        inner = _object(one, f"{place}.overrides[{index}]")
        key = _backend_key(inner, f"{place}.overrides[{index}]")
        overrides[key] = check_from_document(inner.get("check"), f"{place}.overrides[{index}].check")
    return Policy(
        None if check is None else check_from_document(check, f"{place}.check"),
        overrides,
        _word(OnFailure, said.get("on_failure", defaults.on_failure), f"{place}.on_failure"),
        _whole(said, "most_out_percent", place, defaults.most_out_percent, most=100),
        _whole(said, "ramp_s", place, defaults.ramp_s),
        _whole(said, "flap_changes", place, defaults.flap_changes),
        _whole(said, "flap_window_s", place, defaults.flap_window_s),
        None if sorry is None else backend_from_document(sorry, f"{place}.sorry"),
        None if load is None else load_from_document(load, f"{place}.load"),
        _claim(said, "asks_others", place),
    )


def check_to_document(check: Check) -> dict[str, Any]:
    return _flat_out(check)


def check_from_document(document: object, place: str = "The check") -> Check:
    """Read what `check_to_document` wrote. ValueError, with a sentence, for anything else."""
    return _flat_in(Check, document, place)


def load_to_document(rule: LoadRule) -> dict[str, Any]:
    return _flat_out(rule)


def load_from_document(document: object, place: str = "The load rule") -> LoadRule:
    """Read what `load_to_document` wrote. ValueError, with a sentence, for anything else."""
    return _flat_in(LoadRule, document, place)


def target_to_document(target: Target) -> dict[str, Any]:
    out: dict[str, Any] = {} if target.service is None else {"service": key_to_document(target.service)}
    if target.address:
        out["address"] = target.address
    return out | ({"port": target.port} if target.port else {})


def target_from_document(document: object, place: str = "The target") -> Target:
    said = _object(document, place)
    service = said.get("service")
    address = _text(said, "address", place)
    if service is None and not address:
        raise ValueError(f"{place} names neither a service nor an address.")
    return Target(
        None if service is None else key_from_document(service, f"{place}.service"),
        canonical_address(address) if address else "",
        _whole(said, "port", place, 0, most=65535),
    )


def switches_from_document(document: object, place: str = "switches") -> dict[str, str]:
    """Values below net.ipv4.vs by name. ValueError, with a sentence, for anything else; whether a kernel
    takes them is for cluster.ipvs.tuning to say."""
    said = _object(document, place)
    if len(said) > MOST_SWITCHES:
        raise ValueError(f"{place} are more than {MOST_SWITCHES}.")
    return {name: _text(said, name, place) for name in said}


def _voter(document: object, place: str) -> tuple[str, str]:
    said = _object(document, place)
    return _text(said, "director", place), _text(said, "public_key", place)


def _drain_out(drain: Drain) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": drain.id,
        "targets": [target_to_document(target) for target in drain.targets],
        "begins_at": drain.begins_at,
    }
    ends = {"ends_at": drain.ends_at, "cut_at": drain.cut_at}
    return out | {name: at for name, at in ends.items() if at is not None}


def _drain_in(document: object, place: str) -> Drain:
    said = _object(document, place)
    targets = tuple(
        target_from_document(one, f"{place}.targets[{index}]")
        for index, one in enumerate(_list(said, "targets", place))
    )
    return Drain(
        _whole(said, "id", place, 0),
        targets,
        _time(said, "begins_at", place),
        _time(said, "ends_at", place) if said.get("ends_at") is not None else None,
        _time(said, "cut_at", place) if said.get("cut_at") is not None else None,
    )


def profile_to_document(profile: Profile) -> dict[str, Any]:
    """One profile of the document."""
    out: dict[str, Any] = {
        "id": profile.id,
        "name": profile.name,
        "weights": [
            {"service": key_to_document(service), "address": key.address, "port": key.port, "weight": weight}
            for (service, key), weight in sorted(profile.weights.items(), key=lambda item: item[0])
        ],
    }
    if profile.hours:
        out["hours"] = [_flat_out(hours) for hours in profile.hours]
    return out | ({"pinned": True} if profile.pinned else {})


def profile_from_document(document: object, place: str = "The profile") -> Profile:
    """Read one profile of the document. ValueError, with a sentence, for anything else."""
    said = _object(document, place)
    weights: dict[Place, int] = {}
    for index, one in enumerate(_list(said, "weights", place)):
        where = f"{place}.weights[{index}]"
        inner = _object(one, where)
        service = key_from_document(inner.get("service"), f"{where}.service")
        weights[service, _backend_key(inner, where)] = _whole(inner, "weight", where, None, most=65535)
    return Profile(
        _whole(said, "id", place, 0),
        _text(said, "name", place),
        weights,
        tuple(
            _flat_in(Hours, one, f"{place}.hours[{index}]")
            for index, one in enumerate(_list(said, "hours", place))
        ),
        _claim(said, "pinned", place),
    )


def _flat_out(value: Check | LoadRule | Hours) -> dict[str, Any]:
    """The fields that differ from their defaults; those without a default always."""
    found = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
    return {name: list(one) if isinstance(one, tuple) else one for name, one in found.items()}


def _flat_in(kind: type[_Flat], document: object, place: str) -> _Flat:
    said = _object(document, place)
    return kind(**{f.name: _READERS[str(f.type)](said, f, place) for f in fields(kind)})


def _backend_key(said: dict[str, Any], place: str) -> BackendKey:
    address = _text(said, "address", place)
    try:
        return BackendKey(canonical_address(address), _whole(said, "port", place, 0, most=65535))
    except ValueError:
        raise ValueError(f"{place} names no backend.") from None


# No sentence below quotes a value: it may be very long.


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not an object.")
    return value


def _list(said: dict[str, Any], name: str, place: str = "") -> list[Any]:
    value = said.get(name, [])
    if not isinstance(value, list) or len(value) > MOST_ENTRIES:
        raise ValueError(f"{place}{'.' if place else ''}{name} is not a list.")
    return value


def _word(kind: type[StrEnum], value: object, place: str) -> Any:
    if isinstance(value, str) and value in list(kind):
        return kind(value)
    raise ValueError(f"{place} is not one of {', '.join(kind)}.")


def _claim(said: dict[str, Any], name: str, place: str) -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{place}.{name} is neither true nor false.")
    return value


def _whole(
    said: dict[str, Any], name: str, place: str, default: int | None, *, most: float = LARGEST_NUMBER
) -> int:
    value = said.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{place}.{name} is not a whole number between 0 and {most:.0f}.")
    return value


def _time(said: dict[str, Any], name: str, place: str, default: object = None) -> float:
    value = said.get(name, default)
    # NaN is in no interval.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        raise ValueError(f"{place}.{name} is not a number.")
    return value


def _text(said: dict[str, Any], name: str, place: str, default: object = "") -> str:
    value = said.get(name, default)
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"{place}.{name} is not a text of at most {LONGEST_TEXT} characters.")
    return value


def _several(said: dict[str, Any], f: Field[Any], place: str, kind: type) -> tuple[Any, ...]:
    value = said.get(f.name, [] if f.default is MISSING else list(f.default))
    if (
        not isinstance(value, list)
        or len(value) > LONGEST_TEXT
        or any(type(one) is not kind for one in value)
    ):
        raise ValueError(f"{place}.{f.name} is not a list of {kind.__name__}.")
    return tuple(value)


_Reader = Callable[[dict[str, Any], Field[Any], str], Any]
_READERS: dict[str, _Reader] = {
    "str": lambda said, f, place: _text(said, f.name, place, f.default),
    "int": lambda said, f, place: _whole(said, f.name, place, f.default),
    "float": lambda said, f, place: _time(said, f.name, place, f.default),
    "bool": lambda said, f, place: _claim(said, f.name, place),
    "tuple[str, ...]": lambda said, f, place: _several(said, f, place, str),
    "tuple[int, ...]": lambda said, f, place: _several(said, f, place, int),
} | {
    name: lambda said, f, place, kind=kind: _word(kind, said.get(f.name, f.default), f"{place}.{f.name}")
    for name, kind in _ENUMS.items()
}
