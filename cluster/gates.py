"""What stands between a signed-in person and a page: the second factor that their role needs, and saying once
more who they are before what cannot be undone."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.reauthentication import suspend_request
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import auth
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from cluster import access

# The key in a session: it was opened with a second factor, or has got one since.
SECOND_FACTOR = "second_factor"

# By the name of the URL. What is gone for good, what lets somebody in, what takes the log out of the house,
# and what loosens a control: approvals are lowered in the form of the cluster.
CONFIRM_FIRST = frozenset(
    {
        "cluster-edit",
        "cluster-enforce",
        "cluster-remove",
        "service-remove",
        "backend-remove",
        "profile-remove",
        "draft-discard",
        "cluster-import",
        "revision-roll-back",
        "drain-cut",
        "director-enrol",
        "director-release",
        "person-new",
        "person-give-role",
        "person-set-active",
        "person-reset-password",
        "person-token-new",
        "service-account-new",
        "binding-take",
        "group-new",
        "group-remove",
        "group-give-role",
        "group-add-member",
        "group-remove-member",
        "role-new",
        "role-edit",
        "role-remove",
        "token-new",
        "audit-export",
    }
)
# A form of so many characters waits for its sender to come back from the provider.
MOST_KEPT = 100_000
_SENT = "sent-{}"
# What somebody who has to enrol can still open.
OPEN_WHILE_ENROLLING = frozenset(
    {
        "mfa_index",
        "mfa_list_webauthn",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "mfa_view_recovery_codes",
        "account_reauthenticate",
        "logout",
        "healthz",
    }
)


class Gates:
    """The middleware. It asks the database nothing of a session that has its second factor."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if not request.user.is_authenticated or request.resolver_match is None:
            return None
        name = request.resolver_match.url_name
        # Pages say so as well.
        request.must_enrol = must_enrol(request)  # type: ignore[attr-defined]
        if name not in OPEN_WHILE_ENROLLING and request.must_enrol:  # type: ignore[attr-defined]
            if is_mfa_enabled(request.user):  # enrolled elsewhere, or before this was asked for
                auth.logout(request)
                return _whole_page(request, reverse("login"))
            return _whole_page(request, reverse("mfa_index"))
        if name in CONFIRM_FIRST and not _is_small(request, name) and not is_confirmed(request):
            return _ask_again(request)
        return None


def _is_small(request: HttpRequest, name: str) -> bool:
    """To look at what a draft would become is free, and one object of it is taken back with one click, again
    and again; all that nobody has applied is another matter."""
    if name == "draft-discard":
        return "item" in request.POST
    if name == "cluster-import":
        return "take" not in request.POST or "replace" not in request.POST
    return name == "revision-roll-back" and request.method == "GET"


def must_enrol(request: HttpRequest) -> bool:
    """Whether the role needs a second factor and this session has none."""
    if not settings.SECOND_FACTOR_REQUIRED or request.session.get(SECOND_FACTOR):
        return False
    return access.writes(request.user)


def is_confirmed(request: HttpRequest) -> bool:
    """Whether the person has shown a password, code or key within CONFIRMED_FOR_S, here or at the provider. A
    new session is no sign of it: the provider may have remembered them."""
    shown: list[float] = [record["at"] for record in get_authentication_records(request, request.user)]
    latest = max(shown, default=float(request.session.get("signed_in_at", 0)))
    return bool(time.time() - latest < settings.CONFIRMED_FOR_S)


def _ask_again(request: HttpRequest) -> HttpResponse:
    """By what the person has here, else by the provider that they come from."""
    if methods := get_adapter().get_reauthentication_methods(request.user):
        asked: HttpResponse = suspend_request(request, methods[0]["url"])
        return asked
    if not settings.OIDC_URL:  # who let them in is not asked any more
        auth.logout(request)
        return redirect("login")
    back = request.get_full_path() if request.method == "GET" else _kept(request)
    query = {"next": back, "auth_params": "prompt=login"}
    return redirect(f"{reverse('openid_connect_login', args=['oidc'])}?{urlencode(query)}")


def _kept(request: HttpRequest) -> str:
    """Where the person finds the form that they sent: the provider's answer begins a new session, which knows
    nothing of it. Files are not kept."""
    fields = [
        (name, value)
        for name, values in request.POST.lists()
        for value in values
        if name != "csrfmiddlewaretoken"
    ]
    if sum(len(name) + len(value) for name, value in fields) > MOST_KEPT:
        return reverse("go-on", args=["too-large"])
    key = secrets.token_urlsafe(16)
    sent = {"user": request.user.pk, "path": request.get_full_path(), "fields": fields}
    cache.set(_SENT.format(key), sent, settings.CONFIRMED_FOR_S)
    return reverse("go-on", args=[key])


def kept(request: HttpRequest, key: str) -> dict[str, Any] | None:
    """The `path` and the `fields` of a form that this person sent before they were asked who they are; None
    where it is not kept any more, and for everybody else."""
    sent: dict[str, Any] | None = cache.get(_SENT.format(key))
    return sent if sent is not None and sent["user"] == request.user.pk else None


def _whole_page(request: HttpRequest, url: str) -> HttpResponse:
    """A redirect that takes the page with it where a fragment of it asked."""
    if getattr(request, "htmx", False):
        response = HttpResponseClientRedirect(url)
        response.status_code = 403
        return response
    return redirect(url)
