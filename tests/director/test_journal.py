"""A director that loses power anywhere comes back with the same table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.director import journal as journal_module
from cluster.director.apply import restore, take
from cluster.director.journal import Goal, Journal, JournalError, Record, Sequence, write_durably
from cluster.director.kernel.memory import Faults, Killed, MemoryKernel
from cluster.ipvs.state import Table
from cluster.ipvs.stats import Reading
from tests.director.stage import Stage, backend, service, table

BEFORE = table(service(1, backend(1), backend(2)), service(2, backend(3)))
AFTER = table(service(1, backend(2, weight=5), backend(4), scheduler="wlc"), service(3, backend(5)))
FOREIGN = service(9, backend(9))
# A virtual address that moves to where the kernel refuses it.
REFUSED = table(service(1, backend(1), backend(2)), service(4, backend(3), scheduler="nosuch"))


def test_killed_before_any_step_the_next_start_ends_in_the_same_table(
    make_stage: Callable[[], Stage],
) -> None:
    for kill_at in range(1, 8):
        stage = make_stage()
        stage.kernel = MemoryKernel(table(FOREIGN))
        stage.apply(BEFORE)
        stage.kernel.faults = Faults(kill_at=stage.kernel.writes + kill_at)
        with pytest.raises(Killed):
            take(stage.order(AFTER, revision=2), stage.director())
        stage.kernel.faults = Faults()
        restore(stage.director())
        assert stage.actual == table(FOREIGN, *AFTER.services), kill_at
        assert stage.apply(Table(), revision=3)["outcome"] == "applied"
        assert stage.actual == table(FOREIGN), kill_at


def test_killed_at_any_write_to_the_disk_the_next_order_ends_in_the_same_table(
    make_stage: Callable[[], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = 0
    while True:
        stage = make_stage()
        stage.kernel = MemoryKernel(table(FOREIGN))
        stage.apply(BEFORE)
        left = points

        def write(path: Path, data: bytes) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            write_durably(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "write_durably", write)
            patch.setattr("cluster.director.reports.write_durably", write)
            try:
                take(stage.order(AFTER, revision=2), stage.director())
                survived = True
            except Killed:
                survived = False
        assert stage.apply(AFTER, revision=2)["outcome"] == "applied"
        assert stage.actual == table(FOREIGN, *AFTER.services), points
        if survived:
            break
        points += 1
    assert points >= 4


def test_a_reboot_brings_the_table_back_without_panel_or_broker(stage: Stage) -> None:
    stage.apply(BEFORE)
    stage.kernel = MemoryKernel()
    stage.is_broker_away = True
    result = restore(stage.director())
    assert result is not None and result.outcome == "applied"
    assert stage.actual == BEFORE


def test_a_reboot_brings_back_what_was_last_seen_to_work(stage: Stage) -> None:
    stage.apply(BEFORE)
    assert stage.apply(REFUSED, revision=2)["outcome"] == "failed"
    stage.kernel = MemoryKernel(table(FOREIGN))
    result = restore(stage.director())
    assert result is not None and "holds revision 1" in result.text
    assert stage.actual == table(FOREIGN, *BEFORE.services)
    # And neither is the failed order forgotten, nor an older one taken.
    assert stage.apply(BEFORE, revision=1)["outcome"] == "refused"
    assert stage.apply(REFUSED, revision=2)["outcome"] == "failed"


def test_what_a_rehearsal_kept_away_is_kept_away_after_a_restart_too(stage: Stage) -> None:
    stage.apply(BEFORE)
    half = table(service(1, backend(1)), service(2, backend(3)), service(4, scheduler="nosuch"))
    assert stage.apply(half, revision=2)["text"].startswith("In a rehearsal")
    before = stage.kernel.writes
    result = restore(stage.director())
    assert result is not None and result.outcome == "failed"
    assert stage.actual == BEFORE and stage.kernel.writes == before


def test_a_reboot_after_a_first_order_that_failed_restores_nothing(stage: Stage) -> None:
    stage.apply(table(service(1, scheduler="nosuch"), service(2, backend(3))))
    stage.kernel = MemoryKernel(table(FOREIGN))
    restore(stage.director())
    assert stage.actual == table(FOREIGN)


def test_a_full_disk_does_not_stop_the_restore(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.apply(BEFORE)
    stage.kernel = MemoryKernel()

    def full(path: Path, _: bytes) -> None:
        raise JournalError(f"The file {path} cannot be written: No space left on device.")

    monkeypatch.setattr(journal_module, "write_durably", full)
    monkeypatch.setattr("cluster.director.reports.write_durably", full)
    result = restore(stage.director())
    assert result is not None and result.outcome == "applied"
    assert stage.actual == BEFORE
    assert stage.apply(AFTER, revision=2)["outcome"] == "failed"
    assert stage.actual == BEFORE


def test_numbers_go_on_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise JournalError("The file cannot be written: No space left on device.")

    monkeypatch.setattr(journal_module, "write_durably", full)
    numbers = Sequence(tmp_path, clock=lambda: 1000.0)
    taken = [numbers.take() for _ in range(3)]
    taken.append(Sequence(tmp_path, clock=lambda: 1010.0).take())
    assert taken == sorted(set(taken))


def test_a_new_director_restores_nothing(stage: Stage) -> None:
    assert restore(stage.director()) is None


def test_a_restart_with_the_right_table_writes_nothing(stage: Stage) -> None:
    stage.apply(BEFORE)
    before = stage.kernel.writes
    restore(stage.director())
    assert stage.kernel.writes == before


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "backends": []}', "\0" * 64],
)
def test_a_corrupt_journal_is_kept_aside_and_reported(stage: Stage, text: str) -> None:
    stage.apply(BEFORE)
    (stage.state_dir / "journal.json").write_text(text)
    said = stage.apply(BEFORE)
    assert said["outcome"] == "applied"
    assert (stage.state_dir / "journal.json.corrupt-1").read_text() == text
    assert "journal.json.corrupt-1" in said["facts"]["notices"][0]


def test_a_second_corrupt_journal_does_not_replace_the_first(stage: Stage) -> None:
    for text in ("first", "second"):
        (stage.state_dir / "journal.json").write_text(text)
        assert Journal(stage.state_dir).read() is None
    assert (stage.state_dir / "journal.json.corrupt-1").read_text() == "first"
    assert (stage.state_dir / "journal.json.corrupt-2").read_text() == "second"


def test_a_journal_reads_back_what_was_written(stage: Stage) -> None:
    stage.apply(BEFORE, revision=7, epoch=3)
    record = Journal(stage.state_dir).read()
    assert record is not None
    assert record == Record("shop", Goal(3, 7, BEFORE), BEFORE.keys, verified=Goal(3, 7, BEFORE))
    stage.apply(REFUSED, revision=8, epoch=3)
    assert Journal(stage.state_dir).read() == Record(
        "shop", Goal(3, 8, REFUSED), BEFORE.keys, verified=Goal(3, 7, BEFORE)
    )


def test_a_journal_that_another_process_wrote_is_read_anew(tmp_path: Path) -> None:
    ours, theirs = Journal(tmp_path), Journal(tmp_path)
    first = Record("shop", Goal(1, 1, BEFORE), BEFORE.keys)
    second = Record("shop", Goal(1, 2, AFTER), BEFORE.keys, verified=Goal(1, 1, BEFORE))
    ours.write(first)
    assert theirs.read() == first
    theirs.write(second)
    assert ours.read() == second
    theirs.write(first)
    assert ours.read() == first


def test_what_was_just_written_is_not_read_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("megabytes were read"))
    for goal in (Goal(1, 1, BEFORE), Goal(1, 2, AFTER)):
        record = Record("shop", goal, BEFORE.keys)
        journal.write(record)
        assert journal.read() is record


def test_journal_and_reading_share_one_table(stage: Stage) -> None:
    """As the kernel's reader does, this one tells an unchanged service by the same object."""
    held = table(service(1, backend(1), backend(2)), service(2, backend(3)))

    class Remembering(MemoryKernel):
        def read(self) -> Reading:
            assert super().read().table == held
            return Reading(held)

    stage.apply(BEFORE)
    stage.kernel = Remembering(BEFORE)
    director = stage.director()
    written = (stage.state_dir / "journal.json").stat()
    restore(director)
    record = director.journal.read()
    assert record == Record("shop", Goal(1, 1, BEFORE), BEFORE.keys, verified=Goal(1, 1, BEFORE))
    assert record is not None and record.verified is record.ordered
    assert all(one is other for one, other in zip(record.ordered.table, held, strict=True))
    # And nothing was written for it.
    assert (stage.state_dir / "journal.json").stat() == written


def test_a_revision_that_did_not_succeed_is_not_called_applied(stage: Stage) -> None:
    stage.apply(BEFORE, revision=4)
    stage.apply(table(service(1, scheduler="nosuch")), revision=5)
    record = Journal(stage.state_dir).read()
    assert record is not None
    assert (record.ordered.revision, record.is_applied, record.applied_revision) == (5, False, 4)


def test_numbers_rise_over_restarts_and_a_lost_file(tmp_path: Path) -> None:
    first = Sequence(tmp_path, clock=lambda: 1000.0)
    taken = [first.take() for _ in range(3)]
    second = Sequence(tmp_path, clock=lambda: 10.0)
    taken.append(second.take())
    (tmp_path / "sequence").unlink()
    taken.append(Sequence(tmp_path, clock=lambda: 5000.0).take())
    assert taken == sorted(set(taken))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.json"
    write_durably(path, b"old")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(journal_module.JournalError, match="No space left"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_journal_is_plain_json_for_whoever_must_look(stage: Stage) -> None:
    stage.apply(BEFORE)
    document = json.loads((stage.state_dir / "journal.json").read_text())
    assert document["ordered"]["revision"] == 1 and len(document["owned"]) == 2
