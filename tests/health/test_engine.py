"""Many checks in one loop: none waits for another, lists change, and what is known is kept."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.director.health import Tried, Watched
from cluster.director.health.engine import Engine
from cluster.director.health.sockets import Goal, open_socket
from cluster.ipvs.state import Backend, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Check, CheckKind, Verdict
from cluster.ipvs.traffic.policy import LoadRule, Place
from tests.health.servers import free_port, full_house, hangs, says, serve

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
QUICK = Check(interval_s=0.5, timeout_s=0.4, rise=1, fall=2, retry_s=0.1)
# Long enough for a machine that does something else; nothing is measured by it.
PATIENCE_S = 20.0


class Heard:
    """What an engine said, newest last."""

    def __init__(self) -> None:
        self.verdicts: dict[Place, Verdict] = {}
        self.loads: dict[Place, int] = {}

    async def until(self, is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, "it never came to that"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def engine() -> AsyncIterator[tuple[Engine, Heard]]:
    heard = Heard()
    one = Engine(scripts=Path("/"), say_verdict=heard.verdicts.__setitem__, say_load=heard.loads.__setitem__)
    try:
        yield one, heard
    finally:
        one.stop()


def watched(port: int, check: Check | None = QUICK, **more: Any) -> Watched:
    return Watched(KEY, Backend("127.0.0.1", port), check, **more)


def test_a_backend_that_dies_is_down_and_one_that_comes_back_is_up() -> None:
    async def work() -> None:
        server, port = await serve(hangs)
        one = watched(port)
        async with engine() as (checks, heard):
            checks.watch([one], {})
            await heard.until(lambda: heard.verdicts.get(one.place, Verdict(False, "", 0)).is_up)
            server.close()
            await heard.until(lambda: not heard.verdicts[one.place].is_up)
            assert heard.verdicts[one.place].reason == "connection refused 2/2"
            async with await asyncio.start_server(hangs, "127.0.0.1", port):
                await heard.until(lambda: heard.verdicts[one.place].is_up)

    asyncio.run(work())


def test_checks_that_hang_delay_no_other() -> None:
    async def work() -> None:
        hung, hung_port = await serve(hangs)
        server, port = await serve(says(b"HTTP/1.1 200 OK\r\n\r\n"))
        slow = Check(CheckKind.HTTP, timeout_s=300.0, port=hung_port, interval_s=0.5)
        one = watched(port, replace(QUICK, kind=CheckKind.HTTP, timeout_s=5.0))
        others = [
            Watched(KEY, Backend(f"127.0.1.{n}", 80), replace(slow, address="127.0.0.1")) for n in range(200)
        ]
        async with hung, server, engine() as (checks, heard):
            checks.watch([*others, one], {})
            await heard.until(lambda: one.place in heard.verdicts)
            assert heard.verdicts[one.place].is_up and len(heard.verdicts) == 1

    asyncio.run(work())


def test_a_new_weight_neither_begins_the_checks_anew_nor_forgets_the_counts() -> None:
    async def work() -> None:
        port = free_port()
        check = replace(QUICK, fall=3, retry_s=0.2)
        async with engine() as (checks, heard):
            one = watched(port, check)
            # Each list comes sooner than a check that begins anew could fail three times.
            for weight in range(1, 100):
                checks.watch([replace(one, backend=one.backend._replace(weight=weight))], {})
                await asyncio.sleep(0.1)
                if one.place in heard.verdicts:
                    break
            assert heard.verdicts[one.place].reason == "connection refused 3/3"

    asyncio.run(work())


def test_another_check_goes_on_from_the_verdict_and_who_is_gone_is_checked_no_more() -> None:
    async def work() -> None:
        one, gone = watched(free_port()), watched(free_port())
        async with engine() as (checks, heard):
            checks.watch([one, gone], {})
            await heard.until(lambda: len(heard.verdicts) == 2)
            heard.verdicts.clear()
            checks.watch([replace(one, check=replace(QUICK, fall=100))], {})
            await asyncio.sleep(1.5)
            # Still down, though no hundred checks have failed: nothing new to say.
            assert gone.place not in heard.verdicts
            assert not any(verdict.is_up for verdict in heard.verdicts.values())

    asyncio.run(work())


def test_an_agent_says_the_load() -> None:
    async def work() -> None:
        server, port = await serve(says(b"HTTP/1.1 200 OK\r\n\r\n75%"))
        one = watched(port, None, load=LoadRule(port=port, interval_s=0.2))
        async with server, engine() as (checks, heard):
            checks.watch([one], {})
            await heard.until(lambda: heard.loads.get(one.place) == 75)

    asyncio.run(work())


def test_a_try_answers_for_each_backend_in_turn_whatever_becomes_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(one: Watched, check: Check, *, scripts: Path) -> Tried:
        if one.backend.port == 1:
            raise RuntimeError("a mistake of ours")
        return Tried(True, "", 1.0)

    monkeypatch.setattr("cluster.director.health.engine.probe", broken)

    async def work() -> list[Tried]:
        async with engine() as (checks, _):
            return await checks.try_now([watched(1), watched(2), watched(3, None)])

    broke, up, none = asyncio.run(work())
    assert (broke.is_up, up.is_up, none.reason) == (False, True, "this backend has no check")
    assert broke.reason == "not tried: the check broke, see the director's log"


def test_a_director_without_sockets_takes_no_backend_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def work() -> None:
        server, port = await serve(hangs)
        one = watched(port)
        async with server, engine() as (checks, heard):
            monkeypatch.setattr("cluster.director.health.connecting.open_socket", none_left)
            checks.watch([one], {})
            await heard.until(lambda: caplog.text.count("too many open files") > 3)
            assert heard.verdicts == {}

    asyncio.run(work())


def test_the_pause_after_a_failure_begins_when_the_failed_check_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[float, float]] = []

    async def fails(one: Watched, check: Check, *, scripts: Path) -> Tried:
        began = time.monotonic()
        await asyncio.sleep(0.4)
        spans.append((began, time.monotonic()))
        return Tried(False, "connect timeout", 400.0)

    monkeypatch.setattr("cluster.director.health.engine.attempt", fails)

    async def work() -> None:
        async with engine() as (checks, heard):
            checks.watch([watched(1, replace(QUICK, kind=CheckKind.PING, timeout_s=5.0, retry_s=0.3))], {})
            await heard.until(lambda: len(spans) > 3)

    asyncio.run(work())
    pauses = [begins - ended for (_, ended), (begins, _) in zip(spans, spans[1:], strict=False)]
    # 0.3 s with a tenth of jitter, and what a clock is off.
    assert min(pauses) > 0.25


def test_many_that_fail_at_once_do_not_begin_each_other_too_deeply(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def only_for_the_hung(goal: Goal, kind: socket.SocketKind) -> socket.socket:
        if goal.address != "127.0.0.1":
            raise OSError(errno.EMFILE, "Too many open files")
        return open_socket(goal, kind)

    monkeypatch.setattr("cluster.director.health.engine._most_at_once", lambda: 4)
    monkeypatch.setattr("cluster.director.health.connecting.open_socket", only_for_the_hung)

    async def work() -> None:
        with full_house() as (port, _):
            hung = [replace(watched(port), service=KEY._replace(port=n)) for n in range(3)]
            many = [Watched(KEY, Backend(f"127.2.{n // 250}.{n % 250}", 80), QUICK) for n in range(3000)]
            async with engine() as (checks, heard):
                checks.watch([*hung, *many], {})
                await heard.until(lambda: caplog.text.count("too many open files") >= 6000)

    asyncio.run(work())
    assert "RecursionError" not in caplog.text


def test_more_checks_than_sockets_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.director.health.engine._most_at_once", lambda: 4)

    async def work() -> None:
        server, port = await serve(says(b"HTTP/1.1 200 OK\r\n\r\n"))
        check = replace(QUICK, kind=CheckKind.HTTP, timeout_s=10.0, port=port, address="127.0.0.1")
        several = [Watched(KEY, Backend(f"127.0.1.{n}", 80), check) for n in range(40)]
        async with server, engine() as (checks, heard):
            checks.watch(several, {})
            await heard.until(lambda: len(heard.verdicts) == 40)
            assert all(verdict.is_up for verdict in heard.verdicts.values())

    asyncio.run(work())


@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.HTTP])
def test_who_never_answers_is_given_up_at_the_timeout(kind: CheckKind) -> None:
    async def work() -> None:
        with full_house() as (port, _):
            one = watched(port, replace(QUICK, kind=kind))
            async with engine() as (checks, heard):
                checks.watch([one], {})
                await heard.until(lambda: one.place in heard.verdicts)
                what = "connect" if kind is CheckKind.TCP else "HTTP"
                assert heard.verdicts[one.place].reason == f"{what} timeout 2/2"
                # Its end while a check is under way.
                checks.watch([], {})
                heard.verdicts.clear()
                await asyncio.sleep(1.0)
                assert not heard.verdicts

    asyncio.run(work())


def test_the_pace_counts_checks() -> None:
    async def work() -> None:
        server, port = await serve(hangs)
        async with server, engine() as (checks, heard):
            checks.watch([watched(port)], {})
            await heard.until(lambda: heard.verdicts)
            pace = checks.pace()
            assert pace.per_second > 0 and 0 <= pace.late_share <= 1 and pace.cpu_share > 0

    asyncio.run(work())
