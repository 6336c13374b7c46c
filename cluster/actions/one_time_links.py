"""One-time links: how a person comes to a password of their own. Nobody else ever sees one."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from cluster import audit
from cluster.actions.problems import Rejected
from cluster.actions.roles import judge
from cluster.actions.sessions import end_sessions
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import OneTimeLink, ServiceAccount
from cluster.permissions import grants_of_user

SPENT = "This link was used, has expired, or was replaced by a newer one. Ask an administrator for another."


def make_link(user: User) -> str:
    """The secret part of a new link, which takes the place of an older one. The caller writes it down."""
    token = secrets.token_urlsafe(32)
    expires_at = timezone.now() + timedelta(hours=settings.ONE_TIME_LINK_HOURS)
    fields = {"digest": _digest(token), "expires_at": expires_at}
    OneTimeLink.objects.update_or_create(user=user, defaults=fields)
    return token


@transaction.atomic
def reset_password(user: User, *, by: Actor, forget_second_factor: bool = False) -> str:
    """Take the password away and make a link for a new one; its secret part is returned once. Every session
    and API token of the user ends. Without their second factor, if they have lost that as well. Rejected for
    a service account, which has no password, and where `by` does not hold all that the user does: whoever has
    the link could act as them."""
    if ServiceAccount.objects.filter(user=user).exists():
        raise Rejected(Problem("", f"{user} is a service account: nobody signs in with it. Make a token."))
    judge(grants_of_user(user), by=by)
    user.set_unusable_password()
    user.save(update_fields=["password"])
    forgotten = 0
    if forget_second_factor:
        forgotten, _ = Authenticator.objects.filter(user=user).delete()
    tokens, _ = user.api_tokens.all().delete()
    token = make_link(user)
    after = {"tokens_revoked": tokens, "sessions_ended": end_sessions(user)}
    after["second_factor_forgotten"] = bool(forgotten)
    audit.record("person.reset-password", user, by=by, after=after)
    return token


def open_link(token: str) -> OneTimeLink | None:
    """The link, while it is good. Looking at it does not use it: mail programs look as well."""
    good = OneTimeLink.objects.filter(expires_at__gt=timezone.now(), user__is_active=True)
    return good.filter(digest=_digest(token)).select_related("user").first()


@transaction.atomic
def use_link(token: str, password: str, *, by: Actor) -> User:
    """Set the password that the person has chosen, after the form has judged it. Rejected where the link has
    been used meanwhile."""
    link = open_link(token)
    # Of two at once, one deletes a row and the other none.
    if link is None or not OneTimeLink.objects.filter(pk=link.pk, digest=link.digest).delete()[0]:
        raise Rejected(Problem("", SPENT))
    user = link.user
    user.set_password(password)
    user.save(update_fields=["password"])
    end_sessions(user)
    audit.record("account.set-password", user, by=by, reason="by one-time link")
    return user


def _digest(token: str) -> str:
    """SHA-256 is enough for a random text of 256 bits."""
    return hashlib.sha256(token.encode()).hexdigest()
