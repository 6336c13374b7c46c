"""The forms of django-allauth in the panel's clothes, with the lockout in front of every code and key.

Its views find them by the settings ACCOUNT_FORMS and MFA_FORMS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.account.forms import ReauthenticateForm
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as ReauthenticateByCodeForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from allauth.socialaccount.models import SocialAccount
from axes.handlers.proxy import AxesProxyHandler
from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.core.cache import cache

from cluster import audit
from cluster.fields import PanelForm
from cluster.http import actor

TOTP_PERIOD_S = 30


def code_field(help_text: str = "") -> forms.CharField:
    """A code of an app, or a recovery code. Phones show digits for it and offer what they have."""
    attrs = {"class": "mono", "autocomplete": "one-time-code", "spellcheck": "false", "autofocus": True}
    return forms.CharField(label="Code", max_length=32, widget=forms.TextInput(attrs), help_text=help_text)


def accept_once(user: User, code: str) -> None:
    """Refuse a code of an app that this person has used before, in every process of the panel. The library
    remembers it for one period, and accepts codes of the periods before and after as well."""
    plain = "".join(letter for letter in code if letter.isalnum()).upper()
    periods = 2 * settings.MFA_TOTP_TOLERANCE + 1
    if not cache.add(f"used-code:{user.pk}:{plain}", True, timeout=periods * TOTP_PERIOD_S):
        raise forms.ValidationError("This code was used before. Wait for the next one.")


def is_let_in_elsewhere(user: User) -> bool:
    """Whether a provider or a directory alone says if this person may come in."""
    return not user.has_usable_password() and SocialAccount.objects.filter(user=user).exists()


def guarded(user: User | str, judge: Callable[[], Any], *, action: str) -> Any:
    """What `judge` returns, unless the lockout holds; what it refuses counts as a wrong password does, and is
    written down."""
    request = context.request
    credentials = {"username": str(user)}
    if not AxesProxyHandler.is_allowed(request, credentials):
        request.axes_locked_out = True
        raise forms.ValidationError("Too many wrong codes. Try again later.")
    try:
        return judge()
    except forms.ValidationError as error:
        user_login_failed.send(sender=__name__, credentials=credentials, request=request)
        # As with passwords: once the lockout holds, a log must not be anybody's to fill.
        if not request.axes_locked_out:
            reason = " ".join(error.messages)
            audit.record(action, user, by=actor(request), result="refused", reason=reason)
        raise


class CodeForm(PanelForm, AuthenticateForm):  # type: ignore[misc]  # django-allauth has no types
    """The second step of signing in: a code of the app, or a recovery code."""

    code = code_field()
    action = "sign-in.refused"

    def clean_code(self) -> str:
        return str(guarded(self.user, self._judged, action=self.action))

    def _judged(self) -> str:
        code = str(super().clean_code())
        if self.authenticator.type == Authenticator.Type.TOTP:
            accept_once(self.user, code)
        return code


class CodeAgainForm(CodeForm, ReauthenticateByCodeForm):  # type: ignore[misc]
    """A code once more, before something that cannot be undone."""

    action = "account.confirm"

    def save(self) -> None:
        ReauthenticateByCodeForm.save(self)


class KeyForm(AuthenticateWebAuthnForm):  # type: ignore[misc]
    """The second step of signing in: what a security key answered."""

    action = "sign-in.refused"

    def clean_credential(self) -> Authenticator:
        return guarded(self.user, super().clean_credential, action=self.action)


class PasskeyForm(LoginWebAuthnForm):  # type: ignore[misc]
    """A key alone. Whose it is comes out only where it is right, and it opens no account that a provider or a
    directory lets in: that one is to be asked each time."""

    def clean_credential(self) -> Authenticator:
        return guarded("", self._judged, action="sign-in.refused")

    def _judged(self) -> Authenticator:
        found = super().clean_credential()
        if is_let_in_elsewhere(found.user):
            raise forms.ValidationError(
                "Your account has no password here. Sign in as you do without a key; it is then your second"
                " factor."
            )
        return found


class KeyAgainForm(KeyForm, ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """A key once more."""

    action = "account.confirm"


class PasswordAgainForm(PanelForm, ReauthenticateForm):  # type: ignore[misc]
    """The password once more. Its failures are counted where all passwords are."""

    password = forms.CharField(
        widget=forms.PasswordInput({"autocomplete": "current-password", "autofocus": True}),
        strip=False,
        max_length=4096,
    )


class FirstCodeForm(PanelForm, ActivateTOTPForm):  # type: ignore[misc]
    """The first code of a new app, which proves that it was set up."""

    code = code_field("The six digits that the app shows now.")

    def clean_code(self) -> str:
        code = str(super().clean_code())
        accept_once(self.user, code)
        return code


class NewKeyForm(PanelForm, AddWebAuthnForm):  # type: ignore[misc]
    """A new security key or passkey. What the browser answered is in `credential`."""

    name = forms.CharField(
        max_length=64, required=False, help_text="To tell keys apart: blue one at home, laptop."
    )
    passwordless = forms.BooleanField(
        label="It may sign in without a password (passkey)",
        required=False,
        help_text="The key then asks for its PIN or a finger each time.",
    )
    field_order = ["name", "passwordless", "credential"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if is_let_in_elsewhere(self.user):
            field = self.fields["passwordless"]
            field.disabled, field.help_text = (
                True,
                "Your account has no password here: the key is a second step.",
            )

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean() or {}
        except ValueError:
            raise forms.ValidationError("That was no answer of a key. Try again.") from None
