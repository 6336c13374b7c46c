"""What views share: the typed request, who is acting, and the answers to a poll."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_htmx.middleware import HtmxDetails

from cluster.audit import Actor
from lvsadmin.logs import current_request_id

AnyRow = TypeVar("AnyRow", bound=Model)


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


def page_of(
    request: HttpRequest, rows: QuerySet[AnyRow], *, by: str = "pk", size: int = 50
) -> tuple[list[AnyRow], dict[str, str]]:
    """A page of rows by a number that each has once, the highest first: those below `?before=`, those above
    `?after=`, else the newest; and where ui/_pager.html leads to. The last is as fast as the first."""
    before, after = page_number(request.GET.get("before")), page_number(request.GET.get("after"))
    if after and not before:
        found = list(rows.filter(**{f"{by}__gt": after}).order_by(by)[: size + 1])
        # Less than a page from the top is the top.
        if len(found) > size:
            shown = found[:size][::-1]
            newest, oldest = getattr(shown[0], by), getattr(shown[-1], by)
            return shown, {"newer_url": f"?after={newest}", "older_url": f"?before={oldest}"}
        before = 0
    below = rows.filter(**{f"{by}__lt": before}) if before else rows
    found = list(below.order_by(f"-{by}")[: size + 1])
    shown = found[:size]
    older = f"?before={getattr(shown[-1], by)}" if len(found) > size else ""
    newer = f"?after={getattr(shown[0], by) if shown else before - 1}" if before else ""
    return shown, {"newer_url": newer, "older_url": older}


def page_number(value: Any, *, default: int = 0) -> int:
    """A number from a query string, which can hold anything."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 18 else default
