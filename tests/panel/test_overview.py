"""Lists that are polled cost the same after a year as on the first day."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from cluster.models import Backend, Cluster, Director, Job, Revision, Run
from cluster.overview import cluster_states, director_states
from tests.panel.conftest import TalkingDirector, apply_draft


def _history(cluster: Cluster, director: Director, *, revisions: int, last: str) -> None:
    """So many more revisions with an apply each; the newest one ended as `last` says."""
    there = cluster.revisions.count()
    revisions += there
    for number in range(there + 1, revisions + 1):
        made = Revision.objects.create(
            cluster=cluster, number=number, table={}, fingerprint="x", author_name="ann"
        )
        job = Job.objects.create(kind="apply", cluster=cluster, revision=made, author_name="ann")
        status = last if number == revisions else "applied"
        Run.objects.create(job=job, director=director, director_name=director.name, status=status)


def _cost(asked: Callable[[], object]) -> tuple[int, int]:
    """How many queries it takes, and how many rows they fetch."""
    with CaptureQueriesContext(connection) as queries:
        asked()
    rows = 0
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            cursor.execute(query["sql"])
            rows += len(cursor.fetchall())
    return len(queries), rows


def test_a_long_history_costs_no_more_queries_and_no_more_rows(
    web: Cluster, other: Cluster, backend: Backend, director: Director
) -> None:
    def clusters() -> object:
        return cluster_states(Cluster.objects.all())

    def directors() -> object:
        return director_states(list(Director.objects.all()))

    _history(web, director, revisions=1, last="applied")
    few = _cost(clusters), _cost(directors)
    Run.objects.all().delete()
    Job.objects.all().delete()
    _history(web, director, revisions=60, last="failed")
    assert (_cost(clusters), _cost(directors)) == few


def test_more_clusters_cost_no_more_queries(web: Cluster, backend: Backend, director: Director) -> None:
    _history(web, director, revisions=1, last="applied")
    few, _ = _cost(lambda: cluster_states(Cluster.objects.all()))
    for number in range(10):
        made = Cluster.objects.create(uuid=f"{number:032x}", name=f"cluster{number}")
        Revision.objects.create(cluster=made, number=1, table={}, fingerprint="x", author_name="ann")
    many, _ = _cost(lambda: cluster_states(Cluster.objects.all()))
    assert many == few


def test_the_newest_revision_and_the_newest_apply_count(
    web: Cluster, other: Cluster, director: Director, talker: TalkingDirector
) -> None:
    _history(web, director, revisions=3, last="failed")
    Revision.objects.create(cluster=other, number=9, table={}, fingerprint="x", author_name="ann")
    by_name = {state.cluster.name: state for state in cluster_states(Cluster.objects.all())}
    assert [by_name[name].revision.number for name in ("web", "other")] == [3, 9]  # type: ignore[union-attr]
    assert by_name["web"].status == "failed"
    job = Job.objects.create(kind="load-module", cluster=web, module="ip_vs_sh", author_name="ann")
    Run.objects.create(job=job, director=director, director_name="director1", status="applied")
    assert director_states([director])[0].sync == "failed", "a loaded module mends no apply"
    Run.objects.filter(status="failed").update(status="applied")
    assert director_states([director])[0].sync == "pending"
    Director.objects.update(applied_revision=3)
    assert director_states(list(Director.objects.all()))[0].sync == "in sync"


def test_a_cluster_without_a_revision_has_none(web: Cluster, director: Director, backend: Backend) -> None:
    (state,) = cluster_states(Cluster.objects.all())
    assert state.revision is None and state.draft_is_ahead
    apply_draft(web)
    (state,) = cluster_states(Cluster.objects.all())
    assert state.revision is not None and not state.draft_is_ahead


def test_checks_that_stand_still_are_told_where_their_director_is(
    ann: Client, director: Director, talker: TalkingDirector
) -> None:
    said = "The checking process hung and was started again just now."
    pages = [reverse("director-detail", args=[director.pk]), reverse("director-list")]
    talker.frame(checks={"trouble": said})
    shown = [ann.get(page).content.decode() for page in pages]
    assert said in shown[0] and "checks stood still" in shown[1]
    for checks in ({"trouble": ""}, {"trouble": None}, [], None):
        talker.frame(checks=checks)
        assert "stood still" not in "".join(ann.get(page).content.decode() for page in pages)
    talker.frame(checks={"trouble": said}, age_s=60)
    assert said not in ann.get(pages[0]).content.decode(), "nobody knows any more"
