"""The connection table of the real kernel, which IPVS shows in a file alone.

The kernel writes a page of it at a time and, at least on 6.1, walks to its place anew for each page: the
time grows with the square of the number of entries. Hence the deadline in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster.director.kernel import KernelError, KernelUnavailable, NoAnswer, NotPermitted
from cluster.ipvs.connections import Connection, ConnectionCounts
from cluster.ipvs.formats import proc
from cluster.ipvs.state import BackendKey, ServiceKey

# Of the calling thread, as netlink has it: /proc/net is that of the process's first thread.
PATH = Path("/proc/thread-self/net/ip_vs_conn")
# Some pages of the kernel.
_ROWS_BETWEEN_LOOKS_AT_THE_CLOCK = 200


def connections(
    deadline_s: float, service: ServiceKey | None, backend: BackendKey | None, path: Path = PATH
) -> Iterator[Connection]:
    """The entries one by one; NoAnswer where the deadline comes first."""
    return proc.connections(_rows(deadline_s, path), service=service, backend=backend)


def count_connections(deadline_s: float, path: Path = PATH) -> ConnectionCounts:
    """The entries of each kind, as many as there is time for."""
    is_whole = True

    def rows() -> Iterator[str]:
        nonlocal is_whole
        try:
            yield from _rows(deadline_s, path)
        except NoAnswer:
            is_whole = False

    counts = proc.connection_counts(rows())
    return replace(counts, is_whole=is_whole)


def _rows(deadline_s: float, path: Path) -> Iterator[str]:
    until = time.monotonic() + deadline_s
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for number, line in enumerate(file):
                if number % _ROWS_BETWEEN_LOOKS_AT_THE_CLOCK == 0 and time.monotonic() > until:
                    raise NoAnswer(f"The connection table could not be read whole within {deadline_s:g} s.")
                yield line
    except FileNotFoundError:
        raise KernelUnavailable("The kernel has no IPVS: the module ip_vs is not loaded.") from None
    except PermissionError:
        raise NotPermitted("The worker may not read the connection table.") from None
    except OSError as error:
        raise KernelError(f"The connection table could not be read: {error.strerror}.") from error
