"""The audit log: newest first, with filters in the URL."""

from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from cluster import access
from cluster.http import OperatorRequest, page_number, search_text
from cluster.models import AuditEntry

PER_PAGE = 50


@require_GET
def audit_list(request: OperatorRequest) -> HttpResponse:
    chosen = {name: search_text(request.GET.get(name)) for name in ("actor", "action", "target")}
    entries = _visible(request)
    if chosen["actor"]:
        entries = entries.filter(actor=chosen["actor"])
    if chosen["action"]:
        entries = entries.filter(action=chosen["action"])
    if chosen["target"]:
        words = Q(target__icontains=chosen["target"]) | Q(cluster__icontains=chosen["target"])
        entries = entries.filter(words)
    if before := page_number(request.GET.get("before")):
        entries = entries.filter(sequence__lt=before)
    page = list(entries[: PER_PAGE + 1])
    kept = {name: value for name, value in chosen.items() if value}
    older = "?" + urlencode(kept | {"before": page[PER_PAGE - 1].sequence}) if len(page) > PER_PAGE else ""
    context = {
        "entries": page[:PER_PAGE],
        "chosen": chosen,
        "is_filtered": bool(kept),
        "older_url": older,
        "newer_url": "?" + urlencode(kept) if before else "",
        "actors": _visible(request).order_by("actor").values_list("actor", flat=True).distinct()[:200],
        "actions": _visible(request).order_by("action").values_list("action", flat=True).distinct()[:200],
    }
    return render(request, "cluster/audit_list.html", context)


@require_GET
def audit_detail(request: OperatorRequest, sequence: int) -> HttpResponse:
    entry = _visible(request).filter(sequence=sequence).first()
    if entry is None:
        raise Http404("There is no such entry, or it belongs to a cluster that you have no role in.")
    return render(request, "cluster/audit_detail.html", {"entry": entry, "rows": changed_rows(entry)})


def changed_rows(entry: AuditEntry) -> list[tuple[str, Any, Any]]:
    """Name, before and after of every value that differs."""
    before, after = entry.before or {}, entry.after or {}
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    return [(name, old, new) for name, old, new in pairs if old != new]


def _visible(request: OperatorRequest) -> QuerySet[AuditEntry]:
    """Whoever may audit everywhere sees all; others see their clusters and what they did themselves."""
    if access.may(request.user, "audit"):
        return AuditEntry.objects.all()
    uuids = [str(uuid) for uuid in access.visible_clusters(request.user).values_list("uuid", flat=True)]
    return AuditEntry.objects.filter(Q(cluster_uuid__in=uuids) | Q(actor=request.user.get_username()))
