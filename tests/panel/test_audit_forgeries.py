"""Whoever owns the database, and what vouches for the log outside of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import audit, tasks
from cluster.audit import chain, checkpoints, mark, signed
from cluster.audit.signed import Checkpoint
from cluster.models import AuditCheckpoint, AuditEntry, AuditHead, Director
from cluster.wire.envelope import SigningKey
from tests.panel.conftest import ANN
from tests.panel.test_audit_checkpoints import _checkpoint, _named, _rechain, _verified, _write
from tests.panel.test_audit_checkpoints import log as log
from tests.panel.test_audit_checkpoints import power as power

Power = Callable[..., None]


@pytest.fixture
def bare(power: Power, checkpoint_file: Path) -> None:
    """A log of an hour ago whose checkpoints, file and mark were removed."""
    _age(power)
    AuditCheckpoint.objects.all().delete()
    checkpoint_file.unlink()
    mark.path().unlink(missing_ok=True)


def test_a_log_without_anything_that_was_signed_is_not_called_intact(
    power: Callable[..., None], checkpoint_file: Path, ann: Client
) -> None:
    """Whoever removes every trace has a chain that is good in itself, and no more than that."""
    _age(power)
    AuditCheckpoint.objects.all().delete()
    kept = checkpoint_file.rename(checkpoint_file.with_name("elsewhere.jsonl"))
    with pytest.raises(CommandError, match="nothing that was signed about the log is left") as caught:
        _verified()
    assert "--begin-anew" in str(caught.value)
    tasks.sweep()
    assert checkpoints.newest() is None, "nor is it signed by itself"
    assert "nothing that was signed about the log is left" in ann.get(reverse("audit-list")).content.decode()
    assert _named(kept).startswith("#1: "), "a copy of the file speaks against it"
    out = io.StringIO()
    call_command("audit_verify", begin_anew="restored without its files", stdout=out)
    assert "It agrees with 1 of the database" in out.getvalue()
    entry = AuditEntry.objects.get(action="audit.begin-anew")
    assert (entry.actor, entry.reason) == ("audit_verify", "restored without its files")
    assert AuditHead.objects.get().broken == "" and "intact" in _verified()
    with pytest.raises(CommandError, match="Leave --begin-anew out"):
        call_command("audit_verify", begin_anew="once more", stdout=out)
    _write(1)
    assert _checkpoint() is not None


def _age(power: Callable[..., None]) -> None:
    """As if the log had been begun an hour ago, with hashes that fit."""
    power("UPDATE LOG SET at = %s WHERE sequence = 1", timezone.now() - timedelta(hours=1))
    _rechain(1, power)


def test_a_new_mark_does_not_vouch_for_what_was_before_it(
    bare: None, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    """Neither that of the next entry, nor that of the entry which says that the log is broken."""
    with django_capture_on_commit_callbacks(execute=True):
        audit.record("sign-in", "ann", by=ANN)
    assert mark.read() is not None and mark.follows_from() == 31
    with pytest.raises(CommandError, match="nothing that was signed about the log is left"):
        _verified()
    with django_capture_on_commit_callbacks(execute=True):
        tasks.sweep()
    assert checkpoints.newest() is None
    assert "nothing that was signed about the log is left" in AuditHead.objects.get().broken
    with pytest.raises(CommandError, match="nothing that was signed about the log is left"):
        _verified()
    assert AuditHead.objects.get().broken, "nor is the alarm taken back"
    with django_capture_on_commit_callbacks(execute=True):
        call_command("audit_verify", begin_anew="restored", stdout=io.StringIO())
    assert "intact" in _verified() and AuditHead.objects.get().broken == ""


@pytest.mark.parametrize("left", ["an empty file", "a line that nobody signed", "a row of another key"])
def test_what_says_nothing_about_the_log_does_not_vouch(
    bare: None, checkpoint_file: Path, tmp_path: Path, left: str
) -> None:
    other = SigningKey(bytes(32)).sign(signed.KIND, {"sequence": 30, "hash": "0" * 64, "at": "now"})
    if left == "a row of another key":
        AuditCheckpoint.objects.create(sequence=30, key=other["key"], at=timezone.now(), envelope=other)
    else:
        checkpoint_file.write_text("" if left == "an empty file" else f"{json.dumps(other)}\n")
    tasks.sweep()
    assert checkpoints.newest() is None
    assert "nothing that was signed about the log is left" in AuditHead.objects.get().broken
    (tmp_path / "nothing.jsonl").write_text("")
    with pytest.raises(CommandError):
        _verified(tmp_path / "nothing.jsonl")


def test_after_a_change_of_keys_nothing_is_signed_before_the_old_one_has_vouched(
    log: None, power: Power, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or who puts a key file in the way gets a log signed that they wrote."""
    monkeypatch.setattr(checkpoints, "EVERY", -timedelta(days=1))
    old, fresh = signed.signing_key().public, SigningKey(b"another key, of thirty-two bytes")
    monkeypatch.setattr(signed, "signing_key", lambda: fresh)
    tasks.sweep()
    assert checkpoints.newest() is None and AuditHead.objects.get().broken
    call_command("audit_verify", key=[old], stdout=io.StringIO())
    made = checkpoints.newest()
    head = AuditHead.objects.get()
    assert made is not None and made.sequence == head.sequence and head.broken == ""
    with pytest.raises(CommandError, match="not genuine"):
        _verified()


def test_a_mark_that_has_followed_from_the_first_entry_vouches(
    db: None, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    """A panel whose worker is started an hour after its first administrator was made."""
    with django_capture_on_commit_callbacks(execute=True):
        _write(3)
    late = timezone.now() + timedelta(hours=1)
    assert checkpoints.sweep(now=late, ask_witnesses=checkpoints.unvouched) is not None


def _seal(sequence: int, hashed: str, envelope: Any = None) -> None:
    AuditHead.objects.update(sealed_sequence=sequence, sealed_hash=hashed, seal=envelope)


def test_a_begin_that_nobody_sealed_is_named(power: Power, ann: Client) -> None:
    hashed = AuditEntry.objects.get(sequence=25).hash
    power("DELETE FROM LOG WHERE sequence <= 25")
    _seal(25, hashed)
    with pytest.raises(CommandError, match="from entry #1: it is missing, as all up to #25, and no seal"):
        _verified()
    page = ann.get(reverse("audit-list")).content.decode()
    assert "chain broken" in page and "no seal that is genuine" in page
    tasks.sweep()
    assert AuditHead.objects.get().broken.startswith("#1: it is missing") and _checkpoint() is None


@pytest.mark.parametrize("kind", [signed.KIND, signed.MARK, signed.SEAL])
def test_what_was_signed_for_something_else_is_no_seal(power: Power, kind: str) -> None:
    """A checkpoint of the very entry says no more than that it had its hash; another log's seal says less."""
    hashed, now = AuditEntry.objects.get(sequence=20).hash, timezone.now()
    power("DELETE FROM LOG WHERE sequence <= 20")
    other = kind == signed.SEAL
    envelope = signed.sign(10 if other else 20, hashed, now, kind=kind)
    _seal(20, hashed, envelope)
    with pytest.raises(CommandError, match="What was sealed ends with #10" if other else "no seal that is"):
        _verified()


def test_a_whole_new_log_behind_a_made_up_seal_is_not_signed(power: Power, checkpoint_file: Path) -> None:
    """All that was signed lies before the seal, and would be passed over."""
    power("DELETE FROM LOG")
    AuditCheckpoint.objects.all().delete()
    forger = SigningKey(bytes(32))
    said = {"sequence": 1000, "hash": "a" * 64, "at": timezone.now().isoformat()}
    AuditHead.objects.update(sequence=1000, hash="a" * 64)
    _seal(1000, "a" * 64, forger.sign(signed.SEAL, said))
    audit.record("sign-in", "mallory was never here", by=ANN)
    with pytest.raises(CommandError, match="from entry #1"):
        _verified()
    before = checkpoint_file.read_text()
    tasks.sweep()
    assert checkpoints.newest() is None and checkpoint_file.read_text() == before


def test_after_a_change_of_keys_the_old_one_vouches_for_the_seal_once(
    log: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_command("audit_seal", tmp_path / "s.jsonl", through=20, stdout=io.StringIO())
    call_command("audit_drop", tmp_path / "s.jsonl", stdout=io.StringIO())
    assert "It begins after #20." in _verified()
    old, fresh = signed.signing_key().public, SigningKey(b"another key, of thirty-two bytes")
    monkeypatch.setattr(signed, "signing_key", lambda: fresh)
    assert checkpoints.unsealed(AuditHead.objects.get()) is not None
    call_command("audit_verify", key=[old], stdout=io.StringIO())
    assert checkpoints.unsealed(AuditHead.objects.get()) is None, "it is signed anew"


def test_a_director_of_no_cluster_neither_vouches_nor_alarms(bare: None) -> None:
    """Whoever reaches Redis can announce one."""
    entry = AuditEntry.objects.get(sequence=3)
    ghost = Director.objects.create(
        name="ghost",
        public_key="x",
        announced_at=timezone.now(),
        facts={"witness": {"sequence": 3, "hash": entry.hash}},
    )
    with pytest.raises(CommandError, match="nothing that was signed about the log is left"):
        _verified()
    call_command("audit_verify", begin_anew="a test", stdout=io.StringIO())
    ghost.facts = {"witness": {"sequence": 99999, "hash": "0" * 64}}
    ghost.save()
    assert "intact" in _verified()


@pytest.mark.parametrize("way", ["another before a batch", "a gap that is filled afterwards"])
def test_the_mark_does_not_follow_a_tail_that_was_written_anew(
    log: None, power: Power, way: str, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    """It goes on only by a chain that leads from what it holds to what was written now."""
    with django_capture_on_commit_callbacks(execute=True):
        _write(3)
    true = AuditEntry.objects.get(sequence=33)
    forged = AuditEntry.objects.get(sequence=33)
    forged.actor = "somebody else"
    forged.hash = chain.chained_hash(chain.as_line(forged))
    AuditHead.objects.update(hash=forged.hash)
    if way == "a gap that is filled afterwards":
        power("DELETE FROM LOG WHERE sequence = 33")
    with django_capture_on_commit_callbacks(execute=True):
        audit.record_all([audit.entry("test", f"object {number}", by=ANN) for number in range(2)])
    if way == "a gap that is filled afterwards":
        forged.pk = None
        forged.save()
    else:
        power("UPDATE LOG SET actor = %s, hash = %s WHERE sequence = 33", forged.actor, forged.hash)
    assert chain.verify() is None, "the chain alone does not see it"
    said = Checkpoint.of(mark.read(), public=signed.signing_key().public, kind=signed.MARK)
    assert (said.sequence, said.hash) == (33, true.hash)
    with pytest.raises(CommandError, match="#33 something is not what was signed"):
        _verified()


@pytest.mark.parametrize("column, value", [("sequence", 10**6), ("at", datetime(2126, 1, 1, tzinfo=UTC))])
def test_a_checkpoint_in_a_row_that_says_something_else_is_found(
    log: None, ann: Client, column: str, value: Any
) -> None:
    """Or none would be due for a hundred years."""
    newest = checkpoints.newest()
    assert newest is not None
    AuditCheckpoint.objects.filter(pk=newest.pk).update(**{column: value})
    assert "chain broken" in ann.get(reverse("audit-list")).content.decode()
    tasks.sweep()
    assert "Its checkpoint stands in a row of" in AuditHead.objects.get().broken


@pytest.mark.parametrize("is_known", [True, False])
def test_no_seal_is_made_of_a_log_whose_begin_nobody_sealed(
    log: None, power: Power, tmp_path: Path, is_known: bool
) -> None:
    hashed, path = AuditEntry.objects.get(sequence=10).hash, tmp_path / "segment.jsonl"
    power("DELETE FROM LOG WHERE sequence <= 10")
    _seal(10, hashed)
    if is_known:
        tasks.sweep()
        AuditHead.objects.update(sealed_sequence=10)
    with pytest.raises(CommandError, match="The log is not what was written"):
        call_command("audit_seal", path, through=20, stdout=io.StringIO())
    assert not path.exists()


def test_what_was_not_judged_is_not_signed(log: None, power: Power) -> None:
    """Between the look and the signature somebody may make up another begin, or drop another part."""
    judged = AuditHead.objects.get()
    hashed = AuditEntry.objects.get(sequence=20).hash
    _seal(20, hashed)
    checkpoints.sign_anew(judged)
    assert AuditHead.objects.get().seal is None


def test_a_part_that_is_dropped_while_the_log_is_read_is_no_alarm(
    log: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, walked_on = tmp_path / "segment.jsonl", checkpoints._walked_on
    call_command("audit_seal", path, through=20, stdout=io.StringIO())
    monkeypatch.setattr(checkpoints, "EVERY", -timedelta(days=1))

    def drop_meanwhile(*args: Any) -> Any:
        found = walked_on(*args)
        call_command("audit_drop", path, stdout=io.StringIO())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_walked_on", drop_meanwhile)
        tasks.sweep()
    assert AuditHead.objects.get().broken == "" and "It begins after #20" in _verified()
    tasks.sweep()
    assert AuditHead.objects.get().broken == ""
