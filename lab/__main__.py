"""The command line: `python -m lab up|down|status|exec|redis|worker|real`."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from lab.door import LabError
from lab.host import DEFAULT_DIRECTORY, attach, down, up
from lab.layout import DIRECTORS, HUB, KINDS, NODES, REALS

ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def main() -> int:
    arguments = _parser().parse_args()
    try:
        code: int = arguments.run(arguments)
    except LabError as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 1
    return code


def _up(arguments: argparse.Namespace) -> int:
    lab = up(
        arguments.dir,
        panel_public_key=arguments.panel_public_key,
        broker_persistent=arguments.broker_persistent,
        kind=arguments.kind,
        attached=arguments.attached,
        progress=lambda line: print(line, flush=True),
    )
    print(f"lab: up. Broker for the panel: {lab.celery_url}", flush=True)
    if arguments.attached:
        print("lab: it ends with this process; press Ctrl+C.", flush=True)
        # Not sooner: the lab's processes would inherit the mask, and Redis would no longer hear SIGTERM.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        signal.sigwait(ENDING)
        lab.down()
    return 0


def _down(arguments: argparse.Namespace) -> int:
    print("lab: down." if down(arguments.dir) else f"lab: none was up in {arguments.dir}.")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    lab = attach(arguments.dir)
    hello = lab.hello()
    print(f"{lab.kind}, kernel {hello['kernel']}, in {lab.directory}")
    for step, seconds in hello["marks"].items():
        print(f"  {step} at {seconds} s")
    print(f"  Redis: {_said(lab.redis_pid())}, {lab.redis_socket}")
    if lab.settings.panel_public_key is not None:
        for director in DIRECTORS:
            print(f"  worker of {director}: {_said(lab.worker_pid(director))}")
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    lab = attach(arguments.dir)
    argv = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not argv:
        raise LabError("Say which command: python -m lab exec NODE -- COMMAND ...")
    text = sys.stdin.read() if arguments.stdin else None
    code = 124  # as timeout(1) has it
    for name, value in lab.stream(arguments.node, argv, text, arguments.timeout):
        if name == "code":
            code = int(value)
        else:
            print(value, end="", flush=True, file=sys.stdout if name == "out" else sys.stderr)
    return code if code >= 0 else 128 - code


def _redis(arguments: argparse.Namespace) -> int:
    lab = attach(arguments.dir)
    if arguments.action == "start":
        lab.start_redis()
    else:
        lab.stop_redis(crash=arguments.action == "crash")
    return 0


def _worker(arguments: argparse.Namespace) -> int:
    lab = attach(arguments.dir)
    if arguments.action == "start":
        lab.start_worker(arguments.director)
    else:
        lab.stop_worker(arguments.director)
    return 0


def _real(arguments: argparse.Namespace) -> int:
    attach(arguments.dir).real_server(arguments.action, arguments.node)
    return 0


def _said(pid: int | None) -> str:
    return "stopped" if pid is None else f"running, process {pid} in there"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="the lab's folder; default: .lab")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", parents=[common], help="bring a lab up and wait for it")
    command.add_argument("--panel-public-key", help="base64; without it no workers are started")
    command.add_argument("--broker-persistent", action="store_true", help="Redis writes an append-only file")
    command.add_argument("--kind", choices=KINDS, help="default: the host's kernel if it has IPVS")
    command.add_argument("--attached", action="store_true", help="stay, and end the lab with this process")
    command.set_defaults(run=_up)

    commands.add_parser("down", parents=[common], help="end the lab").set_defaults(run=_down)
    commands.add_parser("status", parents=[common], help="what runs").set_defaults(run=_status)

    command = commands.add_parser("exec", parents=[common], help="run a command in a node")
    command.add_argument("--timeout", type=float, default=600, help="seconds (default: 600)")
    command.add_argument("--stdin", action="store_true", help="send standard input to the command")
    command.add_argument("node", choices=(HUB, *NODES))
    command.add_argument("command", nargs=argparse.REMAINDER)
    command.set_defaults(run=_exec)

    command = commands.add_parser("redis", parents=[common], help="stop, crash or start the broker")
    command.add_argument("action", choices=("stop", "crash", "start"))
    command.set_defaults(run=_redis)

    command = commands.add_parser("worker", parents=[common], help="stop or start a director's worker")
    command.add_argument("action", choices=("stop", "start"))
    command.add_argument("director", choices=DIRECTORS)
    command.set_defaults(run=_worker)

    command = commands.add_parser(
        "real", parents=[common], help="what befalls a real server, and its undoing"
    )
    command.add_argument("action", choices=("stop", "kill", "freeze", "unplug", "start", "thaw", "plug"))
    command.add_argument("node", choices=REALS)
    command.set_defaults(run=_real)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.SubprocessError as problem:
        sys.exit(f"lab: {problem}")
