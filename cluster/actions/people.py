"""People: add, close and reopen accounts, a new password. Roles are in roles.py, tokens in tokens.py."""

from __future__ import annotations

import secrets

from django.contrib.auth.models import User
from django.db import transaction

from cluster import audit
from cluster.actions.problems import Rejected, judged_again
from cluster.actions.roles import columns_of, judge, judge_role, keeping_an_administrator
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster, RoleBinding, ServiceAccount
from cluster.permissions import AnyRole, grants_of_user


@transaction.atomic
def add_person(
    *, username: str, role: AnyRole, cluster: Cluster | None, by: Actor, password: str = ""
) -> tuple[User, str]:
    """Make an account with a role. Its password, a random one unless it is given, is returned once and kept
    nowhere. Rejected where the name is taken, or means a part of the system in the audit log, and where `by`
    does not hold all that the role would give."""
    judge_name(username)
    judge_role(role, cluster, by=by)
    password = password or secrets.token_urlsafe(15)
    with judged_again(lambda: judge_name(username)):
        user = User.objects.create_user(username=username, password=password)
    RoleBinding.objects.create(user=user, cluster=cluster, **columns_of(role))
    audit.record("person.add", username, by=by, cluster=cluster, after={"role": str(role)})
    return user, password


@transaction.atomic
def set_active(user: User, *, active: bool, by: Actor) -> None:
    """Close or reopen an account. A closed one is out at its next request. Rejected where nobody would be
    left to administer, and where `by` does not hold all that the account does."""
    with keeping_an_administrator(user):
        judge(grants_of_user(user), by=by)
        User.objects.filter(pk=user.pk).update(is_active=active)
    user.is_active = active
    audit.record("person.reopen" if active else "person.close", user, by=by)


@transaction.atomic
def reset_password(user: User, *, by: Actor) -> str:
    """Replace the password by a random one, which is returned once. Every session and API token of the user
    ends. Rejected for a service account, which has none, and where `by` does not hold all that the user
    does: whoever knows the password could act as them."""
    if ServiceAccount.objects.filter(user=user).exists():
        raise Rejected(Problem("", f"{user} is a service account: nobody signs in with it. Make a token."))
    judge(grants_of_user(user), by=by)
    password = secrets.token_urlsafe(15)
    user.set_password(password)
    user.save(update_fields=["password"])
    ended, _ = user.api_tokens.all().delete()
    audit.record("person.reset-password", user, by=by, after={"tokens_revoked": ended})
    return password


@transaction.atomic
def set_own_password(user: User, password: str, *, by: Actor) -> None:
    """Change one's own password, after the form has asked for the old one."""
    user.set_password(password)
    user.save(update_fields=["password"])
    audit.record("account.set-password", user, by=by)


def judge_name(username: str) -> None:
    """Rejected where the name is taken, or means a part of the system in the audit log."""
    if audit.is_reserved(username):
        text = f"In the audit log, “{username}” is a part of the system. Choose another name."
        raise Rejected(Problem("username", text))
    if User.objects.filter(username__iexact=username).exists():
        raise Rejected(Problem("username", f"There is an account named {username} already."))
