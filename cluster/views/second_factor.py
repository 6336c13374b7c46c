"""The second factor, and saying once more who one is: the views of django-allauth, with our manners."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from allauth.account import views as account
from allauth.mfa.base import views as base
from allauth.mfa.recovery_codes import views as codes
from allauth.mfa.totp import views as totp
from allauth.mfa.utils import is_mfa_enabled
from allauth.mfa.webauthn import views as webauthn
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from cluster import audit, gates
from cluster.http import actor

View = Callable[..., HttpResponse]


def _mannered(view: View) -> View:
    """These views answer a good form with a redirect, and a bad one with 200, which is not what it is."""

    @wraps(view)
    def mannered(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response = view(request, *args, **kwargs)
        if request.method == "POST" and response.status_code == 200:
            response.status_code = 422
        return response

    return require_http_methods(["GET", "POST"])(mannered)


def _changing(view: View) -> View:
    """As _mannered, and the session then knows whether its person has a second factor."""
    mannered = _mannered(view)

    @wraps(mannered)
    def changing(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response = mannered(request, *args, **kwargs)
        if request.method == "POST" and response.status_code == 302:
            request.session[gates.SECOND_FACTOR] = is_mfa_enabled(request.user)
        return response

    return changing


index = _mannered(base.index)
authenticate = _mannered(base.authenticate)
confirm_by_password = _mannered(account.reauthenticate)
confirm_by_code = _mannered(base.reauthenticate)
confirm_by_key = _mannered(webauthn.reauthenticate_webauthn)
sign_in_by_key = _mannered(webauthn.login_webauthn)
app_add = _changing(totp.activate_totp)
app_remove = _changing(totp.deactivate_totp)
key_add = _changing(webauthn.add_webauthn)
key_remove = _changing(webauthn.remove_webauthn)
codes_make = _mannered(codes.generate_recovery_codes)


@require_http_methods(["GET"])
def codes_view(request: HttpRequest) -> HttpResponse:
    """The codes that are left; whoever looks at them is written down."""
    response: HttpResponse = codes.view_recovery_codes(request)
    if response.status_code == 200:
        audit.record("account.recovery-codes-view", request.user, by=actor(request))
    return response
