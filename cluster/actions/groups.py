"""Groups that somebody outside says a person is in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.contrib.auth.models import Group, User
from django.db import transaction

from cluster import audit
from cluster.actions.sessions import end_sessions
from cluster.audit import Actor

# (theirs, ours)
GroupMap = Sequence[tuple[str, str]]


def mapped(claimed: Collection[str], groups: GroupMap) -> set[str]:
    """The groups here that the claimed ones stand for."""
    return {ours for theirs, ours in groups if theirs in claimed}


@transaction.atomic
def set_groups(user: User, names: set[str], *, groups: GroupMap, said_by: str, by: Actor) -> None:
    """Put the person into exactly these of the mapped groups. Groups that nothing is mapped to stay."""
    managed = {ours for _, ours in groups}
    before = sorted(user.groups.filter(name__in=managed).values_list("name", flat=True))
    if before == sorted(names):
        return
    user.groups.remove(*user.groups.filter(name__in=managed - names))
    put_into(user, names)
    audit.record(
        "person.set-groups",
        user,
        by=by,
        before={"groups": before},
        after={"groups": sorted(names)},
        reason=f"said by {said_by}",
    )


@transaction.atomic
def shut_out(user: User, *, groups: GroupMap, said_by: str, by: Actor) -> None:
    """Take the person, who is in no mapped group any more, out of all of them, and end their sessions. Tokens
    lose with it what they had by those groups."""
    lost = user.groups.filter(name__in={ours for _, ours in groups})
    before = sorted(lost.values_list("name", flat=True))
    user.groups.remove(*lost)
    ended = end_sessions(user)
    if before or ended:
        audit.record(
            "person.set-groups",
            user,
            by=by,
            before={"groups": before},
            after={"groups": [], "sessions_ended": ended},
            reason=f"said by {said_by}",
        )


def put_into(user: User, names: set[str]) -> None:
    """Add the person to groups, which are made where they are missing. The caller writes it down."""
    for name in sorted(names):
        user.groups.add(Group.objects.get_or_create(name=name)[0])
