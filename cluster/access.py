"""Roles, what they may do, and the lookups that answer object and permission in one call.

Somebody else's object is not found (404). An object that may be seen but not changed is refused
(403) with the reason, and the refusal is written down.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import Http404

from cluster import audit
from cluster.http import OperatorRequest, actor
from cluster.models import (
    AuditEntry,
    Backend,
    Cluster,
    Director,
    Drain,
    Job,
    Revision,
    Role,
    RoleBinding,
    VirtualService,
    WeightProfile,
)

Need = Literal["view", "operate", "administer"]
AnyRow = TypeVar("AnyRow", bound=Model)
User = AbstractBaseUser | AnonymousUser

_RANK = {"": 0, Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMINISTRATOR: 3}
_NEEDED_RANK: dict[Need, int] = {"view": 1, "operate": 2, "administer": 3}
_NEEDED_ROLE: dict[Need, str] = {"view": "viewer", "operate": "operator", "administer": "administrator"}


def role_of(user: User, cluster: Cluster | None = None) -> str:
    """The highest role that the user has everywhere, or in this cluster; empty for none."""
    if not user.is_authenticated or not user.is_active:
        return ""
    place = Q(cluster=None) | Q(cluster=cluster) if cluster else Q(cluster=None)
    roles = RoleBinding.objects.filter(place, user_id=user.pk).values_list("role", flat=True)
    return max(roles, key=lambda role: _RANK[role], default="")


def may(user: User, needs: Need, cluster: Cluster | None = None) -> bool:
    """Without a cluster: everywhere."""
    return _RANK[role_of(user, cluster)] >= _NEEDED_RANK[needs]


def visible_clusters(user: User) -> QuerySet[Cluster]:
    """The clusters that the user has any role in: the only door to lists."""
    if not user.is_authenticated or not user.is_active:
        return Cluster.objects.none()
    bindings = RoleBinding.objects.filter(user_id=user.pk)
    if bindings.filter(cluster=None).exists():
        return Cluster.objects.all()
    return Cluster.objects.filter(pk__in=bindings.values("cluster"))


def visible_entries(user: User) -> tuple[QuerySet[AuditEntry], bool]:
    """What a user may see of the audit log, and whether that is all of it. Whoever has a role everywhere sees
    all; others what is of their clusters, and what they did themselves. The only door to the log's pages and
    exports."""
    if may(user, "view"):
        return AuditEntry.objects.all(), True
    uuids = [str(uuid) for uuid in visible_clusters(user).values_list("uuid", flat=True)]
    own = Q(cluster_uuid__in=uuids) | Q(actor=user.get_username())
    return AuditEntry.objects.filter(own), False


def require(request: OperatorRequest, needs: Need, cluster: Cluster | None = None, *, what: str) -> None:
    """PermissionDenied with a sentence, and an audit entry, unless the user may."""
    role, needed = role_of(request.user, cluster), _NEEDED_ROLE[needs]
    request.acting_role = role
    if _RANK[role] >= _NEEDED_RANK[needs]:
        return
    where = f"in {cluster}" if cluster else "for all clusters"
    reason = f"This needs the role {needed} {where}; you are signed in with {role or 'no role'}."
    audit.record("access.refused", what, by=actor(request), cluster=cluster, result="refused", reason=reason)
    raise PermissionDenied(f"{reason} Ask an administrator if you should have it.")


def get_cluster(request: OperatorRequest, pk: int, *, needs: Need) -> Cluster:
    cluster = _found(visible_clusters(request.user).filter(pk=pk))
    require(request, needs, cluster, what=f"{request.method} {request.path}")
    return cluster


def get_service(request: OperatorRequest, pk: int, *, needs: Need) -> VirtualService:
    clusters = visible_clusters(request.user)
    service = _found(VirtualService.objects.filter(pk=pk, cluster__in=clusters).select_related("cluster"))
    require(request, needs, service.cluster, what=f"{request.method} {request.path}")
    return service


def get_backend(request: OperatorRequest, pk: int, *, needs: Need) -> Backend:
    clusters = visible_clusters(request.user)
    found = Backend.objects.filter(pk=pk, service__cluster__in=clusters)
    backend = _found(found.select_related("service__cluster"))
    require(request, needs, backend.service.cluster, what=f"{request.method} {request.path}")
    return backend


def get_profile(request: OperatorRequest, pk: int, *, needs: Need) -> WeightProfile:
    clusters = visible_clusters(request.user)
    profile = _found(WeightProfile.objects.filter(pk=pk, cluster__in=clusters).select_related("cluster"))
    require(request, needs, profile.cluster, what=f"{request.method} {request.path}")
    return profile


def get_director(request: OperatorRequest, pk: int, *, needs: Need) -> Director:
    """An enrolled director of a visible cluster, or a waiting one for whoever administers everything."""
    visible = Director.objects.filter(cluster__in=visible_clusters(request.user))
    if may(request.user, "administer"):
        visible = Director.objects.all()
    director = _found(visible.filter(pk=pk).select_related("cluster"))
    require(request, needs, director.cluster, what=f"{request.method} {request.path}")
    return director


def get_job(request: OperatorRequest, pk: int, *, needs: Need) -> Job:
    found = Job.objects.filter(pk=pk, cluster__in=visible_clusters(request.user))
    job = _found(found.select_related("cluster", "revision__cluster"))
    require(request, needs, job.cluster, what=f"{request.method} {request.path}")
    return job


def get_drain(request: OperatorRequest, pk: int, *, needs: Need) -> Drain:
    found = Drain.objects.filter(pk=pk, cluster__in=visible_clusters(request.user))
    drain = _found(found.select_related("cluster"))
    require(request, needs, drain.cluster, what=f"{request.method} {request.path}")
    return drain


def get_revision(request: OperatorRequest, cluster_pk: int, number: int) -> Revision:
    cluster = get_cluster(request, cluster_pk, needs="view")
    return _found(Revision.objects.filter(cluster=cluster, number=number).select_related("cluster"))


def _found(matches: QuerySet[AnyRow]) -> AnyRow:
    found = matches.first()
    if found is None:
        raise Http404("It does not exist, or it belongs to a cluster that you have no role in.")
    return found
