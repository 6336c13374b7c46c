"""Included files of a keepalived.conf, found as glob(3) finds them, and never read beyond what is bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.director.included import Included
from cluster.ipvs.formats.keepalived_lines import MOST_FILES
from cluster.ipvs.formats.reading import Unreadable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.conf", "b.conf", "c.cfg", ".hidden.conf"):
        (tmp_path / name).write_text(name)
    (tmp_path / "d.conf").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("a.conf", ["a.conf"]),
        ("none.conf", []),
        ("*.conf", ["a.conf", "b.conf"]),
        ("[^a].conf", ["b.conf"]),
        ("{b.conf,c.cfg,a.*}", ["b.conf", "c.cfg", "a.conf"]),
        ("{a{.conf,.cfg},b.conf}", ["a.conf", "b.conf"]),
        ("*.none", []),
    ],
)
def test_wildcards_and_braces_find_what_glob_finds(folder: Path, name: str, files: list[str]) -> None:
    assert Included(folder, most=100)(name) == [(file, file) for file in files]
    whole = Included(Path("/nowhere"), most=100)
    if "{" not in name:
        assert whole(f"{folder}/{name}") == [(f"{folder}/{file}", file) for file in files]


def test_what_is_there_and_cannot_be_read_may_hide_a_service(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "latin.conf").write_bytes(b"\xff")
    (folder / "points.nowhere").symlink_to("nowhere")
    for name in ("pipe", "latin.conf", "points.*", "d.conf", "gone/*.conf", "a\\*", "a\0*", "{a,b,c,d}" * 9):
        with pytest.raises(Unreadable) as why:
            Included(folder, most=100)(name)
        assert why.value.may_hide


def test_the_length_of_all_files_and_their_number_are_bounded(folder: Path) -> None:
    assert len(Included(folder, most=12)("*.conf")) == 2
    with pytest.raises(Unreadable, match="too long"):
        Included(folder, most=11)("*.conf")
    for at in range(MOST_FILES + 5):
        (folder / f"{at}.many").write_text("")
    assert len(Included(folder, most=11)("*.many")) == MOST_FILES + 1
