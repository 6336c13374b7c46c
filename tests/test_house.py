"""The house stays one that can be read: no room becomes a corridor, and importing the core runs nothing."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 400


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    modules = [
        path for room in ("bench", "cluster", "lab", "lvsadmin") for path in (ROOT / room).rglob("*.py")
    ]
    assert len(modules) > 100
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}


def test_importing_the_core_runs_no_code_of_the_panel() -> None:
    assert (ROOT / "cluster" / "__init__.py").read_text() == ""
