"""What the command line does with a kernel: show, save, restore, plan, apply. Text in, text out.

Services that the panel's orders own are left alone unless told otherwise: the next order would put them
back, and nobody would know why.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cluster.director import host
from cluster.director.config import Config, ConfigError
from cluster.director.console import (
    TextError,
    judged,
    lines,
    print_journal,
    print_json,
    read_text,
    remarks,
    tell,
    told,
)
from cluster.director.converge import Result, converge
from cluster.director.journal import Goal, Journal, Record
from cluster.director.kernel import Kernel
from cluster.director.kernel.choice import make_kernel
from cluster.director.kernel.rehearse import serve
from cluster.director.lock import locked
from cluster.director.readings import counted_service
from cluster.director.settings_steps import do_settings, settings_to_do
from cluster.director.witness import kept
from cluster.ipvs.formats import kinds
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.formats.fidelity import Parsed
from cluster.ipvs.formats.ipvsadm_settings import setting_lines
from cluster.ipvs.lint import table_warnings
from cluster.ipvs.plan import plan as planned
from cluster.ipvs.plan import quiesced
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.stats import BackendCounters
from cluster.ipvs.traffic.progress import counts_inactive
from cluster.wire.envelope import fingerprint as fingerprint_of
from cluster.wire.messages import Outcome

LOCK_DEADLINE_S = 60.0
POLL_S = 2.0  # the kernel's counters are no newer


class Usage(Exception):
    """What was asked for is not done; the text says why and what to do."""


def fingerprint(_: argparse.Namespace, config: Config | None) -> int:
    """Print the director's key as people compare it."""
    assert config is not None
    print(fingerprint_of(config.signing_key().public))
    return 0


def witness(_: argparse.Namespace, config: Config | None) -> int:
    """Print what the panel has signed about its audit log, oldest first, for its `audit_verify`."""
    assert config is not None
    for line in kept(config.state_dir):
        print(line)
    return 0


def show(chosen: argparse.Namespace, config: Config | None) -> int:
    """Print the journal's summary, if there is a journal, and the kernel's table."""
    record = Journal(config.state_dir).read() if config else None
    if not chosen.json and config:
        print_journal(record)
    reading = make_kernel(config).read()
    owned = record.owned if record else frozenset()
    if chosen.json:
        print_json(
            {"services": [counted_service(service, reading, owned=owned) for service in reading.table]}
        )
    elif not reading.table:
        print("The kernel has no services.")
    for service in () if chosen.json else reading.table:
        for line in lines(service, reading, owned, with_totals=chosen.stats):
            print(line)
    return 0


def save(chosen: argparse.Namespace, config: Config | None) -> int:
    """Print the kernel's table as text that `restore` and ipvsadm-restore read; with --all the timeouts and
    sync daemons in front of it."""
    kernel = make_kernel(config)
    if chosen.all and (chosen.json or chosen.format != "ipvsadm"):
        raise Usage("Timeouts and sync daemons are saved as text of ipvsadm alone. Leave out --all.")
    table = kernel.read().table
    for line in setting_lines(kernel.read_settings()) if chosen.all else ():
        print(line)
    if chosen.json:
        print_json(to_document(table))
        return 0
    rendered = kinds.render(table, kind=chosen.format)
    sys.stdout.write(rendered.text)
    for note in rendered.notes:
        print(note, file=sys.stderr)
    return 0


def plan(chosen: argparse.Namespace, config: Config | None) -> int:
    """Print what `apply` would do with this text, and what each step does to connections."""
    said = judged(read_text(chosen.file, kind=chosen.format), is_loud=not chosen.json)
    wanted = said.table
    kernel = make_kernel(config)
    reading = kernel.read()
    todo = planned(reading.table, wanted, owned=_touchable(said, reading.table, chosen, config))
    steps = told(todo, settings_to_do(kernel, said.settings), reading, host.sysctls(kernel))
    if chosen.json:
        warnings = [f"{key}: {problem.text}" for key, problem in table_warnings(wanted)]
        left_alone = [str(key) for key in todo.foreign]
        notes = remarks(said)
        print_json({"steps": steps, "warnings": warnings, "left_alone": left_alone, "notes": notes})
    for step in () if chosen.json else steps:
        mark = {"add": "+", "change": "~", "remove": "-"}[step["kind"]]
        print(f"{mark} {step['text']} {step['impact']}".rstrip())
        print(f"    {step['command']}")
    if not chosen.json and not steps:
        print("The kernel holds this already.")
    return 3 if steps else 0


def apply(chosen: argparse.Namespace, config: Config | None) -> int:
    """Make the kernel hold what the text says, after a rehearsal, and read it back; then set the timeouts and
    start the daemons that it names."""
    said = judged(read_text(chosen.file, kind=chosen.format), is_loud=not chosen.json)
    wanted, kernel, rehearse = said.table, make_kernel(config), not chosen.no_rehearsal
    if config is None:
        print(
            "No settings of a director were found, so nothing is known of a panel's services.",
            file=sys.stderr,
        )
    if chosen.quiesce > 0:
        with _alone(config):
            actual = kernel.read().table
            owned = _touchable(said, actual, chosen, config)
            first = quiesced(actual, wanted, owned=owned)
            result = _converge(kernel, first, owned, rehearse=rehearse)
        if result.outcome is not Outcome.APPLIED:
            return tell(result, said, as_json=chosen.json)
        # The worker may take an order meanwhile; what is left to do is read anew.
        _wait_for_connections(kernel, first, wanted, chosen.quiesce)
    with _alone(config):
        owned = _touchable(said, kernel.read().table, chosen, config)
        return _finish(kernel, said, owned, rehearse=rehearse, as_json=chosen.json)


def restore(chosen: argparse.Namespace, config: Config | None) -> int:
    """Put the services of the text into the kernel as fast as it goes, for a start of the machine: without a
    rehearsal, and without judging what the kernel takes; then its timeouts and daemons."""
    said = read_text(chosen.file, kind=chosen.format)
    kernel = make_kernel(config)
    with _alone(config):
        owned = _touchable(said, kernel.read().table, chosen, config)
        return _finish(kernel, said, owned, rehearse=False, as_json=chosen.json)


def rehearse(_: argparse.Namespace, config: Config | None) -> int:
    """Answer one question of a worker that cannot make namespaces itself."""
    serve(make_kernel(config), sys.stdin.buffer, sys.stdout.buffer)
    return 0


class _Nowhere:
    """A worker's journal is not a command's to write, and a command has none of its own."""

    def write(self, record: Record) -> None:
        """Forget it."""


def _finish(
    kernel: Kernel, said: Parsed, owned: frozenset[ServiceKey], *, rehearse: bool, as_json: bool
) -> int:
    """The table, and only then the settings: a daemon and a backend of another family exclude each other, and
    the table may be what takes that backend out."""
    result = _converge(kernel, said.table, owned, rehearse=rehearse)
    is_done = result.outcome is Outcome.APPLIED
    if said.settings and not is_done:
        print("Timeouts and sync daemons were left alone, for the table is not done.", file=sys.stderr)
    return tell(result, said, do_settings(kernel, said.settings) if is_done else (), as_json=as_json)


def _converge(kernel: Kernel, wanted: Table, owned: frozenset[ServiceKey], *, rehearse: bool) -> Result:
    goal = Goal(0, 0, wanted)
    record = Record("", goal, owned)
    return converge(
        kernel,
        _Nowhere(),
        record,
        goal,
        director=socket.gethostname(),
        rehearse=rehearse,
        sysctls=host.sysctls(kernel),
    )


def _touchable(
    said: Parsed, actual: Table, chosen: argparse.Namespace, config: Config | None
) -> frozenset[ServiceKey]:
    """The services that may be changed or removed: those that the text names, with --exact all. TextError
    where something would go only because the text was not read whole."""
    wanted = said.table
    _refuse_to_guess(said, actual, is_exact=chosen.exact)
    record = Journal(config.state_dir).read() if config else None
    ordered = record.owned if record and not chosen.override else frozenset()
    if chosen.exact and not wanted and actual.keys - ordered:
        # As likely the end of a pipe that broke as what somebody means.
        raise Usage("The text names no service, and --exact would remove all. Remove them with ipvsadm -D.")
    for key in sorted(wanted.keys & ordered):
        if wanted.by_key[key] != actual.by_key.get(key):
            raise Usage(
                f"{key} is owned by the panel's orders, and the next one would put it back. Change it in the"
                " panel, or use --override."
            )
    return (wanted.keys | actual.keys if chosen.exact else wanted.keys) - ordered


def _refuse_to_guess(said: Parsed, actual: Table, *, is_exact: bool) -> None:
    """Nothing goes because a text was not read whole: what is missing may stand where nobody could read."""
    kept = {service.key: {one.key for one in service.backends} for service in said.table}
    goes = is_exact or any(
        service.key in kept and {one.key for one in service.backends} - kept[service.key]
        for service in actual
    )
    if said.gaps and goes:
        remedy = "Mend them, or leave out --exact." if is_exact else "Mend them."
        raise TextError(
            "Nothing was done. It would remove what the text does not name, and these lines of it could not"
            " be read. " + "\n".join((remedy, *map(str, said.gaps)))
        )


def _wait_for_connections(kernel: Kernel, first: Table, wanted: Table, longest_s: float) -> None:
    """Until the backends that go have no connection left, but no longer."""
    deadline = time.monotonic() + longest_s
    print(f"What goes has weight 0 now; waiting up to {longest_s:g} s for its connections.", file=sys.stderr)
    going = [
        (service.key, backend.key)
        for service in first
        for backend in service.backends
        if service.key not in wanted.by_key
        or backend.key not in {kept.key for kept in wanted.by_key[service.key].backends}
    ]
    while time.monotonic() < deadline:
        counted = kernel.read().backends
        if not any(_is_busy(key, counted.get((key, place))) for key, place in going):
            return
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


def _is_busy(key: ServiceKey, counted: BackendCounters | None) -> bool:
    if counted is None:
        return False
    return bool(counted.active or (counts_inactive(key) and counted.inactive))


@contextmanager
def _alone(config: Config | None) -> Iterator[None]:
    """Not while the worker of this director applies an order."""
    if config is None:
        yield
        return
    with ExitStack() as held:
        try:
            held.enter_context(locked(config.state_dir / "lock", within_s=LOCK_DEADLINE_S))
        except OSError as error:
            raise ConfigError(
                f"The state_dir {config.state_dir} cannot be written to: {error.strerror}. Make the folder,"
                " or run this as the user that its worker runs as."
            ) from error
        yield
