"""What every request gets: an id, no caching of pages, an idle limit, and the need to sign in."""

import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
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


def client_address(get_response: Respond) -> Respond:
    """Behind our own proxy, the client is the last entry of X-Forwarded-For, which the proxy added; what
    stands before it is the client's own claim. Without a proxy the header is not looked at."""

    def middleware(request: HttpRequest) -> HttpResponse:
        forwarded = request.headers.get("X-Forwarded-For", "")
        if settings.BEHIND_PROXY and forwarded:
            request.META["REMOTE_ADDR"] = forwarded.rpartition(",")[2].strip()
        return get_response(request)

    return middleware


def no_store(get_response: Respond) -> Respond:
    """Pages say what the network looks like; they must not lie in a shared cache."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.setdefault("Cache-Control", "no-store")
        return response

    return middleware


class IdleSession:
    """End a session that nobody has used for SESSION_IDLE_S. A page that polls by itself is not use."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        if not request.user.is_authenticated:
            return
        now = int(time.time())
        used_at = request.session.get("used_at", now)
        if now - used_at > settings.SESSION_IDLE_S:
            auth.logout(request)
        elif not getattr(view, "is_poll", False) and now - request.session.get("used_at", 0) > 60:
            request.session["used_at"] = now


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
