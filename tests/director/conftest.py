"""One director in memory for a test, or as many as it asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.director.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def make_stage(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Stage]:
    """For a test that needs a new one for each point of an interruption."""
    return lambda: Stage(tmp_path_factory.mktemp("state"))
