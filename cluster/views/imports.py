"""Import: a file or a running director into a cluster's draft, looked at before it is taken."""

from __future__ import annotations

from dataclasses import replace

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from cluster import access, desired, live
from cluster.actions import imports
from cluster.actions.problems import Rejected
from cluster.forms import AdoptForm, ImportForm
from cluster.http import OperatorRequest, actor
from cluster.ipvs.formats import ipvsadm, kinds
from cluster.ipvs.formats.checks_to_policy import policies_of
from cluster.ipvs.formats.fidelity import Parsed
from cluster.ipvs.formats.ipvsadm import command
from cluster.ipvs.plan import plan
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.traffic.paths import is_check_path
from cluster.ipvs.traffic.policy import Policy
from cluster.ipvs.traffic.words import policy_changes
from cluster.models import Cluster
from cluster.review import PolicyReview, StepView, actual_table


@require_http_methods(["GET", "POST"])
def cluster_import(request: OperatorRequest, pk: int) -> HttpResponse:
    """Paste or upload; look; take. The text travels along, so that what was looked at is what is taken."""
    cluster = access.get_cluster(request, pk, needs="edit")
    form = ImportForm(request.POST or None, request.FILES or None)
    context = {"cluster": cluster, "form": form}
    if form.is_valid():
        said = form.cleaned_data
        parsed, policies = _read(said["text"], said["kind"])
        if "take" in request.POST and not parsed.errors:
            try:
                source = f"{dict(ImportForm.KINDS)[said['kind']]}, {_counted(parsed.table)}"
                imports.import_table(
                    cluster,
                    parsed.table,
                    policies=policies,
                    replace=said["replace"],
                    seen=said["seen"],
                    source=source,
                    by=actor(request),
                )
                messages.success(request, "The draft has it. Review and apply to put it on the directors.")
                return redirect("cluster-review", cluster.pk)
            except Rejected as rejected:
                form.add_problems(rejected)
        context |= _looked_at(cluster, parsed.table, policies, replace=said["replace"]) | {
            "parsed": parsed,
            "lines": list(parsed.by_line(said["text"])),
            "text": said["text"],
        }
    return render(request, "cluster/cluster_import.html", context)


@require_http_methods(["GET", "POST"])
def director_adopt(request: OperatorRequest, pk: int) -> HttpResponse:
    """Take what runs on a director into its cluster's draft. Applied unchanged, it becomes the panel's."""
    director = access.get_director(request, pk, needs="edit")
    cluster = director.cluster
    if cluster is None:
        return redirect("director-detail", director.pk)
    (one,) = live.read([director]).directors
    table, _ = actual_table(one)
    form = AdoptForm(request.POST or None)
    if form.is_valid():
        try:
            said = form.cleaned_data
            chosen = table.only(key for key in table.keys if str(key) in said["services"])
            source = f"adopted from {director}, {_counted(chosen)}"
            seen = said["seen"]
            imports.import_table(cluster, chosen, replace=False, seen=seen, source=source, by=actor(request))
            messages.success(request, "The draft has it. Review and apply to make it the panel's.")
            return redirect("cluster-review", cluster.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"director": director, "cluster": cluster, "form": form, "one": one}
    return render(request, "cluster/director_adopt.html", context | _adoptable(cluster, table))


def _read(text: str, kind: str) -> tuple[Parsed, dict[ServiceKey, Policy]]:
    """What was read, with a note for each check that no policy can say, and the policies."""
    parsed = kinds.parse(text, kind=kind)
    policies, notes = policies_of(parsed, kind=kind)
    return replace(parsed, notes=(*parsed.notes, *notes)), policies


def _counted(table: Table) -> str:
    return "1 service" if len(table) == 1 else f"{len(table)} services"


def _adoptable(cluster: Cluster, table: Table) -> dict[str, object]:
    """The services in the kernel that the draft does not say, or says otherwise."""
    draft = desired.draft_table(cluster)
    other = [
        service
        for service in table
        if draft.by_key.get(service.key) != service and not is_check_path(service.key)
    ]
    shown = [(str(one.key), "\n".join(ipvsadm.save(Table((one,)))), one.key in draft.by_key) for one in other]
    seen = desired.draft_print(draft, desired.draft_policies(cluster))
    return {"services": shown, "seen": seen}


def _looked_at(
    cluster: Cluster, found: Table, policies: dict[ServiceKey, Policy], *, replace: bool
) -> dict[str, object]:
    draft, policies_now = desired.draft_table(cluster), desired.draft_policies(cluster)
    after = imports.merged(draft, found, replace=replace)
    changed = []
    for key, policy in policies.items():
        before = policies_now.get(key, Policy())
        if rows := policy_changes(before, imports.policy_after(before, policy)):
            changed.append(PolicyReview(str(key), rows))
    steps = plan(draft, after, owned=draft.keys).steps
    shown = [StepView(step.kind, str(step), command(step)) for step in steps[:500]]
    seen = desired.draft_print(draft, policies_now)
    return {"steps": shown, "step_count": len(steps), "policies": changed, "seen": seen}
