"""Reading by programs: JSON behind a bearer token, with the rights of the token's user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from cluster import access, live
from cluster.actions.people import token_digest
from cluster.models import ApiToken
from cluster.overview import ClusterState, cluster_states


def with_token(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Sign the request in by `Authorization: Bearer TOKEN`; 401 without a good one."""

    @login_not_required
    @require_GET
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        known = ApiToken.objects.filter(digest=token_digest(text.strip()), user__is_active=True)
        token = known.select_related("user").first() if scheme.lower() == "bearer" else None
        if token is None:
            problem = {"error": "Send a valid token: Authorization: Bearer TOKEN."}
            return JsonResponse(problem, status=401, headers={"WWW-Authenticate": "Bearer"})
        if token.used_at is None or (timezone.now() - token.used_at).total_seconds() > 60:
            ApiToken.objects.filter(pk=token.pk).update(used_at=timezone.now())
        request.user = token.user
        request.api_token = token  # type: ignore[attr-defined]
        return view(request, *args, **kwargs)

    return checked


@with_token
def api_clusters(request: HttpRequest) -> HttpResponse:
    """Every visible cluster with its state."""
    states = cluster_states(access.visible_clusters(request.user))
    return JsonResponse({"clusters": [_cluster(state) for state in states]})


@with_token
def api_cluster_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The live table of one cluster, summed over the directors whose numbers are fresh; over all where none
    is."""
    cluster = access.visible_clusters(request.user).filter(pk=pk).first()
    if cluster is None:
        return JsonResponse({"error": "There is no such cluster for this token."}, status=404)
    answers = live.read(cluster.directors.all())
    services = []
    for row in live.rows(answers):
        values = asdict(row) | {"weights": sorted(row.weights)}
        values["backends"] = [
            part | {"weights": sorted(part["weights"])} for part in values["backends"].values()
        ]
        services.append(values)
    directors = [
        {"name": one.director.name, "age_s": one.age_s, "is_stale": one.is_stale, "error": one.error}
        for one in answers.directors
    ]
    return JsonResponse({"redis_is_up": answers.redis_is_up, "directors": directors, "services": services})


def _cluster(state: ClusterState) -> dict[str, Any]:
    return {
        "id": state.cluster.pk,
        "name": state.cluster.name,
        "status": state.status,
        "revision": state.revision.number if state.revision else 0,
        "draft_is_ahead": state.draft_is_ahead,
        "services": state.service_count,
        "backends": state.backend_count,
        "directors": [
            {
                "name": part.director.name,
                "presence": part.presence,
                "sync": part.sync,
                "applied_revision": part.director.applied_revision,
            }
            for part in state.directors
        ],
    }
