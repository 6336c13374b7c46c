"""The real kernel, over a raw generic netlink socket of Python's own: nothing else is needed for it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Self, TypeVar

from cluster.director.kernel import (
    Answer,
    HalfRead,
    KernelError,
    KernelUnavailable,
    NoAnswer,
    NotPermitted,
    codec,
    do_in_stages,
)
from cluster.ipvs.plan import Step
from cluster.ipvs.state import BackendKey, Service, ServiceKey, Table
from cluster.ipvs.stats import BackendCounters, Counters, Reading

DEADLINE_S: Final = 10.0
READ_ATTEMPTS: Final = 4

# Flat from 8 to 64 KiB a send; 256 KiB is slower and blocks the kernel's mutex for longer.
_BATCH_BYTES = 64 * 1024
# An answer to each message must fit into the receive buffer at 768 bytes each: 277 in the default one.
_BATCH_MESSAGES_DEFAULT_BUFFER = 250
_BATCH_MESSAGES = 2000
_RECEIVE_BUFFER = 4 * 1024 * 1024
# The kernel fills up to 32 KiB at a time; a shorter receive would silently lose most of a dump.
_LARGEST_DATAGRAM = 128 * 1024

_HEADER = struct.Struct("=IHHII")
_GENERIC_HEADER = struct.Struct("=IHHIIBBH")
_CODE = struct.Struct("=i")
_NETLINK_GENERIC, _SOL_NETLINK, _NETLINK_CAP_ACK, _SO_RCVBUFFORCE = 16, 270, 10, 33
_REQUEST, _ACK, _DUMP, _INTERRUPTED = 0x1, 0x4, 0x300, 0x10
_TYPE_ERROR, _TYPE_DONE, _TYPE_OVERRUN = 2, 3, 4
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2


_Read = TypeVar("_Read")


class NetlinkKernel:
    """The IPVS of the network namespace that the calling thread is in.

    A socket lives for one attempt: nothing left over from an earlier one can be taken for an answer, and
    the family's number is looked up anew in case the module was loaded again."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s

    @property
    def stand_in(self) -> bool:
        return False

    def version(self) -> str:
        with _Conversation(self._deadline_s) as talk:
            return codec.decode_version(talk.ask(codec.GET_INFO, b""))

    def read(self) -> Reading:
        return self._until_whole(_read_all)

    def read_services(self, keys: Iterable[ServiceKey]) -> Table:
        wanted = sorted(set(keys))
        return self._until_whole(lambda talk: _read_some(talk, wanted))

    def do(self, steps: Sequence[Step]) -> list[Answer]:
        if not steps:
            return []
        with _Conversation(self._deadline_s) as talk:
            return do_in_stages(steps, talk.tell)

    def _until_whole(self, read: Callable[[_Conversation], _Read]) -> _Read:
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                with _Conversation(self._deadline_s) as talk:
                    return read(talk)
            except HalfRead:
                if attempt == READ_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")


def _read_all(talk: _Conversation) -> Reading:
    headers = _read_headers(talk)
    services: list[Service] = []
    backends: dict[tuple[ServiceKey, BackendKey], BackendCounters] = {}
    for header, _ in headers.values():
        service, counters = _read_backends(talk, header)
        services.append(service)
        backends |= counters
    # The dump of a service that has just gone is an empty list, not an error, and dumps go by position:
    # only a second look tells that no service came or went.
    again = _read_headers(talk)
    if {key: header for key, (header, _) in again.items()} != {key: h for key, (h, _) in headers.items()}:
        raise HalfRead("The table changed while it was read.")
    return Reading(Table(tuple(services)), {key: counted for key, (_, counted) in headers.items()}, backends)


def _read_headers(talk: _Conversation) -> dict[ServiceKey, tuple[Service, Counters]]:
    found: dict[ServiceKey, tuple[Service, Counters]] = {}
    for data in talk.dump(codec.GET_SERVICE, b""):
        header, counters = codec.decode_service(data)
        if header.key in found:
            raise HalfRead("A service was listed twice, so the table changed while it was read.")
        found[header.key] = header, counters
    return found


def _read_backends(
    talk: _Conversation, header: Service
) -> tuple[Service, dict[tuple[ServiceKey, BackendKey], BackendCounters]]:
    found = [
        codec.decode_backend(data, service_family=header.key.family)
        for data in talk.dump(codec.GET_DEST, codec.encode_key(header.key))
    ]
    counters = {(header.key, backend.key): counted for backend, counted in found}
    if len(counters) != len(found):
        raise HalfRead("A backend was listed twice, so its service changed while it was read.")
    return header.with_backends(backend for backend, _ in found), counters


def _read_some(talk: _Conversation, keys: Iterable[ServiceKey]) -> Table:
    found = (_read_one(talk, key) for key in keys)
    return Table(tuple(service for service in found if service is not None))


def _read_one(talk: _Conversation, key: ServiceKey) -> Service | None:
    try:
        header, _ = codec.decode_service(talk.ask(codec.GET_SERVICE, codec.encode_key(key)))
        service, _ = _read_backends(talk, header)
        if not service.backends:
            # No backends, or gone between the two questions?
            talk.ask(codec.GET_SERVICE, codec.encode_key(key))
    except ProcessLookupError:
        return None
    return service


class _Conversation:
    """One socket, from the family's number to the last answer."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._sequence = 0
        self._largest_batch = _BATCH_MESSAGES
        self._buffer = bytearray(_LARGEST_DATAGRAM)
        self._family = 0

    def __enter__(self) -> Self:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC
        )
        try:
            self._prepare()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _prepare(self) -> None:
        self._socket.settimeout(self._deadline_s)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            self._largest_batch = _BATCH_MESSAGES_DEFAULT_BUFFER
        name = codec.attribute(_FAMILY_NAME, codec.FAMILY.encode() + b"\0")
        try:
            found = codec.attributes(self._one(_CONTROLLER, _GET_FAMILY, name))
        except FileNotFoundError:
            raise KernelUnavailable("The kernel has no IPVS: the module ip_vs is not loaded.") from None
        self._family = int.from_bytes(found[_FAMILY_ID], sys.byteorder)

    def ask(self, command: int, payload: bytes) -> bytes:
        """The attributes of one answer. OSError of the fitting kind where the kernel refuses."""
        return self._one(self._family, command, payload)

    def dump(self, command: int, payload: bytes) -> Iterator[bytes]:
        """The attributes of each entry of a list, to its very end."""
        self._send(self._message(self._family, command, _REQUEST | _DUMP, payload))
        while True:
            for kind, flags, body in self._receive():
                if flags & _INTERRUPTED:
                    raise HalfRead("The table changed while it was read.")
                if kind in (_TYPE_ERROR, _TYPE_DONE):
                    self._raise_for(_code(body))
                    return
                yield body[4:]

    def tell(self, steps: Sequence[Step]) -> list[int]:
        """An errno for each step, 0 for done. The steps go in batches; the last of each asks for an
        acknowledgement, and those before it are heard of only where they were refused."""
        codes = [0] * len(steps)
        places: dict[int, int] = {}
        batch = bytearray()
        for place, step in enumerate(steps):
            try:
                command, payload = codec.encode_step(step)
            except (struct.error, ValueError, OSError):
                codes[place] = errno.EINVAL
                continue
            length = 20 + len(payload)
            if batch and (len(batch) + length > _BATCH_BYTES or len(places) >= self._largest_batch):
                self._tell_batch(batch, places, codes)
                batch, places = bytearray(), {}
            batch += self._message(self._family, command, _REQUEST, payload)
            places[self._sequence] = place
        if batch:
            self._tell_batch(batch, places, codes)
        return codes

    def _tell_batch(self, batch: bytearray, places: dict[int, int], codes: list[int]) -> None:
        last = max(places)
        offset = 0
        while True:
            length, kind, flags, sequence, port = _HEADER.unpack_from(batch, offset)
            if sequence == last:
                _HEADER.pack_into(batch, offset, length, kind, flags | _ACK, sequence, port)
                break
            offset += length
        self._send(bytes(batch))
        while True:
            for kind, _, body, sequence in self._receive_numbered():
                if kind != _TYPE_ERROR or sequence not in places:
                    raise HalfRead("The kernel answered something that was not asked.")
                code = _code(body)
                if code == errno.EPERM:
                    self._raise_for(code)
                codes[places[sequence]] = code
                if sequence == last:
                    return

    def _one(self, kind: int, command: int, payload: bytes) -> bytes:
        self._send(self._message(kind, command, _REQUEST, payload))
        for answer, _, body in self._receive():
            if answer == _TYPE_ERROR:
                self._raise_for(_code(body))
                break
            return body[4:]
        raise HalfRead("The kernel's answer is empty.")

    def _message(self, kind: int, command: int, flags: int, payload: bytes) -> bytes:
        self._sequence += 1
        length = 20 + len(payload)
        return (
            _GENERIC_HEADER.pack(length, kind, flags, self._sequence, 0, command, codec.VERSION, 0) + payload
        )

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except TimeoutError:
            raise self._silence() from None

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        for kind, flags, body, sequence in self._receive_numbered():
            if sequence != self._sequence:
                raise HalfRead("The kernel answered something that was not asked.")
            yield kind, flags, body

    def _receive_numbered(self) -> Iterator[tuple[int, int, bytes, int]]:
        """The messages of one datagram, which must be whole."""
        try:
            size, _, flags, _ = self._socket.recvmsg_into([self._buffer])
        except TimeoutError:
            raise self._silence() from None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise HalfRead("The kernel had more to say than the socket could hold.") from None
            raise
        if flags & socket.MSG_TRUNC:
            raise HalfRead("The kernel's answer was cut.")
        data = bytes(memoryview(self._buffer)[:size])
        offset = 0
        while offset + _HEADER.size <= size:
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size or offset + length > size:
                raise HalfRead("A message of the kernel's answer is cut.")
            if kind == _TYPE_OVERRUN:
                raise HalfRead("The kernel lost a part of its answer.")
            yield kind, flags, data[offset + _HEADER.size : offset + length], sequence
            offset += (length + 3) & ~3

    def _silence(self) -> KernelError:
        return NoAnswer(f"The kernel did not answer within {self._deadline_s:g} s.")

    def _raise_for(self, code: int) -> None:
        if code == errno.EPERM:
            raise NotPermitted("The worker may not program IPVS: it lacks CAP_NET_ADMIN.")
        if code:
            raise OSError(code, os.strerror(code))


def _code(body: bytes) -> int:
    """The errno of an error or of a list's end, where the kernel writes it negative."""
    return -int(_CODE.unpack_from(body)[0]) if len(body) >= _CODE.size else 0
