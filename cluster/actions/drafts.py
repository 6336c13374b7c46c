"""The draft goes back: one object, all of it, or to what an older revision said."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from cluster import audit, desired
from cluster.actions.histories import Draft, draft_of, entries
from cluster.actions.problems import Rejected, lock_cluster
from cluster.actions.rows import write_draft
from cluster.audit import Actor
from cluster.draft import draft_differences
from cluster.ipvs.compare import Said, compare, without
from cluster.ipvs.formats.ipvsadm import save
from cluster.ipvs.rules import Problem, table_problems
from cluster.models import Cluster, Revision

# The audit log keeps so many lines of before and after; the draft itself has them all.
MOST_LINES = 500


@transaction.atomic
def discard(cluster: Cluster, *, item: str, seen: str, by: Actor) -> None:
    """Bring one object back to what the newest revision says; what was removed comes back, with the name that
    the audit log has of it. `item` is the id of a difference, `seen` the print of the draft that the operator
    looked at. Rejected where either is not so any more, and where another object has to go back first."""
    cluster = lock_cluster(cluster)
    draft = _seen_draft(cluster, seen)
    one = next((one for one in draft_differences(cluster) if one.id == item), None)
    if one is None:
        raise Rejected(Problem("", "The draft does not differ there any more."))
    newest = desired.revision_said(cluster.revisions.first())
    said = without(one, before=newest, after=draft)
    found = table_problems(said.table.only([one.service] if one.service else []))
    if problems := [f"{key}: {problem.text}" for key, problem in found]:
        raise Rejected(Problem("", f"It cannot go back alone. {' '.join(problems)}"))
    before = draft_of(cluster)
    _write(cluster, said, by)
    # Read anew: the rows of before are remembered in this object.
    fresh = Cluster.objects.get(pk=cluster.pk)
    if one.id in {other.id for other in draft_differences(fresh)}:
        raise Rejected(Problem("", "It cannot go back alone. Take back the backends of this service first."))
    audit.record_all(entries("draft.discard", before, draft_of(fresh), by=by, cluster=cluster))


@transaction.atomic
def discard_all(cluster: Cluster, *, seen: str, by: Actor) -> None:
    """Bring the draft back to what the newest revision says; before the first one, to nothing. Rejected where
    the draft is not the one that was `seen`."""
    cluster = lock_cluster(cluster)
    _seen_draft(cluster, seen)
    before = draft_of(cluster)
    _write(cluster, desired.revision_said(cluster.revisions.first()), by)
    record_whole("draft.discard-all", str(cluster), before, by=by, cluster=cluster)


@transaction.atomic
def roll_back(cluster: Cluster, revision: Revision, *, seen: str, by: Actor) -> None:
    """Make the draft say what an older revision says, policies included; nothing reaches a director before it
    is applied, as a new revision. Rejected where the draft is not the one that was `seen`."""
    cluster = lock_cluster(cluster)
    _seen_draft(cluster, seen)
    before = draft_of(cluster)
    _write(cluster, desired.revision_said(revision), by)
    record_whole("draft.roll-back", str(revision), before, by=by, cluster=cluster)


def _seen_draft(cluster: Cluster, seen: str) -> Said:
    draft = desired.draft_said(cluster)
    if desired.draft_print(*draft) != seen:
        raise Rejected(Problem("", "The draft has changed since you opened this page. Look at it again."))
    return draft


def _write(cluster: Cluster, said: Said, by: Actor) -> None:
    try:
        write_draft(cluster, said, by=by)
    except ValueError as error:
        raise Rejected(Problem("", str(error))) from None


def record_whole(action: str, target: str, before: Draft, *, by: Actor, cluster: Cluster) -> None:
    """That the draft was written anew: an entry for each object that is another one than `before`, and the
    last one of the whole."""
    # Read anew: the rows of before are remembered in this object.
    after = draft_of(Cluster.objects.get(pk=cluster.pk))
    was, now = _in_the_log(before.said, after.said)
    whole = audit.entry(action, target, by=by, about=cluster, cluster=cluster, before=was, after=now)
    audit.record_all([*entries(action, before, after, by=by, cluster=cluster), whole])


def _in_the_log(before: Said, after: Said) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the entry of the whole keeps: the table as lines, and of policies and switches what changed."""
    was: dict[str, Any] = {"table": save(before.table)[:MOST_LINES]}
    now: dict[str, Any] = {"table": save(after.table)[:MOST_LINES]}
    beyond = [one for one in compare(before, after) if one.noun in ("policy", "switches")]
    rows = [(f"{one.noun} of {one.target}: {name}", *sides) for one in beyond for name, *sides in one.rows]
    for name, then, said in rows[:MOST_LINES]:
        was[name], now[name] = then, said
    if len(rows) > MOST_LINES:
        now["not listed"] = len(rows) - MOST_LINES
    return was, now
