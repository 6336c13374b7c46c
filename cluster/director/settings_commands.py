"""What the command line does with IPVS beside its table: timeouts, sync daemons, switches, counters and the
connection table. Of a saved text, timeouts and daemons are part where `save` is told to put in all."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice

from cluster.director import host
from cluster.director.commands import Usage
from cluster.director.config import Config
from cluster.director.console import print_json
from cluster.director.kernel import KernelRefused
from cluster.director.kernel.choice import make_kernel
from cluster.director.tuning import write_sysctl
from cluster.ipvs import tuning
from cluster.ipvs.errors import explain
from cluster.ipvs.formats import ipvsadm
from cluster.ipvs.rules import Problem
from cluster.ipvs.settings import (
    SettingOperation,
    SyncDaemon,
    SyncRole,
    Timeouts,
    daemon_problems,
    timeouts_problems,
    to_document,
)
from cluster.ipvs.state import ServiceKey
from cluster.ipvs.tuning import Sysctl

ROLES = {role.word: role for role in SyncRole}
_SERVICES = {
    "tcp": ("-t", "--tcp-service"),
    "udp": ("-u", "--udp-service"),
    "sctp": ("--sctp-service",),
    "mark": ("-f", "--fwmark-service"),
}


def add_to(listed: Callable[[str, Callable[..., int], str], argparse.ArgumentParser]) -> None:
    """Put these commands into the program's list; `listed` makes one parser."""
    shown = listed("settings", settings, "print timeouts, sync daemons and switches")
    shown.add_argument("--json", action="store_true", help="JSON on standard output")

    timed = listed("timeouts", timeouts, "set how long silent connections are remembered")
    for name in ("tcp", "tcpfin", "udp"):
        timed.add_argument(name, type=int, help="seconds; 0 leaves it as it is")

    started = listed("start-daemon", start_daemon, "start a sync daemon")
    started.add_argument("role", choices=ROLES)
    started.add_argument("interface", help="where its messages go out or come in")
    started.add_argument("--sync-id", type=int, default=0, help="0 to 255; a backup takes all with 0")
    started.add_argument("--group", default="", help="multicast group; 224.0.0.81 without it")
    for name in ("port", "ttl", "max-length"):
        started.add_argument(f"--{name}", type=int, default=0, help="the kernel's default without it")
    stopped = listed("stop-daemon", stop_daemon, "stop a sync daemon")
    stopped.add_argument("role", choices=ROLES)

    switch = listed("sysctl", sysctl, "set one of the kernel's switches net.ipv4.vs.*")
    switch.add_argument("name")
    switch.add_argument("value")

    for name, run, what in (
        ("zero", zero, "set the counters to 0: of one service, or of all"),
        ("connections", connections, "count the entries of the connection table, or list some"),
    ):
        one = listed(name, run, what)
        if run is connections:
            one.add_argument("--list", type=int, default=0, metavar="MOST", help="so many entries themselves")
            one.add_argument("--json", action="store_true", help="JSON on standard output")
        for option, words in _SERVICES.items():
            one.add_argument(*words, dest=option, metavar="SERVICE", help="as for ipvsadm")
        one.add_argument("-6", dest="is_v6", action="store_true", help="the mark's family")


def settings(chosen: argparse.Namespace, config: Config | None) -> int:
    """Print what there is beside the table; what differs from the kernel's default has a star."""
    kernel = make_kernel(config)
    found, sysctls = kernel.read_settings(), host.sysctls(kernel)
    if chosen.json:
        print_json(to_document(found) | {"sysctls": sysctls})
        return 0
    for words, seconds in zip(("tcp", "tcpfin", "udp"), asdict(found.timeouts).values(), strict=True):
        print(f"timeout {words}: {seconds} s")
    for daemon in found.daemons:
        print(f"{daemon.role.word} sync daemon: {daemon.interface}, id {daemon.sync_id}, {daemon.group}")
    if not found.daemons:
        print("sync daemons: none")
    for name, value in sysctls.items():
        print(f"{' ' if Sysctl(name, value).is_default else '*'} {name} = {value}")
    if tuning.are_rates_frozen([Sysctl(name, value) for name, value in sysctls.items()]):
        print("The kernel does not count now, because run_estimation is 0.")
    return 0


def timeouts(chosen: argparse.Namespace, config: Config | None) -> int:
    """Set the timeouts that are not 0."""
    wanted = Timeouts(chosen.tcp, chosen.tcpfin, chosen.udp)
    _refuse(list(timeouts_problems(wanted)))
    with _explained(SettingOperation.SET_TIMEOUTS, "these timeouts"):
        make_kernel(config).set_timeouts(wanted)
    return 0


def start_daemon(chosen: argparse.Namespace, config: Config | None) -> int:
    """Start a sync daemon."""
    wanted = SyncDaemon(
        ROLES[chosen.role],
        chosen.interface,
        chosen.sync_id,
        chosen.group,
        chosen.port,
        chosen.ttl,
        chosen.max_length,
    )
    _refuse(list(daemon_problems(wanted)))
    with _explained(SettingOperation.START_DAEMON, f"the {chosen.role} sync daemon"):
        make_kernel(config).start_daemon(wanted)
    return 0


def stop_daemon(chosen: argparse.Namespace, config: Config | None) -> int:
    """Stop a sync daemon."""
    with _explained(SettingOperation.STOP_DAEMON, f"the {chosen.role} sync daemon"):
        make_kernel(config).stop_daemon(ROLES[chosen.role])
    return 0


def sysctl(chosen: argparse.Namespace, config: Config | None) -> int:
    """Set one switch of the running kernel; sysctl.d keeps it over a reboot."""
    if make_kernel(config).stand_in:
        raise Usage("This director keeps its table in memory and has no switches of its own.")
    if problem := write_sysctl(chosen.name, chosen.value):
        raise Usage(problem)
    return 0


def zero(chosen: argparse.Namespace, config: Config | None) -> int:
    """Set counters to 0; connections stay."""
    key = _service(chosen)
    with _explained(SettingOperation.ZERO, str(key or "all services")):
        make_kernel(config).zero(key)
    return 0


def connections(chosen: argparse.Namespace, config: Config | None) -> int:
    """Print how many entries there are of each service, backend and state, or some of them themselves."""
    kernel, key = make_kernel(config), _service(chosen)
    if chosen.list > 0:
        rows = [asdict(one) for one in islice(kernel.connections(service=key), chosen.list)]
        shown = [row | {"service": str(row["service"]), "backend": str(row["backend"])} for row in rows]
        if chosen.json:
            print_json(shown)
        for row in () if chosen.json else rows:
            print(f"{row['client']} {row['client_port']} {row['state']} {row['expires_s']} s")
        return 0
    counts = kernel.count_connections()
    kept = Counter({kind: number for kind, number in counts.by_state.items() if key in (None, kind[0])})
    lines = [
        {"service": str(service), "backend": str(backend), "state": state, "count": number}
        for (service, backend, state), number in kept.most_common()
    ]
    if chosen.json:
        print_json({"counts": lines, "malformed": counts.malformed, "is_whole": counts.is_whole})
        return 0
    for line in lines:
        print(f"{line['count']:>9} {line['state']:<12} {line['service']} -> {line['backend']}")
    if not lines:
        print("No entries.")
    if not counts.is_whole:
        print("There are more: reading the rest took too long.")
    return 0


def _service(chosen: argparse.Namespace) -> ServiceKey | None:
    """The service that was named as ipvsadm names it; None where none was."""
    named = [f"{_SERVICES[one][0]} {said}" for one in _SERVICES if (said := getattr(chosen, one))]
    if not named:
        return None
    parsed = ipvsadm.parse(f"-A {' '.join(named)}{' -6' if chosen.is_v6 else ''}")
    if parsed.notes or len(parsed.table) != 1:
        said = " ".join(f"{note.text} {note.remedy}" for note in parsed.notes)
        raise Usage(said or "Name one service, as ipvsadm does: -t 192.0.2.1:80")
    return parsed.table.services[0].key


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise Usage(" ".join(problem.text for problem in problems))


@contextmanager
def _explained(operation: SettingOperation, subject: str) -> Iterator[None]:
    try:
        yield
    except KernelRefused as refusal:
        said = explain(refusal.errno, operation, subject=subject)
        raise Usage(f"{said.happened} {said.remedy}") from refusal
