"""`make demo`: the whole product on this machine until Ctrl+C, with a sign-in made for this run."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from lab.door import LabError
from lab.host import down as lab_down
from lab.layout import PROJECT
from lab.stack import Stack, listen

FOLDER = PROJECT / ".demo"
FIRST_PORT = 8000
LAST_PORT = 8099
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


class Ended(BaseException):
    """Somebody wants the demo to end."""


def main() -> int:
    _end_with_parent()
    for number in ENDING:
        # nohup: whoever has the demo outlive the terminal shall have it.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        with _only_one():
            _run()
    except LabError as problem:
        _print(f"\ndemo: {problem}")
        return 1
    except Ended:
        return 0
    return 0


def _run() -> None:
    port = choose_port(os.environ.get("PORT", ""))
    _clear()
    stack = Stack(FOLDER / "run", port=port, stand_in=_wants_stand_in(), progress=_print)
    clean = False
    try:
        stack.start()
        stack.write_access(FOLDER / "access.json")
        _print(_welcome(stack))
        _stay(stack)
    except Ended:
        clean = True
        raise
    finally:
        _hear_no_more()
        began = time.monotonic()
        _print("\ndemo: ending ...")
        stack.stop()
        (FOLDER / "access.json").unlink(missing_ok=True)
        if clean:
            shutil.rmtree(FOLDER, ignore_errors=True)
        _print(f"demo: all of it has ended ({time.monotonic() - began:.1f} s).")


def choose_port(wanted: str) -> int:
    """PORT if it is given, else the first free one from 8000 on."""
    if wanted:
        if not (wanted.isdecimal() and 0 < int(wanted) < 65536):
            raise LabError(f"PORT is “{wanted}”. Use a number from 1 to 65535.")
        return int(wanted)
    for port in range(FIRST_PORT, LAST_PORT + 1):
        with contextlib.suppress(LabError):
            listen(port).close()
            return port
    raise LabError(f"No port from {FIRST_PORT} to {LAST_PORT} is free. Choose one: make demo PORT=9000.")


def _wants_stand_in() -> bool | None:
    return True if os.environ.get("STAND_IN", "") not in ("", "0") else None


def _stay(stack: Stack) -> None:
    """Until a signal comes; meanwhile be the service manager."""
    while True:
        for name in stack.revive():
            _print(f"demo: the {name} had ended and was started again.")
        if stack.lab and not stack.lab.is_up:
            raise LabError(f"The lab ended by itself. Its last words are in {stack.lab.log}.")
        if _make_was_told():
            raise Ended
        time.sleep(0.5)


def _welcome(stack: Stack) -> str:
    began = float(os.environ.get("DEMO_BEGAN", "0"))
    took = f" after {time.time() - began:.1f} s" if began else ""
    lines = [
        "",
        f"LVS Admin is ready{took}.",
        "",
        f"    {stack.url}",
        f"    user name   {stack.username}",
        f"    password    {stack.password}",
        "",
        "The password alone is enough here; an installed panel asks for a second factor.",
    ]
    if stack.lab:
        lab = f".venv/bin/python -m lab exec --dir {os.path.relpath(stack.lab.directory)}"
        lines += [
            f"director1 and director2 run on Linux {stack.lab.hello()['kernel']} ({stack.lab.kind}).",
            "They wait to be added to a cluster. Addresses for services: 192.168.50.10 and 192.168.50.20;",
            "for backends: 192.168.50.11 to 192.168.50.13. What you build can be looked at from outside:",
            f"    {lab} client -- curl -s http://192.168.50.10/",
            f"    {lab} director1 -- ipvsadm -Ln",
        ]
    else:
        lines += ["There is no lab: director1 and director2 keep their tables in memory and balance nothing."]
        if stack.no_lab_because:
            lines += [f"Why: {stack.no_lab_because}"]
    return "\n".join([*lines, "", f"Logs: {os.path.relpath(stack.directory)}/*.log. Ctrl+C ends all of it."])


def _clear() -> None:
    """What an earlier demo left, if it was killed. Its processes are gone; its lab may still be going."""
    lab_down(FOLDER / "run/lab")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(mode=0o700)


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """One demo at a time in a clone. The lock is on this very file, and so leaves none behind."""
    with open(__file__) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise LabError(
                f"A demo of this folder is running already; its address is in {FOLDER}/access.json. "
                "End it first, or clone the project to another folder."
            ) from problem
        yield


def _end_with_parent() -> None:
    """If make is killed nobody else would tell us."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _make_was_told() -> bool:
    """make keeps a SIGINT that was sent to it alone to itself, and waits for us inside its handler.

    The signal is blocked while the handler runs, and the kernel shows which are.
    """
    try:
        status = Path(f"/proc/{os.getppid()}/status").read_text()
    except OSError:
        return True
    if not status.startswith("Name:\tmake\n"):
        return False
    (blocked,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:"))
    return any(blocked >> (number - 1) & 1 for number in ENDING)


def _end(number: int, frame: FrameType | None) -> None:
    _hear_no_more()
    raise Ended


def _hear_no_more() -> None:
    """One signal is enough; a second, and a closed terminal sends two, must not stop the tidying."""
    for number in ENDING:
        signal.signal(number, lambda *_: None)


def _print(text: str) -> None:
    """To a terminal that may have been closed."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
