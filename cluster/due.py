"""What the sweep does by itself because its time has come: waiting revisions and planned applies."""

from __future__ import annotations

from cluster import access
from cluster.actions import rollouts, schedules


def sweep() -> None:
    """One round. Who planned an apply must have the right to it still when it goes out."""
    rollouts.settle()
    for row in schedules.due():
        may = row.author is not None and access.may(row.author, "apply", row.cluster)
        schedules.go_out(row, refusal="" if may else f"{row.author_name} may not apply here any more")
