"""From the table that is to the table that should be, in steps that hurt nobody who need not be hurt.

Set before delete and add anew, add before remove, never a flush, and no step for a service of
somebody else. The same function makes the operator's preview and the director's work list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from cluster.ipvs.state import Backend, Forwarding, Service, ServiceKey, Table, field_names

# As Backend.key, without making one.
_place = attrgetter("address", "port")


class Operation(StrEnum):
    ADD_SERVICE = "add-service"
    SET_SERVICE = "set-service"
    REMOVE_SERVICE = "remove-service"
    ADD_BACKEND = "add-backend"
    SET_BACKEND = "set-backend"
    REMOVE_BACKEND = "remove-backend"


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel operation. `service` is the header (no backends). For a backend's operation `backend` is
    set. `before` is what a SET replaces: a Service header or a Backend."""

    operation: Operation
    service: Service
    backend: Backend | None = None
    before: Service | Backend | None = None

    @property
    def kind(self) -> str:
        """`add`, `change` or `remove`: what a page marks with +, ~ and -."""
        return self.operation.split("-")[0].replace("set", "change")

    def __str__(self) -> str:
        return _in_words(self)


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered steps; `conflicts` are services that the target names but somebody else put into the
    kernel with another content; `kept` are ours to remove, but not while there is a conflict; `adopted`
    are somebody else's, just as the target wants them: an apply makes them ours without a step; `foreign`
    are the services that the plan leaves alone."""

    steps: tuple[Step, ...] = ()
    conflicts: tuple[ServiceKey, ...] = ()
    kept: tuple[ServiceKey, ...] = ()
    adopted: tuple[ServiceKey, ...] = ()
    foreign: tuple[ServiceKey, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.steps and not self.conflicts


def plan(actual: Table, effective: Table, *, owned: frozenset[ServiceKey]) -> Plan:
    """Steps from `actual` to `effective`, touching services in `owned` and new ones alone.

    Services are removed last, so that an interruption leaves too much rather than too little, and not at
    all while another cannot take its place: a virtual address that moves must not get lost on the way."""
    steps: list[Step] = []
    conflicts: list[ServiceKey] = []
    # Where a table was made from the other, most services are the very same objects: no look into them.
    same = set(map(id, actual)) & set(map(id, effective))
    there = {service.key: service for service in actual if id(service) not in same}
    differing = [service for service in effective if id(service) not in same]
    adopted = [service.key for service in effective if id(service) in same and service.key not in owned]
    for wanted in differing:
        found = there.pop(wanted.key, None)
        if found == wanted:
            if wanted.key not in owned:
                adopted.append(wanted.key)
        elif found is not None and wanted.key not in owned:
            conflicts.append(wanted.key)
        else:
            steps.extend(_towards(found, wanted))
    ours = [service for service in there.values() if service.key in owned]
    if not conflicts:
        steps.extend(Step(Operation.REMOVE_SERVICE, service.header) for service in ours)
    kept = tuple(service.key for service in ours) if conflicts else ()
    foreign = tuple(service.key for service in there.values() if service.key not in owned)
    return Plan(tuple(steps), tuple(conflicts), kept, tuple(adopted), foreign)


def quiesced(actual: Table, effective: Table, *, owned: frozenset[ServiceKey]) -> Table:
    """`effective` with everything that it removes still there at weight 0: half way to it, after which open
    connections end by themselves and no step cuts one."""
    kept: list[Service] = []
    for service in actual:
        wanted = effective.by_key.get(service.key)
        if service.key not in owned:
            continue
        stays = {backend.key for backend in wanted.backends} if wanted else set()
        going = [backend._replace(weight=0) for backend in service.backends if backend.key not in stays]
        if wanted is None or going:
            base = wanted or service
            kept.append(base.with_backends([*(wanted.backends if wanted else ()), *going]))
    changed = {service.key for service in kept}
    return Table((*(service for service in effective if service.key not in changed), *kept))


def _towards(found: Service | None, wanted: Service) -> Iterator[Step]:
    header = wanted.header
    if found is None:
        yield Step(Operation.ADD_SERVICE, header)
        for backend in wanted.backends:
            yield Step(Operation.ADD_BACKEND, header, backend)
        return
    if found.header != header:
        yield Step(Operation.SET_SERVICE, header, before=found.header)
    if found.backends == wanted.backends:
        return
    there = {_place(backend): backend for backend in found.backends}
    for backend in wanted.backends:
        if _place(backend) not in there:
            yield Step(Operation.ADD_BACKEND, header, backend)
    for backend in wanted.backends:
        before = there.pop(_place(backend), None)
        if before is not None and before != backend:
            yield Step(Operation.SET_BACKEND, header, backend, before)
    for backend in there.values():
        yield Step(Operation.REMOVE_BACKEND, header, backend)


def _in_words(step: Step) -> str:
    service, backend, before = step.service, step.backend, step.before
    match step.operation:
        case Operation.ADD_SERVICE:
            held = f", persistent {service.persistence.timeout_s} s" if service.persistence else ""
            return f"Add service {service.key}, scheduler {service.scheduler}{held}."
        case Operation.SET_SERVICE:
            assert isinstance(before, Service)
            return f"Change service {service.key}: {_changes(before, service)}. Connections stay."
        case Operation.REMOVE_SERVICE:
            return f"Remove service {service.key} with its backends."
        case Operation.ADD_BACKEND:
            assert backend is not None
            how = f"{_method(backend)}, weight {backend.weight}"
            return f"Add backend {backend.key} to {service.key}, {how}."
        case Operation.SET_BACKEND:
            assert isinstance(before, Backend) and backend is not None
            changes = _changes(before, backend)
            return f"Change backend {backend.key} of {service.key}: {changes}. Connections stay."
        case Operation.REMOVE_BACKEND:
            assert backend is not None
            return f"Remove backend {backend.key} from {service.key}."


def _method(backend: Backend) -> str:
    return {Forwarding.DIRECT: "direct routing"}.get(backend.forwarding, backend.forwarding.word)


def _changes(before: Service | Backend, after: Service | Backend) -> str:
    """`weight 3 → 1, forwarding masquerade → direct`, from the type's own fields."""
    names = [name for name in field_names(before) if getattr(before, name) != getattr(after, name)]
    return ", ".join(
        f"{name} {_shown(getattr(before, name))} → {_shown(getattr(after, name))}" for name in names
    )


def _shown(value: object) -> str:
    if isinstance(value, Forwarding):
        return value.word
    return "none" if value is None else str(value)
