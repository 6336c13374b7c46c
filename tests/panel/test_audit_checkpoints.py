"""Whatever is done to the log, with all rights in the database, is found and named."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import audit, tasks, witnesses
from cluster.audit import chain, checkpoints, signed
from cluster.models import AuditCheckpoint, AuditEntry, AuditHead, Director
from cluster.wire.envelope import SigningKey
from tests.panel.conftest import ANN, TalkingDirector
from tests.panel.test_audit import FORGED

VERIFIER = settings.BASE_DIR / "deploy" / "audit_verify_export.py"
Lines = list[dict[str, Any]]


def _write(count: int) -> None:
    for number in range(count):
        audit.record("test", f"object {number}", by=ANN, after={"weight": number})


def _checkpoint() -> signed.Envelope | None:
    """Five minutes after the last one."""
    last = checkpoints.newest()
    return checkpoints.sweep(now=(last.at if last else timezone.now()) + timedelta(minutes=5))


@pytest.fixture
def log(db: None) -> None:
    """Thirty entries with a checkpoint after each ten."""
    for _ in range(3):
        _write(10)
        assert _checkpoint() is not None


@pytest.fixture
def power(log: None) -> Callable[..., None]:
    """Run SQL as whoever owns the database: the triggers are out of the way."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE cluster_auditentry DISABLE TRIGGER USER")
        else:
            cursor.execute("DROP TRIGGER audit_no_update")
            cursor.execute("DROP TRIGGER audit_no_delete")

    def run(sql: str, *values: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql.replace("LOG", "cluster_auditentry"), values)

    return run


def _verified(*files: Path) -> str:
    out = io.StringIO()
    call_command("audit_verify", checkpoints=list(files), stdout=out)
    return out.getvalue()


def _named(*files: Path) -> str:
    """What audit_verify names as the first bad entry."""
    with pytest.raises(CommandError) as caught:
        _verified(*files)
    return str(caught.value).partition("from entry ")[2]


def test_an_honest_log_agrees_with_all_that_was_signed(log: None, checkpoint_file: Path) -> None:
    assert len(checkpoint_file.read_text().splitlines()) == 3
    assert "intact up to entry #30" in _verified()
    assert f"3 checkpoints of {checkpoint_file}" in _verified() and "3 of the database" in _verified()


@pytest.mark.parametrize("field", sorted(set(FORGED) - {"sequence"}))
def test_a_flipped_field_is_named(power: Callable[..., None], field: str) -> None:
    value = FORGED[field]
    stored = json.dumps(value) if isinstance(value, dict) else value
    power(f"UPDATE LOG SET {field} = %s WHERE sequence = 15", stored)
    assert _named().startswith("#15: ")


def test_a_deleted_entry_is_named(power: Callable[..., None]) -> None:
    power("DELETE FROM LOG WHERE sequence = 15")
    assert _named().startswith("#15: It is missing")


def test_an_inserted_entry_is_named(power: Callable[..., None]) -> None:
    _move("sequence + 1000", 15, power)
    _move("sequence - 999", 1000, power)
    entry = AuditEntry.objects.get(sequence=14)
    entry.pk, entry.sequence = None, 15
    entry.save()
    assert _named().startswith("#15: It does not follow")


def test_swapped_entries_are_named(power: Callable[..., None]) -> None:
    for old, new in ((14, 1000), (15, 14), (1000, 15)):
        power("UPDATE LOG SET sequence = %s WHERE sequence = %s", new, old)
    assert _named().startswith("#14: ")


def _move(to: str, begin: int, power: Callable[..., None]) -> None:
    power(f"UPDATE LOG SET sequence = {to} WHERE sequence >= %s", begin)


def test_a_cut_off_tail_is_named_by_what_was_signed(
    power: Callable[..., None], checkpoint_file: Path
) -> None:
    power("DELETE FROM LOG WHERE sequence > 25")
    last = AuditEntry.objects.get(sequence=25)
    AuditHead.objects.update(sequence=25, hash=last.hash)
    assert chain.verify() is None, "the chain alone does not see it"
    assert _named().startswith("#26: The log ends before it; #30 was signed")
    AuditCheckpoint.objects.filter(sequence=30).delete()
    assert _named().startswith("#26: "), "the file knows without the database"


def _rechain(begin: int, power: Callable[..., None]) -> None:
    """Write another history from an entry on, as whoever owns the database and knows the chain could."""
    power("UPDATE LOG SET actor = 'somebody else' WHERE sequence = %s", begin)
    before = AuditEntry.objects.get(sequence=begin - 1).hash if begin > 1 else chain.FIRST_HASH
    for entry in list(AuditEntry.objects.filter(sequence__gte=begin).order_by("sequence")):
        entry.previous_hash = before
        before = chain.chained_hash(chain.as_line(entry))
        power(
            "UPDATE LOG SET previous_hash = %s, hash = %s WHERE sequence = %s",
            entry.previous_hash,
            before,
            entry.sequence,
        )
    AuditHead.objects.update(hash=before)


def test_a_chain_made_anew_from_its_middle_is_named_by_what_was_signed(
    power: Callable[..., None], checkpoint_file: Path
) -> None:
    _rechain(15, power)
    assert chain.verify() is None, "the chain alone does not see it"
    assert _named().startswith("#11: From here to #20 something is not what was signed")
    AuditCheckpoint.objects.all().delete()
    assert _named().startswith("#11: "), "the file knows without the database"
    kept = checkpoint_file.rename(checkpoint_file.with_name("elsewhere.jsonl"))
    assert _named(kept).startswith("#11: ")


def test_of_two_attacks_the_first_is_named(power: Callable[..., None]) -> None:
    _rechain(15, power)
    power("UPDATE LOG SET actor = 'x' WHERE sequence = 28")
    assert _named().startswith("#11: From here to #20")
    power("UPDATE LOG SET actor = 'x' WHERE sequence = 17")
    assert _named().startswith("#17: ")


def test_a_forged_checkpoint_is_refused(log: None, checkpoint_file: Path) -> None:
    forged = SigningKey(bytes(32)).sign(signed.KIND, {"sequence": 20, "hash": "0" * 64, "at": "now"})
    with checkpoint_file.open("a") as file:
        file.write(json.dumps(forged) + "\n")
    assert _named().startswith("#20: A checkpoint of it is not genuine")


def test_after_a_change_of_keys_the_old_one_is_named(
    log: None, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = signed.signing_key().public
    fresh = SigningKey(b"another key, of thirty-two bytes")
    monkeypatch.setattr(signed, "signing_key", lambda: fresh)
    assert "not genuine" in _named()
    assert checkpoints.newest() is None
    out = io.StringIO()
    call_command("audit_verify", key=[old], stdout=out)
    assert "4 of the database" in out.getvalue()


def test_a_checkpoint_is_made_after_five_minutes_or_a_thousand_entries(
    log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = checkpoints.newest()
    assert last is not None and last.sequence == 30
    assert _checkpoint() is None, "nothing new to sign"
    _write(3)
    assert checkpoints.sweep(now=last.at + timedelta(minutes=4)) is None
    monkeypatch.setattr(checkpoints, "EVERY_ENTRIES", 3)
    made = checkpoints.sweep(now=last.at + timedelta(minutes=4))
    assert made is not None and json.loads(made["body"])["sequence"] == 33


def test_a_long_log_is_signed_in_parts(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MOST_AT_ONCE", 4)
    _write(10)
    signed = [json.loads(made["body"])["sequence"] for _ in range(5) if (made := _checkpoint())]
    assert signed == [4, 8, 10]


@pytest.mark.parametrize("where", [5, 35])
def test_the_panel_finds_it_by_itself_and_says_so_once(
    power: Callable[..., None], ann: Client, where: int
) -> None:
    """New entries are read before they are signed, and the older ones are read again and again."""
    _write(10)
    power("UPDATE LOG SET actor = 'x' WHERE sequence = %s", where)
    made = []
    for _ in range(4):
        _write(1)
        made.append(_checkpoint())
    assert made[-1] is None, "somebody has to look first"
    assert AuditEntry.objects.filter(action="audit.broken").count() == 1
    page = ann.get(reverse("audit-list")).content.decode()
    assert f"#{where}: It does not have the content" in page and "chain broken" in page
    assert "The audit log is not what was written" in ann.get(reverse("overview")).content.decode()


@pytest.fixture
def forged(power: Callable[..., None]) -> None:
    """Another history from its middle on, and no checkpoint of the database that speaks against it."""
    _rechain(15, power)
    AuditCheckpoint.objects.all().delete()


def test_a_log_whose_checkpoints_were_removed_is_not_signed_again(
    forged: None, checkpoint_file: Path, ann: Client
) -> None:
    before = checkpoint_file.read_text()
    assert _checkpoint() is None and checkpoint_file.read_text() == before
    assert checkpoints.newest() is None
    assert AuditHead.objects.get().broken.startswith("#11: From here to #20 something is not what was signed")
    assert AuditEntry.objects.filter(action="audit.broken").count() == 1
    assert "chain broken" in ann.get(reverse("audit-list")).content.decode()


def test_a_log_whose_newest_checkpoints_were_removed_is_not_signed_again(
    power: Callable[..., None], checkpoint_file: Path
) -> None:
    _rechain(15, power)
    AuditCheckpoint.objects.filter(sequence__gt=10).delete()
    assert _checkpoint() is None
    assert AuditHead.objects.get().broken.startswith("#11: From here to #20")


def test_a_log_that_was_emptied_is_not_signed_as_a_new_one(
    power: Callable[..., None], checkpoint_file: Path
) -> None:
    power("DELETE FROM LOG WHERE sequence > 3")
    AuditHead.objects.update(sequence=3, hash=AuditEntry.objects.get(sequence=3).hash)
    AuditCheckpoint.objects.all().delete()
    assert _checkpoint() is None
    assert AuditHead.objects.get().broken.startswith("#4: The log ends before it; #10 was signed")


def test_where_the_file_is_gone_as_well_the_directors_speak_against_it(
    log: None,
    director: Director,
    talker: TalkingDirector,
    power: Callable[..., None],
    checkpoint_file: Path,
) -> None:
    talker.hello(witness={"sequence": 30, "hash": AuditEntry.objects.get(sequence=30).hash})
    _rechain(15, power)
    AuditCheckpoint.objects.all().delete()
    checkpoint_file.unlink()
    tasks.sweep()
    assert checkpoints.newest() is None and not checkpoint_file.exists()
    assert AuditHead.objects.get().broken == "#30: It, or one before it, is not what director1 holds of it."


def test_a_director_of_no_cluster_cannot_keep_a_new_log_from_being_signed(
    db: None, talker: TalkingDirector, checkpoint_file: Path
) -> None:
    talker.hello(witness={"sequence": 5000, "hash": "f" * 64})
    _write(1)
    tasks.sweep()
    assert checkpoints.newest() is not None and AuditHead.objects.get().broken == ""


def test_a_torn_line_of_the_file_does_not_keep_an_honest_log_from_being_signed(
    log: None, checkpoint_file: Path
) -> None:
    with checkpoint_file.open("ab") as file:
        file.write(b'{"body": "\xff\n')
    _write(1)
    assert _checkpoint() is not None


def test_the_page_says_how_far_the_chain_was_verified(ann: Client, log: None) -> None:
    page = ann.get(reverse("audit-list")).content.decode()
    assert 'verified to <a href="/audit/30/">#30</a>' in page
    AuditCheckpoint.objects.all().delete()
    assert "not verified yet" in ann.get(reverse("audit-list")).content.decode()


def test_directors_are_witnesses(
    log: None,
    director: Director,
    talker: TalkingDirector,
    sent: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talker.hello(witness={"sequence": 0, "hash": ""})
    sent.clear()
    tasks.sweep()
    assert [order["queue"] for order in sent] == []
    monkeypatch.setattr(checkpoints, "EVERY", -timedelta(days=1))
    audit.record("test", "news", by=ANN)
    tasks.sweep()
    assert [order["queue"] for order in sent] == ["director.director1"]
    order = json.loads(sent[0]["args"][0]["body"])
    said = json.loads(order["payload"]["checkpoint"]["body"])
    assert order["operation"] == "witness" and said["sequence"] == AuditHead.objects.get().sequence
    talker.hello(witness={"sequence": said["sequence"], "hash": said["hash"]})
    assert "1 of directors" in _verified()
    talker.hello(witness={"sequence": said["sequence"], "hash": "f" * 64})
    assert _named().startswith(f"#{said['sequence']}: It, or one before it, is not what director1 holds")
    talker.hello(witness={"sequence": 99, "hash": "f" * 64})
    assert _named().startswith(f"#{said['sequence'] + 1}: The log ends before it; director1 holds #99")


@pytest.mark.parametrize(
    "odd", [None, [], {"sequence": "1"}, {"sequence": True, "hash": ""}, {"sequence": -1}]
)
def test_what_a_director_says_to_hold_is_read_strictly(talker: TalkingDirector, odd: Any) -> None:
    talker.hello(witness=odd)
    assert "witness" not in Director.objects.get().facts and witnesses.held() == []


def test_a_director_that_keeps_no_checkpoints_gets_none(
    log: None, director: Director, sent: list[dict[str, Any]]
) -> None:
    sent.clear()
    witnesses.send({"body": "{}"})
    assert sent == []


# What somebody may do to an exported file, and the entry that is then named.
ATTACKS: dict[str, tuple[Callable[[Lines], object], str]] = {
    **{
        f"flip {name}": (lambda lines, name=name, to=to: lines[14].update({name: to}), "#15")  # type: ignore[misc]
        for name, to in FORGED.items()
        if name != "sequence"
    },
    "delete": (lambda lines: lines.pop(14), "#15"),
    "insert": (lambda lines: lines.insert(14, lines[13]), "#15"),
    "swap": (lambda lines: lines.insert(13, lines.pop(14)), "#14"),
    "truncate": (lambda lines: lines.__delitem__(slice(25, None)), ""),
    "re-chain": (lambda lines: _rechained(lines, 14), "#11"),
}


def _rechained(lines: Lines, begin: int) -> None:
    lines[begin]["actor"] = "somebody else"
    before = lines[begin]["previous_hash"]
    for line in lines[begin:]:
        line["previous_hash"] = before
        before = line["hash"] = chain.chained_hash(line)


@pytest.fixture
def exported(ann: Client, log: None, tmp_path: Path) -> Path:
    """Whole, as anybody can take it along."""
    path = tmp_path / "export.jsonl"
    path.write_bytes(ann.post(reverse("audit-export"), {"kind": "jsonl"}).getvalue())
    return path


def _checked(path: Path, *more: str, alone: bool = False) -> subprocess.CompletedProcess[str]:
    # -S: without any package that is installed beside Python's own.
    command = [sys.executable, *(["-I", "-S"] if alone else []), str(VERIFIER), str(path), *more]
    return subprocess.run(command, capture_output=True, text=True)


def _parts(path: Path) -> tuple[list[str], Lines, str]:
    texts = path.read_text().splitlines(keepends=True)
    is_entry = ["kind" not in json.loads(text) for text in texts]
    begin = is_entry.index(True)
    return texts[:begin], [json.loads(text) for text in texts[begin:-1]], texts[-1]


@pytest.mark.parametrize("alone", [False, True])
def test_an_honest_file_is_good(exported: Path, alone: bool) -> None:
    done = _checked(exported, "--key", signed.signing_key().public, alone=alone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good: 30 entries, the last checkpoint agrees at #30" in done.stdout
    assert ("NOT checked" in done.stdout) is alone


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_file_is_bad_and_its_first_bad_entry_named(exported: Path, attack: str) -> None:
    begin, lines, end = _parts(exported)
    spoil, named = ATTACKS[attack]
    spoil(lines)
    exported.write_text("".join([*begin, *(chain.encode(line) + "\n" for line in lines), end]))
    for alone in (False, True):
        done = _checked(exported, alone=alone)
        assert done.returncode == 1 and done.stdout.startswith(f"BAD {named}"), done.stdout


def test_a_file_cut_off_at_its_end_is_bad(exported: Path) -> None:
    exported.write_text("".join(exported.read_text().splitlines(keepends=True)[:-1]))
    assert "BAD #31: the file was cut off" in _checked(exported).stdout


def test_a_file_signed_by_somebody_else_is_bad(exported: Path) -> None:
    stranger = SigningKey(bytes(32))
    begin, lines, _ = _parts(exported)
    text = "".join([begin[0], *(chain.encode(line) + "\n" for line in lines)])
    text = text.replace(signed.signing_key().public, stranger.public)
    said = {"entries": len(lines), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    end = {"kind": "end", "envelope": stranger.sign("audit-export", said)}
    exported.write_text(text + json.dumps(end) + "\n")
    assert "give --key to be sure" in _checked(exported).stdout
    done = _checked(exported, "--key", signed.signing_key().public)
    assert done.returncode == 1 and "not signed with the key" in done.stdout


def test_a_file_is_held_against_checkpoints_from_elsewhere(
    exported: Path, checkpoint_file: Path, power: Callable[..., None], ann: Client
) -> None:
    """A panel whose database was rewritten signs what it has; a witness knows better."""
    AuditCheckpoint.objects.all().delete()
    _rechain(15, power)
    exported.write_bytes(ann.post(reverse("audit-export"), {"kind": "jsonl"}).getvalue())
    assert _checked(exported).returncode == 0
    done = _checked(exported, "--checkpoints", str(checkpoint_file))
    assert done.stdout.startswith("BAD #11: from here to #20"), done.stdout


def test_a_file_of_a_search_has_gaps_and_says_so(ann: Client, log: None, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(ann.post(reverse("audit-export"), {"kind": "jsonl", "q": "object:2"}).getvalue())
    done = _checked(path)
    assert done.returncode == 0 and "gaps" in done.stdout
    path.write_text(path.read_text().replace('"ann"', '"otto"'))
    assert _checked(path).returncode == 1
