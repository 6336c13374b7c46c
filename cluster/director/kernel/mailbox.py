"""A socket's datagrams, all that have arrived with one system call: Linux's recvmmsg, which Python lacks.

The list of a service's backends comes in a datagram or two, and its end in one of its own: two system calls a
service instead of three or four.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from typing import Final

# The kernel fills up to 32 KiB at a time; a shorter receive would silently lose most of a dump.
LARGEST_DATAGRAM: Final = 64 * 1024
# One more than that, which tells a datagram that was cut from one that just fits.
_SLOT: Final = LARGEST_DATAGRAM + 1
_SLOTS: Final = 4
_MSG_WAITFORONE: Final = 0x10000


class _Piece(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("begin", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr"""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("pieces", ctypes.POINTER(_Piece)),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = (("header", _Header), ("received", ctypes.c_uint))


_RECEIVED_AT: Final = _Message.received.offset
_RECEIVED: Final = struct.Struct(f"={_RECEIVED_AT}xI{ctypes.sizeof(_Message) - _RECEIVED_AT - 4}x")
_recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)


class _Room:
    """Memory for some datagrams, and what tells the kernel where it is."""

    def __init__(self) -> None:
        # Pages that are never written to cost nothing. Private, so that a fork does not share them.
        self.memory = mmap.mmap(-1, _SLOTS * _SLOT, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._pieces = (_Piece * _SLOTS)(*(_Piece(begin + slot * _SLOT, _SLOT) for slot in range(_SLOTS)))
        headers = (_Header(pieces=ctypes.pointer(piece), piece_count=1) for piece in self._pieces)
        self._messages = (_Message * _SLOTS)(*map(_Message, headers))
        self.address = ctypes.addressof(self._messages)
        self.said = memoryview(self._messages).cast("B")


# Rooms that no mailbox uses. They are kept, because a page is dear when it is written to for the first time.
_idle: list[_Room] = []


class Mailbox:
    """Of one socket, until `close`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._room = _idle.pop() if _idle else _Room()

    def receive(self) -> list[bytes]:
        """Wait for a datagram, and take those that are there. Of one that is longer than LARGEST_DATAGRAM,
        only one byte more than that comes. OSError as of recv()."""
        room = self._room
        while (count := _recvmmsg(self._descriptor, room.address, _SLOTS, _MSG_WAITFORONE, None)) < 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))
        lengths = _RECEIVED.iter_unpack(room.said[: count * _RECEIVED.size])
        begins = range(0, count * _SLOT, _SLOT)
        return [room.memory[begin : begin + length] for begin, (length,) in zip(begins, lengths, strict=True)]

    def close(self) -> None:
        """Not to be used any more. The socket stays open."""
        _idle.append(self._room)
