"""`python -m bench.audit`: the audit log at a million entries and more, beside Django's own admin.

Prints the figures and the goals, and writes both to bench/results-audit.json. Ends with 1 where a goal is
missed. `--postgresql 1000000 10000000 --sqlite 1000000` is what it does without being told."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.goals import Figures, audit_goals, print_figures, print_goals
from lab.door import LabError
from lab.postgres import running

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results-audit.json"
PORT = int(os.environ.get("LVSADMIN_BENCH_PORT", "8139"))
ROUNDS = 5
# The clock of a process goes by hundredths of a second.
ASKED = 48
ASKED_OF_ADMIN = 12
# The admin counts all rows for each page: at ten million that takes seconds, and needs no repeating.
ASKED_OF_SLOW = 2
SLOW_FROM = 5_000_000
FILL_DEADLINE_S = 45 * 60
READY_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
_TOKEN = "b" * 32


@dataclass(frozen=True)
class Place:
    """One database with its log, and how figures of it are named."""

    name: str
    count: int
    environment: dict[str, str]
    folder: Path
    session: str

    @property
    def database(self) -> int | None:
        """The process id of PostgreSQL; SQLite has none."""
        host = self.environment.get("LVSADMIN_PG_HOST")
        return int((Path(host) / "data" / "postmaster.pid").read_text().split()[0]) if host else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument("--postgresql", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--sqlite", type=int, nargs="*", default=[1_000_000])
    chosen = parser.parse_args()
    figures: Figures = defaultdict(list)
    began = time.monotonic()
    try:
        for kind, counts in (("PostgreSQL", chosen.postgresql), ("SQLite", chosen.sqlite)):
            for count in counts:
                with _filled(kind, count) as place:
                    _measure(place, figures)
    except (LabError, OSError, subprocess.SubprocessError) as problem:
        print(f"bench: {problem}", file=sys.stderr, flush=True)
        return 1
    reached = audit_goals(figures)
    print_figures(figures)
    print_goals(reached)
    about = {"seconds": round(time.monotonic() - began), "load_average": os.getloadavg()}
    RESULTS.write_text(json.dumps({"about": about, "raw": figures, "goals": reached}, indent=1) + "\n")
    missed = [name for name, goal in reached.items() if not goal["met"]]
    print(f"\n{len(reached) - len(missed)} of {len(reached)} goals met; see {RESULTS}")
    return 1 if missed else 0


@contextmanager
def _filled(kind: str, count: int) -> Iterator[Place]:
    name = f"{kind} {count // 1_000_000}M" if count >= 1_000_000 else f"{kind} {count}"
    database = running() if kind == "PostgreSQL" else nullcontext[dict[str, str]]({})
    with database as variables, tempfile.TemporaryDirectory() as folder:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LVSADMIN_")},
            **(variables | {"LVSADMIN_PG_NAME": "postgres"} if variables else {}),
            "LVSADMIN_DATA_DIR": folder,
            "LVSADMIN_PLAIN_HTTP": "1",
            "LVSADMIN_REDIS_URL": f"unix://{folder}/nobody-listens",
            "LVSADMIN_BIND": f"127.0.0.1:{PORT}",
            "LVSADMIN_WORKERS": "1",
            "LVSADMIN_SECOND_FACTOR_REQUIRED": "0",
            "DJANGO_SETTINGS_MODULE": "bench.admin_settings",
        }
        _say(f"{name}: making the entries")
        _python(environment, "manage.py", "migrate", "-v0")
        said = _python(environment, "-m", "bench.audit_rows", str(count))
        yield Place(name, count, environment, Path(folder), json.loads(said)["session"])


def _measure(place: Place, figures: Figures) -> None:
    with _served(place) as server:
        pages = _pages(place)
        for path in pages.values():
            _ask(place, path)
        for _ in range(ROUNDS):
            for page, path in pages.items():
                asked = ASKED
                if page.startswith("admin"):
                    asked = ASKED_OF_SLOW if place.count >= SLOW_FROM else ASKED_OF_ADMIN
                figures[f"{place.name} {page}, CPU-ms"].append(_cost(place, server, path, asked))
        _say(f"{place.name}: pages are measured")
        _tell(place, figures)
        for kind in ("jsonl",) if place.count >= SLOW_FROM else ("csv", "jsonl"):
            before = _used_s(place, server)
            seconds, grown = _export(place, server, kind)
            figures[f"{place.name} export {kind}, entries/s"].append(place.count / seconds)
            used = _used_s(place, server) - before
            figures[f"{place.name} export {kind}, entries/CPU-s"].append(place.count / used)
            figures[f"{place.name} export {kind}, MB grown"].append(grown)
        _say(f"{place.name}: exports are measured")
    for what, said in json.loads(_python(place.environment, "-m", "bench.audit", "inside")).items():
        figures[f"{place.name} {what}"].append(said)
    _say(f"{place.name}: verified")


def _tell(place: Place, figures: Figures) -> None:
    """What is known so far: the rest may take long."""
    for name, values in figures.items():
        if name.startswith(place.name):
            _say(f"{name}: {median(values):.1f}")


def _pages(place: Place) -> dict[str, str]:
    """The deep page lies a twentieth from the end."""
    return {
        "ours first": "/audit/",
        "ours deep": f"/audit/?before={place.count // 20}",
        "ours filtered": "/audit/?q=actor:operator07",
        "ours filtered deep": f"/audit/?q=actor:operator07&before={place.count // 20}",
        "ours history": "/audit/?q=object:backend/77",
        "ours unindexed": "/audit/?q=reason:nothing-has-this",
        "admin first": "/beside/cluster/auditentry/",
        "admin deep": f"/beside/cluster/auditentry/?p={place.count // 50 * 19 // 20}",
        "admin filtered": "/beside/cluster/auditentry/?actor__exact=operator07",
    }


def _cost(place: Place, server: int, path: str, asked: int) -> float:
    """CPU of the application and the database for one request of so many, in milliseconds."""
    before = _used_s(place, server)
    for _ in range(asked):
        _ask(place, path)
    return (_used_s(place, server) - before) * 1000 / asked


def _used_s(place: Place, server: int) -> float:
    """CPU of the application and the database so far."""
    processes = [server, *([place.database] if place.database else [])]
    return sum(_cpu_s(process) for process in processes)


def _export(place: Place, server: int, kind: str) -> tuple[float, float]:
    """Seconds, and by how many megabytes the application grew at the most."""
    before, most, began = _resident_mb(server), 0.0, time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=600)
    headers = {
        "Cookie": f"sessionid={place.session}; csrftoken={_TOKEN}",
        "X-CSRFToken": _TOKEN,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection.request("POST", "/audit/export/", f"kind={kind}&q=", headers)
    answer, found = connection.getresponse(), 0
    while piece := answer.read(1 << 20):
        found += piece.count(b"\n")
        most = max(most, _resident_mb(server))
    connection.close()
    if answer.status != 200 or found < place.count:
        raise LabError(f"The export ended with {answer.status} after {found} lines.")
    return time.monotonic() - began, most - before


def _ask(place: Place, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    connection.request("GET", path, headers={"Cookie": f"sessionid={place.session}"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200 or b"operator" not in text and b"nothing-has-this" not in text:
        raise LabError(f"{path} answered {answer.status}: {text[:300]!r}")


@contextmanager
def _served(place: Place) -> Iterator[int]:
    """gunicorn with one worker, as the panel is served; its process id."""
    command = [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py"]
    log = (place.folder / "gunicorn.log").open("wb")
    server = subprocess.Popen(command, cwd=FOLDER.parent, env=place.environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                _ask(place, "/audit/")
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise LabError((place.folder / "gunicorn.log").read_text()[-2000:]) from None
                time.sleep(0.2)
        yield server.pid
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def _cpu_s(process: int) -> float:
    """Of a process, of its children, and of those of them that have ended."""
    used = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        fields, number = rest.split(), int(name.split()[0])
        if number == process:
            used += sum(map(int, fields[11:15]))
        elif int(fields[1]) == process:
            used += sum(map(int, fields[11:13]))
    return used / TICKS


def _resident_mb(server: int) -> float:
    """The largest of gunicorn's processes."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    texts = [Path(f"/proc/{child}/status").read_text() for child in children]
    return max(int(text.partition("VmRSS:")[2].split()[0]) / 1024 for text in texts)


def _python(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=FOLDER.parent,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=FILL_DEADLINE_S,
    )
    if done.returncode:
        raise LabError(f"{' '.join(words)} ended with status {done.returncode}.")
    return done.stdout


def _inside() -> int:
    """In a process of its own, with the panel's settings: read the whole chain, then write."""
    import django

    django.setup()
    from cluster import audit
    from cluster.audit import chain
    from cluster.models import AuditHead

    count = AuditHead.objects.get(pk=1).sequence
    began = time.process_time()
    if broken := chain.verify():
        print(f"The chain is broken: {broken}", file=sys.stderr)
        return 1
    verified = count / (time.process_time() - began)
    wall, cpu = time.monotonic(), time.process_time()
    for number in range(500):
        audit.record("bench", f"object {number}", by=audit.PANEL, before={"weight": 1}, after={"weight": 2})
    figures = {
        "verify, entries/CPU-s": verified,
        "append, entries/s": 500 / (time.monotonic() - wall),
        "append, CPU-ms": (time.process_time() - cpu) * 1000 / 500,
    }
    print(json.dumps(figures))
    return 0


def _say(text: object) -> None:
    print(f"bench: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(_inside() if sys.argv[1:] == ["inside"] else main())
