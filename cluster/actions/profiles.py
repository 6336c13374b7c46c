"""Weight profiles: add, edit, remove, use now, stop using. All of it goes to the directors at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import transaction

from cluster import audit, desired
from cluster.actions.changes import carry_out
from cluster.actions.problems import (
    Rejected,
    because,
    changed_since,
    judged_again,
    lock_cluster,
    require_reason,
    save_if_unchanged,
    ticketed,
    values,
)
from cluster.audit import Actor
from cluster.ipvs.formats.document import from_document
from cluster.ipvs.rules import Problem
from cluster.ipvs.state import Table
from cluster.ipvs.traffic.policy import Place
from cluster.ipvs.traffic.profile_rules import overlapping, profile_problems
from cluster.models import Cluster, WeightProfile
from cluster.seen import is_as_seen

NAMES = ("name", "position", "weights", "hours")


@dataclass(frozen=True)
class ProfileFields:
    """What operators say of a profile; the columns of WeightProfile with the same names."""

    name: str
    weights: list[dict[str, Any]]
    hours: list[dict[str, Any]] = field(default_factory=list)
    position: int = 0


@transaction.atomic
def add_profile(
    cluster: Cluster, said: ProfileFields, *, reason: str, by: Actor, ticket: str = ""
) -> WeightProfile:
    """Add a profile, which is used in its hours from now on. Rejected, as all that follow, without a reason;
    where a rule forbids it, or hours meet those of another profile with the same position."""
    require_reason(reason)
    cluster = lock_cluster(cluster)
    profile = WeightProfile(cluster=cluster, changed_by=by.name, **asdict(said))
    _judge(profile)
    with judged_again(lambda: _judge(profile)):
        profile.save()
    _tell(profile, "profile.add", reason, ticket, by, after=values(profile, NAMES))
    return profile


@transaction.atomic
def edit_profile(
    profile: WeightProfile,
    said: ProfileFields,
    *,
    seen_version: int,
    reason: str,
    by: Actor,
    ticket: str = "",
) -> None:
    """Change a profile; Rejected as for a new one, and where somebody else has changed it since."""
    require_reason(reason)
    lock_cluster(profile.cluster)
    before = values(profile, NAMES)
    for name, value in asdict(said).items():
        setattr(profile, name, value)
    _judge(profile)
    save_if_unchanged(profile, seen_version=seen_version, names=NAMES, by=by.name)
    _tell(profile, "profile.edit", reason, ticket, by, before=before, after=values(profile, NAMES))


@transaction.atomic
def remove_profile(profile: WeightProfile, *, seen: str, reason: str, by: Actor, ticket: str = "") -> None:
    """Remove a profile; where it was in use, the table's weights come back. `seen` is the mark of the page
    that showed it; Rejected, as the two that follow, where somebody else has changed it since, or was
    faster."""
    require_reason(reason)
    row = _as_seen(profile, seen)
    before = values(row, (*NAMES, "pinned"))
    WeightProfile.objects.filter(pk=row.pk).delete()
    _tell(row, "profile.remove", reason, ticket, by, before=before)


@transaction.atomic
def use_profile(profile: WeightProfile, *, seen: str, reason: str, by: Actor, ticket: str = "") -> None:
    """Pin the profile: its weights hold until somebody stops it. Another pinned one is not any more."""
    require_reason(reason)
    row = _as_seen(profile, seen)
    if row.pinned:
        raise Rejected(Problem("", f"{row} is in use by hand already. Nothing was done."))
    others = row.cluster.profiles.filter(pinned=True)
    before, after = {"pinned": [str(other) for other in others]}, {"pinned": [row.name]}
    others.update(pinned=False)
    WeightProfile.objects.filter(pk=row.pk).update(pinned=True)
    _tell(row, "profile.use", reason, ticket, by, before=before, after=after)


@transaction.atomic
def stop_profile(profile: WeightProfile, *, seen: str, reason: str, by: Actor, ticket: str = "") -> None:
    """Pin it no longer: profiles go by their hours again."""
    require_reason(reason)
    row = _as_seen(profile, seen)
    if not row.pinned:
        raise Rejected(Problem("", f"{row} is not in use by hand. Nothing was done."))
    WeightProfile.objects.filter(pk=row.pk).update(pinned=False)
    before: dict[str, Any] = {"pinned": [row.name]}
    _tell(row, "profile.stop", reason, ticket, by, before=before, after={"pinned": []})


def tables(cluster: Cluster) -> Sequence[Table]:
    """Those whose backends a profile may name: of the newest revision, if there is one, and of the draft."""
    newest = cluster.revisions.first()
    applied = [from_document(newest.table)] if newest else []
    return [*applied, desired.draft_table(cluster)]


def _as_seen(profile: WeightProfile, seen: str) -> WeightProfile:
    """The row as it is now, with its cluster locked; Rejected where it is not what the page showed."""
    lock_cluster(profile.cluster)
    row = WeightProfile.objects.filter(pk=profile.pk).select_related("cluster").first()
    if row is None:
        raise Rejected(Problem("", f"Somebody has removed {profile} meanwhile."))
    if not is_as_seen(row, seen):
        raise changed_since(row)
    return row


def _judge(profile: WeightProfile) -> None:
    try:
        value = desired.profile_value(profile)
    except ValueError as error:
        raise Rejected(Problem("", f"This is no profile: {error}")) from None
    known: set[Place] = {
        (service.key, backend.key)
        for table in tables(profile.cluster)
        for service in table
        for backend in service.backends
    }
    problems = list(profile_problems(value, known))
    others = list(profile.cluster.profiles.exclude(pk=profile.pk))
    if any(other.name == profile.name for other in others):
        text = f"{profile.cluster} has a profile {profile} already. Choose another name, or edit that one."
        problems.append(Problem("name", text))
    for other in others if not problems else ():
        same = other.position == profile.position
        if same and overlapping(value, desired.profile_value(other), now=time.time()):
            text = f"Its hours meet those of {other}. Give it another number: the lower one counts then."
            problems.append(Problem("position", text))
    if problems:
        raise Rejected(*problems)


def _tell(
    profile: WeightProfile,
    action: str,
    reason: str,
    ticket: str,
    by: Actor,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """To the directors, and last to the audit log."""
    verb = action.partition(".")[2]
    told = because(f"profile {profile} {verb}", reason)
    job = carry_out(profile.cluster, reason=told, ticket=ticket, by=by)
    more = ({"job": job.pk} if job else {}) | ticketed(ticket)
    after = {**(after or {}), **more} if more else after
    audit.record(action, profile, by=by, cluster=profile.cluster, before=before, after=after, reason=reason)
