"""A page that asks before it acts: what it carries, and what somebody else did since it was opened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster import seen
from cluster.http import OperatorRequest
from cluster.models import AuditEntry
from cluster.views.audit import changed_rows


@dataclass(frozen=True)
class AskedAgain:
    """`mark` is what the page carries from here on. `is_changed`: what was sent is of a page that showed
    something else, so nothing may be done; `since` is who did what to it, newest first, and `who` and `at`
    of the newest, where the log does not say by the row itself."""

    mark: str
    sent: str
    is_changed: bool
    since: list[tuple[AuditEntry, list[tuple[str, Any, Any]]]]
    who: str
    at: datetime | None


def asked_again(request: OperatorRequest, row: seen.Row) -> AskedAgain:
    """For a page about this row, which was read just now."""
    mark, sent = seen.mark_of(row), request.POST.get("seen", "")
    is_changed = request.method == "POST" and not seen.is_as_seen(row, sent)
    entries = seen.since(row, sent) if is_changed else []
    who, at = (entries[0].actor, entries[0].at) if entries else (row.changed_by, row.changed_at)
    return AskedAgain(mark, sent, is_changed, [(one, changed_rows(one)) for one in entries], who, at)
