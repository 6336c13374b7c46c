"""The task of a director, as Celery calls it."""

from __future__ import annotations

import pytest

from cluster.director import host
from cluster.director.app import make_app
from cluster.ipvs.formats.document import to_document
from cluster.wire.messages import ORDER_TASK
from tests.director.stage import Stage, backend, service, table

SHOP = table(service(1, backend(1)))


def test_an_order_is_done_before_its_memory_is_given_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[object] = []
    monkeypatch.setattr(host, "return_free_memory", lambda: held.append(to_document(stage.actual)))
    make_app(stage.director()).tasks[ORDER_TASK](stage.order(SHOP))
    assert held == [to_document(SHOP)] and stage.sent[-1]["event"] == "finished"


@pytest.mark.parametrize("library", [object(), host.ctypes.CDLL(None)])
def test_a_c_library_that_cannot_give_memory_back_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, library: object
) -> None:
    monkeypatch.setattr(host.ctypes, "CDLL", lambda _: library)
    host.return_free_memory()
