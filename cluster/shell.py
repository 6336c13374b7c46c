"""What every page shows around its content: navigation, who is signed in, and what is not well."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from cluster import access, live
from cluster.http import fixed_url
from cluster.models import Answer, AuditHead, ChangeRequest, Cluster, Director, Sweep
from cluster.permissions import grants_of

NAVIGATION = [
    ("Overview", "layout-dashboard", "overview", "o"),
    ("Clusters", "topology-star-3", "cluster-list", "c"),
    ("Directors", "server-2", "director-list", "d"),
    ("Services", "arrows-split", "service-list", "s"),
    ("Changes", "git-compare", "change-list", "h"),
    ("Jobs", "list-check", "job-list", "j"),
    ("Audit", "history", "audit-list", "a"),
]
PEOPLE = ("People", "users", "person-list", "p")
ALSO_BELOW = {"person-list": ("/people/", "/groups/", "/roles/", "/service-accounts/")}
SWEEP_IS_LATE_AFTER = timedelta(seconds=30)


def shell(request: HttpRequest) -> dict[str, Any]:
    """The context processor: `shell` for templates/base.html, and `is_administrator`."""
    user = getattr(request, "user", None)
    # A fragment has no shell around it, and a poll should not pay for one.
    if user is None or not user.is_authenticated or getattr(request, "htmx", False):
        return {}
    is_administrator = access.may(user, "administer")
    directors = list(Director.objects.only("name", "cluster_id", "announced_at", "facts"))
    counts = {
        "director-list": sum(one.is_waiting for one in directors) if is_administrator else 0,
        "change-list": _changes_to_approve(user),
    }
    shown = {
        "nav": [
            *(_entry(request, *entry, counts=counts) for entry in NAVIGATION),
            _entry(request, *PEOPLE, counts={}) | {"why": access.answer(user, "audit").why},
        ],
        "user_label": user.get_username(),
        "role_label": _role_label(user),
        "user_menu": [{"label": "Account", "icon": "key", "url": fixed_url("account")}],
        "logout_url": fixed_url("logout"),
        "banners": _banners(user, directors),
        "version": settings.VERSION,
        "server_now": time.time(),
    }
    return {"shell": shown, "is_administrator": is_administrator}


def _changes_to_approve(user: Any) -> int:
    """The open requests that wait for this person's answer."""
    name = user.get_username()
    waiting = ChangeRequest.objects.filter(status=ChangeRequest.Status.OPEN).exclude(author_name=name)
    # Their tables may be large, and are not looked at here.
    cluster_of = dict(waiting.values_list("pk", "cluster_id"))
    may_approve = [pk for pk, cluster_id in cluster_of.items() if "approve" in grants_of(user).at(cluster_id)]
    if not may_approve:
        return 0
    return len(may_approve) - Answer.objects.filter(change__in=may_approve, author_name=name).count()


def _entry(
    request: HttpRequest, label: str, icon: str, name: str, key: str, *, counts: dict[str, int]
) -> dict[str, Any]:
    url = fixed_url(name)
    active = request.path == url if url == "/" else request.path.startswith(ALSO_BELOW.get(name, url))
    return {
        "label": label,
        "icon": icon,
        "url": url,
        "active": active,
        "key": key,
        "count": counts.get(name, 0),
    }


def _role_label(user: Any) -> str:
    if role := access.role_of(user):
        return role
    given = grants_of(user).given
    names = Cluster.objects.in_bulk([one.cluster_id for one in given if one.cluster_id])
    return ", ".join(f"{one.role} of {names[one.cluster_id]}" for one in given if one.cluster_id) or "no role"


def _banners(user: Any, directors: Sequence[Director]) -> list[dict[str, str]]:
    banners = []
    if broken := AuditHead.objects.exclude(broken="").values_list("broken", flat=True).first():
        text = f"The audit log is not what was written, from entry {broken} Run manage.py audit_verify."
        banners.append({"level": "danger", "icon": "alert-triangle", "text": text})
    stand_ins = [one.name for one in directors if one.is_stand_in]
    if stand_ins:
        verb = "keeps its table" if len(stand_ins) == 1 else "keep their tables"
        text = f"No IPVS kernel: {', '.join(stand_ins[:5])} {verb} in memory. No packet is balanced there."
        banners.append({"level": "warning", "icon": "alert-triangle", "text": text})
    if not live.redis_is_up():
        text = (
            "Redis does not answer. You can go on working: changes are kept, and what you apply goes out when"
            " Redis is back. Directors keep forwarding."
        )
        banners.append({"level": "danger", "icon": "plug-off", "text": text})
    else:
        swept = Sweep.objects.filter(pk=1).first()
        if swept is None or timezone.now() - swept.at > SWEEP_IS_LATE_AFTER:
            text = "The panel's own worker does not run. Jobs will wait until it does."
            banners.append({"level": "warning", "icon": "clock", "text": text})
    if access.only_reads(user):
        text = f"Read only: you can look at things here and change nothing; your role is {_role_label(user)}."
        banners.append({"level": "info", "icon": "eye", "text": text})
    return banners
