"""Live numbers: the page, and the table that it fetches every 2 s."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from cluster import access, live, standing
from cluster.http import OperatorRequest, not_modified, page_number, poll
from cluster.models import Cluster, Director, VirtualService


@require_GET
def live_page(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    director = cluster.directors.filter(pk=page_number(request.GET.get("director"))).first()
    context = {"cluster": cluster, "chosen": director, "directors": cluster.directors.all()}
    return render(request, "cluster/live.html", context | live_context(cluster, director=director))


@poll
@require_GET
def live_table(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    director = cluster.directors.filter(pk=page_number(request.GET.get("director"))).first()
    service = cluster.services.filter(pk=page_number(request.GET.get("service"))).first()
    context = live_context(cluster, director=director, service=service)
    if not context["live_redis_is_up"]:
        # The page keeps the numbers that it has, and app.js marks them as old.
        return HttpResponse(status=503)
    if request.GET.get("stamp") == context["live_stamp"]:
        return not_modified()
    return render(request, "cluster/_live_table.html", context)


def live_context(
    cluster: Cluster, *, director: Director | None = None, service: VirtualService | None = None
) -> dict[str, Any]:
    """What templates/cluster/_live_table.html needs, for all directors of the cluster or for one, and for
    all services or for one."""
    answers = live.read([director] if director else cluster.directors.all())
    chosen = {"director": director.pk if director else "", "service": service.pk if service else ""}
    names = {str(row): row for row in cluster.services.prefetch_related("backends")}
    only = str(service) if service else ""
    rows = live.rows(answers, only=only)
    standing.mark(rows, answers)
    return {
        "live_url": reverse("live-table", args=[cluster.pk]) + "?" + urlencode(chosen),
        "live_stamp": answers.stamp,
        "live_rows": rows,
        "live_outages": standing.outages([cluster], answers.directors, only=only),
        "live_at": min((one.at for one in answers.counted if one.at), default=None),
        "live_is_stale": all(one.is_stale for one in answers.directors),
        "live_left_out": _without(answers.left_out),
        "live_redis_is_up": answers.redis_is_up,
        "live_directors": answers.directors,
        "live_services": names,
        "live_stale_after": live.STALE_AFTER_S,
    }


def _without(left_out: list[Director]) -> str:
    if not left_out:
        return ""
    names = " and ".join(director.name for director in left_out)
    verb, pronoun = ("is", "it") if len(left_out) == 1 else ("are", "them")
    return f"{names} {verb} not heard: these numbers are without {pronoun}."
