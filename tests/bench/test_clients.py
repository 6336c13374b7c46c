"""The clients of the zero-loss bench count what a user would have noticed, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from bench.clients import Answers, Crowd, Group, percentile
from bench.weights import changes, weights

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: "
KEEP, LAST = HEAD + b"keep-alive\r\n\r\nok\n", HEAD + b"close\r\n\r\nok\n"


def crowd_at(serve: Serve, *, seconds: float = 0.5, **settings: object) -> Answers:
    """What four clients of such a server come to."""

    async def meet() -> Answers:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (OSError, EOFError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(once, "127.0.0.1", 0)
        async with server:
            return await visit(server.sockets[0].getsockname()[1], seconds, **settings)

    return asyncio.run(meet())


async def visit(port: int, seconds: float, **settings: object) -> Answers:
    group = Group(
        **{"name": "one", "address": "127.0.0.1", "port": port, "clients": 4, "pause_s": 0.02}
        | {"limit_s": 0.1}
        | settings  # type: ignore[arg-type]
    )
    crowd = Crowd([group])
    asyncio.get_running_loop().call_later(seconds, crowd.stop)
    await crowd.run()
    return Answers.read(crowd.document())["one"]


def kinds(answers: Answers) -> set[tuple[str, bool]]:
    return {(failure.kind, failure.is_new) for failure in answers.failures}


async def answer_always(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(KEEP)


def test_a_client_keeps_its_connection() -> None:
    answers = crowd_at(answer_always)
    assert answers.failures == ()
    assert answers.connections == 4 < answers.requests
    assert 0 < answers.p50_ms <= answers.p99_ms


def test_one_that_does_not_keep_alive_opens_a_connection_each_time() -> None:
    answers = crowd_at(answer_always, keeps_alive=False)
    assert answers.failures == ()
    assert answers.connections == answers.requests > 4


def test_a_server_that_says_goodbye_loses_nothing() -> None:
    async def answer_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(LAST)

    answers = crowd_at(answer_last)
    assert answers.failures == () and answers.connections == answers.requests > 4


def test_a_connection_closed_between_two_requests_loses_nothing() -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(KEEP)

    answers = crowd_at(answer_once)
    assert answers.failures == ()
    assert answers.closed_idle > 0 and answers.connections == answers.closed_idle + 4


def reset(writer: asyncio.StreamWriter) -> None:
    held: socket.socket = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_reset_between_two_requests_loses_nothing_but_one_in_a_request_does() -> None:
    async def reset_after(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)
        writer.write(KEEP)

    async def reset_before(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)

    answers = crowd_at(reset_after)
    assert answers.failures == () and answers.closed_idle > 0
    answers = crowd_at(reset_before)
    assert kinds(answers) == {("reset", True)} and len(answers.failures) == answers.requests


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", "status"),
        (HEAD + b"close\r\n\r\no", "cut"),
        (b"", "cut"),
        (b"nonsense\r\n\r\n", "status"),
    ],
)
def test_a_bad_answer_is_a_failed_request(said: bytes, kind: str) -> None:
    async def answer_badly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    answers = crowd_at(answer_badly)
    assert {failure.kind for failure in answers.failures} == {kind}
    assert len(answers.failures) == answers.requests


def test_silence_on_a_kept_connection_is_a_failed_request() -> None:
    async def answer_once_and_freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(KEEP)
        await asyncio.sleep(1)

    answers = crowd_at(answer_once_and_freeze)
    assert kinds(answers) == {("timeout", False)}
    assert all(failure.ended - failure.began >= 0.1 for failure in answers.failures)


def test_nobody_there_is_a_failed_request() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answers = asyncio.run(visit(taken.getsockname()[1], 0.2))
    assert kinds(answers) == {("refused", True)}


def test_percentiles_are_measured_values() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert (percentile(hundred, 50), percentile(hundred, 99)) == (50, 99)
    assert percentile([1, 2, 9], 99) == 9
    assert percentile([], 50) == 0


TABLE = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A8320A:0050 rr 
  -> C0A8320C:0050      Masq    3      0          0         
  -> C0A8320B:0050      Masq    {weight}      0          0         
TCP  C0A8320A:1F90 rr 
  -> C0A8320B:1F90      Route   1      0          0         
"""  # noqa: W291


def test_weights_are_read_from_the_kernels_own_table() -> None:
    before = weights(TABLE.format(weight=1))
    assert before == {(80, "192.168.50.12"): 3, (80, "192.168.50.11"): 1, (8080, "192.168.50.11"): 1}
    after = weights(TABLE.format(weight=0))
    gone = {key: weight for key, weight in after.items() if key[0] == 80}
    assert list(changes(before, after)) == [(80, "192.168.50.11", 0)]
    assert list(changes(after, gone)) == [(8080, "192.168.50.11", None)]
