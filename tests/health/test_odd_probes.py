"""Checks that meet what is odd: names and paths that cannot be, answers cut, a director in need."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from cluster.director.health import Tried, Watched
from cluster.director.health.probe import probe
from cluster.director.health.sockets import NotTried
from cluster.ipvs.state import Backend, Forwarding, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Check, CheckKind
from tests.health.servers import certificate, says, serve
from tests.health.test_probes import KEY, OK, against, http, run, udp


@pytest.mark.parametrize("query", ["a" * 70 + ".example", "a..example"])
def test_a_name_that_no_question_can_carry_is_down_and_says_so(query: str) -> None:
    tried = udp(lambda data: None, kind=CheckKind.DNS, query=query)
    assert not tried.is_up and tried.reason.startswith("this check cannot be made: ")


@pytest.mark.parametrize("name", ["../../bin/true", "/bin/true", "..", ""])
def test_a_script_outside_its_directory_is_not_run(tmp_path: Path, name: str) -> None:
    tried = asyncio.run(against(8080, Check(CheckKind.SCRIPT, script=name), scripts=tmp_path))
    assert (tried.is_up, tried.reason) == (False, "a script is named without a path")


def test_a_ping_needs_no_port() -> None:
    mark = ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 7)
    check = Check(CheckKind.PING)
    tried = asyncio.run(probe(Watched(mark, Backend("127.0.0.1", 0)), check, scripts=Path("/")))
    assert tried.is_up, tried.reason


@pytest.mark.parametrize("kind", [CheckKind.PING, CheckKind.SCRIPT])
def test_what_cannot_carry_a_mark_is_no_check_through_the_service(kind: CheckKind) -> None:
    check = Check(kind, through_service=True, script="check")
    one = Watched(KEY, Backend("127.0.0.1", 80, Forwarding.DIRECT), check, mark=7)
    tried = asyncio.run(probe(one, check, scripts=Path("/")))
    assert tried.reason == f"a {kind} check cannot go through the service"


@pytest.mark.parametrize(
    ("answer", "settings", "reason"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, {"contains": "hello"}, ""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, {}, "connection closed before the answer"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello",
            {"contains": "hello"},
            "the body is cut",
        ),
        *(
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n0\r\n\r\n",
                {"contains": "hello"},
                "a chunk of the body is malformed",
            )
            for size in (b"-5", b"0x5", b"0_5", b"", b"f" * 40)
        ),
    ],
)
def test_an_answer_that_is_odd_is_read_as_it_is_meant(
    answer: bytes, settings: dict[str, Any], reason: str
) -> None:
    tried = http(answer, **settings)
    assert (tried.is_up, tried.reason) == (not reason, reason)


def test_a_slow_pattern_holds_nothing_else_up() -> None:
    evil = b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 30_000

    async def work() -> tuple[list[Tried], int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        server, port = await serve(says(evil))
        async with server:
            turning = asyncio.create_task(turn())
            check = Check(CheckKind.HTTP, timeout_s=30.0, pattern="(a+)+b")
            tried = await asyncio.gather(*(against(port, check) for _ in range(20)))
            turning.cancel()
        return tried, turns

    tried, turns = asyncio.run(work())
    assert {one.reason for one in tried} == {"the pattern takes too long on this body"}
    # In the loop itself the patterns alone would take all of the time, with a few turns between them.
    assert turns > 1000


def test_the_name_that_a_certificate_is_asked_for_has_no_port(tmp_path: Path) -> None:
    asked: list[str | None] = []

    async def work() -> Tried:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path, days=20))
        context.sni_callback = lambda _, name, __: asked.append(name)
        server, port = await serve(says(OK), ssl=context)
        async with server:
            return await against(port, Check(CheckKind.HTTPS, timeout_s=3.0, host="shop.example:8443"))

    assert run(work).is_up and asked == ["shop.example"]


def test_the_certificate_and_the_answer_come_over_one_connection(tmp_path: Path) -> None:
    handshakes: list[object] = []

    async def work() -> Tried:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path, days=20))
        context.sni_callback = lambda *_: handshakes.append(1)
        server, port = await serve(says(OK), ssl=context)
        async with server:
            check = Check(CheckKind.HTTPS, timeout_s=3.0, server_name="shop.example", expiry_days=10)
            return await against(port, check)

    assert run(work).is_up and len(handshakes) == 1


def test_a_lack_of_the_directors_own_is_no_failure_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("cluster.director.health.streams.open_socket", none_left)
    with pytest.raises(NotTried, match="too many open files"):
        asyncio.run(against(80, Check()))
