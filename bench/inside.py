"""Inside a director of the lab: measures everything in turn and says it, one JSON line a figure.

Peers take turns within a round, so that whatever else the machine does meets all of them. Every load gets
a network namespace of its own, and begins when the last one's has been taken apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import peers
from bench.room import fresh_namespace, seconds_of, settle
from bench.tables import as_saved, table, with_one_weight
from cluster.director.host import keep_freed_memory, seek_garbage_rarely
from cluster.director.journal import Goal, Journal, Record
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.formats import keepalived_reader, keepalived_writer
from cluster.ipvs.formats.ipvsadm import parse
from cluster.ipvs.plan import plan
from cluster.ipvs.state import Table

ROUNDS = 5
SLOW_ROUNDS = 3
# Of what takes tenths of a second, so that one busy moment of the machine does not decide.
SHORT_TIMES = 5
GROWTH = (10, 100, 1000, 10_000)

# One line for each format that can be read: its name, its text for a table, its reader.
PARSERS: list[tuple[str, Callable[[Table], str], Callable[[str], object]]] = [
    ("ipvsadm", as_saved, parse),
    ("keepalived", lambda wanted: keepalived_writer.render(wanted).text, keepalived_reader.parse),
]


def main() -> None:
    # As the worker and the command line do.
    seek_garbage_rarely()
    keep_freed_memory()
    match sys.argv[1:]:
        case ["journal", folder]:
            _write_journal(Path(folder))
        case ["load", services]:
            _full_load(table(int(services), 10), f"growth {services}x10")
        case ["measure"]:
            _measure()
        case words:
            raise SystemExit(f"What is {words}?")


def _measure() -> None:
    growth()
    parsers()
    for services, backends in ((1000, 10), (1000, 100)):
        for number in range(1, ROUNDS + 1):
            say(f"{services}x{backends}: round {number} of {ROUNDS}")
            compare(services, backends, number)


def growth() -> None:
    """Our full load at sizes that grow tenfold, beside the floor of each. In a process for each: growth is
    not seen where a small table finds memory that a large one has left, and a large one does not."""
    for services in GROWTH:
        wanted = table(services, 10)
        for number in range(1, ROUNDS + 1):
            say(f"growth: {services}x10, round {number} of {ROUNDS}")
            subprocess.run([sys.executable, "-m", "bench.inside", "load", str(services)], check=True)
            settle()
            fresh_namespace()
            figure(f"growth floor {services}x10", peers.floor_send(wanted))


def parsers() -> None:
    """Each format's reader at an eighth of the table, a quarter, half and all of 1000x10."""
    for name, text_of, read in PARSERS:
        for services in (125, 250, 500, 1000):
            text = text_of(table(services, 10))
            for _ in range(ROUNDS):
                figure(f"parse {name} {services}x10", seconds_of(partial(read, text)))


def compare(services: int, backends: int, number: int) -> None:
    """One round of all peers at one size."""
    size, wanted = f"{services}x{backends}", table(services, backends)
    _load_alone(wanted, size)
    kernel = _full_load(wanted, f"load {size}")
    if backends == 100:
        _changes(kernel, wanted, number)
        _readings(kernel, wanted)
    settle()
    fresh_namespace()
    with peers.Keepalived(wanted) as keepalived:
        figure(f"keepalived start {size}", keepalived.started_s)
        if backends == 100:
            changed = with_one_weight(wanted, 1 + number)
            figure("keepalived reload 1000x100", keepalived.reload(changed))
    if backends == 10 or number <= SLOW_ROUNDS:
        settle()
        fresh_namespace()
        say(f"{size}: ipvsadm -R")
        figure(f"ipvsadm -R {size}", peers.ipvsadm_restore(wanted))


def _load_alone(wanted: Table, size: str) -> None:
    """The messages of a load: encoded, sent and acknowledged; and the floor of it. They begin in turns."""
    steps = plan(Table(), wanted, owned=frozenset()).steps

    def ours() -> float:
        with Conversation(60) as talk:
            return seconds_of(lambda: talk.tell(steps))

    both: list[tuple[str, Callable[[], float]]] = [
        (f"floor send {size}", partial(peers.floor_send, wanted)),
        (f"send {size}", ours),
    ]
    for _ in range(SHORT_TIMES):
        for name, seconds in both:
            settle()
            fresh_namespace()
            figure(name, seconds())
        both.reverse()


def _full_load(wanted: Table, name: str) -> NetlinkKernel:
    """Read, plan, do, read back, plan again."""
    settle()
    fresh_namespace()
    kernel = NetlinkKernel(deadline_s=60)

    def load() -> None:
        made = plan(kernel.read().table, wanted, owned=frozenset())
        figure(f"{name}: do", seconds_of(lambda: kernel.do(made.steps)))
        _check(plan(kernel.read_services(wanted.keys), wanted, owned=wanted.keys).is_empty)

    figure(name, seconds_of(load))
    return kernel


def _changes(kernel: NetlinkKernel, wanted: Table, number: int) -> None:
    """One weight, where the table is known and where it is read first; then nothing at all."""
    known = kernel.read().table
    owned = known.keys
    changed = with_one_weight(known, 10 + number)

    def change(before: Table, after: Table) -> None:
        made = plan(before, after, owned=owned)
        kernel.do(made.steps)
        touched = {step.service.key for step in made.steps}
        read = kernel.read_services(touched)
        _check(len(made.steps) == 1 and read == after.only(touched))

    figure("one weight, known state", seconds_of(lambda: change(known, changed)))
    again = with_one_weight(changed, 20 + number)
    figure("one weight, after an audit", seconds_of(lambda: change(kernel.read().table, again)))
    figure("no-op writes", len(plan(kernel.read().table, again, owned=owned).steps))


def _readings(kernel: NetlinkKernel, wanted: Table) -> None:
    """Table and counters: ours for the first time, again, with every counter looked at, and the peers'."""
    figure("read first", seconds_of(NetlinkKernel(deadline_s=60).read))
    for _ in range(SHORT_TIMES):
        figure("floor receive", peers.floor_receive(wanted))
        figure("read", seconds_of(kernel.read))
    figure("ipvsadm -Ln --stats", peers.ipvsadm_list())
    figure("read, each counter", seconds_of(lambda: sum(1 for _ in kernel.read().backends.values())))


def _write_journal(folder: Path) -> None:
    """What the worker finds at its start: 100,000 backends that it has to hold."""
    wanted = table(1000, 100)
    goal = Goal(1, 1, wanted)
    Journal(folder).write(Record("bench", goal, wanted.keys, verified=goal))


def _check(is_true: bool) -> None:
    if not is_true:
        raise SystemExit("The kernel does not hold what was asked for, so that the figures mean nothing.")


def figure(name: str, value: float) -> None:
    print(json.dumps({"name": name, "value": value}), flush=True)


def say(text: str) -> None:
    print(json.dumps({"say": text}), flush=True)


if __name__ == "__main__":
    main()
