"""The day before in one mail: what was done, by whom, and everything that was refused or failed."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import send_mail
from django.db.models import Count, QuerySet
from django.utils import timezone

from cluster.audit import checkpoints
from cluster.audit.entries import PANEL, record
from cluster.audit.search import find, parse
from cluster.models import AuditEntry

MOST_LINES = 50
ACTION = "audit.digest"


def send_digest(*, now: datetime | None = None) -> bool:
    """Mail yesterday's digest to LVSADMIN_AUDIT_DIGEST_TO, once; whether it did. It is meant to be called
    every hour: what the mail server refuses is tried again, and its error is the caller's."""
    day = f"{(now or timezone.now()) - timedelta(days=1):%Y-%m-%d}"
    if not settings.AUDIT_DIGEST_TO or AuditEntry.objects.filter(action=ACTION, target=day).exists():
        return False
    subject, text = digest(day)
    send_mail(subject, text, None, settings.AUDIT_DIGEST_TO)
    record(ACTION, day, by=PANEL, after={"to": settings.AUDIT_DIGEST_TO})
    return True


def digest(day: str) -> tuple[str, str]:
    """Subject and plain text for a day in UTC, such as 2026-11-05."""
    standing = checkpoints.standing()
    entries = find(AuditEntry.objects.all(), parse(f"created:{day}"), standing.head).entries
    count, bad = entries.count(), entries.exclude(result="done")
    subject = f"LVS Admin {day}: {count} audit entries, {bad.count()} refused or failed"
    if standing.broken:
        chain = f"THE LOG IS NOT WHAT WAS WRITTEN, from entry {standing.broken} Run manage.py audit_verify."
    elif standing.at:
        chain = f"The log is verified up to #{standing.sequence}, at {standing.at:%Y-%m-%d %H:%M} UTC."
    else:
        chain = "The log is not verified yet: the panel's worker does it."
    parts = [
        chain,
        _section("Refused or failed", _lines(bad)),
        _section("What was done", _counts(entries, "action")),
        _section("By whom", _counts(entries, "actor")),
        f"All of it: search the audit log for created:{day}",
    ]
    return subject, "\n\n".join(parts) + "\n"


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines or ["nothing"])])


def _counts(entries: QuerySet[AuditEntry], column: str) -> list[str]:
    counted = entries.order_by().values_list(column).annotate(count=Count("pk")).order_by("-count", column)
    lines = [f"{count:>7}  {_plain(name)}" for name, count in counted[: MOST_LINES + 1]]
    return _cut(lines, "more kinds")


def _lines(entries: QuerySet[AuditEntry]) -> list[str]:
    lines = [
        f"{entry.at:%H:%M:%S} #{entry.sequence} {_plain(entry.actor)} {entry.action} {_plain(entry.target)}"
        + (f": {_plain(entry.reason)}" if entry.reason else "")
        for entry in entries[: MOST_LINES + 1]
    ]
    return _cut(lines, "and older ones")


def _cut(lines: list[str], rest: str) -> list[str]:
    return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], f"… {rest}"]


def _plain(text: str) -> str:
    """Who fails to sign in chooses the text; it must not look like lines of ours."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
