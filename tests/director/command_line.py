"""The program of the command line on a kernel in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.director import __main__ as program
from cluster.director import commands, settings_commands
from cluster.director.config import Config
from cluster.director.kernel.memory import MemoryKernel
from tests.director.stage import backend, service

TEXT = """-A -t 192.0.2.1:80 -s rr
-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1
-a -t 192.0.2.1:80 -r 10.0.0.2:80 -m -w 1
"""
WEB = service(1, backend(1), backend(2))
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def kernel() -> MemoryKernel:
    return MemoryKernel()


@pytest.fixture
def run(
    kernel: MemoryKernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """The program with this kernel and without settings, unless they are named; its status and words."""

    def make_kernel(config: Config | None) -> MemoryKernel:
        return kernel

    monkeypatch.setattr(commands, "make_kernel", make_kernel)
    monkeypatch.setattr(settings_commands, "make_kernel", make_kernel)
    monkeypatch.setattr(program, "USUAL_CONFIG", tmp_path / "none.json")
    monkeypatch.setattr(commands, "LOCK_DEADLINE_S", 0.1)

    def call(*arguments: str, text: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status = program.main(list(arguments))
        said = capsys.readouterr()
        return status, said.out, said.err

    return call
