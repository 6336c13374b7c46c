"""Steps to whole messages, fast: byte for byte what codec.encode_step says, in pieces that it made before.

Of very many backends only the address and the message's number differ.
"""

from __future__ import annotations

import struct
from operator import attrgetter
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Final

from cluster.director.kernel import codec
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import Backend, Service

_HEADER: Final = struct.Struct("=IHHIIBBH")
# What follows the message's number: the port, which is the kernel's, and the command.
_COMMAND: Final = struct.Struct("=IBBH")
_KIND: Final = struct.Struct("=HH")
_ADDRESS_END: Final = 4 + 16
_MOST_TAILS: Final = 4096

_settings = attrgetter("port", "weight", "forwarding", "upper", "lower", "tunnel")


class Encoder:
    """For one socket: `family` is the number of IPVS there, `flags` those of each message."""

    def __init__(self, family: int, flags: int) -> None:
        self._family = family
        self._flags = flags
        self._kind = _KIND.pack(family, flags)
        # Of the step before.
        self._service: Service | None = None
        self._operation: Operation | None = None
        self._middle = b""
        # What encloses an address, by the settings and the family of the backend: how to pack it, the
        # message's length, and the bytes before and after the address.
        self._around: dict[tuple[Any, ...], tuple[Any, int, bytes, bytes]] = {}

    def message(self, step: Step, sequence: int) -> bytes:
        """The message of a step. As codec.encode_step, ValueError, OSError or struct.error for a value
        that no field can hold."""
        backend = step.backend
        if backend is None:
            command, payload = codec.encode_step(step)
            length = _HEADER.size + len(payload)
            head = _HEADER.pack(length, self._family, self._flags, sequence, 0, command, codec.VERSION, 0)
            return head + payload
        if step.service is not self._service or step.operation is not self._operation:
            self._turn_to(step)
        address = backend.address
        family = AF_INET6 if ":" in address else AF_INET
        settings = family, _settings(backend)
        around = self._around.get(settings)
        if around is None:
            around = self._enclose(step, backend)
            if len(self._around) < _MOST_TAILS:
                self._around[settings] = around
        pack, length, before, after = around
        message: bytes = pack(
            length, self._kind, sequence, self._middle, before, inet_pton(family, address), after
        )
        return message

    def _turn_to(self, step: Step) -> None:
        command = codec.COMMANDS[step.operation]
        middle = _COMMAND.pack(0, command, codec.VERSION, 0) + codec.encode_key(step.service.key)
        if step.operation is not self._operation or len(middle) != len(self._middle):
            self._around = {}
        self._service, self._operation, self._middle = step.service, step.operation, middle

    def _enclose(self, step: Step, backend: Backend) -> tuple[Any, int, bytes, bytes]:
        body = codec.backend_place(backend)
        if step.operation is not Operation.REMOVE_BACKEND:
            body += codec.backend_settings(backend)
        nest = codec.attribute(codec.DEST | codec.NESTED, body)[:4] + body[:4]
        after = body[_ADDRESS_END:]
        # The address of IPv4 is filled up with zeros by its format.
        whole = struct.Struct(f"=I4sI{len(self._middle)}s8s16s{len(after)}s")
        return whole.pack, whole.size, nest, after
