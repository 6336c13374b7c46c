"""One generic netlink socket, from the family's number to the last answer: ask, dump, tell in batches."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Self

from cluster.director.kernel import (
    HalfRead,
    KernelError,
    KernelRefused,
    KernelUnavailable,
    NoAnswer,
    NotPermitted,
    codec,
)
from cluster.director.kernel.encoder import Encoder
from cluster.director.kernel.mailbox import LARGEST_DATAGRAM, Mailbox
from cluster.ipvs.plan import Step

# Each send has a price: two system calls, and our code and the kernel's in turn begin with cold caches. More
# at a time than this gains nothing.
_BATCH_BYTES = 192 * 1024
# An answer to each message must fit into the receive buffer at 768 bytes each: 277 in the default one.
_BATCH_MESSAGES_DEFAULT_BUFFER = 250
# Of backends, 192 KiB.
_BATCH_MESSAGES = 1400
_RECEIVE_BUFFER = 4 * 1024 * 1024

_HEADER = struct.Struct("=IHHII")
_GENERIC_HEADER = struct.Struct("=IHHIIBBH")
_CODE, _TIME = struct.Struct("=i"), struct.Struct("@ll")
_NETLINK_GENERIC, _SOL_NETLINK, _NETLINK_CAP_ACK = 16, 270, 10
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_REQUEST, _ACK, _DUMP, _INTERRUPTED = 0x1, 0x4, 0x300, 0x10
_TYPE_ERROR, _TYPE_DONE, _TYPE_OVERRUN = 2, 3, 4
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2


class Conversation:
    """One socket, from the family's number to the last answer."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._sequence = 0
        self._largest_batch = _BATCH_MESSAGES
        # The number that IPVS has in this kernel's generic netlink.
        self.family = 0

    def __enter__(self) -> Self:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC
            )
        except OSError as error:
            raise KernelError(f"No netlink socket could be opened: {error.strerror}.") from error
        self._mailbox = Mailbox(self._socket.fileno())
        self._arrived: deque[bytes] = deque()
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._mailbox.close()
        self._socket.close()

    def _prepare(self) -> None:
        # The kernel's own deadlines: with those of Python each call would be two.
        microseconds = max(1, int(self._deadline_s * 1_000_000))  # 0 would be for ever
        deadline = _TIME.pack(*divmod(microseconds, 1_000_000))
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, direction, deadline)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BATCH_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            self._largest_batch = _BATCH_MESSAGES_DEFAULT_BUFFER
        name = codec.attribute(_FAMILY_NAME, codec.FAMILY.encode() + b"\0")
        try:
            found = codec.attributes(self._one(_CONTROLLER, _GET_FAMILY, name))
        except KernelRefused as refusal:
            if refusal.errno != errno.ENOENT:
                raise
            raise KernelUnavailable("The kernel has no IPVS: the module ip_vs is not loaded.") from None
        if _FAMILY_ID not in found:
            raise HalfRead("The kernel's answer lacks the number of IPVS.")
        self.family = int.from_bytes(found[_FAMILY_ID], sys.byteorder)

    def ask(self, command: int, payload: bytes) -> bytes:
        """The attributes of one answer. KernelRefused, with the errno, where the kernel refuses."""
        return self._one(self.family, command, payload)

    def dump(
        self, command: int, payload: bytes, take: Callable[[bytes, int], int] | None = None
    ) -> Iterator[bytes]:
        """The attributes of each entry of a list, to its very end.

        `take` is shown each datagram, with the sequence number that its messages must have, before it is
        walked through. It answers how many bytes at its begin it has understood as entries of this list;
        those are not yielded."""
        self._send(self._message(self.family, command, _REQUEST | _DUMP, payload))
        while True:
            data = self._receive_datagram()
            taken = take(data, self._sequence) if take else 0
            if taken == len(data):
                continue
            for kind, flags, body, sequence in _messages(data, taken):
                self._check_asked(sequence)
                if flags & _INTERRUPTED:
                    raise HalfRead("The table changed while it was read.")
                if kind in (_TYPE_ERROR, _TYPE_DONE):
                    self._raise_for(_code(body))
                    return
                _check_kind(kind, self.family)
                yield body[4:]

    def change(self, command: int, payload: bytes) -> None:
        """Return when the kernel has done what is no step of a table; KernelRefused, with the errno, where it
        would not. After NoAnswer it may or may not have been done."""
        self._send(self._message(self.family, command, _REQUEST | _ACK, payload))
        asked = self._sequence
        # Netlink has no answer for a command that ended with EINTR. The kernel takes messages in their
        # order, so the answer to a question behind the command tells that nothing is to be waited for.
        self._send(self._message(self.family, codec.GET_INFO, _REQUEST, b""))
        code: int | None = None
        while True:
            for kind, _, body, sequence in _messages(self._receive_datagram()):
                if sequence == self._sequence:
                    if code is None:
                        raise NoAnswer("The kernel took a command and did not say what became of it.")
                    self._raise_for(code)
                    return
                if sequence != asked:
                    raise HalfRead("The kernel answered something that was not asked.")
                _check_kind(kind, _TYPE_ERROR)
                code = _code(body)

    def tell(self, steps: Sequence[Step]) -> list[int]:
        """An errno for each step, 0 for done. The steps go in batches; the last of each asks for an
        acknowledgement, and those before it are heard of only where they were refused."""
        codes = [0] * len(steps)
        messages = Encoder(self.family, _REQUEST).messages(steps, self._sequence + 1)
        told = 0
        while some := list(islice(messages, self._largest_batch)):
            places: Sequence[int] = range(told, told + len(some))
            told += len(some)
            if not all(some):
                for place, message in zip(places, some, strict=True):
                    codes[place] = 0 if message else errno.EINVAL
                places = [place for place in places if not codes[place]]
                some = [message for message in some if message]
            if some:
                self._tell_some(some, places, codes)
        return codes

    def _tell_some(self, batch: list[bytes], places: Sequence[int], codes: list[int]) -> None:
        """`places` are those of the messages' steps; the messages' numbers follow each other. In one batch
        if they are not too large for it."""
        length, kind, flags, last, port = _HEADER.unpack_from(batch[-1])
        batch[-1] = _HEADER.pack(length, kind, flags | _ACK, last, port) + batch[-1][_HEADER.size :]
        data = b"".join(batch)
        if len(data) > _BATCH_BYTES and len(batch) > 1:
            half = len(batch) // 2
            self._tell_some(batch[:half], places[:half], codes)
            self._tell_some(batch[half:], places[half:], codes)
            return
        self._sequence = last
        self._send(data)
        first = last - len(batch) + 1
        while True:
            for answer, _, body, sequence in _messages(self._receive_datagram()):
                if answer != _TYPE_ERROR or not first <= sequence <= last:
                    raise HalfRead("The kernel answered something that was not asked.")
                code = _code(body)
                if code == errno.EPERM:
                    self._raise_for(code)
                codes[places[sequence - first]] = code
                if sequence == last:
                    return

    def _one(self, kind: int, command: int, payload: bytes) -> bytes:
        self._send(self._message(kind, command, _REQUEST, payload))
        for answer, _, body, sequence in _messages(self._receive_datagram()):
            self._check_asked(sequence)
            if answer == _TYPE_ERROR:
                self._raise_for(_code(body))
                break
            _check_kind(answer, kind)
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
        except BlockingIOError:
            raise self._silence() from None
        except OSError as error:
            raise KernelError(f"The kernel could not be asked: {error.strerror}.") from error

    def _check_asked(self, sequence: int) -> None:
        if sequence != self._sequence:
            raise HalfRead("The kernel answered something that was not asked.")

    def _receive_datagram(self) -> bytes:
        """One datagram, which must be whole."""
        try:
            if not self._arrived:
                self._arrived.extend(self._mailbox.receive())
            data = self._arrived.popleft()
        except BlockingIOError:
            raise self._silence() from None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise HalfRead("The kernel had more to say than the socket could hold.") from None
            raise KernelError(f"The kernel's answer could not be received: {error.strerror}.") from error
        if len(data) > LARGEST_DATAGRAM:
            raise HalfRead("The kernel's answer was cut.")
        if len(data) < _HEADER.size:
            raise HalfRead("The kernel's answer is empty.")
        return data

    def _silence(self) -> KernelError:
        return NoAnswer(f"The kernel did not answer within {self._deadline_s:g} s.")

    def _raise_for(self, code: int) -> None:
        if code == errno.EPERM:
            raise NotPermitted("The worker may not program IPVS: it lacks CAP_NET_ADMIN.")
        if code:
            raise KernelRefused(code)


def _messages(data: bytes, offset: int = 0) -> Iterator[tuple[int, int, bytes, int]]:
    """Type, flags, body and sequence number of each message in a datagram, which must end with its last."""
    while offset < len(data):
        if offset + _HEADER.size > len(data):
            raise HalfRead("A message of the kernel's answer is cut.")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise HalfRead("A message of the kernel's answer is cut.")
        if kind == _TYPE_OVERRUN:
            raise HalfRead("The kernel lost a part of its answer.")
        yield kind, flags, data[offset + _HEADER.size : offset + length], sequence
        offset += (length + 3) & ~3


def _check_kind(kind: int, wanted: int) -> None:
    if kind != wanted:
        raise HalfRead("The kernel answered something that was not asked.")


def _code(body: bytes) -> int:
    """The errno of an error or of a list's end, where the kernel writes it negative."""
    if len(body) < _CODE.size:
        raise HalfRead("A message of the kernel's answer is cut.")
    return -int(_CODE.unpack_from(body)[0])
