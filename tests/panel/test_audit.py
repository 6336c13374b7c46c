"""Nothing in the log can be altered unseen."""

from __future__ import annotations

import copy

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse

from cluster import audit
from cluster.models import AuditEntry, AuditHead, Backend, VirtualService

FIELDS = ["actor", "action", "target", "cluster", "reason", "result", "address", "request_id"]


def _entries() -> list[AuditEntry]:
    return list(AuditEntry.objects.order_by("sequence"))


def test_an_honest_log_is_intact(backend: Backend) -> None:
    assert audit.verify() is None


@pytest.mark.parametrize("field", FIELDS)
def test_a_changed_field_is_found(backend: Backend, field: str) -> None:
    entries = _entries()
    setattr(entries[1], field, "forged")
    assert audit.first_broken(entries) == 2


def test_changed_values_a_gap_and_a_swap_are_found(backend: Backend) -> None:
    entries = _entries()
    entries[0].after = {"name": "forged"}
    assert audit.first_broken(entries) == 1
    assert audit.first_broken(_entries()[1:]) == 1
    swapped = _entries()
    swapped[0], swapped[1] = swapped[1], swapped[0]
    assert audit.first_broken(swapped) == 1
    assert audit.first_broken([*_entries(), copy.copy(_entries()[-1])]) == len(_entries()) + 1


def test_a_cut_off_end_is_found(backend: Backend) -> None:
    AuditHead.objects.update(sequence=99)
    assert audit.verify() == 99


@pytest.mark.parametrize(
    "statement", ["UPDATE cluster_auditentry SET actor = 'x'", "DELETE FROM cluster_auditentry"]
)
def test_the_database_itself_refuses_to_alter_the_log(backend: Backend, statement: str) -> None:
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_entries_refuse_save_and_delete(backend: Backend) -> None:
    entry = _entries()[0]
    with pytest.raises(TypeError, match="never changes"):
        entry.save()
    with pytest.raises(TypeError, match="never deleted"):
        entry.delete()


def test_the_page_filters_by_actor_action_and_object(ann: Client, service: VirtualService) -> None:
    url = reverse("audit-list")
    assert "service.add" in ann.get(url, {"actor": "ann", "action": "service.add"}).content.decode()
    assert "No entry matches" in ann.get(url, {"actor": "otto"}).content.decode()
    page = ann.get(url, {"target": "192.168.50.10"}).content.decode()
    assert "TCP 192.168.50.10:80" in page and "cluster.create</td>" not in page


def test_the_page_shows_before_and_after(ann: Client, backend: Backend) -> None:
    ann.post(reverse("backend-set-weight", args=[backend.pk]), {"weight": "4", "version": "1"})
    entry = AuditEntry.objects.first()
    assert entry is not None
    page = ann.get(reverse("audit-detail", args=[entry.sequence])).content.decode()
    assert "<del>1</del>" in page and "<ins>4</ins>" in page


def test_a_long_log_is_paged_newest_first(ann: Client) -> None:
    for number in range(60):
        audit.record("test", f"object {number}", by=audit.PANEL)
    first = ann.get(reverse("audit-list")).content.decode()
    assert "object 59" in first and "object 9<" not in first and "?before=" in first
    older = ann.get(reverse("audit-list"), {"before": "11"}).content.decode()
    assert "object 9<" in older and "object 59" not in older


def test_an_operator_of_one_cluster_sees_its_entries_and_his_own(mallory: Client, backend: Backend) -> None:
    mallory.get(reverse("cluster-new"))
    page = mallory.get(reverse("audit-list")).content.decode()
    assert "access.refused" in page and "backend.add" not in page
