"""Revisions: compared, rolled back to, tagged, exported."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from cluster import desired
from cluster.actions import backends, clusters, directors, policies, revisions
from cluster.actions.problems import Rejected
from cluster.audit import Actor
from cluster.ipvs.formats import kinds
from cluster.ipvs.traffic.policy import Policy
from cluster.models import AuditEntry, Backend, Cluster, Director, Revision, VirtualService
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft, text_of


@pytest.fixture
def two(web: Cluster, backend: Backend, director: object) -> Cluster:
    """Revision 2 has another weight, and a policy."""
    apply_draft(web)
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    policies.set_policy(
        VirtualService.objects.get(), Policy(ramp_s=9), seen_version=1, is_administrator=True, by=ANN
    )
    apply_draft(web)
    return web


def test_any_two_are_compared_in_words_and_lines(two: Cluster, vera: Client) -> None:
    url = reverse("revision-compare", args=[two.pk])
    page = text_of(vera.get(url, {"before": "1", "after": "2"}))
    assert "weight: 1 &rarr; 7" in page and "Slow start" in page
    line = "-a -t 192.168.50.10:80 -r 192.168.50.11:80 -m -w"
    assert f"- {line} 1" in page and f"+ {line} 7" in page and "@@" not in page
    assert "weight: 7 &rarr; 1" in text_of(vera.get(url, {"before": "2", "after": "1"}))
    assert "Nothing differs" in text_of(vera.get(url))
    assert "New service" in text_of(vera.get(url, {"before": "0", "after": "1"}))


def test_what_each_director_lacks_is_told_beside_the_comparison(
    web: Cluster,
    backend: Backend,
    director: Director,
    redis: FakeRedis,
    talker: TalkingDirector,
    vera: Client,
) -> None:
    """In the middle of a rollout: the first has the new revision, the other one the old."""
    redis.values.clear()
    other = TalkingDirector("director2", redis)
    other.hello()
    row = Director.objects.get(name="director2")
    directors.enrol_director(row, web, seen_fingerprint=row.fingerprint, by=ANN)
    for talking in (talker, other):
        talking.finish(apply_draft(web).runs.get(director_name=talking.name))
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    talker.finish(apply_draft(web).runs.get(director_name="director1"))
    page = vera.get(reverse("revision-compare", args=[web.pk]), {"before": "1", "after": "2"})
    parts = {part.director.name: part for part in page.context["directors"]}
    assert [parts[name].director.applied_revision for name in ("director1", "director2")] == [2, 1]
    assert parts["director1"].step_count == 0
    assert parts["director2"].commands == "ipvsadm -e -t 192.168.50.10:80 -r 192.168.50.11:80 -m -w 7"
    words = text_of(page)
    assert "Its kernel had, by its last report, what revision 2 says" in words
    assert "1 step from what its kernel had, by its last report, to revision 2" in words
    back = vera.get(reverse("revision-compare", args=[web.pk]), {"before": "2", "after": "1"})
    parts = {part.director.name: part for part in back.context["directors"]}
    assert (parts["director1"].step_count, parts["director2"].step_count) == (1, 0)


def test_somebody_elses_service_is_not_called_the_revisions(
    two: Cluster, director: Director, talker: TalkingDirector, vera: Client
) -> None:
    """No step is planned against it, and the kernel does not have what the revision says."""
    elsewhere = {
        "protocol": "tcp",
        "address": "192.168.50.10",
        "port": 80,
        "scheduler": "wlc",
        "owned": False,
        "backends": [],
    }
    talker.frame(services=[elsewhere])
    page = vera.get(reverse("revision-compare", args=[two.pk]), {"before": "1", "after": "2"})
    (part,) = page.context["directors"]
    assert part.conflicts == ["TCP 192.168.50.10:80"] and part.step_count == 0
    words = text_of(page)
    assert "was not put there by the panel: it would be left alone" in words
    assert "Its kernel has what" not in words


def test_every_revision_is_found_in_the_list(web: Cluster, vera: Client) -> None:
    said = {"cluster": web, "table": {"version": 1, "services": []}, "fingerprint": "", "author_name": "ann"}
    Revision.objects.bulk_create(Revision(number=number, **said) for number in range(1, 121))
    url, seen = reverse("revision-list", args=[web.pk]), []
    page = vera.get(url)
    while True:
        seen.append([row.number for row in page.context["revisions"]])
        if not (older := page.context["older_url"]):
            break
        page = vera.get(url + older)
    assert [len(numbers) for numbers in seen] == [50, 50, 20] and sum(seen, []) == list(range(120, 0, -1))
    back = vera.get(url + page.context["newer_url"])
    assert [row.number for row in back.context["revisions"]] == seen[1]
    top = vera.get(url + back.context["newer_url"])
    assert [row.number for row in top.context["revisions"]] == seen[0] and top.context["newer_url"] == ""
    assert vera.get(f"{url}?before=1").context["revisions"] == []
    assert vera.get(f"{url}?after=x&before=").context["revisions"][0].number == 120
    compared = text_of(vera.get(reverse("revision-compare", args=[web.pk]), {"before": "3", "after": "118"}))
    assert "Nothing differs" in compared


@pytest.mark.parametrize("side", ["9", "-1", "x", "1" * 40, "draft;", "\0"])
def test_what_is_no_revision_is_not_compared(two: Cluster, vera: Client, side: str) -> None:
    url = reverse("revision-compare", args=[two.pk])
    for name in ("before", "after"):
        said = vera.get(url, {name: side})
        assert said.status_code == 404 and "web has no revision" in text_of(said)


def test_rolling_back_shows_first_and_then_goes_to_the_review(two: Cluster, otto: Client) -> None:
    url = reverse("revision-roll-back", args=[two.pk, 1])
    response = otto.get(url)
    assert "weight: 7 &rarr; 1" in text_of(response) and "Slow start" in text_of(response)
    assert Backend.objects.get().weight == 7
    review = otto.post(url, {"seen": response.context["seen"]}, follow=True)
    entry = AuditEntry.objects.get(action="draft.roll-back", object_kind="cluster")
    changed = {
        name: (was, entry.after[name]) for name, was in entry.before.items() if entry.after[name] != was
    }
    assert changed.pop("table")
    ((name, sides),) = changed.items()
    assert name.startswith("policy of TCP 192.168.50.10:80: ") and sides[0] != sides[1]
    assert 'value="Roll back to revision 1"' in review.content.decode()
    said = {"seen": review.context["review"].fingerprint, "reason": "Roll back to revision 1"}
    assert otto.post(reverse("cluster-review", args=[two.pk]), said).status_code == 302
    newest = Revision.objects.first()
    assert newest and newest.number == 3
    assert desired.revision_said(newest) == desired.revision_said(Revision.objects.get(number=1))
    assert "says this already" in text_of(otto.get(url))


def test_a_stale_preview_rolls_nothing_back(two: Cluster, otto: Client) -> None:
    url = reverse("revision-roll-back", args=[two.pk, 1])
    seen = otto.get(url).context["seen"]
    backends.set_weight(Backend.objects.get(), seen_version=2, weight=9, by=ANN)
    page = text_of(otto.post(url, {"seen": seen}))
    assert "The draft has changed since you opened this page" in page and "weight: 9 &rarr; 1" in page
    assert Backend.objects.get().weight == 9


def test_a_tag_is_one_revisions_alone(two: Cluster, otto: Client) -> None:
    url = reverse("revision-tag", args=[two.pk, 1])
    assert otto.post(url, {"name": "before-the-move"}).status_code == 302
    page = text_of(otto.post(reverse("revision-tag", args=[two.pk, 2]), {"name": "before-the-move"}))
    assert "Revision 1 is tagged before-the-move already. Remove that tag first." in page
    assert "before-the-move" in text_of(otto.get(reverse("revision-list", args=[two.pk])))
    assert "Use letters, digits" in text_of(otto.post(url, {"name": "a b"}))
    otto.post(url, {"name": "before-the-move", "remove": "1"})
    assert not Revision.objects.get(number=1).tags.exists()
    told = AuditEntry.objects.filter(action__startswith="revision.").order_by("sequence")
    assert [(entry.action, entry.target) for entry in told] == [
        ("revision.tag", "web revision 1"),
        ("revision.untag", "web revision 1"),
    ]
    with pytest.raises(Rejected, match="has no tag before-the-move any more"):
        revisions.untag(Revision.objects.get(number=1), name="before-the-move", by=ANN)


@pytest.mark.parametrize("kind", kinds.FORMATS)
def test_an_export_can_be_read_again(two: Cluster, vera: Client, kind: str) -> None:
    response = vera.post(reverse("revision-export", args=[two.pk, 2, kind]))
    assert response["Content-Disposition"].startswith('attachment; filename="web-revision-2.')
    table = desired.revision_said(Revision.objects.get(number=2))[0]
    assert kinds.parse(response.content.decode(), kind=kind).table == table


def test_an_export_names_what_its_format_cannot_say(two: Cluster, vera: Client) -> None:
    VirtualService.objects.update(protocol="sctp")
    apply_draft(two)
    text = vera.post(reverse("revision-export", args=[two.pk, 3, "ldirectord"])).content.decode()
    assert (
        text.startswith("# Left out of revision 3: ") and not kinds.parse(text, kind="ldirectord").table.keys
    )
    assert vera.post(reverse("revision-export", args=[two.pk, 3, "nothing"])).status_code == 404


@pytest.mark.parametrize("kind", sorted(kinds.FORMATS))
def test_an_export_is_written_down(two: Cluster, vera: Client, kind: str) -> None:
    url = reverse("revision-export", args=[two.pk, 2, kind])
    assert f'formaction="{url}"' in vera.get(reverse("revision-detail", args=[two.pk, 2])).content.decode()
    before = AuditEntry.objects.count()
    assert vera.get(url).status_code == 405 and AuditEntry.objects.count() == before
    file = vera.post(url)["Content-Disposition"].split('"')[1]
    entry = AuditEntry.objects.first()
    assert entry is not None and AuditEntry.objects.count() == before + 1
    assert (entry.actor, entry.action, entry.role) == ("vera", "revision.export", "viewer")
    assert entry.target == f"web revision 2 as {kinds.FORMATS[kind].title}"
    assert (entry.cluster, entry.object_kind) == ("web", "revision")
    assert entry.after and (entry.after["revision"], entry.after["kind"], entry.after["file"]) == (
        2,
        kind,
        file,
    )
    page = text_of(vera.get(reverse("audit-list"), {"q": "action:revision.export"}))
    assert entry.target in page
    assert file in text_of(vera.get(reverse("audit-detail", args=[entry.sequence])))


def test_what_is_not_exported_is_not_written_down(two: Cluster, vera: Client, mallory: Client) -> None:
    assert vera.post(reverse("revision-export", args=[two.pk, 9, "json"])).status_code == 404
    assert mallory.post(reverse("revision-export", args=[two.pk, 2, "json"])).status_code == 404
    assert not AuditEntry.objects.filter(action="revision.export").exists()
    refused = AuditEntry.objects.get(action="access.refused")
    assert (refused.actor, refused.cluster) == ("mallory", two.name)


# ── In the database ──────────────────────────────────────────────────────────────────────────────────


def _raw(statement: str, *said: object) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, said)


COLUMNS = sorted({field.column for field in Revision._meta.fields} - {"author_id"})


@pytest.mark.parametrize("column", COLUMNS)
def test_the_database_itself_refuses_to_change_a_revision(two: Cluster, column: str) -> None:
    before = Revision.objects.order_by("number").values().first()
    with pytest.raises(DatabaseError, match="A revision never changes"):
        _raw(f'UPDATE cluster_revision SET "{column}" = "{column}" WHERE number = 1')
    assert Revision.objects.order_by("number").values().first() == before


@pytest.mark.parametrize("which", ["", " WHERE number = 1", " WHERE number = 2"])
def test_the_database_itself_refuses_to_delete_a_revision(two: Cluster, which: str) -> None:
    with pytest.raises(DatabaseError, match="deleted with its cluster alone"):
        _raw(f"DELETE FROM cluster_revision{which}")
    assert Revision.objects.count() == 2


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has no INSERT OR REPLACE")
@pytest.mark.parametrize("pk", ["id", "id + 100"])
def test_the_database_itself_refuses_to_replace_a_revision(two: Cluster, pk: str) -> None:
    names = ["cluster_id", "number", "table", "traffic", "fingerprint", "author_name", "ticket", "created"]
    kept = ", ".join(f'"{name}"' for name in names)
    with pytest.raises(DatabaseError, match="A revision never changes"):
        _raw(
            f"INSERT OR REPLACE INTO cluster_revision (id, reason, {kept})"
            f" SELECT {pk}, 'another', {kept} FROM cluster_revision WHERE number = 1"
        )


def test_an_account_that_is_removed_leaves_its_name_at_its_revisions_and_no_other_takes_its_place(
    web: Cluster, backend: Backend, director: Director
) -> None:
    ann = User.objects.create_user("ann")
    revision = apply_draft(web, by=Actor("ann", user_id=ann.pk)).revision
    assert revision is not None and revision.author == ann
    with pytest.raises(DatabaseError, match="A revision never changes"):
        _raw("UPDATE cluster_revision SET author_id = %s", ann.pk)
    ann.delete()
    revision.refresh_from_db()
    assert (revision.author, revision.author_name) == (None, "ann")


def test_a_removed_cluster_takes_its_revisions_with_it(two: Cluster, other: Cluster) -> None:
    revisions.tag(Revision.objects.get(number=1), name="good", by=ANN)
    directors.release_director(Director.objects.get(), by=ANN)
    clusters.remove_cluster(two, by=ANN)
    connection.check_constraints()
    assert not Revision.objects.exists() and [row.name for row in Cluster.objects.all()] == ["other"]


def test_a_cluster_does_not_go_without_its_revisions(two: Cluster) -> None:
    Cluster.objects.get(pk=two.pk).delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        connection.check_constraints()
    # The test's own end looks again.
    Revision.objects.all().delete()
