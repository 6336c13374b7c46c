"""Each kind of check against real servers: what is up, what is down, and with which reason."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest

from cluster.director.health import Tried, Watched
from cluster.director.health.probe import ask_agent, probe
from cluster.ipvs.state import Backend, Forwarding, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.loads import percent_in
from cluster.ipvs.traffic.policy import LoadRule
from tests.health.servers import (
    KEY,
    against,
    certificate,
    free_port,
    hangs,
    says,
    serve,
    serve_datagrams,
)

LONG = b"x" * 1_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def run(work: Callable[[], Coroutine[Any, Any, Tried]]) -> Tried:
    return asyncio.run(work())


def http(answer: bytes, *, pause_s: float = 0.0, **settings: Any) -> Tried:
    async def work() -> Tried:
        server, port = await serve(says(answer, pause_s=pause_s))
        async with server:
            return await against(port, Check(**({"kind": CheckKind.HTTP, "timeout_s": 3.0} | settings)))

    return run(work)


def test_a_port_that_takes_connections_is_up_and_another_one_refuses() -> None:
    async def work() -> Tried:
        server, port = await serve(hangs)
        async with server:
            return await against(port, Check())

    assert run(work).is_up
    refused = asyncio.run(against(free_port(), Check()))
    assert (refused.is_up, refused.reason) == (False, "connection refused")


def test_ipv6_backends_are_checked_too() -> None:
    async def work() -> Tried:
        server, port = await serve(hangs, host="::1")
        async with server:
            return await against(port, Check(), host="::1")

    assert run(work).is_up


def test_a_backlog_that_is_full_is_a_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        tried = asyncio.run(against(port, Check(timeout_s=0.3)))
        for one in waiting:
            one.close()
    assert (tried.is_up, tried.reason) == (False, "connect timeout")


@pytest.mark.parametrize(
    ("answer", "settings", "reason"),
    [
        (OK, {}, ""),
        (OK, {"contains": "ell"}, ""),
        (OK, {"contains": "goodbye"}, "“goodbye” is not in the body"),
        (OK, {"pattern": "^h.*o$"}, ""),
        (OK, {"pattern": "^x"}, "the pattern does not match the body"),
        (OK, {"statuses": "204,301"}, "HTTP status 200"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", {}, "HTTP status 503"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", {"statuses": "200-299,503"}, ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", {}, "HTTP status 302"),
        (b"", {}, "connection closed before the answer"),
        (b"220 ready\r\n\r\n", {}, "no HTTP answer"),
        (b"HTTP/1.1 200", {}, "the header is cut"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", {}, "the header is too long"),
        (
            b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000 + b"end",
            {"contains": "end"},
            "“end” is not in the body",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nab" + LONG, {"contains": "ab"}, ""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\n\r\n",
            {"contains": "hello"},
            "",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
            {"contains": "hello"},
            "a chunk of the body is malformed",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhel",
            {"contains": "hello"},
            "the body is cut",
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 60_000,
            {"pattern": "(a+)+b"},
            "the pattern takes too long on this body",
        ),
    ],
)
def test_an_http_answer_is_judged(answer: bytes, settings: dict[str, Any], reason: str) -> None:
    tried = http(answer, **settings)
    assert (tried.is_up, tried.reason) == (not reason, reason)


def test_an_answer_that_drips_ends_with_the_deadline() -> None:
    tried = http(OK, pause_s=0.2, timeout_s=0.5)
    assert (tried.is_up, tried.reason) == (False, "HTTP timeout")


def test_a_server_that_hangs_is_a_timeout() -> None:
    async def work() -> Tried:
        server, port = await serve(hangs)
        async with server:
            return await against(port, Check(CheckKind.HTTP, timeout_s=0.3))

    assert run(work).reason == "HTTP timeout"


def test_the_request_says_what_was_asked_for() -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        writer.close()

    async def work() -> Tried:
        server, port = await serve(talk)
        async with server:
            return await against(
                port, Check(CheckKind.HTTP, method="HEAD", path="/up?x=1", host="shop.example")
            )

    assert run(work).is_up
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "HEAD /up?x=1 HTTP/1.1" and "Host: shop.example" in lines


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, ""),
        ({"expiry_days": 10}, ""),
        ({"expiry_days": 30}, "certificate ends in 20 days"),
        ({"verify": True, "server_name": "shop.example"}, "TLS: self-signed certificate"),
    ],
)
@pytest.mark.parametrize("kind", [CheckKind.TLS, CheckKind.HTTPS])
def test_a_certificate_is_judged(
    tmp_path: Path, kind: CheckKind, settings: dict[str, Any], reason: str
) -> None:
    async def work() -> Tried:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path, days=20))
        server, port = await serve(says(OK), ssl=context)
        async with server:
            return await against(port, Check(kind, timeout_s=3.0, **settings))

    tried = run(work)
    assert (tried.is_up, tried.reason) == (not reason, reason)


def test_a_server_without_tls_has_no_handshake() -> None:
    async def work() -> Tried:
        server, port = await serve(says(b"HTTP/1.1 400 Bad\r\n\r\n"))
        async with server:
            return await against(port, Check(CheckKind.TLS, timeout_s=1.0))

    tried = run(work)
    assert not tried.is_up and tried.reason.startswith("TLS")


def udp(answer: Callable[[bytes], bytes | None], /, **settings: Any) -> Tried:
    async def work() -> Tried:
        transport, port = await serve_datagrams(answer)
        try:
            return await against(port, Check(**({"kind": CheckKind.UDP, "timeout_s": 1.0} | settings)))
        finally:
            transport.close()

    return run(work)


def test_a_udp_answer_has_to_begin_as_expected() -> None:
    assert udp(lambda data: b"pong" if data == b"\x01ping" else None, payload=r"\x01ping", expects="po").is_up
    assert udp(lambda data: b"what?", payload="x", expects="po").reason == "the answer begins otherwise"
    assert udp(lambda data: None, payload="x", expects="po", timeout_s=0.3).reason == "UDP timeout"


def test_udp_silence_is_up_where_no_answer_is_expected_and_a_refusal_is_down() -> None:
    assert udp(lambda data: None, payload="x").is_up
    port = free_port(socket.SOCK_DGRAM)
    tried = asyncio.run(against(port, Check(CheckKind.UDP, payload="x")))
    assert (tried.is_up, tried.reason) == (False, "connection refused")


def dns_answer(*addresses: str, rcode: int = 0) -> Callable[[bytes], bytes]:
    def answer(data: bytes) -> bytes:
        asked = dns.message.from_wire(data)
        said = dns.message.make_response(asked)
        said.set_rcode(dns.rcode.Rcode(rcode))
        if addresses:
            said.answer.append(dns.rrset.from_text("shop.example.", 60, "IN", "A", *addresses))
        return said.to_wire()

    return answer


@pytest.mark.parametrize(
    ("answer", "settings", "reason"),
    [
        (dns_answer("10.0.0.1"), {}, ""),
        (dns_answer("10.0.0.1", "10.0.0.2"), {"answer": "10.0.0.2"}, ""),
        (dns_answer("10.0.0.1"), {"answer": "10.0.0.9"}, "“10.0.0.9” is not among the DNS answers"),
        (dns_answer(), {}, "DNS has no A of shop.example"),
        (dns_answer(rcode=2), {}, "DNS answered SERVFAIL"),
        (lambda data: b"\xff" * 5, {}, "the answer is no DNS message"),
    ],
)
def test_a_dns_answer_is_judged(answer: Any, settings: dict[str, Any], reason: str) -> None:
    tried = udp(answer, kind=CheckKind.DNS, query="shop.example", **settings)
    assert (tried.is_up, tried.reason) == (not reason, reason)


def test_smtp_says_hello_and_goodbye() -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220-mail\r\n220 ready\r\n")
        heard.append(await reader.readline())
        writer.write(b"250-mail.example\r\n250 SIZE 1000\r\n")
        heard.append(await reader.readline())
        writer.close()

    async def work() -> Tried:
        server, port = await serve(talk)
        async with server:
            return await against(port, Check(CheckKind.SMTP, helo="lb.example"))

    assert run(work).is_up
    assert heard[0] == b"EHLO lb.example\r\n"


def test_smtp_that_turns_away_is_down() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"421 too busy\r\n")
        writer.close()

    async def work() -> Tried:
        server, port = await serve(talk)
        async with server:
            return await against(port, Check(CheckKind.SMTP))

    assert run(work).reason == "SMTP answered 421 instead of 220"


def test_ping_of_this_machine() -> None:
    tried = asyncio.run(against(80, Check(CheckKind.PING)))
    assert tried.is_up, tried.reason


def test_a_check_that_has_no_port_to_go_to_says_so() -> None:
    mark = ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 7)
    tried = asyncio.run(probe(Watched(mark, Backend("127.0.0.1", 0)), Check(), scripts=Path("/")))
    assert tried.reason == "the check names no port, and neither does the backend"


def test_a_check_through_the_service_is_never_a_plain_one() -> None:
    check = Check(through_service=True)
    one = Watched(KEY, Backend("127.0.0.1", 80, Forwarding.MASQUERADE), check)
    tried = asyncio.run(probe(one, check, scripts=Path("/")))
    assert tried.reason == "only direct routing and tunnel can be checked through the service"


@pytest.mark.parametrize(
    ("said", "percent"),
    [("up", 100), ("ready\n", 100), ("drain", 0), ("75%", 75), (" 75 ", 75), ("0%", 0), ("99999%", None)]
    + [("", None), ("down?", None), ("-5%", None), ("٣", None), ("1.5%", None)],
)
def test_what_an_agent_says(said: str, percent: int | None) -> None:
    assert percent_in(said) == percent


def test_an_agent_is_asked_over_http() -> None:
    async def work() -> int | None:
        server, port = await serve(says(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n75%\n"))
        async with server:
            return await ask_agent(Watched(KEY, Backend("127.0.0.1", 1)), LoadRule(port=port))

    assert asyncio.run(work()) == 75
    silent = LoadRule(port=free_port())
    assert asyncio.run(ask_agent(Watched(KEY, Backend("127.0.0.1", 1)), silent)) is None
