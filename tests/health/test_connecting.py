"""Connections that nobody waits for: made, refused at once or later, slow, and given up."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from cluster.director.health.agenda import Agenda
from cluster.director.health.connecting import Connecting, Connector
from cluster.director.health.sockets import Goal
from tests.health.servers import free_port, full_house

PATIENCE_S = 20.0


async def outcome(connector: Connector, goal: Goal) -> tuple[int, socket.socket | None]:
    over: asyncio.Future[tuple[int, socket.socket | None]] = asyncio.get_running_loop().create_future()
    connector.begin(goal, lambda *said: over.set_result(said))
    return await asyncio.wait_for(over, PATIENCE_S)


def test_a_connection_is_handed_over_open() -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            code, connected = await outcome(Connector(Agenda()), Goal("127.0.0.1", listener.getsockname()[1]))
            assert code == 0 and connected is not None
            with connected:
                assert connected.getpeername() == listener.getsockname()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("address", "wanted"),
    [("127.0.0.1", {errno.ECONNREFUSED}), ("255.255.255.255", {errno.ENETUNREACH, errno.EACCES})],
    ids=["refused by the other side", "refused by this kernel"],
)
def test_a_refusal_says_why(address: str, wanted: set[int]) -> None:
    async def work() -> None:
        code, connected = await outcome(Connector(Agenda()), Goal(address, free_port()))
        assert code in wanted and connected is None

    asyncio.run(work())


def test_a_slow_one_is_waited_for_and_delays_no_other() -> None:
    async def work() -> None:
        connector = Connector(Agenda())
        with full_house() as (port, listener), socket.create_server(("127.0.0.1", 0)) as free:
            slow = asyncio.create_task(outcome(connector, Goal("127.0.0.1", port)))
            await asyncio.sleep(0.1)
            code, connected = await outcome(connector, Goal("127.0.0.1", free.getsockname()[1]))
            assert code == 0 and connected is not None and not slow.done()
            connected.close()
            listener.accept()[0].close()
            code, connected = await slow
            assert code == 0 and connected is not None
            connected.close()

    asyncio.run(work())


@pytest.mark.parametrize("after_s", [0.0, 0.2], ids=["before the first look", "while the loop waits"])
def test_one_that_is_given_up_says_so_once_and_closes_its_socket(after_s: float) -> None:
    said: list[int] = []

    async def work() -> Connecting:
        with full_house() as (port, _):
            connecting = Connector(Agenda()).begin(Goal("127.0.0.1", port), lambda code, _: said.append(code))
            await asyncio.sleep(after_s)
            connecting.give_up()
            connecting.give_up()
            with pytest.raises(OSError, match="Bad file descriptor"):
                socket.socket(fileno=connecting.file)
            await asyncio.sleep(0.2)
            return connecting

    assert not asyncio.run(work()).is_under_way
    assert said == [errno.ETIMEDOUT]
