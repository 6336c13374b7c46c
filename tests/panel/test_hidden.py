"""Somebody else's objects: they cannot be told from what is not there, and whoever asks is written down."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.urls import reverse

from cluster.models import AuditEntry, Backend, Cluster, Role
from tests.panel.conftest import person


@pytest.mark.parametrize("what", ["cluster-detail", "service-detail", "backend-edit"])
def test_a_hidden_object_looks_like_none_and_the_log_knows_who_asked(
    web: Cluster, backend: Backend, what: str
) -> None:
    other = Cluster.objects.create(name="other", uuid=uuid4())
    zoe = person("zoe", Role.OPERATOR, other)
    pk = {"cluster-detail": web.pk, "service-detail": backend.service_id, "backend-edit": backend.pk}[what]
    before = AuditEntry.objects.count()
    nothing = zoe.get(reverse(what, args=[99_999]))
    assert AuditEntry.objects.count() == before
    hidden = zoe.get(reverse(what, args=[pk]))
    for page in (nothing, hidden):
        assert page.status_code == 404
        assert "or it belongs to a cluster you cannot see" in page.content.decode()
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor, entry.result) == ("access.refused", "zoe", "refused")
    assert (entry.cluster, entry.target) == (web.name, f"GET {reverse(what, args=[pk])}")
