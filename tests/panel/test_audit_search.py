"""What happened is found by words, at any depth, and by those alone who may see it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from cluster import audit
from cluster.actions import backends, searches
from cluster.actions.problems import Rejected
from cluster.audit import pages, search
from cluster.audit.search import find, parse
from cluster.models import AuditEntry, AuditHead, Backend, Cluster, RoleBinding, VirtualService
from tests.panel.conftest import ANN, person

URL = "/audit/"
NOON = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)


def _sequences(query: str) -> list[int]:
    found = find(AuditEntry.objects.all(), parse(query), AuditHead.objects.get())
    return [entry.sequence for entry in found.entries]


def _actions(query: str) -> list[str]:
    found = find(AuditEntry.objects.all(), parse(query), AuditHead.objects.get())
    return [entry.action for entry in found.entries]


@pytest.mark.parametrize(
    "query, since, until",
    [
        ("created:2026-11-01", "2026-11-01T00:00", "2026-11-02T00:00"),
        ("created:2026-11-01..2026-11-05", "2026-11-01T00:00", "2026-11-06T00:00"),
        ("created:2026-11-01T14:30..2026-11-01T14:35", "2026-11-01T14:30", "2026-11-01T14:36"),
        ("created:2026-11-01..*", "2026-11-01T00:00", None),
        ("created:*..2026-11-01", None, "2026-11-02T00:00"),
        ("created:>=2026-11-01", "2026-11-01T00:00", None),
        ("created:>2026-11-01", "2026-11-02T00:00", None),
        ("created:<2026-11-01", None, "2026-11-01T00:00"),
        ("created:<=2026-11-01", None, "2026-11-02T00:00"),
        ("created:24h", "2026-11-04T12:00", None),
    ],
)
def test_times_are_understood(query: str, since: str | None, until: str | None) -> None:
    search = parse(query, now=NOON)
    ends = [f"{end:%Y-%m-%dT%H:%M}" if end else None for end in (search.since, search.until)]
    assert (search.problems, ends) == ((), [since, until])


@pytest.mark.parametrize(
    "query, says",
    [
        ("actr:ann", "no qualifier"),
        ('object:"web shop', "quote"),
        ("actor:", "nothing to look for"),
        ("created:yesterday", "no time"),
        ("created:2026-11-31", "no time"),
        ("created:2026-11-05..2026-11-01", "ends before it begins"),
        ("created:1h created:2h", "twice"),
        ("-created:1h", "minus"),
        ("created:9999999w", "no time"),
        ("created:9999w", ""),
        ("x" * 401, "401 characters"),
    ],
)
def test_what_is_not_understood_is_said_at_the_box(ann: Client, query: str, says: str) -> None:
    problems = " ".join(parse(query).problems)
    assert says in problems if says else not problems
    page = ann.get(URL, {"q": query}).content.decode()
    assert ('id="query_error"' in page) is bool(says)
    if says:
        assert "Nothing was searched" in page and "cluster.create" not in page


@pytest.mark.parametrize(
    "query", ["actor:ann -action:service.* object:service/4", 'object:"web shop" word', "-result:done"]
)
def test_a_search_says_itself_again(query: str) -> None:
    assert str(parse(query)) == query and parse(str(parse(query))) == parse(query)


def test_each_qualifier_finds_its_own(web: Cluster, backend: Backend, other: Cluster) -> None:
    otto = audit.Actor("otto", "192.0.2.7", "request-7", role="operator", session="session 0123456789ab")
    backends.set_weight(backend, seen_version=1, weight=7, by=otto)
    for query in (
        "actor:otto",
        "action:backend.set-weight",
        "request:request-7",
        "address:192.0.2.7",
        "role:operator",
        "session:0123456789ab",
        'session:"session 0123456789ab"',
        f"object:backend/{backend.pk} -action:backend.add",
        "192.168.50.11 actor:otto",
        "actor:ot*",
        "cluster:web -actor:ann",
        "created:1h actor:otto",
    ):
        assert _actions(query) == ["backend.set-weight"], query
    assert _actions("action:service.*") == ["service.add"]
    assert len(_actions("action:service.add action:cluster.create")) == 3, "the same twice means either"
    assert _actions("result:refused") == [] and _actions("created:<2026-01-01") == []


def test_a_cluster_is_found_under_its_new_name(web: Cluster, service: VirtualService) -> None:
    Cluster.objects.filter(pk=web.pk).update(name="shop")
    assert _actions("cluster:shop") == ["service.add", "cluster.create"]


def _many(count: int, **columns: Any) -> None:
    """Entries beyond those that there are; nobody looks at their hashes here."""
    begin = AuditEntry.objects.count()
    now = timezone.now()
    rows = [
        AuditEntry(
            **{"actor": "panel", "action": "test", "target": f"object {begin + n}", "at": now} | columns,
            sequence=begin + n,
            previous_hash="",
            hash="",
        )
        for n in range(1, count + 1)
    ]
    AuditEntry.objects.bulk_create(rows)
    from cluster.models import AuditHead

    AuditHead.objects.update(sequence=begin + count)


def _linked(page: str, rel: str) -> str:
    found = re.search(f'rel="{rel}" href="([^"]*)"', page)
    return found[1].replace("&amp;", "&") if found else ""


@pytest.mark.parametrize("query", ["", "actor:panel", "object:object"])
def test_pages_lead_to_the_end_and_back(
    ann: Client, web: Cluster, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no index helps, and a page looks at a part of the log alone."""
    monkeypatch.setattr(pages, "MOST_WALKED", 70)
    _many(230)
    expected = _sequences(query)
    assert len(expected) >= 230
    _walk(ann, f"{URL}?q={query}", expected)
    assert ann.get(urljoin(URL, f"{expected[0]}/")).context["entry"].sequence == expected[0]


@pytest.mark.parametrize("most", [50, 1])
@pytest.mark.parametrize("query", ["", "created:24h", "actor:panel", "object:object"])
def test_who_sees_a_part_of_the_log_has_pages_of_it(
    web: Cluster, other: Cluster, query: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two clusters among others, and what they did themselves, there or elsewhere: each entry once."""
    monkeypatch.setattr(pages, "MOST_WALKED", 70)
    monkeypatch.setattr(search, "MOST_SHARES", most)
    cora = person("cora", "viewer", web)
    RoleBinding.objects.create(user=User.objects.get(username="cora"), role="viewer", cluster=other)
    strange = "00000000-0000-4000-8000-000000000000"
    for uuid, actor, count in [
        (str(web.uuid), "panel", 60),
        (strange, "panel", 90),
        (str(other.uuid), "cora", 30),
        (strange, "cora", 55),
        (str(web.uuid), "cora", 1),
        (strange, "panel", 200),
    ]:
        _many(count, cluster_uuid=uuid, actor=actor)
    seen = Q(cluster_uuid__in=[str(web.uuid), str(other.uuid)]) | Q(actor="cora")
    found = find(AuditEntry.objects.filter(seen), parse(query), AuditHead.objects.get())
    expected = [entry.sequence for entry in found.entries]
    assert 50 < len(expected) < 160
    _walk(cora, f"{URL}?q={query}", expected)


def _walk(client: Client, url: str, expected: list[int]) -> None:
    """From the newest page to the oldest, and back: every entry, and none twice on the way there."""
    flat: list[int] = []
    last = url
    while url:
        page = client.get(url).content.decode()
        flat += [int(number) for number in re.findall(r'class="num"><a href="(\d+)/', page)]
        last, url = url, _linked(page, "next")
    assert flat == expected
    back: set[int] = set()
    url = last
    while url:
        page = client.get(url).content.decode()
        back.update(int(number) for number in re.findall(r'class="num"><a href="(\d+)/', page))
        url = _linked(page, "prev")
    assert back == set(expected)


def test_a_deep_page_asks_as_little_as_the_first(ann: Client, web: Cluster) -> None:
    _many(300)

    def asked(**query: str) -> int:
        with CaptureQueriesContext(connection) as caught:
            assert ann.get(URL, query).status_code == 200
        return len(caught)

    assert asked(before="60") == asked() <= 20


def test_a_search_that_no_index_finds_says_how_far_it_looked(
    ann: Client, web: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_WALKED", 50)
    _many(120)
    page = ann.get(URL, {"q": "object:nothing-of-this-name"}).content.decode()
    assert "No entry matches so far" in page and "Looked back to #72" in page
    page = ann.get(URL, {"q": "object:nothing-of-this-name", "before": "40"}).content.decode()
    assert "No entry matches</h2>" in page and "Clear the search" in page


@pytest.mark.parametrize(
    "query, is_indexed",
    [
        ("", True),
        ("created:24h", True),
        ("actor:ann -action:sign-in word", True),
        ("object:service/7", True),
        ("cluster:web", True),
        ("cluster:gone", False),
        ("actor:a*", False),
        ("actor:ann actor:otto", False),
        ("-actor:ann", False),
        ("object:shop", False),
        ("reason:x", False),
    ],
)
def test_what_no_index_finds_is_known(web: Cluster, query: str, is_indexed: bool) -> None:
    found = find(AuditEntry.objects.all(), parse(query), AuditHead.objects.get())
    assert found.is_indexed is is_indexed
    own = [Q(actor="ann"), Q(cluster_uuid=str(web.uuid))]
    found = find(AuditEntry.objects.all(), parse(query), AuditHead.objects.get(), shares=own)
    assert found.is_indexed is (query in ("", "created:24h")) and len(found.shares) == 2
    found = find(AuditEntry.objects.all(), parse(query), AuditHead.objects.get(), shares=own * 50)
    assert not found.is_indexed and len(found.shares) == 1


def test_a_time_is_found_where_clocks_were_set_back(web: Cluster) -> None:
    now = timezone.now()
    _many(1, at=now - timedelta(days=2), target="early")
    _many(1, at=now - timedelta(days=2, minutes=30), target="set back")
    _many(1, at=now - timedelta(days=1), target="late")
    begin, end = now - timedelta(days=2, hours=1), now - timedelta(days=1, hours=12)
    assert len(_sequences(f"created:{begin:%Y-%m-%dT%H:%M}..{end:%Y-%m-%dT%H:%M}")) == 2


def test_the_form_writes_the_words_of_the_box(ann: Client, web: Cluster) -> None:
    typed = {"q": "-action:sign-in actor:otto", "actor": "ann b", "result": "refused", "cluster": "web"}
    response = ann.get(URL, typed | {"when": "range", "since": "2026-11-01T10:00", "until": ""})
    query = parse_qs(urlsplit(response["Location"]).query)["q"][0]
    assert query == '-action:sign-in actor:"ann b" cluster:web result:refused created:"2026-11-01T10:00..*"'
    page = ann.get(reverse("audit-form"), {"q": query}).content.decode()
    part = ann.get(reverse("audit-form"), {"q": query}, headers={"HX-Request": "true"}).content.decode()
    assert 'value="ann b"' in part and 'id="main"' not in part
    assert 'value="ann b"' in page and 'value="2026-11-01T10:00"' in page
    assert '<option value="refused" selected>' in page and '<option value="range" selected>' in page


def test_a_search_is_kept_and_only_its_owner_sees_it(ann: Client, otto: Client) -> None:
    ann.post(reverse("audit-save-search"), {"name": "refusals of ann", "query": "result:refused"})
    chip = 'title="result:refused">refusals of ann</a>'
    assert chip in ann.get(URL).content.decode()
    assert chip not in otto.get(URL).content.decode()
    kept = User.objects.get(username="ann").audit_searches.get()
    otto.post(reverse("audit-remove-search", args=[kept.pk]))
    assert User.objects.get(username="ann").audit_searches.exists()
    ann.post(reverse("audit-remove-search", args=[kept.pk]))
    assert not User.objects.get(username="ann").audit_searches.exists()
    assert _actions("action:audit.*") == ["audit.remove-search", "audit.save-search"]


def test_a_search_that_cannot_be_read_is_not_kept(ann: Client) -> None:
    user = User.objects.get(username="ann")
    with pytest.raises(Rejected, match="no qualifier"):
        searches.save_search(user, name="x", query="actr:ann", by=ANN)
    page = ann.post(reverse("audit-save-search"), {"name": "", "query": ""}, follow=True).content.decode()
    assert "Give the search a name" in page


def test_an_entry_leads_to_its_request_its_object_and_its_neighbours(ann: Client, backend: Backend) -> None:
    ann.post(reverse("backend-set-weight", args=[backend.pk]), {"weight": "4", "version": "1"})
    entry = AuditEntry.objects.first()
    assert entry is not None
    page = ann.get(reverse("audit-detail", args=[entry.sequence])).content.decode()
    assert f"?q=request:{entry.request_id}" in page and f"?q=object:backend/{backend.pk}" in page
    assert f"/audit/{entry.sequence - 1}/" in page and f"/audit/{entry.sequence + 1}/" not in page


def test_every_object_page_leads_to_its_history(ann: Client, backend: Backend, director: Any) -> None:
    service, cluster = backend.service, backend.service.cluster
    for name, pk, query in (
        ("service-detail", service.pk, f"object:service/{service.pk}"),
        ("service-detail", service.pk, f"object:backend/{backend.pk}"),
        ("backend-edit", backend.pk, f"object:backend/{backend.pk}"),
        ("director-detail", director.pk, f"object:director/{director.pk}"),
    ):
        assert f"/audit/?q={query}" in ann.get(reverse(name, args=[pk])).content.decode()
        assert "No entry matches" not in ann.get(URL, {"q": query}).content.decode()
    assert "/audit/?cluster=web" in ann.get(reverse("cluster-detail", args=[cluster.pk])).content.decode()
    user = User.objects.get(username="ann")
    page = ann.get(reverse("person-detail", args=[user.pk])).content.decode()
    assert f"/audit/?q=object:person/{user.pk}" in page


def test_whoever_has_one_cluster_finds_nothing_of_others(backend: Backend, other: Cluster) -> None:
    client = person("mo", "viewer", other)
    for query in ("", "actor:ann", f"object:backend/{backend.pk}", "cluster:web", "-cluster:other"):
        page = client.get(URL, {"q": query}).content.decode()
        assert "backend.add" not in page
    assert "cluster.create" in client.get(URL, {"q": "cluster:other"}).content.decode()
    entry = AuditEntry.objects.get(action="backend.add")
    assert client.get(reverse("audit-detail", args=[entry.sequence])).status_code == 404
