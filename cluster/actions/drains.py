"""Drains: begin one now or later, end it, move its end, cut what is left. Each reaches the directors at once,
without the draft: docs/decisions/0018.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from cluster import audit, desired, live, standing
from cluster.actions.changes import carry_out
from cluster.actions.problems import (
    Rejected,
    because,
    lock_cluster,
    require_reason,
    save_if_unchanged,
    ticketed,
    values,
)
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.traffic.document import target_to_document
from cluster.ipvs.traffic.effective import Effective, effective
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import Place, Policy, Target
from cluster.models import Cluster, Drain

TIMES = ("begins_at", "ends_at", "cut_at")
NAMES = ("targets", *TIMES)
# A form that is sent twice says "now" twice.
SENT_TWICE_WITHIN = timedelta(seconds=30)
# Who writes the minute that it is means now.
LATEST_START = timedelta(minutes=5)


@transaction.atomic
def drain(
    cluster: Cluster,
    targets: Sequence[Target],
    *,
    begins_at: datetime | None,
    ends_at: datetime | None,
    cut_at: datetime | None,
    reason: str,
    by: Actor,
    ticket: str = "",
    may_refuse_clients: bool = False,
) -> Drain:
    """No new connections for the targets from `begins_at` on, None for at once, until `ends_at`, None for
    until somebody ends it; what is left at `cut_at` is cut.

    Rejected without a reason, where nothing is covered, where something is drained already, where the times
    are in a wrong order, and, without `may_refuse_clients`, where a service would be left without a backend.
    The very same drain asked for twice by the same person is one."""
    require_reason(reason)
    # Redis is asked before the lock: nobody should wait for its deadline.
    known = known_standings(cluster)
    cluster = lock_cluster(cluster)
    row = Drain(
        cluster=cluster,
        targets=[target_to_document(target) for target in targets],
        begins_at=begins_at or timezone.now(),
        ends_at=ends_at,
        cut_at=cut_at,
        reason=reason,
        ticket=ticket,
        author_name=by.name,
        changed_by=by.name,
    )
    if (twin := _twin(row)) is not None:
        return twin
    _judge_times(row)
    if begins_at is not None and begins_at < timezone.now() - LATEST_START:
        raise Rejected(
            Problem("begins_at", "That moment is over. Choose a later one, or leave it empty for now.")
        )
    table = standing.ordered(cluster).table
    places = covered(table, targets)
    if not places:
        text = "Nothing that is applied would be drained. Apply the draft first, or choose other backends."
        raise Rejected(Problem("", text))
    if problems := [
        problem for target in targets for problem in refusals(cluster, table, target, at=row.begins_at)
    ]:
        raise Rejected(*(Problem("", text) for text in dict.fromkeys(problems)))
    if not may_refuse_clients and (alone := stranded(cluster, places, known)):
        raise Rejected(*(Problem("may_refuse_clients", text) for text in alone.values()))
    row.save()
    action = "drain.begin" if row.begins_at <= timezone.now() else "drain.plan"
    _carry_out(action, row, reason=reason, ticket=ticket, by=by, before=None, names=NAMES)
    return row


@transaction.atomic
def undrain(drain: Drain, *, reason: str, by: Actor, ticket: str = "") -> None:
    """End a drain now: its backends come back by the ramp of their service. A planned one is cancelled.
    Rejected without a reason, and where it is over already."""
    require_reason(reason)
    row = _open(drain)
    before = values(row, ("ended_at",))
    row.ended_at, row.ended_by = timezone.now(), by.name[:150]
    _save(row, "ended_at", "ended_by", by=by)
    _carry_out("drain.end", row, reason=reason, ticket=ticket, by=by, before=before, names=("ended_at",))


@transaction.atomic
def cut_now(drain: Drain, *, reason: str, by: Actor, ticket: str = "") -> None:
    """By force: what is still connected loses its backend. Rejected without a reason, before the drain has
    begun, and where it is over or was cut by force already. A deadline that is over here may not be on a
    director whose clock is late."""
    require_reason(reason)
    row, now = _open(drain), timezone.now()
    if row.begins_at > now:
        raise Rejected(Problem("", f"{row} has not begun. Nothing was cut."))
    if row.cut_by:
        raise Rejected(Problem("", f"{row} was cut already, by {row.cut_by}."))
    before = values(row, ("cut_at",))
    row.cut_at, row.cut_by = now, by.name[:150]
    _save(row, "cut_at", "cut_by", by=by)
    _carry_out("drain.cut", row, reason=reason, ticket=ticket, by=by, before=before, names=("cut_at",))


@transaction.atomic
def change_end(
    drain: Drain,
    *,
    ends_at: datetime | None,
    cut_at: datetime | None,
    seen_version: int,
    reason: str,
    by: Actor,
    ticket: str = "",
) -> None:
    """Move the end, the deadline, or both; None for none. Rejected without a reason, where it is over or was
    cut already, and where somebody else has changed it since."""
    require_reason(reason)
    row = _open(drain)
    if row.cut_at is not None and row.cut_at <= timezone.now():
        raise Rejected(Problem("", f"{row} was cut already. Undrain it to bring its backends back."))
    before = values(row, TIMES)
    row.ends_at, row.cut_at = ends_at, cut_at
    _judge_times(row)
    save_if_unchanged(row, seen_version=seen_version, names=("ends_at", "cut_at"), by=by.name)
    _carry_out("drain.change", row, reason=reason, ticket=ticket, by=by, before=before, names=TIMES)


def covered(table: Table, targets: Sequence[Target]) -> list[Place]:
    """The backends of the table that the targets cover."""
    return [
        (service.key, backend.key)
        for service in table
        for backend in service.backends
        if any(target.covers(service.key, backend.key) for target in targets)
    ]


def refusals(cluster: Cluster, table: Table, target: Target, *, at: datetime) -> list[str]:
    """Why this target cannot be drained then: it is in no applied table, or another drain has it."""
    places = covered(table, [target])
    if not places:
        return [f"{target} is in no table that was applied. Apply the draft first."]
    said = []
    for row in cluster.drains.wanted():
        other = desired.drain_value(row)
        if not other.is_on(at.timestamp()):
            continue
        taken = next((place for place in places if any(one.covers(*place) for one in other.targets)), None)
        if taken:
            service, backend = taken
            what = f"{backend} of {service} is drained already"
            said.append(f"{what}, by {row} of {row.author_name}. Undrain that first.")
    return said


def stranded(cluster: Cluster, places: Sequence[Place], known: Iterable[Effective]) -> dict[ServiceKey, str]:
    """A sentence for each service that would have no backend in service left. Who is down or drained already
    serves nobody; it is enough that one director sees it so."""
    wanted = standing.ordered(cluster)
    said: dict[ServiceKey, str] = {}
    for found in known:
        for key in dict.fromkeys(service for service, _ in places):
            serving = standing.serving(wanted.table.by_key[key], found)
            if serving and serving <= set(places):
                sorry = wanted.traffic.policies.get(key, Policy()).sorry
                instead = (
                    f"Its sorry server {sorry.key} would answer." if sorry else "Clients would be refused."
                )
                said[key] = f"{key} would have no backend in service. {instead}"
    return said


def known_standings(cluster: Cluster) -> list[Effective]:
    """How backends stand by each director that is heard; by the tables alone where none is."""
    answers = live.read(cluster.directors.all())
    fresh = {one.director.pk for one in answers.directors if not one.is_stale}
    found = [one for pk, one in standing.standings(cluster, answers).items() if pk in fresh]
    if found:
        return found
    wanted = standing.ordered(cluster)
    return [effective(wanted.table, wanted.traffic, Observed(), now=timezone.now().timestamp())]


def _judge_times(row: Drain) -> None:
    problems = []
    if row.ends_at is not None and row.ends_at <= max(row.begins_at, timezone.now()):
        text = (
            "The end must be later than the beginning, and later than now. Choose another, or leave it empty."
        )
        problems.append(Problem("ends_at", text))
    if row.cut_at is not None and row.cut_at < row.begins_at:
        problems.append(
            Problem("cut_at", "Nothing can be cut before the drain begins. Choose a later moment.")
        )
    elif row.cut_at is not None and row.cut_at <= timezone.now():
        problems.append(Problem("cut_at", "That deadline is over. Choose a later one, or cut it by force."))
    if row.cut_at is not None and row.ends_at is not None and row.cut_at >= row.ends_at:
        text = "At that moment the drain is over already. Choose an earlier deadline, or a later end."
        problems.append(Problem("cut_at", text))
    if problems:
        raise Rejected(*problems)


def _twin(row: Drain) -> Drain | None:
    """The open drain that the same person asked for with the same words: a form that was sent twice."""
    for one in row.cluster.drains.wanted().filter(author_name=row.author_name, reason=row.reason):
        moved = one.begins_at - row.begins_at
        same = one.targets == row.targets and abs(moved) < SENT_TWICE_WITHIN
        if same and all(_is_close(getattr(one, name), getattr(row, name)) for name in ("ends_at", "cut_at")):
            return one
    return None


def _is_close(one: datetime | None, other: datetime | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) < SENT_TWICE_WITHIN)


def _save(row: Drain, *names: str, by: Actor) -> None:
    """A form that was opened before does not fit any more."""
    row.version, row.changed_by = row.version + 1, by.name
    row.save(update_fields=[*names, "version", "changed_by", "changed_at"])


def _open(drain: Drain) -> Drain:
    """The row as it is now, with its cluster locked; Rejected where it is over."""
    cluster = lock_cluster(drain.cluster)
    row = cluster.drains.get(pk=drain.pk)
    if row.ended_at is not None:
        raise Rejected(Problem("", f"{row} was ended by {row.ended_by} already."))
    if row.ends_at is not None and row.ends_at <= timezone.now():
        raise Rejected(Problem("", f"{row} has ended already, as it was planned."))
    return row


def _carry_out(
    action: str,
    row: Drain,
    *,
    reason: str,
    ticket: str,
    by: Actor,
    before: dict[str, Any] | None,
    names: Sequence[str],
) -> None:
    job = carry_out(
        row.cluster, reason=because(f"{action.replace('.', ' ')} {row.pk}", reason), ticket=ticket, by=by
    )
    after = _said(values(row, names)) | ({"job": job.pk} if job else {}) | ticketed(ticket)
    audit.record(
        action,
        f"{row}: {', '.join(map(str, desired.drain_value(row).targets))}",
        by=by,
        about=row,
        cluster=row.cluster,
        before=_said(before) if before is not None else None,
        after=after,
        reason=reason,
    )


def _said(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else value
        for name, value in found.items()
    }
