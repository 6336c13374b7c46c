"""The first page, and the health check for monitors."""

from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from cluster import access
from cluster.http import OperatorRequest
from cluster.models import Director, Job
from cluster.views.clusters import clusters_context


@require_GET
def overview(request: OperatorRequest) -> HttpResponse:
    clusters = access.visible_clusters(request.user)
    context = {
        **clusters_context(request),
        "jobs": Job.objects.filter(cluster__in=clusters).prefetch_related("runs")[:8],
        "waiting": Director.objects.waiting() if access.may(request.user, "audit") else [],
    }
    return render(request, "cluster/overview.html", context)


@login_not_required
@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the panel can read its database; Redis is not needed for that."""
    connection.ensure_connection()
    return HttpResponse("ok\n", content_type="text/plain")
