"""The folder of switches as this machine's kernel shows it: odd ones hide no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.director.tuning import read_sysctls, write_sysctl
from cluster.ipvs.tuning import Sysctl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "expire_nodest_conn").write_text("0\n")
    (tmp_path / "sync_threshold").write_text("3\t50\n")
    (tmp_path / "what_is_this").write_text("new\n")
    return tmp_path


def test_all_are_read_known_or_not(folder: Path) -> None:
    assert read_sysctls(folder) == [
        Sysctl("expire_nodest_conn", "0"),
        Sysctl("sync_threshold", "3 50"),
        Sysctl("what_is_this", "new"),
    ]


def test_one_that_vanishes_or_cannot_be_read_hides_no_other(folder: Path) -> None:
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "odd").mkdir()
    (folder / "binary").write_bytes(b"\xff\xfe")
    found = {one.name: one.value for one in read_sysctls(folder)}
    assert found == {
        **{"gone": None, "odd": None, "binary": None},
        **{"expire_nodest_conn": "0", "sync_threshold": "3 50", "what_is_this": "new"},
    }


def test_a_machine_without_ipvs_has_none(tmp_path: Path) -> None:
    assert read_sysctls(tmp_path / "vs") == []


def test_one_is_written(folder: Path) -> None:
    assert write_sysctl("sync_threshold", " 5  60 ", folder) == ""
    assert (folder / "sync_threshold").read_text() == "5 60"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expire_nodest_conn", "9"),
        ("what_is_this", "1"),
        ("conntrack", "1"),
        ("../../ip_forward", "1"),
        ("", "1"),
        (".", "1"),
    ],
)
def test_nothing_is_written_that_is_not_known_to_be_right(folder: Path, name: str, value: str) -> None:
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert write_sysctl(name, value, folder).endswith(".")
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_a_kernel_that_refuses_is_quoted(folder: Path) -> None:
    (folder / "conntrack").mkdir()
    said = write_sysctl("conntrack", "1", folder)
    assert "conntrack" in said and "Is a directory" in said
