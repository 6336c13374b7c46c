"""What views share: the typed request, who is acting, and the answers to a poll."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_htmx.middleware import HtmxDetails

from cluster.audit import Actor
from lvsadmin.logs import current_request_id


class OperatorRequest(HttpRequest):
    """`acting_role` is what the user may do this by, once cluster.access has looked."""

    user: User
    acting_role: str
    htmx: HtmxDetails


def actor(request: HttpRequest) -> Actor:
    """Who is doing this, for the audit log; the role is the one that access.require found enough."""
    user = getattr(request, "user", None)
    is_known = user is not None and user.is_authenticated
    token = getattr(request, "api_token", None)
    return Actor(
        name=user.get_username() if user is not None and is_known else "anonymous",
        address=request.META.get("REMOTE_ADDR") or "",
        request_id=current_request_id.get(),
        user_id=user.pk if user is not None and is_known else None,
        role=getattr(request, "acting_role", ""),
        session=_session_print(request),
        token=token.name if token else "",
    )


def _session_print(request: HttpRequest) -> str:
    """Tells one session or token from another in the log; nobody can sign in with it."""
    if token := getattr(request, "api_token", None):
        return f"token {token.digest[:12]}"
    key = getattr(getattr(request, "session", None), "session_key", None)
    return f"session {hashlib.sha256(key.encode()).hexdigest()[:12]}" if key else ""


def poll(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Mark a fragment that pages fetch by themselves: it does not keep a session alive."""
    view.is_poll = True  # type: ignore[attr-defined]
    return view


def not_modified() -> HttpResponse:
    """htmx swaps nothing for a 204."""
    return HttpResponse(status=204)


@cache
def fixed_url(name: str) -> str:
    """The address of a page that takes no arguments. Every page has ten of them."""
    return reverse(name)


def search_text(value: Any) -> str:
    """What to look for, from a query string: bounded, and without NULs, which PostgreSQL cannot compare."""
    return str(value or "").replace("\0", "").strip()[:100]


def page_number(value: Any, *, default: int = 0) -> int:
    """A number from a query string, which can hold anything."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 18 else default
