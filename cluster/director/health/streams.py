"""Checks that talk over a TCP connection: TLS with its certificate, HTTP, SMTP. Each takes the connection as
it was made and closes it; the caller sets the deadline."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache

import regex
from cryptography import x509

from cluster.director.health import Tried
from cluster.director.health.sockets import Goal, open_socket
from cluster.ipvs.traffic.checks import Check, CheckKind, status_ranges

LONGEST_HEAD = 32 * 1024
MOST_TEXT = 200
_PIECE = 16 * 1024
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
# A pattern that takes longer is the pattern's fault; meanwhile other patterns wait.
PATTERN_DEADLINE_S = 0.05
_AT_ONCE = struct.pack("ii", 1, 0)


class Stream:
    """A connected TCP socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """What has come; empty at the end."""
        return await self._loop.sock_recv(self._socket, _PIECE)

    def close(self) -> None:
        self._socket.close()


class TlsStream(Stream):
    """The same under TLS."""

    def __init__(
        self, connected: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(connected)
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(_PIECE)

    def close(self) -> None:
        self._writer.transport.abort()

    @property
    def certificate(self) -> x509.Certificate:
        """What the server showed, verified or not. ValueError where it showed none that can be read."""
        found = self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if not found:
            raise ValueError("no certificate was shown")
        return x509.load_der_x509_certificate(found)


async def connect(goal: Goal) -> socket.socket:
    """A connected socket. OSError where the backend refuses."""
    found = open_socket(goal, socket.SOCK_STREAM)
    try:
        await asyncio.get_running_loop().sock_connect(found, (goal.address, goal.port))
    except BaseException:
        found.close()
        raise
    return found


def close_at_once(connected: socket.socket) -> None:
    """Without TIME_WAIT: thousands of checks a second would fill the connection table."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    connected.close()


async def _with_tls(connected: socket.socket, check: Check) -> TlsStream:
    """The connection after its handshake. OSError, which ssl.SSLError is, where there is none."""
    try:
        # Without a name there is no SNI; asyncio then wants an empty one.
        name = check.server_name or _without_port(check.host)
        reader, writer = await asyncio.open_connection(
            sock=connected, ssl=_context(check.verify), server_hostname=name
        )
    except BaseException:
        connected.close()
        raise
    return TlsStream(connected, reader, writer)


async def check_tcp(connected: socket.socket, goal: Goal, check: Check) -> Tried:
    close_at_once(connected)
    return Tried(True, "", 0.0)


async def check_tls(connected: socket.socket, goal: Goal, check: Check) -> Tried:
    stream = await _with_tls(connected, check)
    try:
        return _judged_certificate(stream, check)
    finally:
        stream.close()


async def check_http(connected: socket.socket, goal: Goal, check: Check) -> Tried:
    """One request; what a redirect points at is never asked for."""
    is_tls = check.kind is CheckKind.HTTPS
    stream = await _with_tls(connected, check) if is_tls else Stream(connected)
    try:
        if isinstance(stream, TlsStream) and check.expiry_days:
            judged = _judged_certificate(stream, check)
            if not judged.is_up:
                return judged
        status, body = await fetch(stream, goal, check)
    finally:
        stream.close()
    said = f"HTTP {status}"
    if not any(low <= status <= high for low, high in status_ranges(check.statuses)):
        return Tried(False, f"HTTP status {status}", 0.0, said)
    if not (check.contains or check.pattern):
        return Tried(True, "", 0.0, said)
    if not check.pattern:
        return _judged_body(body, check, said)
    # In a thread, and without the interpreter's lock: a slow pattern must delay no other check.
    return await asyncio.get_running_loop().run_in_executor(_patterns(), _judged_body, body, check, said)


async def fetch(stream: Stream, goal: Goal, check: Check) -> tuple[int, bytes]:
    """Status and the begin of the body of one answer. BadAnswer where it is no HTTP."""
    await stream.send(_request(goal, check))
    status, headers, rest = await _head(stream)
    # What is said before the answer itself, such as 103 Early Hints; an endless row ends at the deadline.
    while 100 <= status < 200 and status != 101:
        status, headers, rest = await _head(stream, rest)
    if check.method == "HEAD" or status in (204, 304):
        return status, b""
    return status, await _body(stream, headers, rest, check.most_bytes)


async def check_smtp(connected: socket.socket, goal: Goal, check: Check) -> Tried:
    stream = Stream(connected)
    try:
        for sent, wanted in ((b"", 220), (f"EHLO {check.helo or 'localhost'}\r\n".encode(), 250)):
            if sent:
                await stream.send(sent)
            code, text = await _reply(stream)
            if code != wanted:
                return Tried(False, f"SMTP answered {code} instead of {wanted}", 0.0, text)
        await stream.send(b"QUIT\r\n")
        return Tried(True, "", 0.0, text)
    finally:
        stream.close()


class BadAnswer(Exception):
    """The backend answered something that is not the protocol; the text is the reason."""


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


@cache
def _context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@cache
def _patterns() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "patterns")


def _judged_certificate(stream: TlsStream, check: Check) -> Tried:
    try:
        certificate = stream.certificate
    except ValueError as error:
        return Tried(False, f"certificate unreadable: {error}", 0.0)
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    said = f"certificate valid for {left.days} more days"
    if check.expiry_days and left.days < check.expiry_days:
        return Tried(False, f"certificate ends in {left.days} days", 0.0, said)
    return Tried(True, "", 0.0, said)


def _request(goal: Goal, check: Check) -> bytes:
    where = f"[{goal.address}]" if ":" in goal.address else goal.address
    usual = 443 if check.kind is CheckKind.HTTPS else 80
    host = check.host or (where if goal.port == usual else f"{where}:{goal.port}")
    lines = (
        f"{check.method} {check.path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: lvsadmin-check",
        "Accept: */*",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


async def _head(stream: Stream, begun: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers by small name, and what of the body came with them. `begun` has come before."""
    data = bytearray(begun)
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > LONGEST_HEAD:
            raise BadAnswer("the header is too long")
        piece = await stream.receive()
        if not piece:
            raise BadAnswer("connection closed before the answer" if not data else "the header is cut")
        data += piece
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not (words[1].isascii() and words[1].isdigit()):
        raise BadAnswer("no HTTP answer")
    named = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in named}
    return int(words[1][:4]), headers, bytes(data[end + 4 :])


async def _body(stream: Stream, headers: dict[str, str], data: bytes, most: int) -> bytes:
    """At most so many bytes of it, whatever its length is."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(stream, data, most)
    length = headers.get("content-length", "")
    is_said = length.isascii() and length.isdigit() and len(length) < 16
    wanted = min(most, int(length)) if is_said else most
    out = bytearray(data)
    while len(out) < wanted:
        piece = await stream.receive()
        if not piece and is_said:
            raise BadAnswer("the body is cut")
        if not piece:
            break
        out += piece
    return bytes(out[:wanted])


async def _chunks(stream: Stream, data: bytes, most: int) -> bytes:
    out = bytearray()

    async def line() -> bytes:
        nonlocal data
        while (end := data.find(b"\r\n")) < 0:
            if len(data) > LONGEST_HEAD or not (piece := await stream.receive()):
                raise BadAnswer("a chunk of the body is malformed")
            data += piece
        found, data = data[:end], data[end + 2 :]
        return found

    while len(out) < most:
        said = (await line()).partition(b";")[0].strip()
        # int() alone would take -1, 1_0 and 0x1 as well.
        if not _CHUNK_SIZE.fullmatch(said):
            raise BadAnswer("a chunk of the body is malformed")
        size = int(said, 16)
        if not size:
            break
        while len(data) < min(size, most - len(out)):
            piece = await stream.receive()
            if not piece:
                raise BadAnswer("the body is cut")
            data += piece
        out += data[: min(size, most - len(out))]
        if len(out) >= most:
            break
        while len(data) < size + 2 and (piece := await stream.receive()):
            data += piece
        data = data[size + 2 :]
    return bytes(out)


def _judged_body(body: bytes, check: Check, said: str) -> Tried:
    text = body.decode("utf-8", "replace")
    shown = f"{said}: {printable(text)}"
    if check.contains and check.contains not in text:
        return Tried(False, f"“{check.contains[:60]}” is not in the body", 0.0, shown)
    if check.pattern:
        try:
            found = regex.search(check.pattern, text, timeout=PATTERN_DEADLINE_S, concurrent=True)
        except TimeoutError:
            return Tried(False, "the pattern takes too long on this body", 0.0, shown)
        except regex.error as error:
            return Tried(False, f"the pattern cannot be used: {error}", 0.0, shown)
        if not found:
            return Tried(False, "the pattern does not match the body", 0.0, shown)
    return Tried(True, "", 0.0, shown)


async def _reply(stream: Stream) -> tuple[int, str]:
    """The code and text of an SMTP reply of one or more lines."""
    data = b""
    while True:
        lines = data.split(b"\r\n")
        for line in lines[:-1]:
            if not (line[:3].isdigit() and len(line) >= 3):
                raise BadAnswer("no SMTP answer")
            if line[3:4] != b"-":
                return int(line[:3]), printable(line.decode("utf-8", "replace"))
        if len(data) > LONGEST_HEAD:
            raise BadAnswer("the SMTP answer is too long")
        piece = await stream.receive()
        if not piece:
            raise BadAnswer("connection closed before the answer")
        data += piece


def printable(text: str) -> str:
    """The begin of a text on one line, with nothing that a page or a log could choke on."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * MOST_TEXT])
    return " ".join(shown.split())[:MOST_TEXT]
