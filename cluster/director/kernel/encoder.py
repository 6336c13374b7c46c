"""Steps to whole messages, fast: byte for byte what codec.encode_step says, in pieces that it made before.

Of very many backends only the address and the message's number differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
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
_MOST_FORMS: Final = 4096

_settings = attrgetter("port", "weight", "forwarding", "upper", "lower", "tunnel")


# How to pack a message around an address: the format, the length, and the bytes before and after it.
_Form = tuple[Any, int, bytes, bytes]


class Encoder:
    """For one socket: `family` is the number of IPVS there, `flags` those of each message."""

    def __init__(self, family: int, flags: int) -> None:
        self._family = family
        self._flags = flags
        self._middle = b""
        self._operation: Operation | None = None
        # By the backend's settings, apart for IPv4 and IPv6.
        self._forms: tuple[dict[object, _Form], dict[object, _Form]] = {}, {}

    def messages(self, steps: Iterable[Step], number: int) -> Iterator[bytes]:
        """The message of each step, numbered from `number`. Empty, and without a number, for a step with a
        value that no field can hold."""
        kind = _KIND.pack(self._family, self._flags)
        service: Service | None = None
        operation: Operation | None = None
        for step in steps:
            backend = step.backend
            try:
                if backend is None:
                    message = self._plain(step, number)
                else:
                    if step.service is not service or step.operation is not operation:
                        # Where this raises, the next step of the service must come here again.
                        self._turn_to(step)
                        middle, (forms4, forms6) = self._middle, self._forms
                        service, operation = step.service, step.operation
                    address = backend.address
                    family, forms = (AF_INET6, forms6) if ":" in address else (AF_INET, forms4)
                    settings = _settings(backend)
                    form = forms.get(settings)
                    if form is None:
                        form = self._form(step, backend)
                        if len(forms) < _MOST_FORMS:
                            forms[settings] = form
                    pack, length, before, after = form
                    message = pack(length, kind, number, middle, before, inet_pton(family, address), after)
            except (struct.error, ValueError, OSError):
                yield b""
                continue
            yield message
            number += 1

    def _plain(self, step: Step, number: int) -> bytes:
        command, payload = codec.encode_step(step)
        length = _HEADER.size + len(payload)
        head = _HEADER.pack(length, self._family, self._flags, number, 0, command, codec.VERSION, 0)
        return head + payload

    def _turn_to(self, step: Step) -> None:
        """Begin with another service or operation. What was built for the one before mostly fits still."""
        command = codec.COMMANDS[step.operation]
        middle = _COMMAND.pack(0, command, codec.VERSION, 0) + codec.encode_key(step.service.key)
        if step.operation is not self._operation or len(middle) != len(self._middle):
            self._forms = {}, {}
        self._operation, self._middle = step.operation, middle

    def _form(self, step: Step, backend: Backend) -> _Form:
        body = codec.backend_place(backend)
        if step.operation is not Operation.REMOVE_BACKEND:
            body += codec.backend_settings(backend)
        before = codec.attribute(codec.DEST | codec.NESTED, body)[:4] + body[:4]
        after = body[_ADDRESS_END:]
        # The format fills an address of IPv4 up with zeros.
        whole = struct.Struct(f"=I4sI{len(self._middle)}s8s16s{len(after)}s")
        return whole.pack, whole.size, before, after
