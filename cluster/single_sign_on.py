"""Signing in by an OpenID provider: whose groups let them in, and which groups that makes here."""

from __future__ import annotations

import re
import time
from typing import Any, NoReturn

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import reverse

from cluster import audit, refusals
from cluster.actions.groups import mapped, put_into, set_groups, shut_out
from cluster.http import actor


class SingleSignOnAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # django-allauth has no types
    """Whoever is in a mapped group may come in, and is made known at the first time. The provider's groups
    count anew at each sign-in."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        sociallogin.email_addresses = []  # nothing is mailed, and no address says who somebody is
        name = _name(sociallogin)
        if _is_of_two(sociallogin):
            reason = f"{settings.OIDC_NAME} spoke of two people at once. Tell an administrator of the panel."
            _refuse(request, name, reason)
        groups = _groups(sociallogin)
        if not groups:
            if sociallogin.is_existing:
                _shut_out(request, sociallogin.user)
            reason = (
                f"{settings.OIDC_NAME} knows you as {name}, and none of your groups there opens this panel."
                " Ask an administrator which group you need."
            )
            _refuse(request, name, reason)
        is_tying = sociallogin.state.get("process") == "connect"
        if request.user.is_authenticated and not is_tying:
            self._judge_age(request, name, sociallogin)
        if sociallogin.is_existing:
            set_groups(
                sociallogin.user,
                groups,
                groups=settings.OIDC_GROUPS,
                said_by=settings.OIDC_NAME,
                by=actor(request),
            )
        elif not is_tying:
            self._judge_name(request, name)

    def _judge_age(self, request: HttpRequest, name: str, sociallogin: SocialLogin) -> None:
        """Whoever is in was sent there to be asked; without this a provider that does not would send them
        back to be asked again, for ever."""
        if time.time() - shown_at(sociallogin) >= settings.CONFIRMED_FOR_S:
            reason = (
                f"{settings.OIDC_NAME} did not ask you again who you are. Sign out there, then try again."
            )
            _refuse(request, name, reason)

    def _judge_name(self, request: HttpRequest, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._@-]{1,150}", name) or audit.is_reserved(name):
            _refuse(
                request, name, f"“{name[:40]}” cannot be a user name here: letters, digits and . _ @ - can."
            )
        if User.objects.filter(username__iexact=name).exists():
            reason = (
                f"There is an account {name} here that is not tied to {settings.OIDC_NAME}. If it is yours,"
                " sign in with your password and tie them under Account."
            )
            _refuse(request, name, reason)

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        by = actor(request)
        with transaction.atomic():
            sociallogin.user.username = _name(sociallogin)
            user: User = super().save_user(request, sociallogin, form)
            names = _groups(sociallogin)
            put_into(user, names)
            after = {"groups": sorted(names), "by": settings.OIDC_NAME}
            audit.record("person.add", user, by=by, after=after, reason="first sign-in")
        return user

    def get_connect_redirect_url(self, request: HttpRequest, socialaccount: Any) -> str:
        audit.record("account.tie", request.user, by=actor(request), after={"to": settings.OIDC_NAME})
        return reverse("account")

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, **more: Any
    ) -> NoReturn:
        detail = str(exception or error or "no reason given")
        text = f"{settings.OIDC_NAME} did not sign you in: {detail[:200]}. Try again, or use a password."
        if (more.get("extra_context") or {}).get("state") is None:
            # No sign-in that this browser began, so nothing was refused, and anybody can send such answers.
            _turn_away(request, text)
        _refuse(request, "", text)


def claims(sociallogin: SocialLogin) -> dict[str, Any]:
    """What the provider says of the person, in the token and at its userinfo address."""
    said = sociallogin.account.extra_data
    return {**said.get("id_token", {}), **said.get("userinfo", {})}


def _is_of_two(sociallogin: SocialLogin) -> bool:
    """Whether token and userinfo address name different people, which the library leaves to us to look at
    (OpenID Connect Core 1.0, 5.3.2)."""
    said = sociallogin.account.extra_data
    return len({part.get("sub") for part in (said.get("id_token"), said.get("userinfo")) if part}) > 1


def shown_at(sociallogin: SocialLogin) -> float:
    """When the person last showed the provider who they are; a provider that does not say has just asked."""
    said = claims(sociallogin).get("auth_time")
    return min(time.time(), float(said)) if isinstance(said, int | float) else time.time()


def _name(sociallogin: SocialLogin) -> str:
    """Not the library's: it looks for a name at the userinfo address alone, and there Entra says none."""
    return str(claims(sociallogin).get("preferred_username") or sociallogin.account.uid)


def _groups(sociallogin: SocialLogin) -> set[str]:
    claimed = claims(sociallogin).get(settings.OIDC_GROUPS_CLAIM) or []
    return mapped([claimed] if isinstance(claimed, str) else claimed, settings.OIDC_GROUPS)


def _shut_out(request: HttpRequest, user: User) -> None:
    shut_out(user, groups=settings.OIDC_GROUPS, said_by=settings.OIDC_NAME, by=actor(request))
    if request.user == user:
        # Whoever was asked again. Django refuses to save a session that was ended beneath it.
        logout(request)


def _refuse(request: HttpRequest, name: str, reason: str) -> NoReturn:
    refusals.note("sign-in.refused", name, by=actor(request), reason=reason)
    _turn_away(request, reason)


def _turn_away(request: HttpRequest, reason: str) -> NoReturn:
    messages.error(request, reason)
    raise ImmediateHttpResponse(redirect("account" if request.user.is_authenticated else "login"))
