"""What every request gets: an id, its true address, no caching of pages, limits of its session, and the need
to sign in."""

import secrets
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlencode

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect

from lvsadmin.logs import current_request_id

Respond = Callable[[HttpRequest], HttpResponse]


def request_id(get_response: Respond) -> Respond:
    """Give the request an id of our own making; the client has no say in it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        token = current_request_id.set(secrets.token_hex(8))
        try:
            response = get_response(request)
            response["X-Request-Id"] = current_request_id.get()
            return response
        finally:
            current_request_id.reset(token)

    return middleware


def forwarded(get_response: Respond) -> Respond:
    """From our own proxy, the client is the last entry of X-Forwarded-For, which the proxy added; what stands
    before it is the client's own claim. From anybody else, the header is a claim as a whole, and so is
    X-Forwarded-Proto: both are taken away before anything looks at them."""

    def middleware(request: HttpRequest) -> HttpResponse:
        address = request.META.get("HTTP_X_FORWARDED_FOR", "")
        if not (settings.BEHIND_PROXY and _is_proxy(request.META.get("REMOTE_ADDR", ""))):
            request.META.pop("HTTP_X_FORWARDED_FOR", None)
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        elif address:
            request.META["REMOTE_ADDR"] = address.rpartition(",")[2].strip()
        return get_response(request)

    return middleware


def _is_proxy(peer: str) -> bool:
    """Nobody connects to a unix socket whom its folder does not let in; there the address is empty."""
    if not peer:
        return True
    address = ip_address(peer)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in settings.PROXY_NETWORKS)


def no_store(get_response: Respond) -> Respond:
    """Pages say what the network looks like; they must not lie in a shared cache."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.setdefault("Cache-Control", "no-store")
        return response

    return middleware


class SessionLimits:
    """End a session SESSION_COOKIE_AGE after its sign-in, however busy it is, and one that nobody has used
    for SESSION_IDLE_S. A page that polls by itself is not use."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        if not request.user.is_authenticated:
            return
        now = int(time.time())
        used_at = request.session.get("used_at", now)
        # A session from before this was kept counts from the first sight of it.
        if "signed_in_at" not in request.session:
            request.session["signed_in_at"] = now
        is_old = now - request.session["signed_in_at"] >= settings.SESSION_COOKIE_AGE
        if is_old or now - used_at > settings.SESSION_IDLE_S:
            auth.logout(request)
        elif not getattr(view, "is_poll", False) and now - request.session.get("used_at", 0) > 60:
            request.session["used_at"] = now
            key = request.session.session_key
            UserSession.objects.filter(session_key=key).update(last_seen_at=timezone.now())


class SignInRequired(LoginRequiredMiddleware):
    """As Django's, but a fragment answers with a redirect of the whole page: a sign-in form inside a
    table helps nobody."""

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Any
    ) -> HttpResponse:
        if request.htmx:  # type: ignore[attr-defined]
            came_from = request.htmx.current_url_abs_path or "/"  # type: ignore[attr-defined]
            response = HttpResponseClientRedirect(
                f"{resolve_url(self.get_login_url(view_func))}?{urlencode({'next': came_from})}"
            )
            response.status_code = 401
            return response
        return super().handle_no_permission(request, view_func)
