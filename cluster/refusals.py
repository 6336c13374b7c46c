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
_LAST_OF_ALL = "More from there, of whatever kind, is not written down for a quarter of an hour."


def note(
    action: str,
    target: object,
    *,
    by: Actor,
    reason: str,
    about: Model | None = None,
    cluster: Cluster | None = None,
) -> None:
    """An entry, unless this has been written down AXES_FAILURE_LIMIT times in a while, or there are
    ADDRESS_FAILURE_LIMIT entries of the same address. What came over Redis has no address, and each target
    counts alone: what strangers send must not hide what is sent in the name of a director."""
    here, there = f"{action} {target} {by.address}", f"from {by.address or target}"
    of_here, of_there = _counted(here) + 1, _counted(there) + 1
    if of_here > settings.AXES_FAILURE_LIMIT or of_there > settings.ADDRESS_FAILURE_LIMIT:
        return
    for what, number in ((here, of_here), (there, of_there)):
        cache.set(_key(what), number, WINDOW_S)
    if of_there == settings.ADDRESS_FAILURE_LIMIT:
        reason = f"{reason} {_LAST_OF_ALL}"
    elif of_here == settings.AXES_FAILURE_LIMIT:
        reason = f"{reason} {_LAST}"
    audit.record(action, target, by=by, about=about, cluster=cluster, result="refused", reason=reason)


def _counted(what: str) -> int:
    """How many entries there are of it; the while begins anew with each."""
    return int(cache.get(_key(what), 0))


def _key(what: str) -> str:
    return f"refused-{hashlib.sha256(what.encode(errors='replace')).hexdigest()[:32]}"
