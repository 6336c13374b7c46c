"""Backends of every kind on loopback, as a test asks for them: good, broken, hung and mean."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.director.health import Tried, Watched
from cluster.director.health.probe import probe
from cluster.ipvs.state import Backend, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Check

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve(talk: Talk, *, host: str = "127.0.0.1", **options: object) -> tuple[asyncio.Server, int]:
    """A TCP server and its port."""
    server = await asyncio.start_server(talk, host, 0, **options)  # type: ignore[arg-type]
    return server, server.sockets[0].getsockname()[1]


def says(answer: bytes, *, pause_s: float = 0.0) -> Talk:
    """Wait for a request's end, answer, close; with a pause, byte by byte."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if pause_s:
            for at in range(len(answer)):
                writer.write(answer[at : at + 1])
                await writer.drain()
                await asyncio.sleep(pause_s)
        else:
            writer.write(answer)
        writer.close()

    return talk


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    await reader.read()
    writer.close()


def certificate(folder: Path, *, days: int) -> Path:
    """A self-made certificate for shop.example and 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("shop.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with what `answer` makes of it; None is silence."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if (said := self._answer(data)) is not None:
            self._transport.sendto(said, address)


async def serve_datagrams(answer: Callable[[bytes], bytes | None]) -> tuple[asyncio.DatagramTransport, int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(answer), local_addr=("127.0.0.1", 0))
    return transport, transport.get_extra_info("sockname")[1]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port where nobody listens."""
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def full_house() -> Iterator[tuple[int, socket.socket]]:
    """A listener whose queue is full, so that the kernel answers nobody else: its port and itself."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1], listener


async def against(port: int, check: Check, *, host: str = "127.0.0.1", scripts: Path = Path("/")) -> Tried:
    """One try of the check at this port."""
    return await probe(Watched(KEY, Backend(host, port), check), check, scripts=scripts)
