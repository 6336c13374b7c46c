"""People: add, give a role, close and reopen accounts, API tokens, a new password."""

from __future__ import annotations

import hashlib
import secrets

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from cluster import audit
from cluster.actions.problems import Rejected, judged_again
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import ApiToken, Cluster, Role, RoleBinding


@transaction.atomic
def add_person(
    *, username: str, role: str, cluster: Cluster | None, by: Actor, password: str = ""
) -> tuple[User, str]:
    """Make an account with a role. Its password, a random one unless it is given, is returned once and kept
    nowhere. Rejected where the name is taken, or means a part of the system in the audit log."""
    _judge_name(username)
    password = password or secrets.token_urlsafe(15)
    with judged_again(lambda: _judge_name(username)):
        user = User.objects.create_user(username=username, password=password)
    RoleBinding.objects.create(user=user, role=role, cluster=cluster)
    audit.record("person.add", user, by=by, cluster=cluster, after={"role": role})
    return user, password


@transaction.atomic
def set_role(user: User, *, role: str, cluster: Cluster | None, by: Actor) -> None:
    """Give the user exactly this role, in this place. Rejected where nobody would be left to administer."""
    _take_turns(user)
    before = [str(binding) for binding in user.role_bindings.select_related("cluster")]
    if role != Role.ADMINISTRATOR or cluster is not None:
        _refuse_last_administrator(user)
    user.role_bindings.all().delete()
    binding = RoleBinding.objects.create(user=user, role=role, cluster=cluster)
    audit.record(
        "person.set-role",
        user,
        by=by,
        cluster=cluster,
        before={"roles": before},
        after={"roles": [str(binding)]},
    )


@transaction.atomic
def set_active(user: User, *, active: bool, by: Actor) -> None:
    """Close or reopen an account. A closed one is out at its next request."""
    _take_turns(user)
    if not active:
        _refuse_last_administrator(user)
    user.is_active = active
    user.save(update_fields=["is_active"])
    audit.record("person.reopen" if active else "person.close", user, by=by)


@transaction.atomic
def reset_password(user: User, *, by: Actor) -> str:
    """Replace the password by a random one, which is returned once. Every session and API token of the user
    ends."""
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


@transaction.atomic
def create_token(user: User, *, name: str, by: Actor) -> str:
    """Make an API token; its text is returned once, and only its digest is kept."""
    text = secrets.token_urlsafe(32)
    token = ApiToken.objects.create(user=user, name=name, digest=token_digest(text))
    audit.record("token.create", token, by=by)
    return text


@transaction.atomic
def revoke_token(user: User, pk: int, *, by: Actor) -> None:
    """End a token of this user; one that is gone already needs no second end."""
    token = user.api_tokens.filter(pk=pk).first()
    if token is not None:
        ApiToken.objects.filter(pk=pk).delete()
        audit.record("token.revoke", token, by=by)


def token_digest(text: str) -> str:
    """SHA-256 is enough for a random text of 256 bits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _judge_name(username: str) -> None:
    if audit.is_reserved(username):
        text = f"In the audit log, “{username}” is a part of the system. Choose another name."
        raise Rejected(Problem("username", text))
    if User.objects.filter(username__iexact=username).exists():
        raise Rejected(Problem("username", f"There is an account named {username} already."))


def _take_turns(user: User) -> None:
    """Lock this account and those of all administrators until the transaction ends, so that two of them who
    take the role from each other at once do not both find the other one left."""
    administrators = RoleBinding.objects.filter(role=Role.ADMINISTRATOR, cluster=None)
    accounts = User.objects.filter(Q(pk=user.pk) | Q(pk__in=administrators.values("user")))
    list(accounts.order_by("pk").select_for_update(no_key=True))


def _refuse_last_administrator(user: User) -> None:
    administrators = User.objects.filter(
        is_active=True, role_bindings__role=Role.ADMINISTRATOR, role_bindings__cluster=None
    )
    if not administrators.exclude(pk=user.pk).exists() and administrators.filter(pk=user.pk).exists():
        text = f"{user} is the last administrator. Make somebody else one first."
        raise Rejected(Problem("", text))
