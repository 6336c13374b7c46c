"""Sessions of a person at browsers: end one, end all but this."""

from __future__ import annotations

from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction

from cluster import audit
from cluster.audit import Actor


def end_sessions(user: User, *, but: str = "") -> int:
    """End every session of the user but the one with this key; how many there were. The caller writes it
    down."""
    found = UserSession.objects.filter(user=user).exclude(session_key=but)
    keys = list(found.values_list("session_key", flat=True))
    ended = Session.objects.filter(session_key__in=keys).delete()[0]
    found.delete()
    return ended


@transaction.atomic
def end_one(user: User, pk: int, *, by: Actor) -> None:
    """End one session of one's own; one that has ended needs no second end."""
    one = UserSession.objects.filter(user=user, pk=pk).first()
    if one is None:
        return
    Session.objects.filter(session_key=one.session_key).delete()
    one.delete()
    audit.record("session.end", user, by=by, before={"address": one.ip, "device": one.user_agent})


@transaction.atomic
def end_all(user: User, *, by: Actor) -> int:
    """End every session of somebody; how many there were. They may sign in again."""
    ended = end_sessions(user)
    audit.record("person.end-sessions", user, by=by, after={"ended": ended})
    return ended


@transaction.atomic
def end_others(user: User, *, but: str, by: Actor) -> int:
    """End every session of one's own but this one; how many there were."""
    ended = end_sessions(user, but=but)
    audit.record("session.end-others", user, by=by, after={"ended": ended})
    return ended
