"""How each backend stands on each director, and which services nobody serves: the panel's own reading of
what a frame says was observed, with the function that the director acts by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.db.models import OuterRef, Subquery

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

# By director: what its newest frame, by number and time, comes to. That takes 0.13 s for 10,000 backends, and
# each browser asks every two seconds for the same. One for each director, so it does not grow.
_newest: dict[int, tuple[Ordered, tuple[int, float], Effective]] = {}

IN_SERVICE = frozenset({Standing.UP, Standing.UNCHECKED, Standing.RETURNING})


@dataclass(frozen=True, eq=False)
class Ordered:
    """What the newest revision of a cluster wants; empty before the first. Compared by identity."""

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
    """By director's pk: what its kernel is to hold by its newest frame, and how each backend stands. Only of
    those that have a frame: of the others nobody knows what they have observed."""
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
    wanted = _ordered(clusters)
    found = []
    for one in heard:
        if one.frame is None or one.is_stale or one.director.cluster_id not in wanted:
            continue
        held = wanted[one.director.cluster_id]
        known = _known(one, one.frame, held)
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


def mark(rows: list[live.Row], cluster: Cluster, answers: live.Live) -> None:
    """Write into the rows of the live table how each backend stands and why, and add the backends that are
    not in a kernel because they were cut or removed."""
    by_label = {row.label: row for row in rows}
    wanted = ordered(cluster)
    shown = [(row, service) for service in wanted.table if (row := by_label.get(str(service.key)))]
    for one in answers.counted:
        if one.frame is None:
            continue
        known = _known(one, one.frame, wanted)
        for row, service in shown:
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
    """Of those that have a revision. Two queries for any number, and mostly none for a table."""
    newest = Revision.objects.filter(cluster=OuterRef("pk")).order_by("-number").values("pk")[:1]
    keys = Cluster.objects.filter(pk__in=[cluster.pk for cluster in clusters]).annotate(
        newest=Subquery(newest)
    )
    rows = Revision.objects.filter(pk__in=keys.values("newest")).values_list("cluster_id", "pk", "created")
    return {cluster: _read(pk, created) for cluster, pk, created in rows}


@lru_cache(maxsize=32)
def _read(pk: int, created: datetime) -> Ordered:
    """Revisions never change, and a page that is polled should not read a large one again each time.
    `created` tells two databases apart in one process, as tests have them."""
    row = Revision.objects.get(pk=pk)
    traffic = traffic_document.from_document(row.traffic) if row.traffic else Traffic()
    return Ordered(document.from_document(row.table), traffic)
