"""`python -m cluster.director COMMAND`: the worker, and what an ipvsadm user expects of a command line."""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cluster.director import commands, host, settings_commands
from cluster.director import config as settings
from cluster.director.commands import Usage
from cluster.director.config import Config, ConfigError
from cluster.director.console import TextError
from cluster.director.journal import JournalError
from cluster.director.kernel import KernelError
from cluster.director.kernel.explained import explained
from cluster.director.lock import Locked
from cluster.ipvs.formats.kinds import FORMATS

USUAL_CONFIG = Path("/etc/lvsadmin/director.json")

_EPILOG = """\
in the words of ipvsadm:
  ipvsadm -Ln [--stats]        show [--stats]
  ipvsadm-save -n              save
  ipvsadm-restore              restore             (adds and changes; cuts nothing that it does not name)
  ipvsadm -C; ipvsadm -R       apply --exact       (but without the gap: nothing is flushed)
  (nothing)                    plan                (what apply would do, and what it costs)
  ipvsadm --set 900 120 300    timeouts 900 120 300
  ipvsadm --start-daemon       start-daemon, stop-daemon
  ipvsadm -Z                   zero
  ipvsadm -Lnc                 connections
  sysctl net.ipv4.vs           settings, sysctl

Text is that of ipvsadm-save, on standard input and output; --format reads and writes others.

exit status: 0 done, or nothing to do; 1 refused, or done in part; 2 a wrong call, text or setting;
3 (plan) there is something to do.
"""


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=chosen.log_level)
    host.seek_garbage_rarely()
    host.keep_freed_memory()
    try:
        config = _config(chosen.config, chosen.settings)
        run: Callable[[argparse.Namespace, Config | None], int] = chosen.run
        return run(chosen, config)
    except (ConfigError, JournalError, TextError) as error:
        print(error, file=sys.stderr)
        return 2
    except KernelError as error:
        said = explained(error, "this machine")
        print(f"{said.happened} {said.remedy}", file=sys.stderr)
        return 1
    except Usage as error:
        print(error, file=sys.stderr)
        return 1
    except Locked:
        print("The worker of this director is applying an order. Try again in a minute.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read us has seen enough, as with `| head`.
        sys.stderr.close()
        return 0


def _work(_: argparse.Namespace, config: Config | None) -> int:
    # Celery takes half a second to import, which no other command should wait for.
    return int(importlib.import_module("cluster.director.worker").work(config))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.director",
        description="A director of LVS Admin: its worker, and IPVS from the command line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(log_level=logging.WARNING, settings="where they are")
    listed = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    worker = _command(listed, "worker", _work, "restore the table, then take orders until SIGTERM")
    worker.set_defaults(settings="needed", log_level=logging.INFO)
    known = _command(listed, "fingerprint", commands.fingerprint, "print the key to compare in the panel")
    known.set_defaults(settings="needed")

    held = _command(
        listed,
        "witness",
        commands.witness,
        "print the checkpoints of the panel's audit log that are kept here",
    )
    held.set_defaults(settings="needed")

    show = _command(listed, "show", commands.show, "print the journal's summary and the kernel's table")
    show.add_argument("--stats", action="store_true", help="connections, packets and bytes since the start")
    save = _command(listed, "save", commands.save, "write the kernel's table as text")
    save.add_argument("--format", choices=FORMATS, default="ipvsadm", help="of the text; ipvsadm")
    save.add_argument("--all", action="store_true", help="with timeouts and sync daemons, in front")
    restore = _command(listed, "restore", commands.restore, "put the services of a text into the kernel")
    restore.set_defaults(exact=False)
    restore.epilog = (
        "It judges nothing: what the rules of apply would refuse is tried on the kernel, and no saved file"
        " holds the switches net.ipv4.vs.*, which belong into sysctl.d."
    )
    plan = _command(listed, "plan", commands.plan, "say what apply would do, and what it costs")
    apply = _command(
        listed, "apply", commands.apply, "make the kernel hold what a text says, and read it back"
    )
    sibling = _command(listed, "rehearse", commands.rehearse, "load a document in a private network")
    sibling.set_defaults(settings="none")

    settings_commands.add_to(partial(_command, listed))

    for one in (show, save, restore, plan, apply):
        one.add_argument("--json", action="store_true", help="JSON on standard output")
    for one in (restore, plan, apply):
        one.add_argument("file", nargs="?", help="the text; standard input without it")
        one.add_argument("--format", choices=FORMATS, help="what the text is; guessed without it")
        one.add_argument("--override", action="store_true", help="also services that the panel's orders own")
    for one in (plan, apply):
        one.add_argument(
            "--exact", action="store_true", help="also remove the services that the text does not name"
        )
    apply.add_argument("--no-rehearsal", action="store_true", help="do not try the text elsewhere first")
    apply.add_argument(
        "--quiesce",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="give removed backends weight 0, and so long to end their connections",
    )
    return parser


def _command(
    listed: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace, Config | None], int],
    what: str,
) -> argparse.ArgumentParser:
    command = listed.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    command.add_argument("--config", type=Path, help=f"the settings; {USUAL_CONFIG} is read where it exists")
    command.set_defaults(run=run)
    return command


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0 on")
    return seconds


def _config(path: Path | None, use: str) -> Config | None:
    if path is None and (use == "needed" or (use == "where they are" and USUAL_CONFIG.exists())):
        path = USUAL_CONFIG
    return settings.load(path) if path else None


if __name__ == "__main__":
    sys.exit(main())
