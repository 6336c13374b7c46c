"""Revisions: list, one, two compared, back to an older one, tags, export; and the draft beside the newest."""

from __future__ import annotations

from difflib import unified_diff
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header, urlencode
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cluster import access, audit, desired
from cluster.actions import drafts, revisions
from cluster.actions.problems import Rejected
from cluster.approval import open_change
from cluster.change_forms import TagForm
from cluster.draft import draft_changes
from cluster.forms import ConfirmForm
from cluster.http import OperatorRequest, actor, page_number, page_of
from cluster.ipvs.compare import Said, compare
from cluster.ipvs.formats import kinds
from cluster.ipvs.formats.ipvsadm import save
from cluster.ipvs.traffic.words import policy_words
from cluster.models import Cluster, Revision
from cluster.review import steps_to

MOST_SUGGESTED = 200
MOST_CHANGES = 500
_ENDINGS = {
    "ipvsadm": "ipvsadm",
    "keepalived": "conf",
    "ldirectord": "cf",
    "json": "json",
    "yaml": "yaml",
}


@require_GET
def revision_list(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    found = cluster.revisions.defer("table", "traffic").prefetch_related("tags")
    shown, pager = page_of(request, found, by="number")
    # Links of tickets ask each for its cluster.
    for revision in shown:
        revision.cluster = cluster
    return render(request, "cluster/revision_list.html", {"cluster": cluster, "revisions": shown, **pager})


@require_GET
def revision_detail(request: OperatorRequest, pk: int, number: int) -> HttpResponse:
    return _detail(request, access.get_revision(request, pk, number), TagForm())


def _detail(request: OperatorRequest, revision: Revision, form: TagForm) -> HttpResponse:
    table, policies, switches = desired.revision_said(revision)
    context = {
        "cluster": revision.cluster,
        "revision": revision,
        "tags": revision.tags.all(),
        "change": revision.change_requests.first(),
        "earlier": revision.cluster.revisions.filter(number__lt=revision.number).only("number").first(),
        "is_newest": not revision.cluster.revisions.filter(number__gt=revision.number).exists(),
        "form": form,
        "formats": [(kind, one.title) for kind, one in kinds.FORMATS.items()],
        "lines": "\n".join(save(table)),
        "policies": [(str(key), policy_words(policy)) for key, policy in policies.items()],
        "switches": sorted(switches.items()),
    }
    return render(request, "cluster/revision_detail.html", context)


@require_GET
def revision_compare(request: OperatorRequest, pk: int) -> HttpResponse:
    """Any two of a cluster, by `before` and `after`; the draft is one of them. What it takes to bring each
    director from what it has to the second one is told as well."""
    cluster = access.get_cluster(request, pk, needs="view")
    known = list(cluster.revisions.values_list("number", "reason")[:MOST_SUGGESTED])
    sides = {
        "before": request.GET.get("before", str(known[0][0]) if known else "0"),
        "after": request.GET.get("after", "draft"),
    }
    found = {side: _said(cluster, name) for side, name in sides.items()}
    context = {
        "cluster": cluster,
        "known": known,
        "problems": [
            f"{cluster} has no revision “{sides[side][:40]}”. Choose its number, or “draft”."
            for side, said in found.items()
            if said is None
        ],
        **{side: name[:40] for side, name in sides.items()},
    }
    before, after = found["before"], found["after"]
    if before is not None and after is not None:
        context |= {**_compared(before, after), "directors": steps_to(cluster, after)}
    status = 404 if context["problems"] else 200
    return render(request, "cluster/revision_compare.html", context, status=status)


@require_http_methods(["GET", "POST"])
def revision_roll_back(request: OperatorRequest, pk: int, number: int) -> HttpResponse:
    """GET shows what the draft would lose and get; POST makes the draft say it."""
    revision = access.get_revision(request, pk, number)
    cluster = access.get_cluster(request, pk, needs="edit")
    if request.method == "POST":
        try:
            drafts.roll_back(cluster, revision, seen=request.POST.get("seen", ""), by=actor(request))
            messages.success(
                request, f"The draft says what revision {number} says. Apply makes it a new one."
            )
            reason = urlencode({"reason": f"Roll back to revision {number}"})
            return redirect(f"{reverse('cluster-review', args=[pk])}?{reason}")
        except Rejected as rejected:
            messages.error(request, str(rejected))
    draft = desired.draft_said(cluster)
    context = {
        "cluster": cluster,
        "revision": revision,
        "seen": desired.draft_print(*draft),
        "waiting": open_change(cluster),
        **_compared(draft, desired.revision_said(revision)),
    }
    return render(request, "cluster/revision_roll_back.html", context)


@require_POST
def revision_tag(request: OperatorRequest, pk: int, number: int) -> HttpResponse:
    """Give a tag, or with `remove` take it off."""
    access.get_cluster(request, pk, needs="edit")
    revision = access.get_revision(request, pk, number)
    form = TagForm(request.POST)
    if form.is_valid():
        name = form.cleaned_data["name"]
        act = revisions.untag if "remove" in request.POST else revisions.tag
        try:
            act(revision, name=name, by=actor(request))
            return redirect("revision-detail", pk, number)
        except Rejected as rejected:
            form.add_problems(rejected)
    return _detail(request, revision, form)


@require_POST
def revision_export(request: OperatorRequest, pk: int, number: int, kind: str) -> HttpResponse:
    """The table as a file. What the format has no words for is left out, and named in its first lines. A
    POST, as the log's export is one: that somebody took it with them is written down."""
    revision = access.get_revision(request, pk, number)
    if kind not in kinds.FORMATS:
        raise Http404("There is no such format.")
    rendered = kinds.render(desired.revision_said(revision).table, kind=kind)
    left_out = [
        f"# Left out of revision {number}: {' '.join(note.text.split())}\n" for note in rendered.notes
    ]
    name = f"{slugify(revision.cluster.name) or 'cluster'}-revision-{number}.{_ENDINGS[kind]}"
    audit.record(
        "revision.export",
        f"{revision} as {kinds.FORMATS[kind].title}",
        by=actor(request),
        about=revision,
        cluster=revision.cluster,
        after={"revision": number, "kind": kind, "file": name},
    )
    response = HttpResponse("".join(left_out) + rendered.text, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = str(content_disposition_header(True, name))
    return response


@require_GET
def cluster_draft(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    return _draft(request, cluster, ConfirmForm(expected=cluster.name))


@require_POST
def draft_discard(request: OperatorRequest, pk: int) -> HttpResponse:
    """Take one object back, or with the cluster's name typed all of them."""
    cluster = access.get_cluster(request, pk, needs="edit")
    seen, by = request.POST.get("seen", ""), actor(request)
    form = ConfirmForm(request.POST if "all" in request.POST else None, expected=cluster.name)
    try:
        if "item" in request.POST:
            drafts.discard(cluster, item=request.POST["item"], seen=seen, by=by)
            messages.success(request, f"Taken back: {request.POST['item'][:200]}.")
        elif form.is_valid():
            drafts.discard_all(cluster, seen=seen, by=by)
            messages.success(request, "The draft says what the newest revision says.")
        else:
            return _draft(request, cluster, form)
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("cluster-draft", pk)


def _draft(request: OperatorRequest, cluster: Cluster, form: ConfirmForm) -> HttpResponse:
    changes = draft_changes(cluster)
    context = {
        "cluster": cluster,
        "form": form,
        "changes": changes[:MOST_CHANGES],
        "count": len(changes),
        "newest": cluster.revisions.defer("table", "traffic").first(),
        "seen": desired.draft_print(*desired.draft_said(cluster)),
        "waiting": open_change(cluster),
    }
    return render(request, "cluster/cluster_draft.html", context)


def _said(cluster: Cluster, name: str) -> Said | None:
    """A side of a comparison by its name in the query; 0 is what was before the first revision. None for what
    is no revision."""
    if name == "draft":
        return desired.draft_said(cluster)
    number = page_number(name, default=-1)
    revision = cluster.revisions.filter(number=number).first()
    return desired.revision_said(revision) if revision is not None or number == 0 else None


def _compared(before: Said, after: Said) -> dict[str, Any]:
    return {"differences": compare(before, after), "lines": "\n".join(_lines(before, after))}


def _lines(before: Said, after: Said) -> list[str]:
    """Lines that go and come, with one around them; where lines are left out between, a mark."""
    found = list(unified_diff(save(before.table), save(after.table), lineterm="", n=1))[3:]
    # The tool's own options begin with a dash too, so the sign stands apart.
    return ["…" if line.startswith("@@") else f"{line[0]} {line[1:]}" for line in found]
