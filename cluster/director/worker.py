"""`python -m cluster.director worker`: restore the table, then take orders and publish until SIGTERM."""

from __future__ import annotations

import logging
import time

from cluster.director import host
from cluster.director.aim import Aim
from cluster.director.app import make_app, publisher, run_worker
from cluster.director.apply import Director, restore
from cluster.director.config import Config, ConfigError
from cluster.director.health.child import CheckingProcess
from cluster.director.journal import Journal, JournalError, Sequence
from cluster.director.kernel import KernelError, KernelUnavailable
from cluster.director.kernel.choice import make_kernel
from cluster.director.lock import Locked, locked
from cluster.director.reconcile import Reconciler
from cluster.director.reports import Reporter
from cluster.director.tuning import FOLDER
from cluster.director.watch import Watch, redis_calls
from cluster.wire.envelope import fingerprint

log = logging.getLogger(__name__)

# A worker that was asked to end may finish the order that it is at.
OTHER_WORKER_ENDS_WITHIN_S = 20.0


def work(config: Config) -> int:
    """Run as the one worker of this state_dir; the exit status. ConfigError where another one does not
    end: two would take each other's numbers and send each other's reports."""
    key = config.signing_key()
    try:
        with locked(config.state_dir / "worker.lock", within_s=OTHER_WORKER_ENDS_WITHIN_S):
            sequence = Sequence(config.state_dir)
            reporter = Reporter(
                director=config.director, key=key, sequence=sequence, state_dir=config.state_dir
            )
            kernel = make_kernel(config)
            director = Director(
                config,
                kernel,
                Journal(config.state_dir),
                reporter,
                CheckingProcess(scripts=config.scripts),
                Aim(config.state_dir, clock=time.time),
                switches=None if kernel.stand_in else FOLDER,
            )
            print(f"{config.director} {fingerprint(key.public)} kernel={config.kernel}", flush=True)
            _restore(director)

            app = make_app(director)
            reporter.publish = publisher(app)
            put, ask = redis_calls(config.broker)
            watch = Watch(director, key=key, sequence=sequence, put=put, ask=ask)
            reconciler = Reconciler(director)
            watch.start()
            reconciler.start()
            try:
                return run_worker(app, director)
            finally:
                reconciler.stop()
                director.checker.stop()
                watch.stop()
    except Locked:
        said = f"Another worker uses {config.state_dir}. End it, or choose another state_dir."
        raise ConfigError(said) from None


def _restore(director: Director) -> None:
    """After a reboot the module may not be loaded, though the journal shows that it is wanted."""
    try:
        is_wanted = director.journal.read() is not None
    except JournalError as error:
        # Serving on is better than starting over and over: an order says what is wanted, too.
        log.error("journal unreadable, nothing restored reason=%s", error)
        return
    if is_wanted:
        try:
            director.kernel.version()
        except KernelUnavailable:
            problem = host.load_module(director.config, "ip_vs")
            log.info("module ip_vs loaded for the restore problem=%s", problem)
        except KernelError as error:
            log.error("kernel before restore reason=%s", error)
    restore(director)
