"""Traffic tests tell one day of an operator, so they run in the order in which they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After pytest-randomly has shuffled: put the tests of this folder back."""
    ours = [number for number, item in enumerate(items) if HERE in item.path.parents]
    ordered = sorted(
        (items[number] for number in ours), key=lambda item: (item.path, item.reportinfo()[1] or 0)
    )
    for number, item in zip(ours, ordered, strict=True):
        items[number] = item
