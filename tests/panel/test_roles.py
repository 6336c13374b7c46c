"""Who gives which role to whom, and that a right that is gone signs nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from cluster import jobs
from cluster.actions import changes, drains, one_time_links, people, roles
from cluster.actions.problems import Rejected
from cluster.audit import Actor
from cluster.desired import draft_policies, draft_print, draft_table
from cluster.ipvs.traffic.policy import Target
from cluster.models import (
    AuditEntry,
    Backend,
    Cluster,
    CustomRole,
    Director,
    Job,
    Role,
    RoleBinding,
    Run,
    VirtualService,
)
from cluster.permissions import EVERY, may
from tests.panel.conftest import ANN, TalkingDirector, person, text_of


def user_with(name: str, role: str | CustomRole, cluster: Cluster | None = None) -> User:
    user = User.objects.create_user(name)
    columns: dict[str, Any] = {"custom": role} if isinstance(role, CustomRole) else {"role": role}
    RoleBinding.objects.create(user=user, cluster=cluster, **columns)
    return user


def acting(user: User) -> Actor:
    return Actor(user.get_username(), "192.0.2.1", "request-1", user.pk)


@pytest.fixture
def keeper(db: None) -> User:
    """Administers everything, but holds neither “approve” nor “apply”."""
    own = CustomRole.objects.create(name="keeper", permissions=["view", "edit", "administer", "audit"])
    user_with("root", Role.ADMINISTRATOR)
    return user_with("keeper", own)


def test_nobody_gives_what_they_do_not_have(keeper: User, web: Cluster) -> None:
    friend = User.objects.create_user("friend")
    by = acting(keeper)
    roles.give_role(friend, role=Role.AUDITOR, cluster=None, by=by)
    for role in (Role.APPROVER, Role.OPERATOR, Role.ADMINISTRATOR):
        with pytest.raises(Rejected, match="which you do not have"):
            roles.give_role(friend, role=role, cluster=web, by=by)
        with pytest.raises(Rejected, match="which you do not have"):
            people.add_person(username="puppet", role=role, cluster=None, by=by)
    assert [str(one) for one in friend.role_bindings.all()] == ["friend: auditor of all clusters"]


def test_nobody_comes_by_a_role_another_way(keeper: User) -> None:
    """By a group, by a role of one's own making, by the password or the account of somebody who has more."""
    by, friend, root = acting(keeper), User.objects.create_user("friend"), User.objects.get(username="root")
    group = Group.objects.create(name="approvers")
    RoleBinding.objects.create(group=group, role=Role.APPROVER)
    RoleBinding.objects.create(user=User.objects.create_user("closed", is_active=False), role=Role.APPROVER)
    own = CustomRole.objects.create(name="small", permissions=["view"])
    attempts = [
        lambda: roles.add_member(group, friend, by=by),
        lambda: roles.add_role(name="mine", description="", permissions=["approve"], by=by),
        lambda: roles.edit_role(own, description="", permissions=["view", "approve"], seen_version=1, by=by),
        lambda: one_time_links.reset_password(root, by=by),
        lambda: people.set_active(root, active=False, by=by),
        lambda: people.set_active(User.objects.get(username="closed"), active=True, by=by),
        lambda: roles.take_role(root.role_bindings.get(), by=by),
        lambda: roles.remove_group(group, by=by),
    ]
    before = AuditEntry.objects.count()
    for attempt in attempts:
        with pytest.raises(Rejected, match="which you do not have"):
            attempt()
    assert AuditEntry.objects.count() == before and may(root, "approve") and not may(friend, "approve")


def test_reaching_for_more_than_one_has_is_written_down(keeper: User) -> None:
    client = Client()
    client.force_login(keeper)
    friend = User.objects.create_user("friend")
    url = reverse("person-give-role", args=[friend.pk])
    page = text_of(client.post(url, {"role": "approver", "cluster": ""}))
    assert "The role approver holds “approve”, which you do not have for all clusters yourself" in page
    entry = AuditEntry.objects.first()
    assert entry and (entry.actor, entry.action, entry.target) == ("keeper", "access.refused", f"POST {url}")
    client.post(reverse("person-reset-password", args=[User.objects.get(username="root").pk]))
    assert AuditEntry.objects.filter(action="access.refused").count() == 2


def test_lists_of_people_and_groups_take_the_same_queries_for_few_and_many(ann: Client, web: Cluster) -> None:
    def asked(name: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert ann.get(reverse(name)).status_code == 200
        return len(queries)

    def some_more(prefix: str) -> None:
        group = Group.objects.create(name=prefix)
        own = CustomRole.objects.create(name=prefix, permissions=["view"])
        RoleBinding.objects.create(group=group, custom=own, cluster=web)
        for number in range(5):
            group.user_set.add(user_with(f"{prefix}{number}", own, web))

    some_more("a")
    names = ("person-list", "group-list", "role-list")
    few = [asked(name) for name in names]
    for prefix in "bcd":
        some_more(prefix)
    assert [asked(name) for name in names] == few


def test_a_role_with_administer_in_one_cluster_gives_nothing_elsewhere(web: Cluster, other: Cluster) -> None:
    local = acting(user_with("local", Role.ADMINISTRATOR, web))
    friend = User.objects.create_user("friend")
    roles.give_role(friend, role=Role.OPERATOR, cluster=web, by=local)
    for cluster in (other, None):
        with pytest.raises(Rejected, match="which you do not have"):
            roles.give_role(friend, role=Role.OPERATOR, cluster=cluster, by=local)


def test_the_last_administrator_stays_in_whatever_way_they_have_it(web: Cluster) -> None:
    group = Group.objects.create(name="admins")
    RoleBinding.objects.create(group=group, role=Role.ADMINISTRATOR)
    only = User.objects.create_user("only")
    only.groups.add(group)
    user_with("local", Role.ADMINISTRATOR, web)
    user_with("almost", CustomRole.objects.create(name="all", permissions=sorted(EVERY)))
    for attempt in (
        lambda: roles.remove_member(group, only, by=ANN),
        lambda: roles.remove_group(group, by=ANN),
        lambda: roles.take_role(group.role_bindings.get(), by=ANN),
        lambda: people.set_active(only, active=False, by=ANN),
    ):
        with pytest.raises(Rejected, match="the last administrator"):
            attempt()
    assert may(User.objects.get(username="only"), "administer")


def test_a_binding_is_of_one_holder_and_one_role(web: Cluster) -> None:
    user, group = User.objects.create_user("u"), Group.objects.create(name="g")
    own = CustomRole.objects.create(name="own")
    RoleBinding.objects.create(user=user, role="viewer")
    for columns in (
        {"user": user, "group": group, "role": "operator"},
        {"role": "operator"},
        {"user": user},
        {"user": user, "role": "operator", "custom": own},
        {"user": user, "role": "viewer"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            RoleBinding.objects.create(**columns)


def test_a_role_of_ones_own_is_made_changed_and_removed_with_what_it_does(ann: Client, web: Cluster) -> None:
    said = {"name": "Night shift", "description": "after ten", "permissions": ["operate"]}
    assert ann.post(reverse("role-new"), said).status_code == 302
    assert "There is a role night shift already" in text_of(
        ann.post(reverse("role-new"), said | {"name": "night shift"})
    )
    assert "There is a role operator already" in text_of(
        ann.post(reverse("role-new"), said | {"name": "operator"})
    )
    role = CustomRole.objects.get()
    assert role.permissions == ["view", "operate"]
    nick = user_with("nick", role, web)
    url = reverse("role-edit", args=[role.pk])
    changed = {"description": "after ten", "permissions": ["view", "apply"]}
    changed |= {"version": 1}
    page = text_of(ann.post(url, changed))
    assert "Gained: apply. Lost: operate." in page and "nick" in page
    role.refresh_from_db()
    assert role.permissions == ["view", "operate"], "looking changes nothing"
    seen = re.search(r'name="seen" value="([^"]*)"', page)
    assert seen
    # Another set than the one that was looked at is looked at again.
    assert "Gained: approve" in text_of(
        ann.post(url, changed | {"permissions": ["approve"], "seen": seen[1]})
    )
    assert ann.post(url, changed | {"seen": seen[1]}).status_code == 302
    assert may(User.objects.get(pk=nick.pk), "apply", web)
    page = text_of(ann.get(reverse("role-remove", args=[role.pk])))
    assert "nick (web)" in page
    ann.post(reverse("role-remove", args=[role.pk]))
    assert not CustomRole.objects.exists() and not may(User.objects.get(pk=nick.pk), "view", web)


def test_roles_groups_and_members_by_their_pages(ann: Client, web: Cluster) -> None:
    nick = User.objects.create_user("nick")
    ann.post(reverse("person-give-role", args=[nick.pk]), {"role": "viewer", "cluster": web.pk})
    ann.post(reverse("person-give-role", args=[nick.pk]), {"role": "approver", "cluster": ""})
    page = text_of(
        ann.post(reverse("person-give-role", args=[nick.pk]), {"role": "viewer", "cluster": web.pk})
    )
    assert "nick has the role viewer in web already" in page
    ann.post(reverse("group-new"), {"name": "netops"})
    group = Group.objects.get()
    ann.post(reverse("group-give-role", args=[group.pk]), {"role": "operator", "cluster": web.pk})
    ann.post(reverse("group-add-member", args=[group.pk]), {"person": nick.pk})
    page = text_of(ann.get(reverse("person-detail", args=[nick.pk])))
    assert "netops" in page and "operator" in page and "approver" in page
    assert "<dt>All clusters</dt><dd>view, approve</dd>" in page
    assert "<dt>web</dt><dd>view, edit, operate, apply, approve</dd>" in page
    assert may(User.objects.get(pk=nick.pk), "apply", web)
    ann.post(reverse("group-remove-member", args=[group.pk, nick.pk]))
    assert not may(User.objects.get(pk=nick.pk), "apply", web)
    ann.post(reverse("binding-take", args=[nick.role_bindings.first().pk]))  # type: ignore[union-attr]
    assert [str(one) for one in nick.role_bindings.all()] == ["nick: approver of all clusters"]


def test_an_auditor_reads_everything_and_sees_the_rest_disabled(
    service: VirtualService, backend: Backend, director: Director
) -> None:
    client = person("audrey", Role.AUDITOR)
    page = text_of(client.get(reverse("service-detail", args=[service.pk])))
    assert "Read only:" in page and "your role is auditor" in page
    assert page.count('aria-disabled="true"') >= 8 and reverse("backend-edit", args=[backend.pk]) not in page
    assert "This needs the permission “operate” in web: a role such as operator or administrator." in page
    page = text_of(client.get(reverse("person-list")))
    assert "audrey" in page and reverse("person-new") not in page and 'aria-disabled="true"' in page
    assert "role.give" not in text_of(client.get(reverse("audit-list")))
    roles.give_role(User.objects.create_user("nick"), role="viewer", cluster=None, by=ANN)
    assert "role.give" in text_of(client.get(reverse("audit-list")))


def test_a_page_asks_once_for_all_rights(otto: Client, service: VirtualService, backend: Backend) -> None:
    with CaptureQueriesContext(connection) as queries:
        otto.get(reverse("cluster-detail", args=[service.cluster_id]))
    asked = [query["sql"] for query in queries.captured_queries if "cluster_rolebinding" in query["sql"]]
    assert len(asked) == 1, asked


# A right that is gone, where an order is signed.


@pytest.fixture
def orderer(web: Cluster) -> User:
    user_with("root", Role.ADMINISTRATOR)
    return user_with("oscar", Role.OPERATOR, web)


def ordered(web: Cluster, by: User) -> Job:
    seen = draft_print(draft_table(web), draft_policies(web))
    return changes.apply(web, seen=seen, reason="a test", by=acting(by))


def send_what_is_due() -> None:
    """As if the time of the next send had come."""
    long_ago = timezone.now() - timedelta(minutes=10)
    Run.objects.update(queued_at=long_ago)
    Run.objects.exclude(sent_at=None).update(sent_at=long_ago)
    jobs.sweep()


@pytest.mark.parametrize("way", ["taken", "closed", "gone", "other cluster"])
def test_an_order_of_somebody_who_may_not_any_more_is_not_signed(
    way: str,
    web: Cluster,
    other: Cluster,
    orderer: User,
    backend: Backend,
    director: Director,
    sent: list[Any],
    talker: TalkingDirector,
) -> None:
    job = ordered(web, orderer)
    if way == "taken":
        roles.take_role(orderer.role_bindings.get(), by=ANN)
    elif way == "closed":
        people.set_active(orderer, active=False, by=ANN)
    elif way == "gone":
        orderer.delete()
    else:
        orderer.role_bindings.update(cluster=other)
    send_what_is_due()
    run = job.runs.get()
    assert sent == [] and run.status == "refused" and run.finished_at
    entry = AuditEntry.objects.get(action="run.unsigned")
    assert entry.result == "refused" and "oscar no longer has the permission “apply” in web" in entry.reason
    assert (entry.object_kind, entry.object_id) == ("job", str(job.pk))
    page = text_of(person("ann", Role.ADMINISTRATOR).get(reverse("job-detail", args=[job.pk])))
    assert "Not signed: oscar no longer has" in page and "Try again" in page
    jobs.sweep()
    assert AuditEntry.objects.filter(action="run.unsigned").count() == 1


def test_who_still_may_is_sent_again_and_the_panel_needs_nobodys_leave(
    web: Cluster,
    orderer: User,
    backend: Backend,
    director: Director,
    sent: list[Any],
    talker: TalkingDirector,
) -> None:
    ordered(web, orderer)
    send_what_is_due()
    assert len(sent) == 1
    send_what_is_due()
    assert len(sent) == 2
    orderer.delete()
    Job.objects.update(author_id=None)
    send_what_is_due()
    assert len(sent) == 3


def test_a_drain_needs_operate_when_it_is_signed_and_no_apply(
    web: Cluster, backend: Backend, director: Director, sent: list[Any], talker: TalkingDirector
) -> None:
    user_with("root", Role.ADMINISTRATOR)
    night = CustomRole.objects.create(name="night", permissions=["view", "operate"])
    nick = user_with("nick", night, web)
    talker.finish(ordered(web, user_with("oscar", Role.OPERATOR)).runs.get())
    sent.clear()
    said: dict[str, Any] = {"begins_at": None, "ends_at": None, "cut_at": None, "may_refuse_clients": True}
    drains.drain(web, [Target(address=backend.address)], reason="a test", by=acting(nick), **said)
    send_what_is_due()
    assert len(sent) == 1 and Job.objects.first().needs == "operate"  # type: ignore[union-attr]
    roles.edit_role(night, description="", permissions=["view"], seen_version=1, by=ANN)
    send_what_is_due()
    assert len(sent) == 1 and Run.objects.get(job__needs="operate").status == "refused"


def test_what_was_sent_before_may_have_been_done_and_the_director_knows_better(
    web: Cluster,
    orderer: User,
    backend: Backend,
    director: Director,
    sent: list[Any],
    talker: TalkingDirector,
) -> None:
    job = ordered(web, orderer)
    send_what_is_due()
    roles.take_role(orderer.role_bindings.get(), by=ANN)
    send_what_is_due()
    run = job.runs.get()
    assert len(sent) == 1 and run.status == "refused" and "It was sent before" in run.report["remedy"]
    talker.finish(run)
    run.refresh_from_db()
    director.refresh_from_db()
    assert run.status == "applied" and director.applied_revision == 1
