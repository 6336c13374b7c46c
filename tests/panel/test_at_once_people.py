"""Roles and one-time links: two who act on the same person at the same moment."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from cluster.actions import (
    one_time_links,
    people,
    roles,
)
from cluster.audit import Actor
from cluster.models import (
    Cluster,
    CustomRole,
    Role,
    RoleBinding,
)
from tests.panel.at_once import MARKS, OTTO, Other, refused
from tests.panel.at_once import an_empty_log as an_empty_log
from tests.panel.at_once import the_log_can_be_emptied as the_log_can_be_emptied
from tests.panel.conftest import ANN

pytestmark = MARKS


def _administrators() -> tuple[User, User]:
    pair = tuple(User.objects.create_user(name) for name in ("ann", "otto"))
    for user in pair:
        RoleBinding.objects.create(user=user, role=Role.ADMINISTRATOR)
    return pair[0], pair[1]


@pytest.mark.parametrize("way", ["demoted", "closed"])
def test_two_administrators_who_remove_each_other_leave_one(way: str) -> None:
    ann, otto = _administrators()

    def remove(user: User, by: Actor) -> None:
        if way == "closed":
            people.set_active(user, active=False, by=by)
        else:
            roles.take_role(user.role_bindings.get(), by=by)

    with transaction.atomic():
        remove(otto, ANN)
        other = Other(lambda: remove(ann, OTTO))
        other.until_it_waits()
    refused(other.outcome(), "last administrator")
    left = RoleBinding.objects.filter(role=Role.ADMINISTRATOR, cluster=None, user__is_active=True)
    assert [binding.user for binding in left] == [ann]


def test_the_same_role_given_twice_at_once_is_there_once(web: Cluster) -> None:
    user = User.objects.create_user("new")
    with transaction.atomic():
        roles.give_role(user, role=Role.VIEWER, cluster=web, by=ANN)
        other = Other(lambda: roles.give_role(user, role=Role.VIEWER, cluster=web, by=OTTO))
        other.until_it_waits()
    refused(other.outcome(), "has the role viewer in web already")
    assert user.role_bindings.count() == 1


def test_a_role_of_ones_own_that_is_removed_meanwhile_is_not_given(web: Cluster) -> None:
    user = User.objects.create_user("new")
    role = CustomRole.objects.create(name="deployer", permissions=["view", "apply"])
    with transaction.atomic():
        roles.remove_role(role, by=ANN)
        other = Other(lambda: roles.give_role(user, role=role, cluster=web, by=OTTO))
        other.until_it_waits()
    refused(other.outcome(), "removed the role deployer meanwhile")


def test_of_two_who_use_a_one_time_link_at_once_one_isrefused() -> None:
    user, token = people.add_person(username="new", role=Role.VIEWER, cluster=None, by=ANN)
    with transaction.atomic():
        one_time_links.use_link(token, "kettle walnut orbit", by=ANN)
        late = Other(lambda: one_time_links.use_link(token, "somebody else's words", by=OTTO))
        late.until_it_waits()
    refused(late.outcome(), "was used")
    user.refresh_from_db()
    assert user.check_password("kettle walnut orbit")


def test_a_link_used_beside_its_replacement_isrefused() -> None:
    user, token = people.add_person(username="new", role=Role.VIEWER, cluster=None, by=ANN)
    with transaction.atomic():
        newer = one_time_links.reset_password(user, by=ANN)
        late = Other(lambda: one_time_links.use_link(token, "kettle walnut orbit", by=OTTO))
        late.until_it_waits()
    refused(late.outcome(), "was used")
    user.refresh_from_db()
    assert not user.has_usable_password() and one_time_links.open_link(newer) is not None
