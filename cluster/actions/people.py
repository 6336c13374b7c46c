"""People: add, close and reopen accounts, one's own password. Roles are in roles.py, tokens in tokens.py, a
new start for whoever has lost a password in one_time_links.py."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from cluster import audit
from cluster.actions.one_time_links import make_link
from cluster.actions.problems import Rejected, judged_again
from cluster.actions.roles import columns_of, judge, judge_role, keeping_an_administrator
from cluster.actions.sessions import end_sessions
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster, OneTimeLink, RoleBinding
from cluster.permissions import AnyRole, grants_of_user


@transaction.atomic
def add_person(
    *, username: str, role: AnyRole, cluster: Cluster | None, by: Actor, password: str = ""
) -> tuple[User, str]:
    """Make an account with a role. Unless a password is given, the person sets one by a one-time link, whose
    secret part is returned once. Rejected where the name is taken, or means a part of the system in the audit
    log, and where `by` does not hold all that the role would give."""
    judge_name(username)
    judge_role(role, cluster, by=by)
    with judged_again(lambda: judge_name(username)):
        user = User.objects.create_user(username=username, password=password or None)
    RoleBinding.objects.create(user=user, cluster=cluster, **columns_of(role))
    token = "" if password else make_link(user)
    audit.record("person.add", user, by=by, cluster=cluster, after={"role": str(role)})
    return user, token


@transaction.atomic
def set_active(user: User, *, active: bool, by: Actor) -> None:
    """Close or reopen an account. Closing ends its sessions, and a link that is still open. Rejected where
    nobody would be left to administer, and where `by` does not hold all that the account does."""
    with keeping_an_administrator(user):
        judge(grants_of_user(user), by=by)
        User.objects.filter(pk=user.pk).update(is_active=active)
    user.is_active = active
    if not active:
        OneTimeLink.objects.filter(user=user).delete()
        end_sessions(user)
    audit.record("person.reopen" if active else "person.close", user, by=by)


@transaction.atomic
def set_own_password(user: User, password: str, *, by: Actor) -> None:
    """Change one's own password, after the form has asked for the old one. Every session ends; the one that
    asks begins anew."""
    user.set_password(password)
    user.save(update_fields=["password"])
    end_sessions(user)
    audit.record("account.set-password", user, by=by)


def judge_name(username: str) -> None:
    """Rejected where the name is taken, or means a part of the system in the audit log."""
    if audit.is_reserved(username):
        text = f"In the audit log, “{username}” is a part of the system. Choose another name."
        raise Rejected(Problem("username", text))
    if User.objects.filter(username__iexact=username).exists():
        raise Rejected(Problem("username", f"There is an account named {username} already."))
