"""Programs: service accounts, and the API tokens of people and of service accounts."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from cluster import audit
from cluster.actions.people import judge_name
from cluster.actions.problems import Rejected, judged_again
from cluster.actions.roles import judge
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import ApiToken, Cluster, ServiceAccount
from cluster.permissions import PERMISSIONS, Grants, fresh_grants

MOST_DAYS = 365
# So that a token in a log or a repository is found by whoever looks for such.
PREFIX = "lvsa_"


@transaction.atomic
def add_service_account(*, username: str, purpose: str, by: Actor) -> User:
    """The account of a program, without a role, without a password, and with no way to sign in. Rejected as
    people.add_person is."""
    judge_name(username)
    with judged_again(lambda: judge_name(username)):
        user = User.objects.create_user(username=username)
    ServiceAccount.objects.create(user=user, purpose=purpose)
    audit.record("service-account.add", user, by=by, after={"purpose": purpose})
    return user


@transaction.atomic
def create_token(
    user: User,
    *,
    name: str,
    by: Actor,
    permissions: Iterable[str] = ("view",),
    cluster: Cluster | None = None,
    days: int = 90,
) -> str:
    """Make an API token; its text is returned once, and only its digest is kept. Rejected where it would be
    more than its owner has, or more than `by` has, and where it would last longer than MOST_DAYS."""
    chosen = frozenset(one for one in PERMISSIONS if one in permissions)
    if not chosen:
        raise Rejected(Problem("permissions", "Choose at least one permission."))
    if not 1 <= days <= MOST_DAYS:
        raise Rejected(Problem("days", f"A token lasts from 1 to {MOST_DAYS} days."))
    held = fresh_grants(user.pk).limited(chosen, cluster.pk if cluster else None)
    if missing := chosen.difference(*(one.permissions for one in held.given)):
        words = ", ".join(one for one in PERMISSIONS if one in missing)
        where = f"in {cluster}" if cluster else "anywhere"
        raise Rejected(Problem("permissions", f"{user} does not have this {where}: {words}."))
    if by.user_id != user.pk:
        judge(held, by=by, field="permissions")
    text = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=user,
        name=name,
        digest=token_digest(text),
        permissions=[one for one in PERMISSIONS if one in chosen],
        cluster=cluster,
        expires_at=timezone.now() + timedelta(days=days),
    )
    after = {"permissions": token.permissions, "expires_at": token.expires_at.isoformat()}
    audit.record("token.create", token, by=by, cluster=cluster, after=after)
    return text


@transaction.atomic
def revoke_token(user: User, pk: int, *, by: Actor) -> None:
    """End a token of this user; one that is gone already needs no second end."""
    token = user.api_tokens.filter(pk=pk).select_related("user", "cluster").first()
    if token is not None:
        # A row that deletes itself forgets its id.
        ApiToken.objects.filter(pk=token.pk).delete()
        audit.record("token.revoke", token, by=by, cluster=token.cluster)


def token_digest(text: str) -> str:
    """SHA-256 is enough for a random text of 256 bits."""
    return hashlib.sha256(text.encode()).hexdigest()


def find_token(text: str) -> ApiToken | None:
    """The token of this text, with its user, if both are good now."""
    good = ApiToken.objects.filter(
        digest=token_digest(text), expires_at__gt=timezone.now(), user__is_active=True
    )
    return good.select_related("user", "cluster").first()


def why_refused(text: str) -> tuple[str, ApiToken | None]:
    """In a sentence, why `find_token` has none for this text, and the token where it is a known one."""
    if not text:
        return "no token was sent.", None
    token = ApiToken.objects.filter(digest=token_digest(text)).select_related("user", "cluster").first()
    if token is None:
        return "a token was sent that is not known here, or that was revoked.", None
    if not token.user.is_active:
        return f"the account {token.user} is closed.", token
    return f"the token ended at {token.expires_at:%F %T} UTC.", token


def grants_by(token: ApiToken) -> Grants:
    """What its user has now, as far as the token reaches."""
    return fresh_grants(token.user_id).limited(token.permissions, token.cluster_id)
