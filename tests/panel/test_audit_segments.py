"""What is old leaves the database as a sealed part, and what is left can still be checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse

from cluster.audit import chain, signed
from cluster.models import AuditEntry, AuditHead
from tests.panel.test_audit_checkpoints import VERIFIER, _checkpoint, _verified, _write
from tests.panel.test_audit_checkpoints import log as log


@pytest.fixture
def segment(log: None, tmp_path: Path) -> Path:
    """The first twenty of thirty entries, sealed; that is itself entry 31."""
    path = tmp_path / "segment-1.jsonl"
    call_command("audit_seal", path, through=20)
    return path


def _refused(command: str, path: Path, **options: Any) -> str:
    before = AuditEntry.objects.count()
    with pytest.raises(CommandError) as caught:
        call_command(command, path, **options)
    assert AuditEntry.objects.count() == before
    return str(caught.value)


def test_a_sealed_part_leaves_and_the_chain_begins_at_the_seal(segment: Path, ann: Client) -> None:
    call_command("audit_drop", segment)
    assert list(AuditEntry.objects.order_by("sequence").values_list("sequence", flat=True))[:2] == [21, 22]
    assert AuditHead.objects.get().sealed_sequence == 20
    assert "intact up to entry #32. It begins after #20." in _verified()
    assert list(AuditEntry.objects.values_list("action", flat=True)[:2]) == ["audit.drop", "audit.seal"]
    assert "up to #20 in sealed files" in ann.get(reverse("audit-list")).content.decode()
    assert ann.get(reverse("audit-detail", args=[7])).status_code == 404
    _write(3)
    assert _checkpoint() is not None and chain.verify() is None


def test_one_part_after_the_other(segment: Path, tmp_path: Path) -> None:
    call_command("audit_drop", segment)
    _checkpoint()
    second = tmp_path / "segment-2.jsonl"
    call_command("audit_seal", second, through=31)
    call_command("audit_drop", second)
    assert json.loads(second.read_text().splitlines()[0])["after"]["sequence"] == 20
    assert chain.verify() is None and AuditEntry.objects.count() == 3
    assert "begins after #20, and the log after #31" in _refused("audit_drop", second)


def test_a_sealed_file_is_checked_without_the_panel(segment: Path) -> None:
    command = [sys.executable, str(VERIFIER), str(segment), "--key", signed.signing_key().public]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "good: 20 entries, the last checkpoint agrees at #20" in done.stdout


def test_after_a_part_has_left_the_log_is_still_append_only(segment: Path) -> None:
    call_command("audit_drop", segment)
    for statement in ("UPDATE cluster_auditentry SET actor = 'x'", "DELETE FROM cluster_auditentry"):
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('"ann"', '"otto"', "not what was written, from entry #1"),
        ('"entries\\":20', '"entries\\":21', "not signed at its end"),
        ('"kind":"end"', '"kind":"enc"', "not signed at its end"),
        ('"by":"audit_seal"', '"by":"somebody"', "not what was signed at its end"),
        ('"kind":"audit-export"', '"kind":"something"', "no sealed part"),
        ("{", "x", "cannot be read"),
    ],
)
def test_a_file_that_was_touched_removes_nothing(segment: Path, old: str, new: str, says: str) -> None:
    text = segment.read_text()
    assert old in text
    segment.chmod(0o600)
    segment.write_text(text.replace(old, new))
    assert says in _refused("audit_drop", segment)


def test_another_logs_part_removes_nothing(segment: Path) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE cluster_auditentry DISABLE TRIGGER USER")
        else:
            cursor.execute("DROP TRIGGER audit_no_update")
        cursor.execute("UPDATE cluster_auditentry SET hash = 'x' WHERE sequence = 20")
    assert "is not the one of this log" in _refused("audit_drop", segment)


def test_only_what_is_signed_is_sealed_and_no_file_is_written_over(log: None, tmp_path: Path) -> None:
    path = tmp_path / "segment.jsonl"
    _write(5)
    assert "#30 so far" in _refused("audit_seal", path, through=33)
    assert "sealed already" in _refused("audit_seal", path, before="2020-01-02")
    path.write_text("something else")
    assert "cannot be written" in _refused("audit_seal", path, through=10)
    assert path.read_text() == "something else"
    assert "no day" in _refused("audit_seal", path, before="soon")
