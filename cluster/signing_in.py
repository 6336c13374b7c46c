"""Where django-allauth asks the panel: who may sign in, what a session remembers of it, and what the audit
log says. Its settings name the two adapters."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import time
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from cluster import audit, gates, refusals
from cluster.http import actor
from cluster.single_sign_on import shown_at

logger = logging.getLogger(__name__)

# What the library would mail, by the name of the mail's template.
CHANGES = {
    "mfa/email/totp_activated": "account.second-factor-add",
    "mfa/email/totp_deactivated": "account.second-factor-remove",
    "mfa/email/webauthn_added": "account.second-factor-add",
    "mfa/email/webauthn_removed": "account.second-factor-remove",
    "mfa/email/recovery_codes_generated": "account.recovery-codes-make",
}
KINDS = {"totp": "authenticator app", "webauthn": "security key", "recovery": "recovery codes"}


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # django-allauth has no types
    """Nobody signs up; sessions and the log know what was signed in with."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "incorrect_password": "This is not your password.",
        "too_many_login_attempts": "Too many wrong codes for this account. Try again in 15 minutes.",
        "rate_limited": "Too many wrong codes for this account. Try again in 15 minutes.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """lvsadmin.middleware.forwarded has put the true one there; a unix socket has none."""
        return request.META.get("REMOTE_ADDR") or "127.0.0.1"

    def pre_login(
        self, request: HttpRequest, user: User, *, signal_kwargs: dict[str, Any] | None, **more: Any
    ) -> HttpResponse | None:
        """A sign-in by the provider is as old as what the person showed there."""
        if sociallogin := (signal_kwargs or {}).get("sociallogin"):
            get_authentication_records(request, user)[-1]["at"] = shown_at(sociallogin)
        refused: HttpResponse | None = super().pre_login(request, user, signal_kwargs=signal_kwargs, **more)
        return refused

    def login(self, request: HttpRequest, user: User) -> None:
        super().login(request, user)
        used = _methods(request, user)
        request.session["signed_in_at"] = int(time.time())
        by_provider = settings.OIDC_IS_SECOND_FACTOR and settings.OIDC_NAME in used
        is_second = by_provider or any(method in KINDS.values() for method in used)
        request.session[gates.SECOND_FACTOR] = is_second
        audit.record("sign-in", user, by=actor(request), after={"with": used})

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        refusals.note("sign-in.refused", user, by=actor(request), reason="closed account")
        messages.error(request, "This account is closed.")
        return redirect("login")

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """A password was asked for again; the sign-in page does not come here."""
        if not getattr(request, "axes_locked_out", False):
            reason = self.error_messages["incorrect_password"]
            audit.record(
                "account.confirm",
                credentials["username"],
                by=actor(request),
                about=request.user if request.user.is_authenticated else None,
                result="refused",
                reason=reason,
            )

    def get_reauthentication_methods(self, user: User) -> list[dict[str, Any]]:
        """Whose password is a directory's is asked for it as well."""
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if user.is_authenticated and not user.has_usable_password() and _has_password_elsewhere(user):
            url = reverse("account_reauthenticate")
            methods.insert(0, {"id": "reauthenticate", "description": "Use your password", "url": url})
        return methods

    def is_reauthentication_required(self, *, app: str, **more: Any) -> bool:
        return not gates.is_confirmed(context.request)

    def send_notification_mail(self, template_prefix: str, user: User, *args: Any, **more: Any) -> None:
        """Nothing is mailed; it is written down."""
        if action := CHANGES.get(template_prefix):
            kind = KINDS[template_prefix.removeprefix("mfa/email/").partition("_")[0]]
            audit.record(action, user, by=actor(self.request), after={"kind": kind})


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Names and sentences of the second factor."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": "This is not a code of now. Check the clock of the device, and try the next one."
    }

    def _get_site_name(self) -> str:
        return "LVS Admin"

    def generate_authenticator_name(self, user: User, type: str) -> str:
        return f"key {Authenticator.objects.filter(user=user, type=type).count() + 1}"

    def encrypt(self, text: str) -> str:
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """The secret; one that nobody has where the key is another than at its writing, so that no code fits
        and everybody can be helped by a new link."""
        try:
            return _cipher().decrypt(encrypted_text.encode()).decode()
        except InvalidToken:
            logger.error("a second factor was written with another key than second-factor.key has now")
            return base64.b32encode(secrets.token_bytes(20)).decode()


def _cipher() -> Fernet:
    digest = hashlib.sha256(settings.SECOND_FACTOR_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(digest))


def _has_password_elsewhere(user: User) -> bool:
    return bool(settings.LDAP_URL) and SocialAccount.objects.filter(user=user, provider="ldap").exists()


def _methods(request: HttpRequest, user: User) -> list[str]:
    """What this session has been signed in with, in words."""
    found = []
    for record in get_authentication_records(request, user):
        kind = KINDS.get(str(record.get("type", "")).partition("_")[0])
        by_provider = record["method"] == "socialaccount"
        found.append(kind or (settings.OIDC_NAME if by_provider else str(record["method"])))
    return found
