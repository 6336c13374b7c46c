"""How each backend stands on each director, and which services nobody serves: the panel's own reading of
what a frame says was observed, with the function that the director acts by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, reduce
from operator import or_

from django.db.models import OuterRef, Q, Subquery

from cluster import live
from cluster.ipvs.formats import document
from cluster.ipvs.state import BackendKey, Service, ServiceKey, Table
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic import observed as observed_document
from cluster.ipvs.traffic.effective import Effective, Note, Standing, effective
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import Place, Traffic
from cluster.models import Cluster, Director, Revision
from cluster.wire.messages import Frame
from cluster.wire.payloads import LARGEST_COUNT

# By director: what its newest frame, by number and time, comes to. That takes 0.13 s for 10,000 backends, and
# each browser asks every two seconds for the same. One for each director, so it does not grow.
_newest: dict[int, tuple[Ordered, tuple[int, float], Effective]] = {}

IN_SERVICE = frozenset({Standing.UP, Standing.UNCHECKED, Standing.RETURNING})


@dataclass(frozen=True, eq=False)
class Ordered:
    """What one revision of a cluster wants; empty for none. Compared by identity."""

    table: Table = Table()
    traffic: Traffic = Traffic()


@dataclass(frozen=True)
class Outage:
    """A service that no healthy backend serves on one director, though operators want some to."""

    director: Director
    service: str
    text: str


def ordered(cluster: Cluster) -> Ordered:
    """What the newest revision of the cluster wants."""
    return _ordered([cluster]).get(cluster.pk, Ordered())


def standings(cluster: Cluster, answers: live.Live) -> dict[int, Effective]:
    """By director's pk: how each backend of the newest revision stands there once the director has that, by
    what its newest frame says. Only of those that have a frame: of the others nobody knows what they have
    observed."""
    wanted = ordered(cluster)
    return {
        one.director.pk: _known(one, one.frame, wanted) for one in answers.directors if one.frame is not None
    }


def observed_by(one: live.DirectorLive) -> Observed:
    """What the director says it has found out; nothing where it is of an older release, or says something
    that cannot be read."""
    said = one.frame.payload.get("observed") if one.frame else None
    try:
        return observed_document.from_document(said or {})
    except ValueError:
        # A page shows what else it knows, as live.py does with a frame that it does not believe.
        return Observed()


def outages(
    clusters: Iterable[Cluster], heard: Iterable[live.DirectorLive], *, only: str = ""
) -> list[Outage]:
    """Where all backends of a service are down, drained or asked out, by a fresh frame. `only` is one
    service's `PROTOCOL address:port`."""
    keys, found = {cluster.pk for cluster in clusters}, []
    fresh = [one for one in heard if not one.is_stale and one.director.cluster_id in keys]
    for one, frame, held in _has(fresh):
        known = _known(one, frame, held)
        for service in held.table:
            if only in ("", str(service.key)) and (text := _outage(service, known)):
                found.append(Outage(one.director, str(service.key), text))
    return found


def serving(service: Service, known: Effective) -> set[Place]:
    """The backends of a service that take new connections and are not down."""
    return {
        (service.key, backend.key)
        for backend in service.backends
        if (note := known.note(service.key, backend)).weight and note.standing in IN_SERVICE
    }


def mark(rows: list[live.Row], answers: live.Live) -> None:
    """Write into the rows of the live table how each backend stands and why, and add the backends that are
    not in a kernel because they were cut or removed. Each director is judged by the revision that it has:
    one that a newer has not reached yet acts by the old one."""
    by_label = {row.label: row for row in rows}
    for one, frame, held in _has(answers.counted):
        known = _known(one, frame, held)
        for service in held.table:
            if (row := by_label.get(str(service.key))) is None:
                continue
            found = {backend.key: known.note(service.key, backend) for backend in service.backends}
            for backend, note in (found | _sorry(service.key, known)).items():
                part = row.backends.setdefault(str(backend), live.Row(str(backend), str(backend)))
                part.notes[one.director.name] = note


def _sorry(key: ServiceKey, known: Effective) -> dict[BackendKey, Note]:
    """The sorry server of a service, while it serves."""
    return {
        place[1]: note
        for place, note in known.notes.items()
        if place[0] == key and note.standing is Standing.SORRY
    }


def _has(heard: Iterable[live.DirectorLive]) -> Iterator[tuple[live.DirectorLive, Frame, Ordered]]:
    """Those that have a frame, with it and with what the director steers by. One query for any number."""
    said = [(one, one.frame, _revision_of(one, one.frame)) for one in heard if one.frame]
    asked = {(one.director.cluster_id, number) for one, _, number in said if number}
    if not asked:
        return
    which = reduce(or_, (Q(cluster=cluster, number=number) for cluster, number in asked))
    rows = Revision.objects.filter(which).values_list("cluster_id", "number", "pk", "created")
    found = {(cluster, number): (pk, created) for cluster, number, pk, created in rows}
    for one, frame, number in said:
        if one.director.cluster_id and (key := found.get((one.director.cluster_id, number))):
            yield one, frame, _read(*key)


def _revision_of(one: live.DirectorLive, frame: Frame) -> int:
    """The number of the revision that the director has; 0 for none, and where it counts in another epoch. An
    older release says only which it applied."""
    said = frame.payload.get("ordered", frame.payload.get("revision"))
    if frame.payload.get("epoch", one.director.epoch) != one.director.epoch or not isinstance(said, int):
        return 0
    return said if 0 < said <= LARGEST_COUNT else 0


def _known(one: live.DirectorLive, frame: Frame, wanted: Ordered) -> Effective:
    held = _newest.get(one.director.pk)
    if held and held[0] is wanted and held[1] == (frame.sequence, frame.at):
        return held[2]
    known = effective(wanted.table, wanted.traffic, observed_by(one), now=frame.at)
    _newest[one.director.pk] = wanted, (frame.sequence, frame.at), known
    return known


def _outage(service: Service, known: Effective) -> str:
    said = [known.note(service.key, backend) for backend in service.backends if backend.weight]
    if not said or serving(service, known):
        return ""
    counts = [(sum(note.standing is standing for note in said), standing) for standing in Standing]
    parts = ", ".join(f"{count} {standing}" for count, standing in counts if count)
    down = [note for note in said if note.standing in (Standing.DOWN, Standing.REMOVED)]
    causes = sorted({note.cause for note in down if note.cause})
    why = f" ({'; '.join(causes[:2])})" if causes else ""
    if sorry := _sorry(service.key, known):
        return f"no backend serves: {parts}{why}. The sorry server {next(iter(sorry))} answers."
    if any(note.weight for note in said):
        return f"no backend is healthy: {parts}{why}. Clients still go to those that may not be taken out."
    return f"no backend serves: {parts}{why}. Clients are refused."


def _ordered(clusters: Iterable[Cluster]) -> dict[int, Ordered]:
    """The newest, of those that have a revision. Two queries for any number, and mostly none for a table."""
    newest = Revision.objects.filter(cluster=OuterRef("pk")).order_by("-number").values("pk")[:1]
    keys = Cluster.objects.filter(pk__in=[cluster.pk for cluster in clusters]).annotate(
        newest=Subquery(newest)
    )
    rows = Revision.objects.filter(pk__in=keys.values("newest")).values_list("cluster_id", "pk", "created")
    return {cluster: _read(pk, created) for cluster, pk, created in rows}


@lru_cache(maxsize=64)
def _read(pk: int, created: datetime) -> Ordered:
    """Revisions never change, and a page that is polled should not read a large one again each time.
    `created` tells two databases apart in one process, as tests have them."""
    row = Revision.objects.get(pk=pk)
    traffic = traffic_document.from_document(row.traffic) if row.traffic else Traffic()
    return Ordered(document.from_document(row.table), traffic)
