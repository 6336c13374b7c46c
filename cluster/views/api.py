"""Reading by programs: JSON behind a bearer token, with the token's part of the rights of its owner. Whatever
goes wrong is answered in one form: `{"error": {"code": …, "text": …, "request_id": …}}`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from cluster import access, live, refusals
from cluster.actions.tokens import find_token, grants_by, why_refused
from cluster.http import OperatorRequest, actor
from cluster.models import ApiToken
from cluster.overview import ClusterState, cluster_states
from cluster.permissions import limit
from lvsadmin.logs import current_request_id


def with_token(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Sign the request in by `Authorization: Bearer TOKEN`; 401 without a good one. From here on its user
    has no more rights than the token, and the audit log names both. A cookie signs nobody in here."""

    @csrf_exempt
    @login_not_required
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            said = problem(405, "method-not-allowed", "This address is read with GET.")
            said["Allow"] = "GET, HEAD"
            return said
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        text = text.strip() if scheme.lower() == "bearer" else ""
        token = find_token(text)
        if token is None:
            _note_refusal(request, text)
            said = problem(
                401,
                "no-valid-token",
                "Send a valid token: Authorization: Bearer TOKEN. It may have ended or been revoked.",
            )
            said["WWW-Authenticate"] = "Bearer"
            return said
        if token.used_at is None or (timezone.now() - token.used_at).total_seconds() > 60:
            ApiToken.objects.filter(pk=token.pk).update(used_at=timezone.now())
        limit(token.user, grants_by(token))
        request.user = token.user
        request.api_token = token  # type: ignore[attr-defined]
        try:
            return view(request, *args, **kwargs)
        except Http404:
            return problem(404, "not-found", "It does not exist, or this token does not reach it.")
        except PermissionDenied as refusal:
            return problem(403, "refused", str(refusal))

    return checked


def _note_refusal(request: HttpRequest, text: str) -> None:
    """Whose token it was is in the log, where that is known; never the text."""
    why, token = why_refused(text)
    request.user = AnonymousUser()  # a cookie that came along has nothing to do with it
    refusals.note(
        "token.refused",
        token or request.path,
        by=replace(actor(request), session=""),
        reason=f"{request.method} {request.path}: {why}",
        cluster=token.cluster if token else None,
    )


@with_token
def api_nowhere(request: OperatorRequest, rest: str) -> HttpResponse:
    """Every other address below /api/v1/."""
    raise Http404(rest)


def server_error(request: HttpRequest) -> HttpResponse:
    """Our own mistakes: Django's page, and for programs the one form of the API."""
    if request.path.startswith("/api/"):
        return problem(500, "our-fault", "This is a defect of LVS Admin. Its log has the details.")
    return defaults.server_error(request)


def problem(status: int, code: str, text: str) -> JsonResponse:
    """What every failure of the API looks like."""
    said = {"code": code, "text": text, "request_id": current_request_id.get()}
    return JsonResponse({"error": said}, status=status)


@with_token
def api_clusters(request: OperatorRequest) -> HttpResponse:
    """Every visible cluster with its state."""
    states = cluster_states(access.visible_clusters(request.user))
    return JsonResponse({"clusters": [_cluster(state) for state in states]})


@with_token
def api_cluster_live(request: OperatorRequest, pk: int) -> HttpResponse:
    """The live table of one cluster, summed over the directors whose numbers are fresh; over all where none
    is."""
    cluster = access.get_cluster(request, pk, needs="view")
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
