"""The whole table in a throwaway network namespace first, so that what the kernel refuses is found while
nothing is at stake.

A namespace has an IPVS table of its own in the director's own kernel. Making one needs CAP_SYS_ADMIN; where
the worker lacks it, a sibling that was started with a private network rehearses for it (`serve`).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import IO, Any, Final

from pyroute2 import IPRoute

from cluster.director.kernel import Answer, CannotRehearse, Kernel, KernelError
from cluster.ipvs.formats.document import from_document, to_document
from cluster.ipvs.plan import Operation, Step, plan
from cluster.ipvs.state import Backend, Table

DEADLINE_S: Final = 30.0
LARGEST_MESSAGE: Final = 64 * 1024 * 1024
_CLONE_NEWNET = 0x40000000
_LOOPBACK = 1


def is_worth_it(steps: Iterable[Step]) -> bool:
    """Whether any of the steps could be refused. A removal cannot, nor another weight alone."""
    return any(not _is_safe(step) for step in steps)


def load(kernel: Kernel, table: Table) -> list[Answer]:
    """Load the table into an empty kernel and read it back; the steps that were refused. EOPNOTSUPP stands
    for a step that was taken, and left out something without a word."""
    steps = _steps(table)
    refused = [answer for answer in kernel.do(steps) if answer.errno]
    if not refused:
        rest = {_name(step) for step in plan(kernel.read().table, table, owned=table.keys).steps}
        refused = [Answer(step, errno.EOPNOTSUPP) for step in steps if _name(step) in rest]
    return refused


def in_new_namespace(rehearse: Callable[[], list[Answer]]) -> list[Answer]:
    """Call `rehearse` in a thread whose network namespace is new and empty, and gone afterwards.
    CannotRehearse where none can be made or it takes too long."""
    refused: list[Answer] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            _unshare()
            refused.extend(rehearse())
        except BaseException as error:
            problems.append(error)

    # A thread of its own, which is thrown away: entering the old namespace again may not be allowed.
    thread = threading.Thread(target=run, name="rehearsal", daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    if thread.is_alive():
        raise CannotRehearse(f"it took longer than {DEADLINE_S:g} s")
    if problems:
        raise problems[0]
    return refused


def by_sibling(path: str, table: Table) -> list[Answer]:
    """Let the process behind the socket at `path` rehearse; it runs `serve`."""
    steps = _steps(table)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(DEADLINE_S)
            line.connect(path)
            line.sendall(json.dumps(to_document(table)).encode())
            line.shutdown(socket.SHUT_WR)
            with line.makefile("rb") as answer:
                said = json.loads(answer.read(LARGEST_MESSAGE))
        if "problem" in said:
            raise CannotRehearse(str(said["problem"]))
        return [Answer(steps[place], int(code)) for place, code in said["refused"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CannotRehearse(f"the sibling at {path} did not answer ({error})") from error


def serve(kernel: Kernel, question: IO[bytes], answer: IO[bytes]) -> None:
    """Rehearse the one table that `question` holds, in this process's own network namespace. For a service
    that is started anew, with a private network, for each connection."""
    said: dict[str, Any]
    try:
        _prepare_private_network()
        table = from_document(json.loads(question.read(LARGEST_MESSAGE)))
        places = {_name(step): place for place, step in enumerate(_steps(table))}
        said = {"refused": [[places[_name(one.step)], one.errno] for one in load(kernel, table)]}
    except (KernelError, ValueError) as error:
        said = {"problem": str(error)}
    answer.write(json.dumps(said).encode())
    answer.flush()


def _steps(table: Table) -> tuple[Step, ...]:
    return plan(Table(), table, owned=frozenset()).steps


def _name(step: Step) -> tuple[object, ...]:
    return step.service.key, step.backend and step.backend.key


def _is_safe(step: Step) -> bool:
    if step.operation in (Operation.REMOVE_BACKEND, Operation.REMOVE_SERVICE):
        return True
    before, after = step.before, step.backend
    if not isinstance(before, Backend) or after is None:
        return False
    return after.weight >= 0 and after._replace(weight=before.weight) == before


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        said = os.strerror(ctypes.get_errno())
        raise CannotRehearse(f"the worker may not make a network namespace ({said})")
    with IPRoute() as links:
        _raise_loopback(links)


def _prepare_private_network() -> None:
    """The table stays where it was rehearsed, so that must be a network where nobody is."""
    with IPRoute() as links:
        names = [str(link.get_attr("IFLA_IFNAME")) for link in links.get_links()]
        if names != ["lo"]:
            raise CannotRehearse("the sibling was not started with a private network")
        _raise_loopback(links)


def _raise_loopback(links: IPRoute) -> None:
    # Without it no backend can be added: the kernel looks for a route to each.
    links.link("set", index=_LOOPBACK, state="up")
