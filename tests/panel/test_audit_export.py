"""A file has exactly what was searched for, does no harm when it is opened, and can be checked."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tracemalloc
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import audit
from cluster.audit import chain, export, signed
from cluster.models import AuditEntry, Backend, Cluster
from cluster.wire.envelope import verify
from tests.panel.conftest import ANN, person


def _exported(client: Client, kind: str, q: str = "") -> str:
    response = client.post(reverse("audit-export"), {"q": q, "kind": kind})
    assert response.status_code == 200 and response.streaming
    assert response["Content-Disposition"].startswith('attachment; filename="audit-')
    assert response["Cache-Control"] == "no-store"
    return response.getvalue().decode()


def _entries(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    return [line for line in found if "kind" not in line]


def test_a_file_has_what_was_searched_for_and_is_itself_written_down(ann: Client, backend: Backend) -> None:
    rows = list(csv.DictReader(io.StringIO(_exported(ann, "csv", "action:service.add"))))
    assert [(row["action"], row["target"]) for row in rows] == [("service.add", "TCP 192.168.50.10:80")]
    entry = AuditEntry.objects.first()
    assert entry is not None and (entry.actor, entry.action) == ("ann", "audit.export")
    assert entry.role == "administrator"
    assert entry.after == {"query": "action:service.add", "kind": "csv", "through": entry.sequence - 1}


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "|x", "%x"])
def test_no_cell_is_a_formula(ann: Client, web: Cluster, evil: str) -> None:
    audit.record("test", evil, by=audit.Actor(evil), cluster=web, reason=evil)
    row = list(csv.DictReader(io.StringIO(_exported(ann, "csv"), newline="")))[-1]
    assert row["target"] == row["actor"] == row["reason"] == f"'{evil}"


@pytest.mark.parametrize(
    "evil", ["x;=1", "x; =1", 'x;"=1', 'x,;"+1', "x\t@A1", "x\n-1", "x\r\n|x", "\t=1", "\r=1", "a;b;%x"]
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_is_a_formula_for_a_reader_with_another_separator(
    ann: Client, web: Cluster, evil: str, separator: str
) -> None:
    audit.record("test", evil, by=audit.Actor(evil), cluster=web, reason=evil, after={"said": evil})
    rows = csv.reader(io.StringIO(_exported(ann, "csv"), newline=""), delimiter=separator)
    cells = [cell.strip() for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "|", "%"))]


def test_what_is_no_formula_stays_as_it_is(ann: Client, web: Cluster) -> None:
    audit.record("test", "a;b a=b c-d", by=ANN, cluster=web, reason="see this; and = that")
    row = list(csv.DictReader(io.StringIO(_exported(ann, "csv"), newline="")))[-1]
    assert (row["target"], row["reason"]) == ("a;b a=b c-d", "see this; and = that")


def test_json_lines_are_a_chain_that_can_be_checked(ann: Client, backend: Backend) -> None:
    text = _exported(ann, "jsonl")
    assert chain.first_broken(_entries(text)) is None and len(_entries(text)) == 3
    forged = text.replace("192.168.50.11", "192.168.50.66")
    broken = chain.first_broken(_entries(forged))
    assert broken is not None and broken.sequence == 3


def test_json_lines_end_with_a_count_and_a_sum(ann: Client, backend: Backend) -> None:
    text = _exported(ann, "jsonl", "actor:ann")
    *said, last = text.splitlines(keepends=True)
    end = json.loads(last)
    sealed = verify(end["envelope"], "audit-export", public=signed.signing_key().public)
    assert end["kind"] == "end" and sealed["entries"] == 3
    assert sealed["sha256"] == hashlib.sha256("".join(said).encode()).hexdigest()
    head = json.loads(said[0])
    assert (head["kind"], head["query"], head["by"]) == ("audit-export", "actor:ann", "ann")


def test_nothing_of_other_clusters_is_in_a_file(backend: Backend, other: Cluster) -> None:
    client = person("mo", "viewer", other)
    assert {line["cluster"] for line in _entries(_exported(client, "jsonl"))} == {"other"}
    assert "backend.add" not in _exported(client, "csv", "cluster:web")


def test_a_search_that_cannot_be_read_makes_no_file(ann: Client, backend: Backend) -> None:
    response = ann.post(reverse("audit-export"), {"q": "actr:x", "kind": "csv"})
    assert response.status_code == 302 and not AuditEntry.objects.filter(action="audit.export").exists()
    assert ann.get(reverse("audit-export")).status_code == 405


def test_a_large_log_is_never_in_memory_as_a_whole(db: None) -> None:
    line = chain.as_line(audit.record("test", "x" * 150, by=ANN, after={"text": "y" * 1000}))
    many = 20_000
    lines = ({**line, "sequence": number} for number in range(many))
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in export.as_json_lines(lines, query="", by="ann", at=timezone.now()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 30_000_000 and peak < 15_000_000
