"""One holder at a time of a file, across processes, with a deadline."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Locked(Exception):
    """Somebody else held the file until the deadline."""


@contextmanager
def locked(path: Path, *, within_s: float) -> Iterator[None]:
    """Hold the file at `path`, which is made where it is missing. Locked after `within_s`; a holder that
    dies lets go at once."""
    with path.open("ab") as file:
        deadline = time.monotonic() + within_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Locked(str(path)) from None
                time.sleep(0.05)
        yield
