"""Passwords of an LDAP directory: whose groups let them in. Only a panel that is told of one loads this."""

from __future__ import annotations

from typing import Any, NoReturn

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django_auth_ldap.backend import LDAPBackend

from cluster import audit
from cluster.actions.groups import mapped, put_into, set_groups, shut_out
from cluster.audit import Actor
from cluster.http import actor

TIED = "ldap"  # the provider of the row that says whose account this is


class Directory(LDAPBackend):  # type: ignore[misc]  # django-auth-ldap has no types
    """Asked after the panel's own passwords. Once the directory has accepted a password, what else stands in
    the way is said."""

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[User, bool]:
        """The password is right. Somebody in no mapped group, or with the name of another account, stays
        outside; somebody new is made known."""
        names = mapped(ldap_user.group_names, settings.LDAP_GROUPS)
        by, said_by = actor(ldap_user._request), settings.LDAP_NAME
        user = User.objects.filter(username__iexact=username).first()
        is_tied = user is not None and SocialAccount.objects.filter(user=user, provider=TIED).exists()
        if not names:
            if user is not None and is_tied:
                shut_out(user, groups=settings.LDAP_GROUPS, said_by=said_by, by=by)
                if ldap_user._request.user == user:
                    # Whoever was asked again. Django refuses to save a session that was ended beneath it, and
                    # the page that says why still needs its user.
                    ldap_user._request.session.flush()
            _refuse(f"none of your groups in {said_by} opens this panel")
        if user is None and not audit.is_reserved(username):
            return _made_known(username, ldap_user.dn, names, by=by), False
        if user is None or not is_tied:
            _refuse(f"the name {username} belongs to an account that {said_by} does not keep")
        set_groups(user, names, groups=settings.LDAP_GROUPS, said_by=said_by, by=by)
        return user, False

    def get_user(self, user_id: int) -> User | None:
        """As for all others: nobody whose account is closed."""
        user = ModelBackend().get_user(user_id)
        return user if isinstance(user, User) else None


@transaction.atomic
def _made_known(username: str, dn: str, names: set[str], *, by: Actor) -> User:
    user = User.objects.create_user(username=username)
    SocialAccount.objects.create(user=user, provider=TIED, uid=dn[:191])
    put_into(user, names)
    after = {"groups": sorted(names), "by": settings.LDAP_NAME}
    audit.record("person.add", user, by=by, after=after, reason="first sign-in")
    return user


def _refuse(why: str) -> NoReturn:
    raise ValidationError(f"Your password is right, but {why}. Ask an administrator.")
