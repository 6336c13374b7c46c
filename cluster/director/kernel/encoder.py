"""Steps to whole messages, fast: byte for byte what codec.encode_step says, in pieces that it made before.

Of very many backends only the address and the message's number differ.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Final

from cluster.director.kernel import codec
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import Backend, Service

_HEADER: Final = struct.Struct("=IHHIIBBH")
# What follows the message's number: the port, which is the kernel's, and the command.
_COMMAND: Final = struct.Struct("=IBBH")
_HEAD: Final = struct.Struct("=IHH")
_ADDRESS_END: Final = 4 + 16
_MOST_FORMS: Final = 4096

# How to pack a message: the format, and the bytes before its number, before the address, and after it.
_Form = tuple[Any, bytes, bytes, bytes]


class Encoder:
    """For one socket: `family` is the number of IPVS there, `flags` those of each message."""

    def __init__(self, family: int, flags: int) -> None:
        self._family = family
        self._flags = flags
        self._middle = b""
        self._service: Service | None = None
        self._operation: Operation | None = None
        # By the backend's settings, apart for IPv4 and IPv6.
        self._forms: tuple[dict[object, _Form], dict[object, _Form]] = {}, {}

    def messages(self, steps: Iterable[Step], number: int) -> Iterator[bytes]:
        """The message of each step, numbered from `number`. Empty, and without a number, for a step with a
        value that no field can hold."""
        service = operation = None
        settings: Any = None
        but_address = slice(1, None)  # made once, not for each backend
        for step in steps:
            backend = step.backend
            if backend is not None:
                try:
                    # Beside each other, most differ in their address alone.
                    if (
                        step.service is not service
                        or step.operation is not operation
                        or backend[but_address] != settings
                    ):
                        pack, head, before, after = self._form_of(step, backend)
                        before = self._middle + before
                        family = AF_INET6 if ":" in backend[0] else AF_INET
                        service, operation, settings = step.service, step.operation, backend[but_address]
                    message = pack(head, number, before, inet_pton(family, backend[0]), after)
                except (struct.error, ValueError, OSError):
                    # An address of the other family, or a value that no field can hold.
                    service = None
                else:
                    yield message
                    number += 1
                    continue
            message = self._plain(step, number)
            yield message
            if message:
                number += 1

    def _plain(self, step: Step, number: int) -> bytes:
        try:
            command, payload = codec.encode_step(step)
        except (struct.error, ValueError, OSError):
            return b""
        length = _HEADER.size + len(payload)
        head = _HEADER.pack(length, self._family, self._flags, number, 0, command, codec.VERSION, 0)
        return head + payload

    def _form_of(self, step: Step, backend: Backend) -> _Form:
        if step.service is not self._service or step.operation is not self._operation:
            self._turn_to(step)
        forms, settings = self._forms[":" in backend.address], backend[1:]
        form = forms.get(settings)
        if form is None:
            form = self._form(step.operation, backend)
            if len(forms) < _MOST_FORMS:
                forms[settings] = form
        return form

    def _turn_to(self, step: Step) -> None:
        """Begin with another service or operation. What was built for the one before mostly fits still."""
        command = codec.COMMANDS[step.operation]
        middle = _COMMAND.pack(0, command, codec.VERSION, 0) + codec.encode_key(step.service.key)
        if step.operation is not self._operation or len(middle) != len(self._middle):
            self._forms = {}, {}
        self._service, self._operation, self._middle = step.service, step.operation, middle

    def _form(self, operation: Operation, backend: Backend) -> _Form:
        body = codec.backend_place(backend)
        if operation is not Operation.REMOVE_BACKEND:
            body += codec.backend_settings(backend)
        before = codec.attribute(codec.DEST | codec.NESTED, body)[:4] + body[:4]
        after = body[_ADDRESS_END:]
        # The format fills an address of IPv4 up with zeros.
        whole = struct.Struct(f"=8sI{len(self._middle) + len(before)}s16s{len(after)}s")
        head = _HEAD.pack(whole.size, self._family, self._flags)
        return whole.pack, head, before, after
