"""What the kernel is to hold now: the operators' table under verdicts, drains, profiles, loads and ramps.

The director computes it to act, and the panel, from the same values, to show it and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from operator import is_
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cluster.ipvs.state import Backend, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.paths import check_marks, path_services
from cluster.ipvs.traffic.policy import Drain, Hours, OnFailure, Place, Policy, Profile, Traffic

_NO_POLICY: Final = Policy()


class Standing(StrEnum):
    """How a backend stands. KEPT is down, but in service because too many are; CUT and REMOVED are not in the
    table; SORRY serves because nobody else does, and is SPARE otherwise."""

    UP = "up"
    UNCHECKED = "unchecked"
    RETURNING = "returning"
    DOWN = "down"
    KEPT = "kept"
    REMOVED = "removed"
    DRAINING = "draining"
    CUT = "cut"
    SORRY = "sorry"
    SPARE = "spare"


@dataclass(frozen=True, slots=True)
class Note:
    """How one backend stands, with which weight, and why in a sentence; `drain` is the drain's id."""

    standing: Standing
    weight: int
    cause: str = ""
    drain: int | None = None


@dataclass(frozen=True, slots=True)
class Effective:
    """`notes` has each backend of the services that something touches now, and the sorry servers that serve;
    `note` answers for all. `profile` is the one whose weights hold."""

    table: Table
    notes: Mapping[Place, Note] = field(default_factory=dict)
    profile: Profile | None = None
    judged: Mapping[Place, Verdict] = field(default_factory=dict)

    def note(self, service: ServiceKey, backend: Backend) -> Note:
        """How this backend of the operators' table stands."""
        place = service, backend.key
        found = self.notes.get(place)
        if found is not None:
            return found
        return Note(Standing.UP if place in self.judged else Standing.UNCHECKED, backend.weight)


def effective(table: Table, traffic: Traffic, observed: Observed, *, now: float) -> Effective:
    """`now` is Unix seconds by the director's clock. A service that nothing touches comes back as the very
    same object and costs next to nothing. Services for checks on the clients' way come on top."""
    profile = profile_at(traffic.profiles, now)
    drains = [drain for drain in traffic.drains if drain.is_on(now)]
    touched = _touched(table, traffic, drains, profile, observed)
    notes: dict[Place, Note] = {}
    services = [
        _service(
            service, traffic.policies.get(service.key, _NO_POLICY), drains, profile, observed, now, notes
        )
        if service.key in touched
        else service
        for service in table
    ]
    paths = path_services(table, check_marks(table, traffic))
    if not touched and not paths:
        return Effective(table, notes, profile, observed.verdicts)
    return Effective(Table((*services, *paths)), notes, profile, observed.verdicts)


def moment(traffic: Traffic, now: float) -> tuple[object, ...]:
    """All of `now` that matters to effective() while nobody is returning: equal moments, equal answers."""
    drains = tuple((drain.id, drain.cuts(now)) for drain in traffic.drains if drain.is_on(now))
    profile = profile_at(traffic.profiles, now)
    return drains, profile.id if profile else None


def _touched(
    table: Table, traffic: Traffic, drains: list[Drain], profile: Profile | None, observed: Observed
) -> set[ServiceKey]:
    """The services in which something is not just as the operators' table says, or might not be."""
    touched = {place[0] for place, verdict in observed.verdicts.items() if not verdict.is_up}
    touched |= {place[0] for place in observed.loads}
    touched |= {place[0] for place in observed.returning}
    if profile:
        touched |= {place[0] for place in profile.weights}
    targets = [target for drain in drains for target in drain.targets]
    touched |= {target.service for target in targets if target.service}
    hosts = {target.address for target in targets if not target.service}
    if hosts:
        touched |= {
            service.key for service in table if any(backend.address in hosts for backend in service.backends)
        }
    for key, policy in traffic.policies.items():
        service = table.by_key.get(key)
        if policy.sorry and service and not any(backend.weight for backend in service.backends):
            touched.add(key)
    return touched


def profile_at(profiles: Iterable[Profile], now: float) -> Profile | None:
    """The profile whose weights hold: the pinned one, else the first in its hours."""
    profiles = tuple(profiles)
    pinned = next((profile for profile in profiles if profile.pinned), None)
    return pinned or next(
        (profile for profile in profiles if any(within(hours, now) for hours in profile.hours)), None
    )


def next_switch(profiles: Iterable[Profile], now: float) -> tuple[float, Profile | None] | None:
    """When another profile holds by its hours, or none, and which. None where nothing changes within a week:
    hours come back each week."""
    profiles = tuple(profiles)
    holds = profile_at(profiles, now)
    turns = {turn for profile in profiles for hours in profile.hours for turn in _turns(hours, now)}
    for moment in sorted(turns.union(_quarters(now)) if turns else turns):
        if moment > now and (then := profile_at(profiles, moment)) != holds:
            return moment, then
    return None


def _turns(hours: Hours, now: float) -> Iterator[float]:
    """When the hours may begin or end within a week, by the clock of their zone."""
    today = datetime.fromtimestamp(now, _zone(hours.zone))
    for days in range(9):
        for clock in (hours.begins, hours.ends):
            hour, minute = map(int, clock.split(":"))
            day = today + timedelta(days=days)
            # Where the clock is put back, it shows the same time twice.
            for fold in (0, 1):
                yield day.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=fold).timestamp()


def _quarters(now: float) -> Iterator[float]:
    """Every quarter of an hour within a week: at these days begin, and clocks are put forward or back."""
    first = now - now % 900 + 900
    return (first + 900 * number for number in range(8 * 96))


def within(hours: Hours, now: float) -> bool:
    """Whether these are the hours now. In a zone that this machine does not know, UTC counts."""
    here = datetime.fromtimestamp(now, _zone(hours.zone))
    clock = f"{here:%H:%M}"
    if hours.begins < hours.ends:
        return here.weekday() in hours.days and hours.begins <= clock < hours.ends
    if hours.begins == hours.ends:
        return here.weekday() in hours.days
    # Past midnight the hours belong to the day on which they began.
    yesterday = (here - timedelta(days=1)).weekday()
    return (here.weekday() in hours.days and clock >= hours.begins) or (
        yesterday in hours.days and clock < hours.ends
    )


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


@dataclass(frozen=True, slots=True)
class _Case:
    """One backend with all that counts for it. `base` is its weight by the profile, else by the table."""

    backend: Backend
    place: Place
    base: int
    because: str
    drain: Drain | None
    verdict: Verdict | None

    @property
    def is_down(self) -> bool:
        return self.verdict is not None and not self.verdict.is_up


def _service(
    service: Service,
    policy: Policy,
    drains: list[Drain],
    profile: Profile | None,
    observed: Observed,
    now: float,
    notes: dict[Place, Note],
) -> Service:
    cases = [_case(service.key, backend, policy, drains, profile, observed) for backend in service.backends]
    out = _allowed_out(cases, policy)
    kept = []
    for case in cases:
        note = notes[case.place] = _note(case, policy, observed, case.place in out, now)
        if note.standing not in (Standing.CUT, Standing.REMOVED):
            backend = case.backend
            kept.append(backend if note.weight == backend.weight else backend._replace(weight=note.weight))
    if policy.sorry and not any(backend.weight for backend in kept):
        sorry = policy.sorry._replace(weight=max(1, policy.sorry.weight))
        if sorry.key not in {backend.key for backend in service.backends}:
            notes[service.key, sorry.key] = Note(Standing.SORRY, sorry.weight, "no backend is in service")
            kept.append(sorry)
    if len(kept) == len(service.backends) and all(map(is_, kept, service.backends)):
        return service
    return service.with_backends(kept)


def _case(
    key: ServiceKey,
    backend: Backend,
    policy: Policy,
    drains: list[Drain],
    profile: Profile | None,
    observed: Observed,
) -> _Case:
    place = key, backend.key
    weight = profile.weights.get(place) if profile else None
    because = f"profile {profile.name}" if profile and weight is not None else ""
    verdict = observed.verdicts.get(place) if policy.check_of(place[1]) else None
    drain = _drain_of(place, drains) if drains else None
    return _Case(backend, place, backend.weight if weight is None else weight, because, drain, verdict)


def _allowed_out(cases: list[_Case], policy: Policy) -> set[Place]:
    """Of the backends that are down, those that may be taken out: the longest down first, and together with
    the drained ones no more than the policy's share. Those without weight serve nobody, so they may always
    go, and do not count."""
    serving = [case for case in cases if case.base]
    drained = sum(case.drain is not None for case in serving)
    down = sorted(
        (case.verdict.since, case.place)
        for case in serving
        if case.verdict is not None and case.is_down and case.drain is None
    )
    room = max(0, len(serving) * policy.most_out_percent // 100 - drained)
    idle = {case.place for case in cases if case.is_down and not case.base}
    return idle | {place for _, place in down[:room]}


def _note(case: _Case, policy: Policy, observed: Observed, may_go: bool, now: float) -> Note:
    drain, verdict, place = case.drain, case.verdict, case.place
    if drain is not None:
        standing = Standing.CUT if drain.cuts(now) else Standing.DRAINING
        return Note(standing, 0, f"drain {drain.id}", drain.id)
    if verdict is not None and not verdict.is_up and may_go:
        standing = Standing.REMOVED if policy.on_failure is OnFailure.REMOVE else Standing.DOWN
        return Note(standing, 0, verdict.reason)
    weight, cause = _by_load(place, case.base, policy, observed)
    cause = ", ".join(filter(None, (case.because, cause)))
    if verdict is not None and not verdict.is_up:
        share = f"down ({verdict.reason}), but at most {policy.most_out_percent} % may be taken out"
        return Note(Standing.KEPT, weight, share)
    since = observed.returning.get(place)
    if since is not None and weight and policy.ramp_s and now < since + policy.ramp_s:
        part = max(0.0, now - since) / policy.ramp_s
        said = f"{part * 100:.0f} % of its way back to {weight}"
        return Note(Standing.RETURNING, max(1, int(weight * part)), ", ".join(filter(None, (cause, said))))
    standing = Standing.UP if verdict else Standing.UNCHECKED
    return Note(standing, weight, cause)


def _by_load(place: Place, base: int, policy: Policy, observed: Observed) -> tuple[int, str]:
    percent = observed.loads.get(place)
    if policy.load is None or percent is None or not base:
        return base, ""
    if percent == 0:
        return 0, "its agent wants to be drained"
    percent = min(max(percent, policy.load.least_percent), policy.load.most_percent)
    said = "" if percent == 100 else f"load: {percent} % of {base}"
    return max(1, base * percent // 100), said


def _drain_of(place: Place, drains: list[Drain]) -> Drain | None:
    """The drain that covers the backend; of several, one that cuts."""
    found = [drain for drain in drains if any(target.covers(*place) for target in drain.targets)]
    return min(
        found, key=lambda drain: drain.cut_at if drain.cut_at is not None else float("inf"), default=None
    )
