"""What differs, object by object, between what a kernel should hold and what it holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.ipvs.plan import Step, plan
from cluster.ipvs.state import Backend, BackendKey, Service, ServiceKey, Table

# A service's own settings, with None, or one of its backends.
Thing = tuple[ServiceKey, BackendKey | None]
Value = Service | Backend | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What one thing should be and is; None where it should not be there, or is not. A service comes without
    its backends."""

    wanted: Value
    actual: Value


def differences(wanted: Table, actual: Table) -> dict[Thing, Difference]:
    """Of a service that one side lacks, the service alone and not each backend."""
    found: dict[Thing, Difference] = {}
    for key in sorted(wanted.keys | actual.keys):
        should, holds = wanted.by_key.get(key), actual.by_key.get(key)
        if should is holds:
            continue
        if should is None or holds is None:
            found[key, None] = Difference(should and should.header, holds and holds.header)
            continue
        if should.header != holds.header:
            found[key, None] = Difference(should.header, holds.header)
        before, now = ({one.key: one for one in side.backends} for side in (should, holds))
        for backend in sorted(before.keys() | now.keys()):
            if before.get(backend) != now.get(backend):
                found[key, backend] = Difference(before.get(backend), now.get(backend))
    return found


def mending(
    actual: Table, wanted: Table, *, owned: frozenset[ServiceKey], things: Iterable[Thing]
) -> list[Step]:
    """The steps that put these things right and touch nothing else; none for services of somebody else."""
    chosen = set(things)
    keys = {service for service, _ in chosen} & owned
    steps = plan(actual.only(keys), wanted.only(keys), owned=owned).steps
    # Who makes a service anew makes its backends with it.
    whole = {service for service in keys if service not in actual.keys and (service, None) in chosen}
    return [
        step
        for step in steps
        if step.service.key in whole
        or (step.service.key, step.backend.key if step.backend else None) in chosen
    ]


def in_words(value: Value) -> str:
    """A thing for people, without its name."""
    if value is None:
        return "absent"
    if isinstance(value, Service):
        held = f", persistent {value.persistence.timeout_s} s" if value.persistence else ""
        return f"scheduler {value.scheduler}{held}" + (f", flags {int(value.flags)}" if value.flags else "")
    limits = f", at most {value.upper} connections" if value.upper else ""
    limits += f", again below {value.lower}" if value.lower else ""
    tunnel = f" {value.tunnel.kind.word}" if value.tunnel else ""
    return f"weight {value.weight}, {value.forwarding.word}{tunnel}{limits}"
