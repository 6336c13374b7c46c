"""Who has which role: given to people and groups and taken, groups, and roles of one's own making."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Q, QuerySet

from cluster import audit
from cluster.actions.problems import Rejected, beaten, judged_again, save_if_unchanged
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster, CustomRole, Role, RoleBinding
from cluster.permissions import (
    EVERYTHING,
    PERMISSIONS,
    AnyRole,
    Grant,
    Grants,
    closed,
    fresh_grants,
    grants_from,
    permissions_of,
)

Holder = User | Group


class Beyond(Rejected):
    """Somebody tried to give, take or rule over what they do not have themselves."""


@transaction.atomic
def give_role(holder: Holder, *, role: AnyRole, cluster: Cluster | None, by: Actor) -> RoleBinding:
    """Bind a role to a user or a group, in one cluster or everywhere. Rejected where they have it there
    already, and where `by` does not hold all that it would give."""
    judge_role(role, cluster, by=by)
    columns = columns_of(role) | {"user" if isinstance(holder, User) else "group": holder}

    def refuse_twice() -> None:
        if RoleBinding.objects.filter(cluster=cluster, **columns).exists():
            where = f"in {cluster}" if cluster else "for all clusters"
            raise Rejected(Problem("role", f"{holder} has the role {role} {where} already."))

    refuse_twice()
    with judged_again(refuse_twice):
        binding = RoleBinding.objects.create(cluster=cluster, **columns)
    audit.record("role.give", holder, by=by, cluster=cluster, after={"role": str(role)})
    return binding


@transaction.atomic
def take_role(binding: RoleBinding, *, by: Actor) -> None:
    """Take a role back; it is gone at the next request. Rejected where nobody would be left to administer,
    and where `by` does not hold all that it takes. One that is gone already needs no second end."""
    holder, role, cluster = binding.user or binding.group, binding.role_name, binding.cluster
    found = RoleBinding.objects.filter(pk=binding.pk)
    with keeping_an_administrator(holder):
        judge(grants_from(found), by=by)
        if not found.delete()[0]:
            return
    audit.record("role.take", holder, by=by, cluster=cluster, before={"role": role})


@transaction.atomic
def add_group(name: str, *, by: Actor) -> Group:
    """A group without roles and members. Rejected where there is one of this name."""

    def refuse_twice() -> None:
        if Group.objects.filter(name__iexact=name).exists():
            raise Rejected(Problem("name", f"There is a group {name} already."))

    refuse_twice()
    with judged_again(refuse_twice):
        group = Group.objects.create(name=name)
    audit.record("group.add", group, by=by)
    return group


@transaction.atomic
def remove_group(group: Group, *, by: Actor) -> None:
    """Remove a group with its roles; its members keep what they have besides. Rejected as take_role is."""
    with keeping_an_administrator(f"A member of {group}"):
        judge(grants_from(group.role_bindings.all()), by=by)
        before = {
            "members": [user.get_username() for user in group.user_set.order_by("username")],
            "roles": [str(binding) for binding in group.role_bindings.select_related("cluster", "custom")],
        }
        Group.objects.filter(pk=group.pk).delete()
    audit.record("group.remove", group, by=by, before=before)


@transaction.atomic
def add_member(group: Group, user: User, *, by: Actor) -> None:
    """The user gets the group's roles. Rejected where `by` does not hold them all."""
    judge(grants_from(group.role_bindings.all()), by=by, field="person")
    group.user_set.add(user)
    audit.record("group.add-member", group, by=by, after={"member": user.get_username()})


@transaction.atomic
def remove_member(group: Group, user: User, *, by: Actor) -> None:
    """The group's roles are gone at the user's next request. Rejected as take_role is."""
    with keeping_an_administrator(user):
        judge(grants_from(group.role_bindings.all()), by=by)
        group.user_set.remove(user)
    audit.record("group.remove-member", group, by=by, before={"member": user.get_username()})


@transaction.atomic
def add_role(*, name: str, description: str, permissions: Iterable[str], by: Actor) -> CustomRole:
    """A role of one's own making. `permissions` get what they are worth nothing without. Rejected where the
    name is taken, and where `by` does not hold them all."""

    def refuse_twice() -> None:
        taken = name.lower() in Role.values or CustomRole.objects.filter(name__iexact=name).exists()
        if taken:
            raise Rejected(Problem("name", f"There is a role {name} already."))

    columns = {"description": description, "permissions": closed(permissions), "changed_by": by.name}
    role = CustomRole(name=name, **columns)
    judge(Grants((Grant(name, permissions_of(role), None),)), by=by, field="permissions")
    refuse_twice()
    with judged_again(refuse_twice):
        role.save()
    audit.record("role.add", role, by=by, after={"permissions": role.permissions})
    return role


@transaction.atomic
def edit_role(
    role: CustomRole, *, description: str, permissions: Iterable[str], seen_version: int, by: Actor
) -> None:
    """Say anew what the role holds, for everybody who has it, from their next request on. Rejected where `by`
    does not hold what it gains or loses, and where somebody else has changed or removed it since."""
    names = ("description", "permissions")
    locked = CustomRole.objects.select_for_update().filter(pk=role.pk).first()
    # Before anything is judged: what it gains and loses is said of what was seen.
    if locked is None or locked.version != seen_version:
        raise beaten(locked, names)
    before, after = permissions_of(locked), closed(permissions)
    judge(Grants((Grant(role.name, before ^ frozenset(after), None),)), by=by, field="permissions")
    locked.description, locked.permissions = description, after
    save_if_unchanged(locked, seen_version=seen_version, names=names, by=by.name)
    said = {"permissions": closed(before)}
    audit.record("role.edit", role, by=by, before=said, after={"permissions": after})


@transaction.atomic
def remove_role(role: CustomRole, *, by: Actor) -> None:
    """Take the role from everybody who has it, and remove it. Rejected where `by` does not hold it all."""
    locked = CustomRole.objects.select_for_update().get(pk=role.pk)
    judge(Grants((Grant(role.name, permissions_of(locked), None),)), by=by)
    bindings = locked.role_bindings.select_related("user", "group", "cluster", "custom")
    before = {"permissions": locked.permissions, "roles": [str(binding) for binding in bindings]}
    locked.role_bindings.all().delete()
    locked.delete()
    audit.record("role.remove", role, by=by, before=before)


def people_with(role: CustomRole) -> Sequence[User]:
    """Everybody with an open account who has the role somewhere, through a group or not."""
    bound = Q(role_bindings__custom=role) | Q(groups__role_bindings__custom=role)
    return list(User.objects.filter(bound, is_active=True).distinct().order_by("username"))


def judge_role(role: AnyRole, cluster: Cluster | None, *, by: Actor) -> None:
    """As `judge`, for a role that is to be given. A role of one's own making is locked, so that it gains
    nothing meanwhile; Rejected where it is gone."""
    if isinstance(role, CustomRole):
        locked = CustomRole.objects.select_for_update(no_key=True).filter(pk=role.pk).first()
        if locked is None:
            raise Rejected(Problem("role", f"Somebody has removed the role {role} meanwhile."))
        role = locked
    given = Grant(str(role), permissions_of(role), cluster.pk if cluster else None)
    judge(Grants((given,)), by=by, field="role")


def columns_of(role: AnyRole) -> dict[str, Any]:
    """How a binding names the role."""
    return {"custom": role} if isinstance(role, CustomRole) else {"role": str(role)}


def judge(given: Grants, *, by: Actor, field: str = "") -> None:
    """Nobody gives what they do not have, nor takes it, nor rules over an account that has it: Beyond. Who
    acts on the machine itself has everything."""
    held = EVERYTHING if by.user_id is None else fresh_grants(by.user_id)
    for one in given.given:
        if missing := one.permissions - held.at(one.cluster_id):
            words = " and ".join(f"“{name}”" for name in PERMISSIONS if name in missing)
            where = "there" if one.cluster_id else "for all clusters"
            text = f"The role {one.role} holds {words}, which you do not have {where} yourself."
            raise Beyond(Problem(field, f"{text} Somebody who has it can do this."))


def administrators() -> QuerySet[User]:
    """The people with an open account who administer everything by the built-in role, which alone holds every
    permission there will ever be."""
    bindings = RoleBinding.objects.filter(role=Role.ADMINISTRATOR, cluster=None)
    has_it = Q(role_bindings__in=bindings) | Q(groups__role_bindings__in=bindings)
    return User.objects.filter(has_it, is_active=True, service_account=None).distinct()


@contextmanager
def keeping_an_administrator(holder: object) -> Iterator[None]:
    """Around what takes a right from `holder`: Rejected where it left nobody to administer.

    What makes administrators is locked until the transaction ends, so that two of them who take the role from
    each other at once do not both find the other one left."""
    makers = RoleBinding.objects.filter(role=Role.ADMINISTRATOR, cluster=None)
    list(makers.order_by("pk").select_for_update())
    there_was_one = administrators().exists()
    yield
    if there_was_one and not administrators().exists():
        raise Rejected(Problem("", f"{holder} is the last administrator. Make somebody else one first."))
