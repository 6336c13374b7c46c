"""The kernel's switches that an order wants: set, read back, told, restored, and seen where they differ."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.director import tuning
from cluster.director.apply import restore
from cluster.director.journal import Sequence as Numbers
from cluster.director.kernel import Answer
from cluster.director.watch import Watch
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.plan import Step
from cluster.ipvs.state import Table
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic
from tests.director.stage import Stage, backend, service, table

WANTED = {"expire_nodest_conn": "1", "sync_threshold": "3 60"}
SHOP = table(service(1, backend(1)))


@pytest.fixture
def folder(stage: Stage, tmp_path: Path) -> Path:
    """A kernel's folder, as far as files can stand for it: real ones are in tests/kernel."""
    folder = tmp_path / "vs"
    folder.mkdir()
    (folder / "expire_nodest_conn").write_text("0\n")
    (folder / "sync_threshold").write_text("3\t50\n")
    (folder / "conntrack").write_text("1\n")
    stage.switches = folder
    return folder


def payload(wanted: Table, switches: dict[str, str]) -> dict[str, Any]:
    return {
        "table": to_document(wanted),
        "traffic": traffic_document.to_document(Traffic(switches=switches)),
    }


def order(stage: Stage, switches: dict[str, str], revision: int = 1) -> dict[str, Any]:
    return stage.apply(SHOP, payload=payload(SHOP, switches), revision=revision)


def odd(stage: Stage, director: Any = None) -> list[dict[str, Any]]:
    """What a frame tells of switches that are not as wanted."""
    frames: list[Any] = []
    if director is None:
        director = stage.director()
        restore(director)
    watch = Watch(
        director,
        key=stage.key,
        sequence=Numbers(stage.state_dir),
        put=lambda _, text: frames.append(stage.opened(text)),
        ask=lambda keys: [None for _ in keys],
    )
    watch.round()
    said: list[dict[str, Any]] = frames[-1]["payload"]["switches"]
    return said


def test_an_order_sets_them_reads_them_back_and_tells(stage: Stage, folder: Path) -> None:
    said = order(stage, WANTED)
    assert said["outcome"] == "applied"
    assert said["text"].endswith("2 switches set and read back.")
    assert (folder / "expire_nodest_conn").read_text() == "1"
    assert (folder / "sync_threshold").read_text() == "3 60"
    assert (folder / "conntrack").read_text() == "1\n", "what is not named stays"
    first = said["steps"][0]
    assert first["command"] == "sysctl -w net.ipv4.vs.expire_nodest_conn=1"
    assert first["text"] == "Set net.ipv4.vs.expire_nodest_conn to 1; it is 0." and first["status"] == "done"
    assert said["planned"] == 4
    again = order(stage, WANTED, revision=2)
    assert again["steps"] == [] and "switch" not in again["text"]


def test_one_that_cannot_be_set_is_told_with_its_remedy_and_nothing_else_fails(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open

    def read_only(path: Path, mode: str = "r") -> Any:
        if mode == "w" and path.name == "expire_nodest_conn":
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, mode)

    monkeypatch.setattr(tuning, "open", read_only, raising=False)
    said = order(stage, WANTED | {"what_is_this": "1"})
    assert said["outcome"] == "applied" and stage.actual == SHOP
    assert "1 switch set and read back" in said["text"]
    assert "ProtectKernelTunables=" in said["text"] and "has no switch “what_is_this”" in said["text"]
    assert [step["status"] for step in said["steps"][:3]] == ["failed", "done", "failed"]
    director = stage.director()
    restore(director)
    told = {one["name"]: one for one in odd(stage, director)}
    assert told.keys() == {"expire_nodest_conn", "what_is_this"}
    assert told["expire_nodest_conn"]["held"] == "0" and "read-only" in told["expire_nodest_conn"]["problem"]
    assert told["what_is_this"]["held"] is None


def test_one_that_does_not_stay_as_it_was_written_is_told(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "write_sysctl", lambda *_: "")
    said = order(stage, {"expire_nodest_conn": "1"})
    assert "It was set, and is 0 all the same." in said["text"]


def test_a_change_from_outside_shows_as_drift_until_an_apply_or_a_restart(stage: Stage, folder: Path) -> None:
    order(stage, WANTED)
    director = stage.director()
    restore(director)
    assert odd(stage, director) == []
    (folder / "expire_nodest_conn").write_text("0\n")
    seen = {"name": "expire_nodest_conn", "wanted": "1", "held": "0", "problem": ""}
    assert odd(stage, director) == [seen]
    assert odd(stage, director) == [seen], "nobody undoes what somebody did, until an operator says so"
    director.aim.effective = None
    assert odd(stage, director) == [], "an order is under way"
    order(stage, WANTED)
    assert (folder / "expire_nodest_conn").read_text() == "1"


def test_a_reboot_restores_those_of_the_verified_order(stage: Stage, folder: Path) -> None:
    order(stage, WANTED)
    (folder / "expire_nodest_conn").write_text("0\n")
    (folder / "sync_threshold").write_text("3\t50\n")
    stage.kernel = type(stage.kernel)()
    assert odd(stage) == []
    assert (folder / "expire_nodest_conn").read_text() == "1"


def test_an_order_that_is_refused_in_the_rehearsal_sets_none(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(wanted: Table) -> Sequence[Answer]:
        from cluster.ipvs.plan import plan

        steps: Sequence[Step] = plan(Table(), wanted, owned=frozenset()).steps
        return [Answer(step, errno.ENOENT) for step in steps]

    monkeypatch.setattr(stage.kernel, "rehearse", refuse)
    assert order(stage, WANTED)["outcome"] == "failed"
    assert (folder / "expire_nodest_conn").read_text() == "0\n"


def test_a_stand_in_touches_no_switch_of_this_machine(stage: Stage) -> None:
    said = order(stage, WANTED)
    assert said["outcome"] == "applied" and len(said["steps"]) == 2 and odd(stage) == []


def test_an_order_that_names_none_asks_for_none(stage: Stage, folder: Path) -> None:
    assert "switch" not in order(stage, {})["text"]
    assert (folder / "expire_nodest_conn").read_text() == "0\n" and odd(stage) == []
