"""`make test`: every stage in its order, live, and at the end what ran, how long it took and how it went.

A stage that fails does not keep the others from running. No test against the real kernel is a failure.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.door import LabError
from lab.host import Lab, up
from lab.layout import PROJECT
from lab.postgres import running

STAGE_TIMEOUT_S = 900.0
NO_TESTS = 5  # pytest's exit status
TESTS_FAILED = 1
BIN = Path(sys.executable).parent
CHECKS = (
    ("ruff check", [sys.executable, "-m", "ruff", "check", "."]),
    ("ruff format", [sys.executable, "-m", "ruff", "format", "--check", "."]),
    ("mypy", [sys.executable, "-m", "mypy"]),
    # Its console script has no `python -m`; the path in its first line would break with spaces.
    ("layers", [sys.executable, str(BIN / "lint-imports"), "--no-cache"]),
    ("migrations", [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"]),
)
NEEDS_NO_LAB = "not kernel and not traffic and not browser and not postgres"
# A file at a time on each CPU, with a database each. Not where packets or pages have deadlines.
SIDE_BY_SIDE = ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")


@dataclass(frozen=True)
class Result:
    """What one kind of test came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    against_real_kernel: int = 0
    remark: str = ""

    def __add__(self, other: "Result") -> "Result":
        return Result(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
            self.against_real_kernel + other.against_real_kernel,
            " ".join(filter(None, [self.remark, other.remark])),
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.run_tests", description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", choices=[*STAGES, []], help=f"of {', '.join(STAGES)}; default: all"
    )
    # Servers and folders of ours go as well where somebody ends us politely.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = parser.parse_args().kinds or list(STAGES)
    began = time.monotonic()
    results = {}
    for kind in wanted:
        title(kind)
        started = time.monotonic()
        try:
            result = STAGES[kind]()
        except (LabError, OSError, subprocess.TimeoutExpired) as problem:
            print(f"{kind}: {problem}", flush=True)
            result = Result(failed=1, remark="could not run")
        results[kind] = result + Result(seconds=time.monotonic() - started)
    print_figures(results, time.monotonic() - began)
    return 1 if any(result.failed for result in results.values()) else 0


def run_checks() -> Result:
    result = Result()
    with tempfile.TemporaryDirectory() as folder:
        for name, command in CHECKS:
            print(f"-- {name}", flush=True)
            code = run(command, {"LVSADMIN_DATA_DIR": folder})
            result += Result(failed=1, remark=f"{name} failed.") if code else Result(passed=1)
    return result


def run_unit() -> Result:
    return run_pytest("tests", "-m", NEEDS_NO_LAB, *SIDE_BY_SIDE)


def run_postgres() -> Result:
    """All of the panel once more on the database of production, and what only that one can show."""
    with running() as variables:
        return run_pytest("tests/panel", "tests/lab/test_postgres.py", *SIDE_BY_SIDE, more=variables)


def run_kernel() -> Result:
    """Inside director1, as root of the room, where the kernel's table is nobody else's."""
    with tempfile.TemporaryDirectory() as folder:
        lab = up(Path(folder) / "lab", panel_public_key=None, attached=True, progress=print)
        try:
            result = _run_kernel_in(lab)
            kernel = lab.hello()["kernel"]
        finally:
            lab.down()
    ran = result.passed + result.failed
    if not ran:
        return result + Result(failed=1, remark="No test ran against the real kernel.")
    return result + Result(against_real_kernel=ran, remark=f"Linux {kernel}, {lab.kind}")


def run_traffic() -> Result:
    # Apart, so that the tests of the lab and the tests of the product don't share two CPUs.
    the_lab = run_pytest("tests/lab", "-m", "traffic")
    the_product = run_pytest("tests", "--ignore=tests/lab", "-m", "traffic")
    both = the_lab + the_product
    return both + Result(against_real_kernel=the_product.passed + the_product.failed)


def run_browser() -> Result:
    return run_pytest("tests", "-m", "browser and not traffic")


STAGES: dict[str, Callable[[], Result]] = {
    "checks": run_checks,
    "unit": run_unit,
    "postgres": run_postgres,
    "kernel": run_kernel,
    "traffic": run_traffic,
    "browser": run_browser,
}


def run_pytest(*arguments: str, more: dict[str, str] | None = None) -> Result:
    """pytest with its words on the screen; what it counted comes from its own report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Whatever the tests leave in their folders for temporary files goes with this one.
        files = Path(folder) / "files"
        files.mkdir()
        options = [f"--junitxml={report}", "--durations=3", *colours()]
        variables = {"TMPDIR": str(files), **(more or {})}
        code = run([sys.executable, "-m", "pytest", *options, *arguments], variables)
        return count(report.read_text() if report.exists() else "", code)


def _run_kernel_in(lab: Lab) -> Result:
    report = "/tmp/report.xml"
    done = lab.execute(
        "director1",
        [
            *(lab.python, "-m", "pytest", "tests", "-m", "kernel", "-p", "no:cacheprovider"),
            *(f"--junitxml={report}", "--durations=3", *colours()),
        ],
        timeout_s=STAGE_TIMEOUT_S,
        on_line=lambda line: print(line, flush=True),
    )
    return count(lab.execute("director1", ["cat", report]).stdout, done.returncode)


def count(report: str, code: int) -> Result:
    """Read a JUnit report. A pytest that broke off counts as a failure, whatever it had counted."""
    result = Result()
    if report:
        for suite in ElementTree.fromstring(report).iter("testsuite"):
            number = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
            failed = number["failures"] + number["errors"]
            result += Result(number["tests"] - failed - number["skipped"], failed, number["skipped"])
    if code not in (0, NO_TESTS, TESTS_FAILED) or (code == TESTS_FAILED and not result.failed):
        result += Result(failed=1, remark=f"pytest ended with status {code}.")
    return result


def run(command: list[str], more: dict[str, str]) -> int:
    """Run it in the project with its words on the screen; its exit status, or one for too long."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **more}
    try:
        return subprocess.run(command, cwd=PROJECT, env=environment, timeout=STAGE_TIMEOUT_S).returncode
    except subprocess.TimeoutExpired:
        print(f"It took longer than {STAGE_TIMEOUT_S:.0f} s and was ended: {' '.join(command)}", flush=True)
        return 124


def colours() -> list[str]:
    return ["--color=yes"] if sys.stdout.isatty() and not os.environ.get("CI") else ["--color=no"]


def title(kind: str) -> None:
    print(f"\n==== {kind} {'=' * (60 - len(kind))}", flush=True)


def print_figures(results: dict[str, Result], seconds: float) -> None:
    """The table, and as the very last line the sum."""
    title("figures")
    print(f"{'kind':10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for kind, one in results.items():
        print(
            f"{kind:10}{one.passed:8}{one.failed:8}{one.skipped:9}{one.seconds:9.1f}  {one.remark}".rstrip()
        )
    total = sum(results.values(), Result())
    print(f"{'all':10}{total.passed:8}{total.failed:8}{total.skipped:9}{seconds:9.1f}")
    print(f"\nagainst the real kernel: {total.against_real_kernel} tests")
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
