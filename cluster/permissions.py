"""What each role may do: the one table of roles and permissions, and the one function that answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Q

from cluster.models import Cluster, CustomRole, Job, Role, RoleBinding

Need = Literal["view", "edit", "operate", "apply", "approve", "administer", "audit"]
AnyUser = AbstractBaseUser | AnonymousUser
AnyRole = str | CustomRole

PERMISSIONS: dict[Need, str] = {
    "view": "See clusters, their numbers and what was done there.",
    "edit": "Change the draft: services, backends, health policies, imports, rolling back.",
    "operate": "Drain, set weights, use weight profiles, try checks, load kernel modules.",
    "apply": "Apply the draft, apply again, confirm and cancel.",
    "approve": "Approve changes of somebody else.",
    "administer": "Keep clusters, directors, people and their roles.",
    "audit": "Read, export and verify the whole audit log; see people and their roles.",
}
EVERY = frozenset(PERMISSIONS)
BUILT_IN: dict[str, frozenset[Need]] = {
    Role.VIEWER: frozenset({"view"}),
    Role.OPERATOR: frozenset({"view", "edit", "operate", "apply"}),
    Role.APPROVER: frozenset({"view", "approve"}),
    Role.ADMINISTRATOR: EVERY,
    Role.AUDITOR: frozenset({"view", "audit"}),
}
# What changes nothing.
READING = frozenset({"view", "audit"})


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that somebody has, in one cluster or (None) everywhere."""

    role: str
    permissions: frozenset[Need]
    cluster_id: int | None


@dataclass(frozen=True, slots=True)
class Grants:
    """All that somebody has been given; what counts is the union."""

    given: tuple[Grant, ...] = ()

    def at(self, cluster_id: int | None) -> frozenset[Need]:
        """The permissions in this cluster; without one, those that hold everywhere."""
        held = [one.permissions for one in self.given if one.cluster_id in (None, cluster_id)]
        return frozenset().union(*held)

    def limited(self, permissions: Iterable[str], cluster_id: int | None) -> Grants:
        """No more than these permissions, in no other cluster than this one if it is given."""
        kept = frozenset(permissions)
        there = [one for one in self.given if cluster_id is None or one.cluster_id in (None, cluster_id)]
        place = [one if cluster_id is None else replace(one, cluster_id=cluster_id) for one in there]
        return Grants(tuple(replace(one, permissions=one.permissions & kept) for one in place))


# Whoever acts on the machine itself, from its console or as a part of the panel.
EVERYTHING = Grants((Grant(Role.ADMINISTRATOR, EVERY, None),))


def may(user: AnyUser, needs: Need, cluster: Cluster | None = None) -> bool:
    """Whether the user may do this in the cluster; without one: everywhere."""
    return needs in grants_of(user).at(cluster.pk if cluster else None)


def grants_of(user: AnyUser) -> Grants:
    """What the user has been given; nothing for a closed account. It is read once a request: the request
    brings its own `user`, just read, and keeps the answer there."""
    known: Grants | None = getattr(user, "_grants", None)
    if known is None:
        known = grants_of_user(user) if user.is_active else Grants()
        limit(user, known)
    return known


def limit(user: Any, grants: Grants) -> None:
    """From now on this user object has these grants; for a request that came with a token."""
    user._grants = grants


def fresh_grants(user_id: int | None) -> Grants:
    """As the database says it now, with the roles of the user's groups; nothing for a closed account."""
    pk = user_id or 0
    bound = Q(user=pk, user__is_active=True) | Q(group__user=pk, group__user__is_active=True)
    return grants_from(RoleBinding.objects.filter(bound))


def grants_of_user(user: AbstractBaseUser) -> Grants:
    """As `fresh_grants`, and for a closed account what it would have if it were reopened."""
    return grants_from(RoleBinding.objects.filter(Q(user=user.pk) | Q(group__user=user.pk)))


def grants_from(bindings: Any) -> Grants:
    """One query, whatever they are bound to."""
    rows = bindings.values_list("role", "custom__name", "custom__permissions", "cluster_id").distinct()
    return Grants(
        tuple(
            Grant(custom or role, _known(listed) if custom else BUILT_IN.get(role, frozenset()), cluster_id)
            for role, custom, listed, cluster_id in rows
        )
    )


def permissions_of(role: AnyRole) -> frozenset[Need]:
    """What a role holds; nothing, where nobody knows it."""
    return _known(role.permissions) if isinstance(role, CustomRole) else BUILT_IN.get(role, frozenset())


def closed(permissions: Iterable[str]) -> list[Need]:
    """The permissions with what they are worth nothing without, in the order of the table."""
    chosen = set(permissions) | {"view"} | ({"audit"} if "administer" in permissions else set())
    return [one for one in PERMISSIONS if one in chosen]


def right_of(job: Job) -> Need:
    """The permission that a job was ordered with."""
    return next((one for one in PERMISSIONS if one == job.needs), "apply")


def may_still(user_id: int | None, needs: Need, cluster_id: int) -> bool:
    """Whether who did this once could do it now. Nobody can whose account is closed or gone."""
    return needs in fresh_grants(user_id).at(cluster_id)


def may_still_order(job: Job) -> bool:
    """Whether who ordered the job could order it now. What the panel itself and its commands order needs
    nobody's leave."""
    return job.author_id is None or may_still(job.author_id, right_of(job), job.cluster_id)


def roles_with(needs: Need) -> list[str]:
    """The names of all roles that hold a permission, built-in ones first."""
    own = [one.name for one in CustomRole.objects.all() if needs in permissions_of(one)]
    return [*(name for name, held in BUILT_IN.items() if needs in held), *own]


def givers(needs: Need) -> list[str]:
    """Up to three people who can give a role with this permission to others. Who administers by one role and
    holds the permission by another can as well, and is not looked for."""
    names = [name for name, held in BUILT_IN.items() if {"administer", needs} <= held]
    own = [one for one in CustomRole.objects.all() if {"administer", needs} <= permissions_of(one)]
    bindings = RoleBinding.objects.filter(Q(role__in=names) | Q(custom__in=own), cluster=None)
    people = User.objects.filter(is_active=True, service_account=None).filter(
        Q(role_bindings__in=bindings) | Q(groups__role_bindings__in=bindings)
    )
    return [user.get_username() for user in people.distinct().order_by("username")[:3]]


def _known(listed: Iterable[str] | None) -> frozenset[Need]:
    """A name that this version of the panel does not know gives nothing."""
    return frozenset(one for one in PERMISSIONS if one in (listed or ()))
