"""The mark: what came since the last checkpoint cannot be cut off in the database alone."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse

from cluster import audit, tasks
from cluster.audit import checkpoints, mark, signed
from cluster.audit.signed import Checkpoint
from cluster.models import AuditEntry, AuditHead
from cluster.wire.envelope import SigningKey
from tests.panel.conftest import ANN
from tests.panel.test_audit_checkpoints import _checkpoint, _verified, _write
from tests.panel.test_audit_checkpoints import log as log
from tests.panel.test_audit_checkpoints import power as power

Capture = Callable[..., Any]


def _said() -> Checkpoint:
    return Checkpoint.of(mark.read(), public=signed.signing_key().public, kind=signed.MARK)


@pytest.fixture
def marked(log: None, django_capture_on_commit_callbacks: Capture) -> None:
    """A log of 35 entries, five of them since the last checkpoint."""
    with django_capture_on_commit_callbacks(execute=True):
        _write(5)


def test_the_mark_follows_each_transaction_that_wrote_an_entry(
    db: None, django_capture_on_commit_callbacks: Capture
) -> None:
    assert mark.read() is None
    for count in (1, 3):
        with django_capture_on_commit_callbacks(execute=True):
            _write(count)
        head = AuditHead.objects.get()
        assert (_said().sequence, _said().hash) == (head.sequence, head.hash)
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        audit.record_all([audit.entry("test", f"object {number}", by=ANN) for number in range(3)])
    assert (len(callbacks), _said().sequence) == (1, 7), "many at once move it once"
    with django_capture_on_commit_callbacks(execute=True) as callbacks, suppress(RuntimeError):
        _write_and_fail()
    assert callbacks == [] and _said().sequence == 7, "nor does it go before one"


@transaction.atomic
def _write_and_fail() -> None:
    _write(1)
    raise RuntimeError


def _cut_off(sequence: int, power: Callable[..., None]) -> None:
    power("DELETE FROM LOG WHERE sequence > %s", sequence)
    AuditHead.objects.update(sequence=sequence, hash=AuditEntry.objects.get(sequence=sequence).hash)


@pytest.mark.parametrize("left", [30, 33])
def test_a_tail_that_no_checkpoint_has_seen_cannot_be_cut_off(
    marked: None, power: Callable[..., None], ann: Client, left: int
) -> None:
    assert "the mark" in _verified()
    _cut_off(left, power)
    with pytest.raises(CommandError, match=f"#{left + 1}: The log ends before it; #35 was signed"):
        _verified()
    page = ann.get(reverse("audit-list")).content.decode()
    assert "chain broken" in page and "The log ends before it; #35" in page
    tasks.sweep()
    assert AuditHead.objects.get().broken.startswith(f"#{left + 1}: The log ends before it")
    assert _checkpoint() is None


def test_new_entries_do_not_hide_that_others_are_gone(
    marked: None, power: Callable[..., None], django_capture_on_commit_callbacks: Capture
) -> None:
    _cut_off(32, power)
    for count in (3, 1, 4):
        with django_capture_on_commit_callbacks(execute=True):
            _write(count)
    assert AuditHead.objects.get().sequence == 40
    with pytest.raises(CommandError, match="#1: From here to #35 something is not what was signed|#31: "):
        _verified()
    tasks.sweep()
    assert "#35 something is not what was signed" in AuditHead.objects.get().broken


def test_a_mark_that_nobody_signed_vouches_for_nothing(marked: None) -> None:
    forged = SigningKey(bytes(32)).sign(signed.MARK, {"sequence": 35, "hash": "0" * 64, "at": "now"})
    mark.path().write_text(json.dumps(forged))
    with pytest.raises(CommandError, match="#35: A checkpoint of it is not genuine"):
        _verified()


@pytest.mark.parametrize("torn", [b"", b'{"body": "', b"[]", b"7", b"\xff\xfe\x00"])
def test_a_torn_mark_is_written_over(
    marked: None, torn: bytes, django_capture_on_commit_callbacks: Capture
) -> None:
    mark.path().write_bytes(torn)
    assert mark.read() is None and "intact" in _verified()
    with django_capture_on_commit_callbacks(execute=True):
        _write(1)
    assert _said().sequence == 36


def test_after_a_change_of_keys_the_mark_goes_on(
    marked: None, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Capture
) -> None:
    old, fresh = signed.signing_key().public, SigningKey(b"another key, of thirty-two bytes")
    monkeypatch.setattr(signed, "signing_key", lambda: fresh)
    out = io.StringIO()
    call_command("audit_verify", key=[old], stdout=out)
    assert "the mark" in out.getvalue()
    tasks.sweep()
    assert AuditHead.objects.get().broken == "", "what another key signed is left to audit_verify"
    with django_capture_on_commit_callbacks(execute=True):
        _write(1)
    assert _said().sequence == AuditHead.objects.get().sequence


def test_marks_of_other_processes_come_out_of_order_and_it_never_goes_back(log: None) -> None:
    for sequence in (5, 3, 9, 1, 8, 9):
        entry = AuditEntry.objects.get(sequence=sequence)
        mark.move(sequence, entry.hash, after=sequence - 1, before=entry.previous_hash)
    assert _said().sequence == 9


def test_a_mark_that_cannot_be_written_fails_no_action(
    db: None,
    checkpoint_file: Path,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Capture,
) -> None:
    mark.path().mkdir()
    with caplog.at_level(logging.ERROR), django_capture_on_commit_callbacks(execute=True):
        audit.record("test", "object", by=ANN)
    assert "audit mark not moved" in caplog.text and AuditEntry.objects.exists()
    assert checkpoints.sweep() is not None
