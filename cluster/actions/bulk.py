"""One verb for many backends across services, with what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils import timezone

from cluster import desired, standing
from cluster.actions import backends, drains
from cluster.actions.problems import Changed, Rejected, require_reason
from cluster.audit import Actor
from cluster.ipvs.traffic.policy import Place, Target
from cluster.models import Backend, Cluster, Drain


@dataclass(frozen=True)
class Outcome:
    """What became of one backend, in a sentence. `is_beaten`: not done, as somebody else was faster."""

    backend: Backend
    is_done: bool
    text: str
    is_beaten: bool = False


def set_weights(
    chosen: Sequence[Backend], *, seen_versions: Mapping[int, int], weight: int, by: Actor
) -> list[Outcome]:
    """Set the weight of each in the draft, those that have it and those that somebody else changed meanwhile
    apart."""
    outcomes = []
    for backend in chosen:
        before = backend.weight
        if before == weight:
            outcomes.append(Outcome(backend, True, f"Weight {weight} in the draft already."))
            continue
        try:
            backends.set_weight(backend, seen_version=seen_versions[backend.pk], weight=weight, by=by)
            outcomes.append(Outcome(backend, True, f"Weight {weight} in the draft; it was {before}."))
        except Rejected as rejected:
            outcomes.append(Outcome(backend, False, str(rejected), isinstance(rejected, Changed)))
    return outcomes


def drain(
    cluster: Cluster, chosen: Sequence[Backend], *, reason: str, by: Actor, ticket: str = ""
) -> list[Outcome]:
    """Drain those that can be, in one drain that is open until somebody ends it. A backend without which a
    service would refuse its clients is left to the page that asks for that. Rejected without a reason."""
    require_reason(reason)
    refused = _undrainable(cluster, chosen)
    rest = [backend for backend in chosen if backend not in refused]
    outcomes = [Outcome(backend, False, text) for backend, text in refused.items()]
    if rest:
        targets = [_target(backend) for backend in rest]
        try:
            row = drains.drain(
                cluster,
                targets,
                begins_at=None,
                ends_at=None,
                cut_at=None,
                reason=reason,
                ticket=ticket,
                by=by,
            )
            outcomes += [
                Outcome(backend, True, f"Drained by {row}, until you undrain it.") for backend in rest
            ]
        except Rejected as rejected:
            outcomes += [Outcome(backend, False, str(rejected)) for backend in rest]
    return _in_order(outcomes, chosen)


def undrain(
    cluster: Cluster, chosen: Sequence[Backend], *, reason: str, by: Actor, ticket: str = ""
) -> list[Outcome]:
    """End the drains of these backends. One that has others too is left alone: those would come back.
    Rejected without a reason."""
    require_reason(reason)
    table, places = standing.ordered(cluster).table, {_place(backend): backend for backend in chosen}
    said: dict[Backend, tuple[bool, str]] = {}
    for row in cluster.drains.wanted():
        held = set(drains.covered(table, desired.drain_value(row).targets))
        mine = [backend for place, backend in places.items() if place in held]
        if mine:
            done, text = _end(row, others=len(held - set(places)), reason=reason, ticket=ticket, by=by)
            for backend in mine:
                before_done, before = said.get(backend, (True, ""))
                said[backend] = before_done and done, f"{before} {text}".strip()
    nothing = False, "No drain has it."
    return [Outcome(backend, *said.get(backend, nothing)) for backend in chosen]


def _end(row: Drain, *, others: int, reason: str, ticket: str, by: Actor) -> tuple[bool, str]:
    if others:
        what = "backend that is" if others == 1 else "backends that are"
        return False, f"{row} has {others} more {what} not ticked. Undrain it on its own page."
    try:
        drains.undrain(row, reason=reason, ticket=ticket, by=by)
    except Rejected as rejected:
        return False, str(rejected)
    return True, f"{row} is ended: it comes back by the service's ramp."


def _undrainable(cluster: Cluster, chosen: Sequence[Backend]) -> dict[Backend, str]:
    table, now = standing.ordered(cluster).table, timezone.now()
    said = {}
    for backend in chosen:
        if problems := drains.refusals(cluster, table, _target(backend), at=now):
            said[backend] = " ".join(problems)
    rest = {_place(backend): backend for backend in chosen if backend not in said}
    for key, text in drains.stranded(cluster, list(rest), drains.known_standings(cluster)).items():
        last = {backend: text for place, backend in rest.items() if place[0] == key}
        said |= {
            backend: f"{text} Drain it on its own page, which asks for that."
            for backend, text in last.items()
        }
    return said


def _in_order(outcomes: Sequence[Outcome], chosen: Sequence[Backend]) -> list[Outcome]:
    by_backend = {outcome.backend: outcome for outcome in outcomes}
    return [by_backend[backend] for backend in chosen]


def _target(backend: Backend) -> Target:
    service, key = _place(backend)
    return Target(service, key.address, key.port)


def _place(backend: Backend) -> Place:
    service = desired.service_value(backend.service, with_backends=False)
    return service.key, desired.backend_value(backend).key
