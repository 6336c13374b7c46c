"""A director keeps what the panel signed about its audit log, and nothing that is not that."""

from __future__ import annotations

import json

import pytest

from cluster.director import witness
from cluster.director.apply import take
from cluster.wire.envelope import SigningKey
from cluster.wire.messages import Operation
from tests.director.stage import Stage, table

KEY = SigningKey(b"the key of an audit log, 32 byte")


def _checkpoint(sequence: int) -> dict[str, str]:
    return KEY.sign("audit-checkpoint", {"sequence": sequence, "hash": "a" * 64, "at": "now"})


def test_it_keeps_the_newest_and_says_which(stage: Stage) -> None:
    assert stage.director().facts()["witness"] == {"sequence": 0, "hash": ""}
    for sequence in (10, 20, 20):
        said = stage.order(
            table(), operation=Operation.WITNESS, payload={"checkpoint": _checkpoint(sequence)}
        )
        take(said, stage.director())
    assert stage.director().facts()["witness"] == {"sequence": 20, "hash": "a" * 64}
    kept = witness.kept(stage.state_dir)
    assert [json.loads(line) for line in kept] == [_checkpoint(10), _checkpoint(20)]
    assert stage.sent == [] and stage.kernel.writes == 0


def test_old_ones_make_room(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "MOST_KEPT", 3)
    folder = stage.state_dir
    for sequence in range(5):
        witness.keep(folder, _checkpoint(sequence))
    assert len(witness.kept(folder)) == 3 and witness.newest(folder)["sequence"] == 4


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {"body": "x"},
        {"body": '{"sequence": 1}'},
        {"body": '{"sequence": "1", "hash": ""}'},
        _checkpoint(1) | {"more": "x" * 3000},
    ],
)
def test_what_is_no_checkpoint_is_not_kept(stage: Stage, odd: object) -> None:
    witness.keep(stage.state_dir, odd)
    assert witness.kept(stage.state_dir) == []
