"""Roles, what they may do, and the lookups that answer object and permission in one call.

Somebody else's object is not found (404). An object that may be seen but not changed is refused
(403) with the reason, and the refusal is written down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import Http404

from cluster import audit
from cluster.http import OperatorRequest, actor
from cluster.models import (
    AuditEntry,
    Backend,
    ChangeRequest,
    Cluster,
    Director,
    Drain,
    Drift,
    Job,
    PlannedApply,
    Revision,
    Rollout,
    VirtualService,
    WeightProfile,
)
from cluster.permissions import (
    BUILT_IN,
    READING,
    AnyUser,
    Grant,
    Need,
    givers,
    grants_of,
    may,
    roles_with,
)

# Views know rights by this module alone.
__all__ = ["Need", "may"]

AnyRow = TypeVar("AnyRow", bound=Model)
# What has a `cluster`, which says who may do what with it.
OfCluster = TypeVar(
    "OfCluster", VirtualService, WeightProfile, Job, Drain, ChangeRequest, Rollout, PlannedApply, Drift
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether something may be done, for a page; `why` is the sentence at what is disabled."""

    allowed: bool
    why: str = ""

    def __bool__(self) -> bool:
        return self.allowed


def answer(user: AnyUser, needs: Need, cluster: Cluster | None = None) -> Answer:
    """As `may`, with the reason. It costs no query, so it names the built-in roles alone."""
    if may(user, needs, cluster):
        return Answer(True)
    where = f"in {cluster}" if cluster else "for all clusters"
    roles = " or ".join(name for name, held in BUILT_IN.items() if needs in held)
    return Answer(False, f"This needs the permission “{needs}” {where}: a role such as {roles}.")


def role_of(user: AnyUser, cluster: Cluster | None = None) -> str:
    """The names of the roles that the user has everywhere, or in this cluster; empty for none."""
    return ", ".join(sorted({one.role for one in _given(user, cluster)}))


def only_reads(user: AnyUser) -> bool:
    """Whether the user has a role, and none that changes anything anywhere."""
    return bool(grants_of(user).given) and not writes(user)


def writes(user: AnyUser) -> bool:
    """Whether the user may change anything, anywhere: who needs a second factor."""
    return not all(one.permissions <= READING for one in grants_of(user).given)


def visible_clusters(user: AnyUser) -> QuerySet[Cluster]:
    """The clusters that the user may see: the only door to lists."""
    places = {one.cluster_id for one in grants_of(user).given if "view" in one.permissions}
    if None in places:
        return Cluster.objects.all()
    return Cluster.objects.filter(pk__in=[place for place in places if place])


def visible_entries(user: AnyUser) -> tuple[QuerySet[AuditEntry], list[Q]]:
    """What a user may see of the audit log, and the shares that make it up, to each of which an index leads:
    none of these where it is all of it. Whoever may audit everywhere sees all; others what is of their
    clusters, and what they did themselves. The only door to the log's pages and exports."""
    if may(user, "audit"):
        return AuditEntry.objects.all(), []
    uuids = [str(uuid) for uuid in visible_clusters(user).values_list("uuid", flat=True)]
    did = Q(actor=user.get_username())
    shares = [*(Q(cluster_uuid=uuid) for uuid in uuids), did]
    return AuditEntry.objects.filter(Q(cluster_uuid__in=uuids) | did), shares


def acts_by(request: OperatorRequest, needs: Need) -> None:
    """Whatever is written down of this request, which spans clusters, names the roles that hold `needs`
    anywhere."""
    request.acting_role = _roles_with(grants_of(request.user).given, needs)


def require(request: OperatorRequest, needs: Need, cluster: Cluster | None = None, *, what: str) -> None:
    """PermissionDenied with a sentence, and an audit entry, unless the user may."""
    # Whatever is written down of this request says by which role it could.
    request.acting_role = _roles_with(_given(request.user, cluster), needs)
    if may(request.user, needs, cluster):
        return
    where = f"in {cluster}" if cluster else "for all clusters"
    reason = (
        f"This needs the permission “{needs}” {where}; you are signed in with"
        f" {role_of(request.user, cluster) or 'no role'}. Roles with it: {', '.join(roles_with(needs))}."
    )
    audit.record("access.refused", what, by=actor(request), cluster=cluster, result="refused", reason=reason)
    raise PermissionDenied(f"{reason} {_who_gives(needs)}")


def _roles_with(given: Iterable[Grant], needs: Need) -> str:
    """The names of those that hold this permission; empty for none."""
    return ", ".join(sorted({one.role for one in given if needs in one.permissions}))


def _given(user: AnyUser, cluster: Cluster | None) -> list[Grant]:
    """What the user was given everywhere, or in this cluster."""
    places = (None, cluster.pk if cluster else None)
    return [one for one in grants_of(user).given if one.cluster_id in places]


def _who_gives(needs: Need) -> str:
    names = givers(needs)
    return f"Who can give you one: {', '.join(names)}." if names else "Nobody can give you one at the moment."


def get_cluster(request: OperatorRequest, pk: int, *, needs: Need) -> Cluster:
    cluster = _found(request, Cluster.objects.filter(pk=pk), visible_clusters(request.user).filter(pk=pk))
    require(request, needs, cluster, what=f"{request.method} {request.path}")
    return cluster


def get_service(request: OperatorRequest, pk: int, *, needs: Need) -> VirtualService:
    return _of_cluster(request, VirtualService.objects.select_related("cluster"), pk, needs)


def get_backend(request: OperatorRequest, pk: int, *, needs: Need) -> Backend:
    rows = Backend.objects.filter(pk=pk).select_related("service__cluster")
    backend = _found(request, rows, rows.filter(service__cluster__in=visible_clusters(request.user)))
    require(request, needs, backend.service.cluster, what=f"{request.method} {request.path}")
    return backend


def get_profile(request: OperatorRequest, pk: int, *, needs: Need) -> WeightProfile:
    return _of_cluster(request, WeightProfile.objects.select_related("cluster"), pk, needs)


def get_director(request: OperatorRequest, pk: int, *, needs: Need) -> Director:
    """An enrolled director of a visible cluster, or a waiting one for whoever may audit everything."""
    rows = Director.objects.filter(pk=pk).select_related("cluster")
    sees_all = may(request.user, "audit")
    visible = rows if sees_all else rows.filter(cluster__in=visible_clusters(request.user))
    director = _found(request, rows, visible)
    require(request, needs, director.cluster, what=f"{request.method} {request.path}")
    return director


def get_job(request: OperatorRequest, pk: int, *, needs: Need) -> Job:
    return _of_cluster(request, Job.objects.select_related("cluster", "revision__cluster"), pk, needs)


def get_drain(request: OperatorRequest, pk: int, *, needs: Need) -> Drain:
    return _of_cluster(request, Drain.objects.select_related("cluster"), pk, needs)


def get_change(request: OperatorRequest, pk: int, *, needs: Need) -> ChangeRequest:
    return _of_cluster(request, ChangeRequest.objects.select_related("cluster", "revision"), pk, needs)


def get_rollout(request: OperatorRequest, pk: int, *, needs: Need) -> Rollout:
    rows = Rollout.objects.select_related("cluster", "revision", "back", "job")
    return _of_cluster(request, rows, pk, needs)


def get_planned(request: OperatorRequest, pk: int, *, needs: Need) -> PlannedApply:
    return _of_cluster(request, PlannedApply.objects.select_related("cluster"), pk, needs)


def get_drift(request: OperatorRequest, pk: int, *, needs: Need) -> Drift:
    return _of_cluster(request, Drift.objects.select_related("cluster", "director"), pk, needs)


def get_revision(request: OperatorRequest, cluster_pk: int, number: int) -> Revision:
    cluster = get_cluster(request, cluster_pk, needs="view")
    rows = Revision.objects.filter(cluster=cluster, number=number).select_related("cluster")
    return _found(request, rows, rows)


def _of_cluster(request: OperatorRequest, rows: QuerySet[OfCluster], pk: int, needs: Need) -> OfCluster:
    """The row with this pk, where its cluster is visible and may be used so."""
    rows = rows.filter(pk=pk)
    found = _found(request, rows, rows.filter(cluster__in=visible_clusters(request.user)))
    require(request, needs, found.cluster, what=f"{request.method} {request.path}")
    return found


def _found(request: OperatorRequest, rows: QuerySet[AnyRow], visible: QuerySet[AnyRow]) -> AnyRow:
    """The one row that is visible. Who asks for one of somebody else's is not told that it is there, but it
    is written down."""
    found = visible.first()
    if found is None:
        if hidden := rows.first():
            what, reason = (
                f"{request.method} {request.path}",
                "It is of a cluster that this person has no role in.",
            )
            by, cluster = actor(request), _cluster_of(hidden)
            audit.record("access.refused", what, by=by, cluster=cluster, result="refused", reason=reason)
        raise Http404("It does not exist, or it belongs to a cluster that you have no role in.")
    return found


def _cluster_of(row: Model) -> Cluster | None:
    if isinstance(row, Cluster):
        return row
    cluster: Cluster | None = (
        row.service.cluster if isinstance(row, Backend) else getattr(row, "cluster", None)
    )
    return cluster
