"""How each cluster stands: draft, newest revision, directors and their state."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Prefetch, QuerySet

from cluster import desired, live
from cluster.ipvs.formats.document import fingerprint
from cluster.models import Cluster, Director, Revision, Run
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
    """The same number of queries for any number of clusters, and one MGET."""
    found = list(
        clusters.prefetch_related(
            "services__backends",
            "directors",
            Prefetch("revisions", Revision.objects.order_by("-number").defer("table"), to_attr="history"),
        )
    )
    states = {
        state.director.pk: state
        for state in director_states([one for cluster in found for one in cluster.directors.all()])
    }
    return [_state(cluster, states) for cluster in found]


def cluster_state(cluster: Cluster) -> ClusterState:
    return cluster_states(Cluster.objects.filter(pk=cluster.pk))[0]


def director_states(directors: list[Director]) -> list[DirectorState]:
    """Presence from the frames; sync from the newest revision, the newest run and the kernel's print."""
    answers = live.read(directors)
    newest = _newest_revisions({director.cluster_id for director in directors if director.cluster_id})
    bad = _failed_last(directors)
    return [
        DirectorState(
            one.director,
            one,
            live.presence(one, redis_is_up=answers.redis_is_up),
            _sync(one, newest.get(one.director.cluster_id or 0, 0), failed=one.director.pk in bad),
        )
        for one in answers.directors
    ]


def _sync(one: live.DirectorLive, newest: int, *, failed: bool) -> str:
    if failed:
        return "failed"
    if one.director.applied_revision < newest:
        return "pending"
    if one.is_stale:
        return "unknown"
    return "drift" if has_drifted(one) else "in sync"


def _newest_revisions(clusters: set[int]) -> dict[int, int]:
    pairs = Revision.objects.filter(cluster__in=clusters).order_by("number").values_list("cluster", "number")
    return dict(pairs)


def _failed_last(directors: list[Director]) -> set[int]:
    """Directors whose newest apply ended badly."""
    runs = Run.objects.filter(director__in=directors, job__kind="apply").order_by("pk")
    last = dict(runs.values_list("director", "status"))
    return {pk for pk, status in last.items() if pk and status in ("failed", "partial", "refused")}


def _state(cluster: Cluster, states: dict[int, DirectorState]) -> ClusterState:
    history: list[Revision] = cluster.history  # type: ignore[attr-defined]
    newest = history[0] if history else None
    table = desired.draft_table(cluster)
    ahead = fingerprint(table) != newest.fingerprint if newest else bool(len(table))
    return ClusterState(
        cluster,
        newest,
        ahead,
        len(table),
        sum(len(service.backends) for service in table),
        [states[director.pk] for director in cluster.directors.all()],
    )
