"""What two drafts say differently, policies and switches included: object by object, in words, taken back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from cluster.ipvs.drift import Value, differences
from cluster.ipvs.state import (
    Backend,
    BackendKey,
    Persistence,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    Tunnel,
    field_names,
    prefix_of,
)
from cluster.ipvs.traffic.policy import Policy
from cluster.ipvs.traffic.words import policy_changes

Row = tuple[str, str, str]
# Whose the switches are.
ALL_DIRECTORS = "all directors"


class Said(NamedTuple):
    """What a draft or a revision says. `switches` are values below net.ipv4.vs by name."""

    table: Table
    policies: Mapping[ServiceKey, Policy]
    switches: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that the two say differently. `kind` is add, change or remove; `noun` is service, backend,
    policy or, without a `service`, switches; `rows` are name, before and after of each thing. A service that
    comes or goes has its backends with it."""

    kind: str
    noun: str
    service: ServiceKey | None
    backend: BackendKey | None
    rows: tuple[Row, ...]

    @property
    def target(self) -> str:
        """The object, as the audit log names it."""
        if self.service is None:
            return ALL_DIRECTORS
        return f"{self.backend} of {self.service}" if self.backend else str(self.service)

    @property
    def id(self) -> str:
        """What tells it from the other differences of the same two tables."""
        return f"{self.noun} {self.target}"


def compare(before: Said, after: Said) -> list[Difference]:
    """Each object that `after` says otherwise than `before`, sorted by service."""
    (old, old_policies, old_switches), (new, new_policies, new_switches) = before, after
    by_service: defaultdict[ServiceKey, list[Difference]] = defaultdict(list)
    for (key, backend), one in differences(old, new).items():
        # A service of which there is only one comes without its backends there.
        sides = (one.wanted, one.actual) if backend else (old.by_key.get(key), new.by_key.get(key))
        noun = "backend" if backend else "service"
        by_service[key].append(Difference(_kind(*sides), noun, key, backend, tuple(_sides(*sides))))
    for key in {*old_policies, *new_policies}:
        was, now = old_policies.get(key), new_policies.get(key)
        if rows := policy_changes(was or Policy(), now or Policy()):
            by_service[key].append(Difference(_kind(was, now), "policy", key, None, tuple(rows)))
    found = [one for key in sorted(by_service) for one in by_service[key]]
    if old_switches != new_switches:
        found.append(Difference("change", "switches", None, None, _switches(old_switches, new_switches)))
    return found


def each(before: Said, after: Said) -> list[Difference]:
    """As `compare` has it, but of a service that comes or goes every backend apart, after it."""
    found = []
    for one in compare(before, after):
        if one.noun != "service" or one.kind == "change" or one.service is None:
            found.append(one)
            continue
        found.append(replace(one, rows=tuple(row for row in one.rows if row[0] != "backends")))
        goes = one.kind == "remove"
        for backend in (before if goes else after).table.by_key[one.service].backends:
            rows = tuple(_sides(*((backend, None) if goes else (None, backend))))
            found.append(Difference(one.kind, "backend", one.service, backend.key, rows))
    return found


def without(difference: Difference, *, before: Said, after: Said) -> Said:
    """What `after` says with this one object as `before` has it."""
    (old, old_policies, old_switches), (new, new_policies, switches) = before, after
    key = difference.service
    if key is None:
        return Said(new, new_policies, old_switches)
    policies = dict(new_policies)
    then, now = old.by_key.get(key), new.by_key.get(key)
    if difference.noun == "policy":
        return Said(new, _with(policies, key, old_policies.get(key)), switches)
    if difference.noun == "backend" and now:
        mine = [one for one in now.backends if one.key != difference.backend]
        mine += [one for one in (then.backends if then else ()) if one.key == difference.backend]
        return Said(_with_service(new, key, now.with_backends(mine)), policies, switches)
    if then and now:
        return Said(_with_service(new, key, then.with_backends(now.backends)), policies, switches)
    return Said(_with_service(new, key, then), _with(policies, key, old_policies.get(key)), switches)


def _sides(was: Value, now: Value) -> Iterable[Row]:
    """What the two say differently; of one that comes or goes, what it sets."""
    if was and now:
        return _rows(was, now)
    if was is None:
        return [(name, "", said) for name, said, _ in _sides(now, None)]
    if isinstance(was, Backend):
        return [("settings", _backend_words(was), "")]
    backends = ", ".join(f"{one.key} {_backend_words(one)}" for one in was.backends)
    return [row for row in (*_rows(was, None), ("backends", backends, "")) if row[1]]


def _switches(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Row, ...]:
    return tuple(
        (name, old.get(name, ""), new.get(name, ""))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def _kind(before: object, after: object) -> str:
    return "add" if before is None else "remove" if after is None else "change"


def _rows(one: Service | Backend, other: Value) -> list[Row]:
    """Every field but the key that the two say differently; of one alone, what it sets."""
    found = []
    for name in field_names(one):
        if name in ("key", "address", "port", "backends"):
            continue
        mine = _words(getattr(one, name))
        theirs = _words(getattr(other, name)) if other else ""
        if mine != theirs:
            found.append((name, mine, theirs))
    return found


def _words(value: object) -> str:
    if isinstance(value, ServiceFlags):
        known = [str(flag.name).lower().replace("_", " ") for flag in ServiceFlags if flag & value]
        rest = int(value) & ~sum(ServiceFlags)
        return ", ".join([*known, *([f"{rest:#x}"] if rest else [])])
    if isinstance(value, Persistence):
        # For IPv6 it is the prefix itself; no IPv4 mask without holes is so low, but 0.
        prefix = value.netmask if value.netmask <= 128 else prefix_of(value.netmask)
        group = f"/{prefix}" if prefix is not None else f"mask {value.netmask:#x}"
        shared = "" if group in ("/32", "/128") else f", clients of a {group} together"
        return f"{value.timeout_s} s{shared}" + (f", by {value.engine}" if value.engine else "")
    if isinstance(value, Tunnel):
        port = f" port {value.port}" if value.port else ""
        return f"{value.kind.word}{port}" + (f", checksum {value.flags}" if value.flags else "")
    word = getattr(value, "word", value)
    return "" if word is None else str(word)


def _backend_words(backend: Backend) -> str:
    """In one line, without thresholds that are not set."""
    thresholds = f" thresholds {backend.upper} and {backend.lower}" if backend.upper or backend.lower else ""
    tunnel = f" ({_words(backend.tunnel)})" if backend.tunnel else ""
    return f"{backend.forwarding.word}{tunnel} weight {backend.weight}{thresholds}"


def _with(
    policies: dict[ServiceKey, Policy], key: ServiceKey, policy: Policy | None
) -> dict[ServiceKey, Policy]:
    rest = {place: one for place, one in policies.items() if place != key}
    return rest | ({key: policy} if policy else {})


def _with_service(table: Table, key: ServiceKey, service: Service | None) -> Table:
    rest = tuple(one for one in table if one.key != key)
    return replace(table, services=rest + ((service,) if service else ()))
