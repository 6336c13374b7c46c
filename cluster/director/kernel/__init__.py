"""The contract of a kernel: read the table, take steps, answer each. The only room that knows netlink.

A kernel never hands out half a table: where an answer was cut, overrun or changed while it was read,
it reads again and in the end raises HalfRead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple, Protocol

from cluster.ipvs.connections import Connection, ConnectionCounts
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.settings import Settings, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.state import BackendKey, ServiceKey, Table
from cluster.ipvs.stats import Reading

NOT_TRIED = -1
# Nothing was heard of the step, and when the kernel was read again it was not done.
NOT_HEARD = -2


class KernelError(Exception):
    """The kernel could not be talked to; the text says why in one sentence."""


class KernelUnavailable(KernelError):
    """This kernel has no IPVS: the module ip_vs is not loaded."""


class NotPermitted(KernelError):
    """The process lacks CAP_NET_ADMIN in the initial user namespace, which reading needs too."""


class NoAnswer(KernelError):
    """The kernel did not answer in time. What was asked may have been done: read before asking again."""


class KernelRefused(KernelError):
    """The kernel answered with `errno` to what was no step: a question, or a setting."""

    def __init__(self, errno: int) -> None:
        super().__init__(f"The kernel refused: {os.strerror(errno)}.")
        self.errno = errno


class CannotRehearse(KernelError):
    """There is no place to rehearse in, which says nothing of the table. The text is the reason, for the
    second half of a sentence."""


class HalfRead(KernelError):
    """What arrived is not the whole answer: it was cut, overrun, or the table changed meanwhile."""


class Answer(NamedTuple):
    """What the kernel said to one step: errno 0 for done, NOT_TRIED where an earlier step was refused, of
    the same service or, for a service to be removed, of any."""

    step: Step
    errno: int

    @property
    def message(self) -> str:
        """The errno in the C library's words."""
        if self.errno in (NOT_TRIED, NOT_HEARD):
            return "not tried" if self.errno == NOT_TRIED else "no answer"
        return "done" if self.errno == 0 else os.strerror(self.errno)


class Kernel(Protocol):
    """One director's IPVS. Every call ends within its deadline and may be made from any thread."""

    @property
    def stand_in(self) -> bool:
        """Whether this is no kernel at all but a rehearsal in memory."""

    def version(self) -> str:
        """The version of IPVS, such as `1.2.1`; empty for a stand-in. KernelError where there is none."""

    def read(self) -> Reading:
        """All services with their backends and counters, whole and of one moment, or a KernelError."""

    def read_services(self, keys: Iterable[ServiceKey]) -> Table:
        """These services alone, for the check after a write; absent ones are left out."""

    def do(self, steps: Sequence[Step]) -> list[Answer]:
        """Take the steps and answer each, in their order. After a refused step the later stages of its
        service are not tried; other services go on, but none is removed. NoAnswer and HalfRead mean that
        some of the steps may have been done."""

    def rehearse(self, table: Table) -> list[Answer]:
        """Load the whole table where nobody is, read it back and throw it away: the steps that were refused.
        CannotRehearse where there is no such place."""

    def read_settings(self) -> Settings:
        """What there is beside the table, or a KernelError."""

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Those that are not 0 get a new value; KernelRefused for a negative one, and then none has."""

    def start_daemon(self, daemon: SyncDaemon) -> None:
        """Start a sync daemon. KernelRefused with EEXIST where one of the role runs already, ENODEV without
        the interface, EINVAL while a backend has another family than its service. After NoAnswer, read the
        settings before asking again: it may run."""

    def stop_daemon(self, role: SyncRole) -> None:
        """Stop a sync daemon. KernelRefused with ESRCH where none of the role runs. After NoAnswer, read the
        settings before asking again: a kernel was seen to stop it and not to say so."""

    def zero(self, key: ServiceKey | None = None) -> None:
        """Set the counters of one service to 0, or without a key those of all; connections stay.
        KernelRefused with ESRCH where the service is not there."""

    def connections(
        self, *, service: ServiceKey | None = None, backend: BackendKey | None = None
    ) -> Iterator[Connection]:
        """The entries of the connection table one by one, of a service, a backend or all; what the filters
        keep is said at formats.proc.connections. There may be millions: take as many as are needed.
        NoAnswer in the middle where the whole takes longer than the deadline."""

    def count_connections(self) -> ConnectionCounts:
        """How many entries there are of each service, backend and state; not whole after the deadline."""


# The kernel goes on after a refusal in the middle of a batch, so a batch holds only steps that may
# fail apart: nothing of a service is removed where adding to it was refused, and no backend goes into
# a service that turned out to be somebody else's. And no service is removed where anything was refused:
# what was refused may be its new address.
_STAGES = (
    (Operation.ADD_SERVICE, Operation.SET_SERVICE),
    (Operation.ADD_BACKEND,),
    (Operation.SET_BACKEND,),
    (Operation.REMOVE_BACKEND,),
    (Operation.REMOVE_SERVICE,),
)
_STAGE_OF = {operation: number for number, stage in enumerate(_STAGES) for operation in stage}


def do_in_stages(steps: Sequence[Step], send: Callable[[Sequence[Step]], Sequence[int]]) -> list[Answer]:
    """Hand the steps to `send` stage by stage; `send` gives an errno for each of those it was given."""
    stages: tuple[list[int], ...] = tuple([] for _ in _STAGES)
    for place, step in enumerate(steps):
        stages[_STAGE_OF[step.operation]].append(place)
    codes = [NOT_TRIED] * len(steps)
    stopped: set[ServiceKey] = set()
    for operations, turn in zip(_STAGES, stages, strict=True):
        if stopped and Operation.REMOVE_SERVICE in operations:
            turn = []
        elif stopped:
            turn = [place for place in turn if steps[place].service.key not in stopped]
        if not turn:
            continue
        for place, code in zip(turn, send([steps[place] for place in turn]), strict=True):
            codes[place] = code
            if code:
                stopped.add(steps[place].service.key)
    # As Answer._make does, which is a function of Python's own.
    return list(map(tuple.__new__, repeat(Answer), zip(steps, codes, strict=True)))
