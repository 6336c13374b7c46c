"""What became of each object where a whole draft was written anew: an entry for the history of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster import audit, desired
from cluster.audit import Actor
from cluster.draft import WITH_ITS_SERVICE
from cluster.ipvs.compare import Difference, Said, each
from cluster.ipvs.traffic.policy import Policy
from cluster.ipvs.traffic.words import check_words
from cluster.models import AuditEntry, Cluster
from cluster.models import Backend as BackendRow
from cluster.models import VirtualService as ServiceRow

Sides = tuple[dict[str, Any] | None, dict[str, Any] | None]


@dataclass(frozen=True)
class Draft:
    """A draft at one moment: what it says, and the rows that say so, by what the audit log calls them."""

    said: Said
    rows: Mapping[str, ServiceRow | BackendRow]


def draft_of(cluster: Cluster) -> Draft:
    """The draft as this object remembers it, or as it is now where it has not read it yet."""
    return Draft(desired.draft_said(cluster), desired.rows_by_target(cluster))


def entries(action: str, before: Draft, after: Draft, *, by: Actor, cluster: Cluster) -> list[AuditEntry]:
    """An entry for each object that differs: services, backends, policies, and the switches, which are the
    cluster's. What goes has name and version in `before` and no `after`: by that it comes back as the same.
    Backwards, because the log is read so: a service, and below it its backends."""
    differences = [*each(before.said, after.said), *_checks(before, after)]
    whole = {one.service for one in differences if one.noun == "service" and one.kind != "change"}
    found = []
    for one in reversed(differences):
        row = after.rows.get(one.target) or before.rows.get(one.target)
        was, now = _sides(one, row)
        goes_along = one.noun == "backend" and one.service in whole
        found.append(
            audit.entry(
                action,
                one.target,
                by=by,
                about=row if one.service else cluster,
                cluster=cluster,
                before=was,
                after=now,
                reason=WITH_ITS_SERVICE if goes_along else "",
            )
        )
    return found


def _sides(one: Difference, row: ServiceRow | BackendRow | None) -> Sides:
    was = {"what": one.noun, **{row: then for row, then, _ in one.rows}}
    now = {"what": one.noun, **{row: then for row, _, then in one.rows}}
    if row is None or one.noun not in ("service", "backend") or one.kind == "change":
        return was, now
    if one.kind == "remove":
        return was | {"name": row.name, "version": row.version}, None
    return None, now | {"name": row.name}


def _checks(before: Draft, after: Draft) -> Iterator[Difference]:
    """The checks of their own that backends had or have: of those that stay, because with the others they
    come and go."""
    for key in sorted({*before.said.policies, *after.said.policies}):
        old, new = (side.said.policies.get(key, Policy()).overrides for side in (before, after))
        for backend in sorted({*old, *new}):
            sides = (old.get(backend), new.get(backend))
            then, now = (check_words(check) if check else "the service's" for check in sides)
            one = Difference("change", "check", key, backend, (("check", then, now),))
            if then != now and one.target in before.rows and one.target in after.rows:
                yield one
