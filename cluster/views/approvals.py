"""Change requests: those that wait, one, and the answers to it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from cluster import access, audit, desired
from cluster.actions import approvals
from cluster.actions.problems import Rejected
from cluster.approval import approval_of
from cluster.change_forms import AnswerForm
from cluster.http import OperatorRequest, actor, page_of
from cluster.ipvs.compare import Difference, compare
from cluster.models import ChangeRequest, Revision


@require_GET
def change_list(request: OperatorRequest) -> HttpResponse:
    mine = ChangeRequest.objects.filter(cluster__in=access.visible_clusters(request.user))
    mine = mine.defer("table", "traffic")
    found = mine.select_related("cluster", "revision").prefetch_related("answers")
    waiting = [approval_of(change) for change in found.filter(status=ChangeRequest.Status.OPEN)]
    over, pager = page_of(request, found.exclude(status=ChangeRequest.Status.OPEN))
    return render(request, "cluster/change_list.html", {"waiting": waiting, "over": over, **pager})


@require_GET
def change_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    change = access.get_change(request, pk, needs="view")
    return _page(request, change, AnswerForm())


@require_POST
def change_answer(request: OperatorRequest, pk: int) -> HttpResponse:
    """Approve, or with `refuse` refuse."""
    change = access.get_change(request, pk, needs="approve")
    form = AnswerForm(request.POST)
    if form.is_valid():
        try:
            if "refuse" in request.POST:
                approvals.refuse(change, **form.cleaned_data, by=actor(request))
                messages.success(request, f"Refused. The draft of {change.cluster} stays as it is.")
            else:
                done = approvals.approve(change, **form.cleaned_data, by=actor(request))
                left = "One more has to." if done.missing else "It can be applied now."
                messages.success(request, f"Approved. {left}")
            return redirect("change-detail", change.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
            action = "change.refuse" if "refuse" in request.POST else "change.approve"
            reason = str(rejected)
            audit.record(
                action, change, by=actor(request), cluster=change.cluster, result="refused", reason=reason
            )
    return _page(request, change, form)


@require_POST
def change_withdraw(request: OperatorRequest, pk: int) -> HttpResponse:
    change = access.get_change(request, pk, needs="edit")
    try:
        approvals.withdraw(change, by=actor(request))
        messages.success(request, "The request is withdrawn. The draft stays as it is.")
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("change-detail", change.pk)


def _page(request: OperatorRequest, change: ChangeRequest, form: AnswerForm) -> HttpResponse:
    change.refresh_from_db()
    approval = approval_of(change)
    may_approve = access.may(request.user, "approve", change.cluster)
    why_not = approval.why_not(request.user.get_username())
    if not why_not and not may_approve:
        why_not = access.answer(request.user, "approve", change.cluster).why
    context: dict[str, Any] = {
        "change": change,
        "cluster": change.cluster,
        "approval": approval,
        "form": form,
        "differences": _differences(change),
        "may_approve": may_approve,
        "why_not": why_not,
    }
    return render(request, "cluster/change_detail.html", context)


def _differences(change: ChangeRequest) -> list[Difference]:
    """What the request changes: the draft as it was asked for, against the newest revision of then."""
    base = Revision.objects.filter(cluster=change.cluster, number=change.base).first()
    return compare(desired.revision_said(base), desired.revision_said(change))
