"""Directors: list, one, add to a cluster, remove from it, load a module."""

from dataclasses import astuple

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cluster import access
from cluster.actions import directors
from cluster.actions.problems import Rejected
from cluster.forms import EnrolForm, ReleaseForm
from cluster.http import OperatorRequest, actor, poll
from cluster.ipvs import settings, tuning
from cluster.ipvs.rules import SCHEDULERS
from cluster.models import Cluster, Director
from cluster.overview import director_states
from cluster.views.live import live_context

_MODULE_WORDS = {f"ip_vs_{name}": f"scheduler: {words}" for name, words in SCHEDULERS.items()} | {
    "ip_vs": "IPVS itself",
    "ip_vs_ftp": "active FTP through masquerading",
    "ip_vs_pe_sip": "persistence by SIP call id",
}
_TIMEOUT_WORDS = ("Established TCP", "Closing TCP", "UDP")


@require_GET
def director_list(request: OperatorRequest) -> HttpResponse:
    return render(request, "cluster/director_list.html", _directors(request))


@poll
@require_GET
def director_table(request: OperatorRequest) -> HttpResponse:
    return render(request, "cluster/_directors.html", _directors(request))


def _directors(request: OperatorRequest) -> dict[str, object]:
    mine = Director.objects.filter(cluster__in=access.visible_clusters(request.user))
    is_administrator = access.may(request.user, "administer")
    waiting = Director.objects.waiting() if access.may(request.user, "audit") else []
    states = director_states(list(mine.select_related("cluster")))
    return {"states": states, "waiting": waiting, "is_administrator": is_administrator}


@require_GET
def director_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    director = access.get_director(request, pk, needs="view")
    context = (
        _facts(director)
        | _settings(director)
        | {
            "runs": director.runs.select_related("job__revision", "job__cluster").order_by("-pk")[:8],
        }
    )
    if director.cluster:
        context |= live_context(director.cluster, director=director)
    return render(request, "cluster/director_detail.html", context)


@poll
@require_GET
def director_facts(request: OperatorRequest, pk: int) -> HttpResponse:
    """The facts and state of a director, which its page fetches again and again."""
    director = access.get_director(request, pk, needs="view")
    return render(request, "cluster/_director_facts.html", _facts(director))


def _facts(director: Director) -> dict[str, object]:
    modules = [
        entry | {"words": _MODULE_WORDS.get(entry.get("name", ""), "")}
        for entry in director.facts.get("modules", [])
    ]
    return {"director": director, "state": director_states([director])[0], "modules": modules}


def _settings(director: Director) -> dict[str, object]:
    """What it says of its IPVS beside the table; what differs from the kernel's defaults comes first."""
    said = director.facts.get("settings")
    if not isinstance(said, dict) or not said:
        # It could not read them, or it is of an older release.
        return {}
    found, sysctls = settings.from_document(said), tuning.from_document(said.get("sysctls"))
    return {
        "settings": found,
        "timeouts": list(
            zip(_TIMEOUT_WORDS, astuple(found.timeouts), astuple(settings.DEFAULT_TIMEOUTS), strict=True)
        ),
        "sysctls": sorted(sysctls, key=lambda one: (one.is_default, one.name)),
        "rates_are_frozen": tuning.are_rates_frozen(sysctls),
    }


@require_http_methods(["GET", "POST"])
def director_enrol(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="add a director")
    director = access.get_director(request, pk, needs="administer")
    initial = {"cluster": request.GET.get("cluster"), "fingerprint": director.fingerprint}
    form = EnrolForm(request.POST or None, clusters=Cluster.objects.all(), initial=initial)
    if form.is_valid():
        cluster = form.cleaned_data["cluster"]
        try:
            seen = form.cleaned_data["fingerprint"]
            said = {"seen_fingerprint": seen, **form.why}
            job = directors.enrol_director(director, cluster, **said, by=actor(request))
            messages.success(request, f"{director} belongs to {cluster} now.")
            return redirect("job-detail", job.pk) if job else redirect("cluster-detail", cluster.pk)
        except Rejected as rejected:
            form.add_error(None, str(rejected))
    return render(request, "cluster/director_enrol.html", {"form": form, "director": director})


@require_http_methods(["GET", "POST"])
def director_release(request: OperatorRequest, pk: int) -> HttpResponse:
    director = access.get_director(request, pk, needs="administer")
    cluster = director.cluster
    if cluster is None:
        return redirect("director-detail", director.pk)
    form = ReleaseForm(request.POST or None, expected=director.name)
    if form.is_valid():
        try:
            directors.release_director(director, **form.why, by=actor(request))
            text = f"{director} is out of {cluster}. Its kernel goes on forwarding what it has."
            messages.success(request, text)
            return redirect("cluster-detail", cluster.pk)
        except Rejected as rejected:
            form.add_error(None, str(rejected))
    return render(request, "cluster/director_release.html", {"form": form, "director": director})


@require_POST
def director_load_module(request: OperatorRequest, pk: int) -> HttpResponse:
    director = access.get_director(request, pk, needs="operate")
    try:
        module = request.POST.get("module", "")[:64]
        job = directors.load_module(director, module=module, by=actor(request))
        return redirect("job-detail", job.pk)
    except Rejected as rejected:
        messages.error(request, str(rejected))
        return redirect("director-detail", director.pk)
