"""Refusals of whoever need not be known here: written down, but no more often than wrong passwords are. A log
must not be anybody's to fill."""

from __future__ import annotations

import hashlib

from django.conf import settings
from django.core.cache import cache
from django.db.models import Model

from cluster import audit
from cluster.audit import Actor
from cluster.models import Cluster

WINDOW_S = 15 * 60
_LAST = "More of these are not written down for a quarter of an hour."


def note(
    action: str,
    target: object,
    *,
    by: Actor,
    reason: str,
    about: Model | None = None,
    cluster: Cluster | None = None,
) -> None:
    """An entry, unless this has been written down AXES_FAILURE_LIMIT times in a while, or whatever came from
    there ADDRESS_FAILURE_LIMIT times."""
    if not _counted(f"from {by.address or by.name}", most=settings.ADDRESS_FAILURE_LIMIT):
        return
    number = _counted(f"{action} {target} {by.address}", most=settings.AXES_FAILURE_LIMIT)
    if not number:
        return
    if number == settings.AXES_FAILURE_LIMIT:
        reason = f"{reason} {_LAST}"
    audit.record(action, target, by=by, about=about, cluster=cluster, result="refused", reason=reason)


def _counted(what: str, *, most: int) -> int:
    """How many there are with this one; 0 where there were enough. The while begins anew with each."""
    key = f"refused-{hashlib.sha256(what.encode()).hexdigest()[:32]}"
    count = int(cache.get(key, 0)) + 1
    if count > most:
        return 0
    cache.set(key, count, WINDOW_S)
    return count
