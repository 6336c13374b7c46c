"""Messages that our own code never sends: a field left out, changed or made up."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

from cluster.director.kernel import KernelRefused, NotPermitted, codec
from cluster.director.kernel.conversation import Conversation
from cluster.ipvs.plan import Step

NESTED = 0x8000
SERVICE, BACKEND, DAEMON = 1, 2, 3
FLUSH = 17


def altered(step: Step, nest: int, changes: Mapping[int, bytes | None]) -> tuple[int, bytes]:
    """The message of a step, with attributes inside `nest` replaced, added or (None) left out."""
    command, payload = codec.encode_step(step)
    outer = codec.attributes(payload)
    inner = codec.attributes(outer[nest]) | dict(changes)
    body = b"".join(codec.attribute(kind, data) for kind, data in inner.items() if data is not None)
    outer[nest] = body
    return command, b"".join(codec.attribute(kind | NESTED, data) for kind, data in outer.items())


def order(command: int, payload: bytes = b"") -> None:
    with Conversation(5) as talk:
        talk.change(command, payload)


def errno_of(act: Callable[[], object]) -> int:
    """0 where it was done, else what the kernel said."""
    try:
        act()
    except KernelRefused as refusal:
        return refusal.errno
    except NotPermitted:
        return errno.EPERM
    return 0


def as_nobody(act: Callable[[], object]) -> int:
    """What the kernel says to a process without rights, which alone leaves this one."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setresuid(65534, 65534, 65534)
            code = errno_of(act)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
