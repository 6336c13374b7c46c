"""What a kernel would say, made by hand; and a socket that says it, whole or not."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from itertools import takewhile

import pytest

from cluster.director.kernel import codec, conversation
from cluster.director.kernel.mailbox import LARGEST_DATAGRAM

FAMILY_NUMBER, PORT = 28, 4711
ERROR, DONE, OVERRUN = 2, 3, 4
MULTI, INTERRUPTED = 0x2, 0x10
_CONTROLLER = 16

# What a script gives for one receive: a datagram, one that did not fit, or an error.
Said = bytes | OSError
Script = Callable[[int, bytes, int], Iterable[Said]]


def message(body: bytes, sequence: int, *, kind: int = FAMILY_NUMBER, flags: int = MULTI) -> bytes:
    """A netlink message; its length is honest."""
    whole = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, PORT) + body
    return whole + bytes(-len(whole) % 4)


def entry_message(entry: bytes, sequence: int, *, flags: int = MULTI) -> bytes:
    """An entry of a dump, with generic netlink's own header."""
    return message(struct.pack("=BBH", 5, 1, 0) + entry, sequence, flags=flags)


def done(sequence: int, code: int = 0) -> bytes:
    return message(struct.pack("=i", -code), sequence, kind=DONE)


def error(sequence: int, code: int) -> bytes:
    return message(struct.pack("=iIHHII", -code, 20, FAMILY_NUMBER, 5, sequence, 0), sequence, kind=ERROR)


def nest(kind: int, attributes: Iterable[tuple[int, bytes]]) -> bytes:
    return codec.attribute(kind | codec.NESTED, b"".join(codec.attribute(*one) for one in attributes))


def backend_attributes(
    *, address: bytes = bytes([10, 0, 0, 1]), port: int = 80, weight: int = 1, counted: int = 0
) -> list[tuple[int, bytes]]:
    """As Linux 6.1 orders them, but for the kinds of statistics that a reader has no use for."""
    four = struct.Struct("=I").pack
    return [
        (codec.D_ADDRESS, address.ljust(16, b"\0")),
        (codec.D_PORT, struct.pack("!H", port)),
        (codec.D_FORWARDING, four(0)),
        (codec.D_WEIGHT, struct.pack("=i", weight)),
        (codec.D_TUNNEL_KIND, b"\0"),
        (codec.D_TUNNEL_PORT, b"\0\0"),
        (codec.D_TUNNEL_FLAGS, b"\0\0"),
        (codec.D_UPPER, four(0)),
        (codec.D_LOWER, four(0)),
        (codec.D_ACTIVE, four(counted)),
        (codec.D_INACTIVE, four(0)),
        (codec.D_PERSISTENT, four(0)),
        (codec.D_FAMILY, struct.pack("=H", 2 if len(address) == 4 else 10)),
        (codec.D_STATS64 | codec.NESTED, statistics([counted] * 5)),
    ]


def statistics(totals: Iterable[int], *, bits: int = 64) -> bytes:
    """Counters with the padding that some kernels put before each of 64 bits."""
    said = b""
    for kind, total in enumerate(totals, start=1):
        if bits == 64:
            said += codec.attribute(11, b"")
        said += codec.attribute(kind, total.to_bytes(bits // 8, "little"))
    return said


def backend(**values: int | bytes) -> bytes:
    return nest(codec.DEST, backend_attributes(**values))  # type: ignore[arg-type]


def service(*, last: int = 1, scheduler: bytes = b"rr\0", counted: int = 0) -> bytes:
    return nest(
        codec.SERVICE,
        [
            (1, struct.pack("=H", 2)),
            (2, struct.pack("=H", 6)),
            (3, bytes([192, 0, 2, last]).ljust(16, b"\0")),
            (4, struct.pack("!H", 80)),
            (6, scheduler),
            (7, struct.pack("=II", 2, 0xFFFFFFFF)),
            (8, struct.pack("=I", 0)),
            (9, b"\xff" * 4),
            (codec.S_STATS64 | codec.NESTED, statistics([counted] * 5)),
        ],
    )


class ScriptedSocket:
    """Answers what is sent with what the script says: it is given the command, the attributes and the
    number of each message. The question for the family's number is answered by itself."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._waiting: list[Said] = []
        self.sent: list[tuple[int, int, bytes]] = []

    def send(self, data: bytes) -> int:
        offset = 0
        while offset < len(data):
            length, kind, flags, sequence, _, command = struct.unpack_from("=IHHIIB", data, offset)
            if kind == _CONTROLLER:
                self._waiting.append(
                    message(bytes(4) + codec.attribute(1, struct.pack("=H", 28)), sequence, kind=16)
                )
            else:
                self.sent.append((command, flags, data[offset + 20 : offset + length]))
                self._waiting += self._script(command, data[offset + 20 : offset + length], sequence)
            offset += length
        return len(data)

    def receive(self) -> list[bytes]:
        """As a mailbox of this socket: what is there, up to an error, of which the next receive hears."""
        if not self._waiting:
            raise BlockingIOError(errno.EAGAIN, "silence")
        if isinstance(self._waiting[0], OSError):
            raise self._waiting.pop(0)
        there = list(takewhile(lambda said: isinstance(said, bytes), self._waiting))[:4]
        del self._waiting[: len(there)]
        return [said[: LARGEST_DATAGRAM + 1] for said in there]

    def fileno(self) -> int:
        return -1

    def bind(self, address: object) -> None: ...
    def setsockopt(self, *arguments: object) -> None: ...
    def close(self) -> None: ...


def say(monkeypatch: pytest.MonkeyPatch, script: Script) -> ScriptedSocket:
    """Let every netlink socket that is opened from now on say what the script says."""
    scripted = ScriptedSocket(script)
    monkeypatch.setattr(socket, "socket", lambda *_: scripted)
    monkeypatch.setattr(conversation, "Mailbox", lambda _: scripted)
    return scripted
