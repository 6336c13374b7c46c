"""What an action answers when it will not do what was asked, and when somebody else was faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from cluster.ipvs.rules import Problem
from cluster.models import Cluster

NEEDS_REASON = "Say why, in a few words. It is kept with the revision and in the audit log."


class Rejected(Exception):
    """Nothing was written. `problems` name the fields at fault; an empty field means the whole."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(" ".join(problem.text for problem in problems))
        self.problems = problems


class Changed(Rejected):
    """Somebody else saved the row first. Pages show their version beside one's own."""


def require_reason(reason: str) -> None:
    """Rejected without one: whatever reaches the directors is done for a reason."""
    if not reason.strip():
        raise Rejected(Problem("reason", NEEDS_REASON))


def because(what: str, reason: str) -> str:
    """What was done and why, as a revision and a job say it."""
    return f"{what}: {reason}"[:200] if reason else what


def ticketed(ticket: str) -> dict[str, str]:
    """What an entry of the audit log says of a ticket; nothing without one."""
    return {"ticket": ticket} if ticket else {}


def changed_since(row: object) -> Changed:
    """What something is to be done to is not what the page showed any more."""
    text = f"Somebody has changed {row} since you opened this page. Nothing was done; look at it again."
    return Changed(Problem("", text))


def values(row: models.Model, names: Sequence[str]) -> dict[str, Any]:
    """The columns of a row that the audit log shows before and after."""
    return {name: getattr(row, name) for name in names}


def lock_cluster(cluster: Cluster) -> Cluster:
    """The cluster as it is now, locked until the transaction ends. Whoever adds to the draft or removes from
    it, and whoever makes or sends a revision, takes turns here and reads only afterwards. Rejected where the
    cluster is gone."""
    locked = Cluster.objects.select_for_update(no_key=True).filter(pk=cluster.pk).first()
    if locked is None:
        raise Rejected(Problem("", f"Somebody has removed {cluster} meanwhile. Nothing was done."))
    return locked


@contextmanager
def judged_again(judge: Callable[[], None]) -> Iterator[None]:
    """Around a write that `judge` found free of duplicates: where somebody else wrote the same in between,
    the database refuses it, and `judge` is asked again and raises its Rejected, as if it had come later."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        judge()
        raise


def save_if_unchanged(row: Any, *, seen_version: int, names: Sequence[str], by: str) -> None:
    """Write `names` of the row unless somebody saved it after `seen_version`; Rejected names who.

    A conditional update instead of a lock: the loser is told, and nothing is overwritten."""
    row.version, row.changed_by, row.changed_at = seen_version + 1, by, timezone.now()
    written = {name: getattr(row, name) for name in [*names, "version", "changed_by", "changed_at"]}
    if not type(row).objects.filter(pk=row.pk, version=seen_version).update(**written):
        raise beaten(type(row).objects.filter(pk=row.pk).first(), names)


def beaten(now: Any, names: Sequence[str]) -> Rejected:
    """Somebody was faster at a form of these columns: who, and what they say now. None: the row is gone."""
    who = f"{now.changed_by or 'Somebody'} has changed it" if now else "Somebody has removed it"
    # Documents are for the page to show, not for a sentence.
    shown = {name: getattr(now, name) for name in names} if now else {}
    state = ", ".join(f"{name} {it}" for name, it in shown.items() if not isinstance(it, dict))
    text = f"{who} since you opened this form. " + (f"It now says: {state}. " if state else "")
    problem = Problem("", text + "Nothing was saved; open it again and repeat your change.")
    return Changed(problem) if now else Rejected(problem)
