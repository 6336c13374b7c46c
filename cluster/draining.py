"""How each drain stands: who is still connected where, until when at the latest, and what holds clients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils import timezone

from cluster import desired, live, models, standing
from cluster.ipvs import settings
from cluster.ipvs.impact import EXPIRE_NODEST, EXPIRE_QUIESCENT, Open
from cluster.ipvs.settings import Timeouts
from cluster.ipvs.state import Backend, Forwarding, Service
from cluster.ipvs.stats import BackendCounters
from cluster.ipvs.traffic.policy import Drain
from cluster.ipvs.traffic.progress import LatestEnd, counts_inactive, is_drained, latest_end
from cluster.models import Cluster, Director, VirtualService
from cluster.review import sysctls_of

_NEVER = datetime.max.replace(tzinfo=UTC)
# From the loudest to the calmest: what a drain is as a whole, while it is on.
_WORST_FIRST = ("waiting", "draining", "unknown", "drained", "cut")


@dataclass(frozen=True)
class PartOfDrain:
    """One backend of one service on one director. `weight` is that in the kernel, None where it is not in
    there. `status`: planned, waiting (the director has not begun), draining, drained, cut, ended, or unknown
    where the director is not heard."""

    director: Director
    service: Service
    backend: Backend
    status: str
    counted: BackendCounters
    weight: int | None
    latest: LatestEnd | None

    @property
    def left(self) -> int:
        """Connections that a client may still use."""
        return self.counted.active + (self.counted.inactive if counts_inactive(self.service.key) else 0)

    @property
    def latest_at(self) -> datetime | None:
        return datetime.fromtimestamp(self.latest.at, UTC) if self.latest and self.latest.at else None


@dataclass(frozen=True)
class DrainState:
    """A drain with its parts. `warnings` say which directors keep sending clients, and by which switch."""

    row: models.Drain
    drain: Drain
    status: str
    parts: list[PartOfDrain]
    warnings: list[tuple[str, str, str]]

    @property
    def targets(self) -> str:
        return ", ".join(map(str, self.drain.targets))

    @property
    def is_over(self) -> bool:
        return self.status in ("ended", "cancelled")

    @property
    def is_counted(self) -> bool:
        """Whether every director that drains has said who is left."""
        return bool(self.parts) and all(part.status != "unknown" for part in self.parts)

    @property
    def left(self) -> int:
        return sum(part.left for part in self.parts)

    @property
    def persistent(self) -> int:
        return sum(part.counted.persistent for part in self.parts)

    @property
    def latest(self) -> PartOfDrain | None:
        """The part that can last longest; one whose end nobody knows lasts longer than all."""
        known = [part for part in self.parts if part.latest is not None]
        return max(known, key=lambda part: part.latest_at or _NEVER, default=None)


def drain_states(cluster: Cluster, rows: Iterable[models.Drain], answers: live.Live) -> list[DrainState]:
    """Each with its parts on each director that was asked, by the newest revision's table."""
    ordered, now = standing.ordered(cluster), timezone.now()
    # Once for all parts: a frame may have thousands of backends.
    heard = [(one, live.open_connections(one) or {}) for one in answers.directors]
    return [_state(row, ordered, heard, now) for row in rows]


def marks(cluster: Cluster, services: Iterable[VirtualService]) -> dict[int, tuple[str, models.Drain]]:
    """By backend's pk: `draining` or `planned`, and the drain."""
    now, found = timezone.now(), {}
    drains = [(desired.drain_value(row), row) for row in cluster.drains.wanted().order_by("-begins_at")]
    for service in services if drains else ():
        key = desired.service_value(service, with_backends=False).key
        for backend in service.backends.all():
            place = key, desired.backend_value(backend).key
            for drain, row in drains:
                if any(target.covers(*place) for target in drain.targets):
                    found[backend.pk] = ("draining" if row.begins_at <= now else "planned"), row
    return found


def _state(
    row: models.Drain,
    ordered: standing.Ordered,
    heard: list[tuple[live.DirectorLive, Open]],
    now: datetime,
) -> DrainState:
    drain, whole = desired.drain_value(row), _whole(row, now)
    parts = [
        _part(
            one,
            counted.get(service.key, {}).get(backend.key, BackendCounters()),
            service,
            backend,
            drain,
            whole,
        )
        for service in ordered.table
        for backend in service.backends
        if any(target.covers(service.key, backend.key) for target in drain.targets)
        for one, counted in heard
    ]
    statuses = {part.status for part in parts}
    status = whole or next((word for word in _WORST_FIRST if word in statuses), "unknown")
    parts.sort(key=lambda part: (str(part.service.key), part.backend.key, part.director.name))
    return DrainState(row, drain, status, parts, [] if whole else _warnings(parts))


def _whole(row: models.Drain, now: datetime) -> str:
    """The word where it does not depend on directors; empty while the drain is on."""
    if row.ended_at is not None:
        return "ended" if row.ended_at > row.begins_at else "cancelled"
    if row.ends_at is not None and row.ends_at <= now:
        return "ended"
    return "planned" if row.begins_at > now else ""


def _part(
    one: live.DirectorLive,
    counted: BackendCounters,
    service: Service,
    backend: Backend,
    drain: Drain,
    whole: str,
) -> PartOfDrain:
    if one.frame is None or not one.shows_kernel:
        return PartOfDrain(one.director, service, backend, whole or "unknown", counted, None, None)
    held = one.table.by_key.get(service.key)
    weight = next((had.weight for had in held.backends if had.key == backend.key), None) if held else None
    holds = sysctls_of(one.director).get(EXPIRE_QUIESCENT, "0") == "0"
    drained = is_drained(service, counted, templates_hold=holds)
    if weight is None:
        status = "cut" if drain.cuts(one.frame.at) else "waiting"
    else:
        status = "waiting" if weight else ("drained" if drained else "draining")
    latest = None
    if not whole and weight is not None:
        latest = latest_end(
            service, counted, drain, _timeouts(one.director), templates_hold=holds, now=one.frame.at
        )
    return PartOfDrain(one.director, service, backend, whole or status, counted, weight, latest)


def _timeouts(director: Director) -> Timeouts | None:
    said = settings.from_document(director.facts.get("settings")).timeouts
    return said if said.tcp_s and said.udp_s else None


def _warnings(parts: list[PartOfDrain]) -> list[tuple[str, str, str]]:
    """Director, sentence and command, once for each director and switch by which clients still come to a
    drained backend."""
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for part in parts:
        for switch, text in _still_coming(part) if part.status != "cut" else ():
            command = (
                f"python -m cluster.director sysctl {switch} 1\n"
                f"# or, without the agent:\nsysctl -w net.ipv4.vs.{switch}=1"
            )
            found.setdefault((part.director.name, switch), (part.director.name, text, command))
    return list(found.values())


def _still_coming(part: PartOfDrain) -> Iterator[tuple[str, str]]:
    """The switches that are off on the director and would send clients to others, and what they do."""
    told = sysctls_of(part.director)
    if part.service.persistence and told.get(EXPIRE_QUIESCENT) == "0":
        yield (
            EXPIRE_QUIESCENT,
            f"goes on sending persistent clients of {part.service.key} to the drained backend, because"
            f" net.ipv4.vs.{EXPIRE_QUIESCENT} is 0 there. Set it to 1 on the director, and a client that"
            " connects anew gets another backend.",
        )
    sees_answers = part.backend.forwarding is Forwarding.MASQUERADE
    if not sees_answers and told.get(EXPIRE_NODEST) == "0":
        yield (
            EXPIRE_NODEST,
            f"remembers closed connections to {part.backend.key} for up to two minutes, because it sees none"
            " of its answers, and a client that connects again from the same port within that time still goes"
            f" there: net.ipv4.vs.{EXPIRE_NODEST} is 0. Set it to 1 on the director, and such a client gets"
            " another backend.",
        )
