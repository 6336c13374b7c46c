"""`python -m cluster.director worker | fingerprint | show --config FILE`."""

from __future__ import annotations

import argparse
import fcntl
import logging
import sys
import time
from pathlib import Path
from typing import BinaryIO

from cluster.director import config as settings
from cluster.director import host
from cluster.director.app import make_app, publisher, run_worker
from cluster.director.apply import Director, restore
from cluster.director.config import Config, ConfigError
from cluster.director.journal import Journal, JournalError, Sequence
from cluster.director.kernel import Kernel, KernelError, KernelUnavailable
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.director.reports import Reporter
from cluster.director.watch import Watch, redis_put
from cluster.ipvs.formats.ipvsadm import save
from cluster.wire.envelope import fingerprint

log = logging.getLogger("cluster.director")

# A worker that was asked to end may finish the order that it is at.
OTHER_WORKER_ENDS_WITHIN_S = 20.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.director", description="A director of LVS Admin."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("worker", "restore the table, then take orders until SIGTERM"),
        ("fingerprint", "print the key to compare when the director is added in the panel"),
        ("show", "print the journal's summary and the kernel's table"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--config", type=Path, required=True, help="the JSON file with the settings")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    try:
        config = settings.load(chosen.config)
        return {"worker": _work, "fingerprint": _fingerprint, "show": _show}[chosen.command](config)
    except (ConfigError, JournalError) as error:
        print(error, file=sys.stderr)
        return 2


def make_kernel(config: Config) -> Kernel:
    """The kernel that the settings name."""
    if config.kernel == "memory":
        return MemoryKernel()
    sibling = config.rehearsal if config.rehearsal.startswith("/") else ""
    return NetlinkKernel(rehearsal_socket=sibling)


def _work(config: Config) -> int:
    key = config.signing_key()
    alone = _only_worker(config)
    sequence = Sequence(config.state_dir)
    reporter = Reporter(director=config.director, key=key, sequence=sequence, state_dir=config.state_dir)
    director = Director(config, make_kernel(config), Journal(config.state_dir), reporter)
    print(f"{config.director} {fingerprint(key.public)} kernel={config.kernel}", flush=True)
    _restore(director)

    app = make_app(director)
    reporter.publish = publisher(app)
    watch = Watch(director, key=key, sequence=sequence, put=redis_put(config.broker))
    watch.start()
    try:
        return run_worker(app, director)
    finally:
        watch.stop()
        alone.close()


def _only_worker(config: Config) -> BinaryIO:
    """A lock that this process holds until it ends: two workers would take each other's numbers and send
    each other's reports. ConfigError where another one does not end in time."""
    path = config.state_dir / "worker.lock"
    file = path.open("wb")
    deadline = time.monotonic() + OTHER_WORKER_ENDS_WITHIN_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                said = f"Another worker uses {config.state_dir}. End it, or choose another state_dir."
                raise ConfigError(said) from None
            time.sleep(0.1)


def _restore(director: Director) -> None:
    """After a reboot the module may not be loaded, though the journal shows that it is wanted."""
    if director.journal.read() is not None:
        try:
            director.kernel.version()
        except KernelUnavailable:
            problem = host.load_module(director.config, "ip_vs")
            log.info("module ip_vs loaded for the restore problem=%s", problem)
        except KernelError as error:
            log.error("kernel before restore reason=%s", error)
    restore(director)


def _fingerprint(config: Config) -> int:
    print(fingerprint(config.signing_key().public))
    return 0


def _show(config: Config) -> int:
    record = Journal(config.state_dir).read()
    if record is None:
        print("journal: none")
    else:
        state = "applied" if record.is_applied else f"not applied (last applied: {record.applied_revision})"
        print(f"cluster: {record.cluster}")
        print(f"revision: {record.ordered.revision} of epoch {record.ordered.epoch}, {state}")
        print(f"owned services: {len(record.owned)}")
        for key in sorted(record.owned):
            print(f"  {key}")
    try:
        table = make_kernel(config).read().table
    except KernelError as error:
        print(error, file=sys.stderr)
        return 1
    print("kernel:")
    for line in save(table):
        print(f"  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
