"""`make bench`: us beside ipvsadm, keepalived and a C program, and what real clients lose, in one run.

Prints the figures and the goals, and writes both to bench/results.json. Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from bench import zero_loss
from bench.goals import Figures, goals, print_figures, print_goals
from lab.door import LabError
from lab.host import Lab, up
from lab.layout import ROOM_STATE

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
FLOOR = FOLDER / "floor"
FARM = FOLDER / "farm"
LONGEST_S = 40 * 60
WORKER_DEADLINE_S = 240.0
CHECKS_DEADLINE_S = 180.0
# Not in step with the worker, which counts every two seconds.
WORKER_LOOKS = 10
WORKER_LOOK_S = 2.3
# The worker takes orders of nobody here; any key will do.
NOBODYS_KEY = base64.b64encode(bytes(32)).decode()


def main() -> int:
    began = time.monotonic()
    load_before = os.getloadavg()
    try:
        for program in (FLOOR, FARM):
            _compile(program)
        with tempfile.TemporaryDirectory() as folder:
            worker = _measure_worker(Path(folder) / "worker")
            figures, kernel = _measure(Path(folder) / "lab")
            figures |= worker
            figures |= _measure_checks_alone()
            figures |= zero_loss.measure(Path(folder), _say)
    except (LabError, OSError, subprocess.SubprocessError) as problem:
        print(f"bench: {problem}", file=sys.stderr, flush=True)
        return 1
    finally:
        for program in (FLOOR, FARM):
            program.unlink(missing_ok=True)
    reached = goals(figures)
    print_figures(figures)
    print_goals(reached)
    seconds = time.monotonic() - began
    about = {"kernel": kernel, "seconds": round(seconds), "load_average": [load_before, os.getloadavg()]}
    RESULTS.write_text(json.dumps({"about": about, "raw": figures, "goals": reached}, indent=1) + "\n")
    missed = [name for name, goal in reached.items() if not goal["met"]]
    print(f"\n{len(reached) - len(missed)} of {len(reached)} goals met in {seconds:.0f} s; see {RESULTS}")
    return 1 if missed else 0


def _compile(program: Path) -> None:
    _say(f"compiling {program.name}.c")
    command = ["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), f"{program}.c"]
    subprocess.run(command, check=True, timeout=60)
    program.chmod(0o755)  # the lab's guest runs it as nobody


def _measure(folder: Path) -> tuple[Figures, str]:
    """All that is measured inside a director, and the kernel's release."""
    figures: Figures = defaultdict(list)

    lab = up(folder, panel_public_key=None, attached=True, progress=_say)
    try:
        for words in (["bench.inside", "measure"], ["bench.health"]):
            command = [lab.python, "-m", *words]
            done = lab.execute("director1", command, timeout_s=LONGEST_S, on_line=partial(_hear, figures))
            if done.returncode:
                raise LabError(f"The measuring ended with status {done.returncode}; its words are above.")
        return dict(figures), f"Linux {lab.hello()['kernel']}, {lab.kind}"
    finally:
        lab.down()


def _hear(figures: Figures, line: str) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        print(line, flush=True)
        return
    if "say" in event:
        _say(event["say"])
    else:
        figures[event["name"]].append(event["value"])


def _measure_checks_alone() -> Figures:
    """Our health checks on this machine's own kernel, in a network namespace."""
    figures: Figures = defaultdict(list)
    command = [sys.executable, "-m", "bench.health", "alone"]
    done = subprocess.run(
        command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True, check=True, timeout=CHECKS_DEADLINE_S
    )
    for line in done.stdout.splitlines():
        _hear(figures, line)
    return dict(figures)


def _measure_worker(folder: Path) -> Figures:
    """The memory of a real worker that holds 100,000 backends: it restores them from its journal, then
    counts them every two seconds."""
    _say("worker: a lab of its own")
    lab = up(folder, panel_public_key=NOBODYS_KEY, attached=True, progress=lambda _: None)
    try:
        lab.stop_worker("director1")
        base = _worker_base(lab)
        state = str(ROOM_STATE / "director1")
        lab.execute("director1", [lab.python, "-m", "bench.inside", "journal", state], timeout_s=60)
        lab.start_worker("director1")
        _wait_for_table(lab)
        _say("worker: holds the table; waiting while it counts")
        resident = []
        for _ in range(WORKER_LOOKS):
            time.sleep(WORKER_LOOK_S)
            status = _status(lab, "director1")
            resident.append(status["VmRSS"] / 1000)
        return {
            "worker resident, empty": [base],
            "worker resident": resident,
            "worker resident, peak": [status["VmHWM"] / 1000],
        }
    finally:
        lab.down()


def _worker_base(lab: Lab) -> float:
    """The other director's worker has nothing to hold."""
    time.sleep(5)
    return _status(lab, "director2")["VmRSS"] / 1000


def _wait_for_table(lab: Lab) -> None:
    deadline = time.monotonic() + WORKER_DEADLINE_S
    while time.monotonic() < deadline:
        lines = lab.execute("director1", ["wc", "-l", "/proc/net/ip_vs"]).stdout.split()
        if int(lines[0]) > 100_000:
            return
        time.sleep(2)
    raise LabError("The worker did not restore the table.")


def _status(lab: Lab, director: str) -> dict[str, int]:
    """The lines of the worker's /proc/PID/status that are in kB."""
    text = lab.execute("hub", ["cat", f"/proc/{lab.worker_pid(director)}/status"]).stdout
    rows = [line.split() for line in text.splitlines() if line.endswith(" kB")]
    return {row[0].rstrip(":"): int(row[1]) for row in rows}


def _say(text: object) -> None:
    print(f"bench: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
