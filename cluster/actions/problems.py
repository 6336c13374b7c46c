"""What an action answers when it will not do what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models

from cluster.ipvs.rules import Problem


class Rejected(Exception):
    """Nothing was written. `problems` name the fields at fault; an empty field means the whole."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(" ".join(problem.text for problem in problems))
        self.problems = problems


def values(row: models.Model, names: Sequence[str]) -> dict[str, Any]:
    """The columns of a row that the audit log shows before and after."""
    return {name: getattr(row, name) for name in names}


def save_if_unchanged(row: Any, *, seen_version: int, names: Sequence[str], by: str) -> None:
    """Write `names` of the row unless somebody saved it after `seen_version`; Rejected names who.

    A conditional update instead of a lock: the loser is told, and nothing is overwritten."""
    row.version, row.changed_by = seen_version + 1, by
    written = {name: getattr(row, name) for name in [*names, "version", "changed_by"]}
    if not type(row).objects.filter(pk=row.pk, version=seen_version).update(**written):
        now = type(row).objects.filter(pk=row.pk).first()
        who = f"{now.changed_by or 'Somebody'} has changed it" if now else "Somebody has removed it"
        state = ", ".join(f"{name} {getattr(now, name)}" for name in names) if now else ""
        text = f"{who} since you opened this form. " + (f"It now says: {state}. " if now else "")
        raise Rejected(Problem("", text + "Nothing was saved; open it again and repeat your change."))
