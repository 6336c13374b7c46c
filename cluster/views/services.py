"""Virtual services: list, one, new, edit, remove."""

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from cluster import access, desired
from cluster.actions import services
from cluster.actions.problems import Changed, Rejected
from cluster.draining import marks
from cluster.forms import ConfirmForm, ServiceForm
from cluster.http import OperatorRequest, actor, search_text
from cluster.ipvs.traffic.policy import Policy
from cluster.ipvs.traffic.rules import policy_warnings
from cluster.ipvs.traffic.words import policy_words
from cluster.models import VirtualService
from cluster.three_way import carried, opened
from cluster.views.asking import asked_again
from cluster.views.live import live_context

MOST_SHOWN = 500


@require_GET
def service_list(request: OperatorRequest) -> HttpResponse:
    query = search_text(request.GET.get("q"))
    found = VirtualService.objects.filter(cluster__in=access.visible_clusters(request.user))
    if query:
        where = Q(name__icontains=query) | Q(address__icontains=query) | Q(cluster__name__icontains=query)
        found = found.filter(where | Q(backends__address__icontains=query)).distinct()
    found = found.select_related("cluster").annotate(backend_count=Count("backends", distinct=True))
    # Where it groups, Django forgets the order of the model.
    found = found.order_by("cluster__name", "address", "port", "protocol", "mark")
    context = {"services": found[:MOST_SHOWN], "count": found.count(), "most": MOST_SHOWN, "query": query}
    return render(request, "cluster/service_list.html", context)


@require_http_methods(["GET", "POST"])
def service_new(request: OperatorRequest, cluster_pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, cluster_pk, needs="edit")
    form = ServiceForm(request.POST or None, cluster=cluster)
    if form.is_valid():
        try:
            service = services.add_service(cluster, form.said(), by=actor(request))
            messages.success(request, f"{service} is in the draft. Add its backends next.")
            return redirect("service-detail", service.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/service_form.html", {"form": form, "cluster": cluster})


@require_GET
def service_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    service = access.get_service(request, pk, needs="view")
    backends = service.backends.all()
    context = {
        "service": service,
        "cluster": service.cluster,
        "backends": backends,
        "opened_weights": {one.pk: carried(one.version, {"weight": [str(one.weight)]}) for one in backends},
        **_health_context(service),
        "marks": marks(service.cluster, [service]),
        **live_context(service.cluster, service=service),
    }
    return render(request, "cluster/service_detail.html", context)


def _health_context(service: VirtualService) -> dict[str, object]:
    policy = desired.policy_value(service)
    doubts = policy_warnings(policy, desired.service_value(service))
    return {
        "policy": policy if policy != Policy() else None,
        "policy_words": policy_words(policy),
        "policy_warnings": [problem.text for problem in doubts],
    }


@require_http_methods(["GET", "POST"])
def service_edit(request: OperatorRequest, pk: int) -> HttpResponse:
    service = access.get_service(request, pk, needs="edit")
    initial, cluster = ServiceForm.initial_of(service), service.cluster
    shown = opened(request, service, lambda data: ServiceForm(data, initial=initial, cluster=cluster))
    form = shown.form
    if shown.may_save and form.is_valid():
        try:
            services.edit_service(service, form.said(), seen_version=shown.seen_version, by=actor(request))
            messages.success(request, f"{service} is saved in the draft.")
            return redirect("service-detail", service.pk)
        except Changed:
            return service_edit(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "opened": shown, "cluster": cluster}
    context["service"] = get_object_or_404(VirtualService, pk=pk)
    return render(request, "cluster/service_form.html", context)


@require_http_methods(["GET", "POST"])
def service_remove(request: OperatorRequest, pk: int) -> HttpResponse:
    service = access.get_service(request, pk, needs="edit")
    form, again = ConfirmForm(request.POST or None, expected=service.endpoint), asked_again(request, service)
    if form.is_valid() and not again.is_changed:
        try:
            services.remove_service(service, seen=again.sent, by=actor(request))
            text = f"{service} is out of the draft. Review and apply to take it off the directors."
            messages.success(request, text)
            return redirect("cluster-detail", service.cluster_id)
        except Changed:
            return service_remove(request, pk)
        except Rejected as rejected:
            form.add_error(None, str(rejected))
    context = {"form": form, "again": again, "service": service}
    return render(request, "cluster/service_remove.html", context)
