"""One timer for many: nothing is forgotten, nothing comes early, and a mistake stops nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cluster.director.health.agenda import Agenda


def run(work: Callable[[Agenda], Awaitable[None]]) -> None:
    async def inside() -> None:
        await work(Agenda())

    asyncio.run(inside())


def test_what_comes_later_but_is_due_sooner_is_done_first_and_nothing_early() -> None:
    done: list[tuple[str, float]] = []

    async def work(agenda: Agenda) -> None:
        over = asyncio.Event()
        began = agenda.now()
        agenda.at(began + 0.3, lambda: (done.append(("last", agenda.now() - began)), over.set())[0])
        agenda.at(began + 0.05, lambda: done.append(("first", agenda.now() - began)))
        await asyncio.wait_for(over.wait(), 20)

    run(work)
    assert [name for name, _ in done] == ["first", "last"]
    assert done[0][1] >= 0.05 and done[1][1] >= 0.3


def test_those_of_one_moment_are_done_in_their_order_and_one_that_breaks_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[int] = []

    async def work(agenda: Agenda) -> None:
        over, when = asyncio.Event(), agenda.now() + 0.05
        agenda.at(when, lambda: done.append(1))
        agenda.at(when, lambda: [][0])
        agenda.at(when, lambda: done.append(2))
        agenda.at(when, over.set)
        await asyncio.wait_for(over.wait(), 20)

    run(work)
    assert done == [1, 2] and "a turn broke" in caplog.text


def test_what_is_put_on_during_a_turn_waits_for_another_turn_and_time_stands_still_meanwhile() -> None:
    async def work(agenda: Agenda) -> None:
        over = asyncio.Event()
        turns: list[float] = []

        def again() -> None:
            assert agenda.now() == agenda.now()
            turns.append(agenda.now())
            if len(turns) == 3:
                over.set()
            else:
                agenda.at(agenda.now() + 0.001, again)

        agenda.at(agenda.now(), again)
        await asyncio.wait_for(over.wait(), 20)
        assert turns == sorted(set(turns))

    run(work)


def test_after_its_end_nothing_is_done() -> None:
    done: list[int] = []

    async def work(agenda: Agenda) -> None:
        agenda.at(agenda.now() + 0.05, lambda: done.append(1))
        agenda.stop()
        await asyncio.sleep(0.2)

    run(work)
    assert done == []
