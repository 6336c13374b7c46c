"""The audit log: found by words, newest first, with the search in the URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from cluster import access, audit
from cluster.actions import searches
from cluster.actions.problems import Rejected
from cluster.audit import chain, checkpoints, export, pages
from cluster.audit.search import Found, find, parse
from cluster.audit_forms import FilterForm, SearchForm
from cluster.http import OperatorRequest, actor, fixed_url, page_number
from cluster.models import AuditCheckpoint, AuditEntry, AuditHead

# What one asks first at night.
READY_MADE = [
    ("Last 24 hours", "created:24h"),
    ("Refusals", "result:refused"),
    ("Failed runs", "action:run.failed"),
    ("Applies", "action:cluster.apply"),
    ("Sign-ins refused", "action:sign-in.refused"),
    ("People and roles", "action:person.*"),
]


@require_GET
def audit_list(request: OperatorRequest) -> HttpResponse:
    search = parse(request.GET.get("q", ""))
    if any(name in request.GET for name in FilterForm.base_fields):
        written = FilterForm(request.GET).written(search)
        return redirect(_url(q=request.GET.get("q", "") if search.problems else written))
    standing, page = checkpoints.standing(), pages.Page()
    if not search.problems:
        entries, shares = access.visible_entries(request.user)
        found = find(entries, search, standing.head, shares=shares)
        before, after = (page_number(request.GET.get(name)) for name in ("before", "after"))
        page = pages.page(found, before=before, after=after)
    query = request.GET.get("q", "").strip() if search.problems else str(search)
    context = {
        "query": query,
        "search": search,
        "page": page,
        "chain": standing,
        "entries": page.entries,
        "kinds": [("csv", "CSV"), ("jsonl", "JSON")],
        "form_url": fixed_url("audit-form") + (f"?{urlencode({'q': query})}" if query else ""),
        "ready_made": [(label, _url(q=words), words == query) for label, words in READY_MADE],
        "kept": [(one, _url(q=one.query), one.query == query) for one in _kept(request)],
        "older_url": _url(q=query, before=page.older) if page.older else "",
        "newer_url": _url(q=query, after=page.newer) if page.newer else "",
        "walked_to": AuditEntry.objects.filter(sequence__gte=page.walked_to).order_by("sequence").first()
        if page.walked_to
        else None,
    }
    return render(request, "cluster/audit_list.html", context)


@require_GET
def audit_form(request: OperatorRequest) -> HttpResponse:
    """What writes the words of a search, and keeps it: a page, or the part of the list that is opened."""
    query = request.GET.get("q", "")
    clusters = [str(cluster) for cluster in access.visible_clusters(request.user)]
    context = {
        "query": query,
        "form": FilterForm.showing(parse(query), clusters=clusters),
        "save_form": SearchForm(initial={"query": query}),
    }
    name = "cluster/_audit_form.html" if request.htmx else "cluster/audit_form.html"
    return render(request, name, context)


@require_GET
def audit_detail(request: OperatorRequest, sequence: int) -> HttpResponse:
    visible, _ = access.visible_entries(request.user)
    entry = visible.filter(sequence=sequence).first()
    if entry is None:
        raise Http404("There is no such entry, or it belongs to a cluster that you have no role in.")
    context = {
        "entry": entry,
        "rows": changed_rows(entry),
        "older": visible.filter(sequence=sequence - 1).exists(),
        "newer": visible.filter(sequence=sequence + 1).exists(),
    }
    return render(request, "cluster/audit_detail.html", context)


@require_POST
def audit_export(request: OperatorRequest) -> StreamingHttpResponse | HttpResponse:
    """A POST, because that somebody took it with them is written down as well."""
    search, kind = parse(request.POST.get("q", "")), request.POST.get("kind", "")
    if search.problems or kind not in ("csv", "jsonl"):
        return redirect(_url(q=request.POST.get("q", "")))
    entries, shares = access.visible_entries(request.user)
    access.acts_by(request, "view" if shares else "audit")
    head, by, query = AuditHead.objects.get(pk=1), actor(request), str(search)
    found = find(entries, search, head, shares=shares)
    after = {"query": query, "kind": kind, "through": found.end - 1}
    written = audit.record("audit.export", "the audit log", by=by, after=after)
    lines = chain.lines(found.entries, after=found.first - 1, through=found.end - 1)
    if kind == "csv":
        content, content_type = export.as_csv(lines), "text/csv; charset=utf-8"
    else:
        content = export.as_json_lines(
            lines,
            query=query,
            by=by.name,
            at=written.at,
            **_proof(found, head, is_whole=not shares and not query),
        )
        content_type = "application/jsonl"
    name = f"audit-{written.at:%Y%m%d-%H%M%S}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)


@require_POST
def audit_save_search(request: OperatorRequest) -> HttpResponse:
    form = SearchForm(request.POST)
    query = request.POST.get("query", "")
    if form.is_valid():
        try:
            kept = searches.save_search(request.user, **form.cleaned_data, by=actor(request))
            messages.success(request, f"The search is kept as “{kept.name}”.")
        except Rejected as rejected:
            messages.error(request, str(rejected))
    else:
        messages.error(request, "Give the search a name of at most 64 characters.")
    return redirect(_url(q=query))


@require_POST
def audit_remove_search(request: OperatorRequest, pk: int) -> HttpResponse:
    searches.remove_search(request.user, pk, by=actor(request))
    messages.success(request, "The search is not kept any more.")
    return redirect("audit-list")


def _proof(found: Found, head: AuditHead, *, is_whole: bool) -> dict[str, Any]:
    """What a file without gaps can be checked by, beside the hashes."""
    if not is_whole:
        return {}
    signed = AuditCheckpoint.objects.filter(sequence__gte=found.first, sequence__lt=found.end)
    envelopes = signed.order_by("sequence").values_list("envelope", flat=True).iterator(500)
    return {"after": chain.Walked(head.sealed_sequence, head.sealed_hash, None), "checkpoints": envelopes}


def changed_rows(entry: AuditEntry) -> list[tuple[str, Any, Any]]:
    """Name, before and after of every value that differs; what lies inside others with its whole path."""
    before, after = _flat(entry.before or {}), _flat(entry.after or {})
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    return [(name, old, new) for name, old, new in pairs if old != new]


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def _kept(request: OperatorRequest) -> Any:
    return request.user.audit_searches.all()


def _url(**values: object) -> str:
    said = urlencode({name: value for name, value in values.items() if value})
    return fixed_url("audit-list") + (f"?{said}" if said else "")
