"""How each cluster stands: draft, newest revision, directors and their state."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import OuterRef, QuerySet, Subquery

from cluster import desired, live
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.traffic.document import policies_to_document
from cluster.models import Cluster, Director, Job, Revision, Run
from cluster.review import has_drifted


@dataclass(frozen=True)
class DirectorState:
    """`presence`: online, away, unknown. `sync`: in sync, pending, drift, failed (the newest run did), or
    unknown, because nobody has heard lately what the kernel holds."""

    director: Director
    one: live.DirectorLive
    presence: str
    sync: str

    @property
    def kernel_error(self) -> str:
        return self.one.error


@dataclass(frozen=True)
class ClusterState:
    """`draft_is_ahead`: the rows say something else than the newest revision."""

    cluster: Cluster
    revision: Revision | None
    draft_is_ahead: bool
    service_count: int
    backend_count: int
    directors: list[DirectorState]

    @property
    def status(self) -> str:
        """The one word for lists: the worst that is true."""
        if not self.directors:
            return "draft"
        words = {state.sync for state in self.directors}
        if any(state.presence == "away" for state in self.directors):
            return "away"
        for word in ("failed", "drift", "pending", "unknown"):
            if word in words:
                return word
        return "draft" if self.draft_is_ahead else "in sync"


def cluster_states(clusters: QuerySet[Cluster]) -> list[ClusterState]:
    """The same number of queries and rows for any length of history, and one question to Redis."""
    found = list(clusters.prefetch_related("services__backends", "directors"))
    newest = _newest_revisions(found)
    states = {
        state.director.pk: state
        for state in director_states([one for cluster in found for one in cluster.directors.all()])
    }
    return [_state(cluster, newest.get(cluster.pk), states) for cluster in found]


def cluster_state(cluster: Cluster) -> ClusterState:
    return cluster_states(Cluster.objects.filter(pk=cluster.pk))[0]


def director_states(directors: list[Director]) -> list[DirectorState]:
    """Presence from the frames; sync from the newest revision, the newest run and the kernel's print."""
    answers = live.read(directors)
    wanted = _wanted(directors)
    return [
        DirectorState(
            one.director,
            one,
            live.presence(one, redis_is_up=answers.redis_is_up),
            _sync(one, *wanted.get(one.director.pk, (0, ""))),
        )
        for one in answers.directors
    ]


def _sync(one: live.DirectorLive, newest: int, last_apply: str) -> str:
    if last_apply in (Run.Status.FAILED, Run.Status.PARTIAL, Run.Status.REFUSED):
        return "failed"
    if one.director.applied_revision < newest:
        return "pending"
    if one.is_stale:
        return "unknown"
    return "drift" if has_drifted(one) or one.odd_switches else "in sync"


def _newest_revisions(clusters: list[Cluster]) -> dict[int, Revision]:
    """By cluster, without their tables."""
    newest = Revision.objects.filter(cluster=OuterRef("pk")).order_by("-number").values("pk")[:1]
    keys = Cluster.objects.filter(pk__in=[cluster.pk for cluster in clusters]).annotate(
        newest=Subquery(newest)
    )
    found = Revision.objects.filter(pk__in=list(keys.values_list("newest", flat=True))).defer("table")
    return {revision.cluster_id: revision for revision in found}


def _wanted(directors: list[Director]) -> dict[int, tuple[int, str]]:
    """By director: the number of its cluster's newest revision, 0 for none, and the status of its newest
    apply."""
    revision = Revision.objects.filter(cluster=OuterRef("cluster")).order_by("-number").values("number")[:1]
    run = Run.objects.filter(director=OuterRef("pk"), job__kind=Job.Kind.APPLY).order_by("-pk")
    rows = (
        Director.objects.filter(pk__in=[director.pk for director in directors])
        .annotate(newest=Subquery(revision), last_apply=Subquery(run.values("status")[:1]))
        .values_list("pk", "newest", "last_apply")
    )
    return {pk: (newest or 0, last_apply or "") for pk, newest, last_apply in rows}


def _state(cluster: Cluster, newest: Revision | None, states: dict[int, DirectorState]) -> ClusterState:
    table, policies = desired.draft_table(cluster), desired.draft_policies(cluster)
    ahead = bool(len(table))
    if newest:
        said, told = policies_to_document(policies), newest.traffic
        ahead = (
            fingerprint(table) != newest.fingerprint
            or said != told.get("policies", [])
            or cluster.switches != told.get("switches", {})
        )
    return ClusterState(
        cluster,
        newest,
        ahead,
        len(table),
        sum(len(service.backends) for service in table),
        [states[director.pk] for director in cluster.directors.all()],
    )
