"""The machine's side of a lab: bring it up, speak to it, take it down without a trace."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from lab import guest
from lab.checks import choose_kind, claim_cpu
from lab.door import LabError, ask, knock
from lab.layout import PROJECT, RUN, UNPRIVILEGED, USER_MODE_LINUX, Settings, short_path

DEFAULT_DIRECTORY = PROJECT / ".lab"
UP_TIMEOUT_S = 90.0
DOWN_TIMEOUT_S = 25.0

Progress = Callable[[str], object]


class Lab:
    """A running lab. Every method may be called from many threads at once."""

    def __init__(self, directory: Path, record: dict[str, Any], leash: socket.socket | None = None) -> None:
        self.directory = directory
        self.settings = Settings(**record["settings"])
        self.kind = self.settings.kind
        self.python = self.settings.python
        self.project = self.settings.project
        self.log = directory / "lab.log"
        self.redis_socket = short_path(directory) / "redis/redis.sock"
        self._door = short_path(directory) / "door/door.sock"
        # The launcher and process 1 of the lab's pid namespace, each with its start time.
        self.processes: list[tuple[int, str]] = [(pid, started) for pid, started in record["processes"]]
        self._leash = leash  # closing it ends an attached lab

    @property
    def redis_url(self) -> str:
        """For redis-py."""
        return f"unix://{self.redis_socket}"

    @property
    def celery_url(self) -> str:
        """For kombu and Celery."""
        return f"redis+socket://{self.redis_socket}"

    @property
    def is_up(self) -> bool:
        return any(_is_running(pid, started) for pid, started in self.processes)

    def execute(
        self,
        node: str,
        argv: Sequence[str],
        input: str | None = None,
        timeout_s: float = 60,
        on_line: Callable[[str], object] | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a node ("hub" is the room itself) and wait for its end.

        `on_line` gets each line of both outputs while it runs. TimeoutExpired after `timeout_s`, with the
        output so far; the command is killed with all its children.
        """
        texts: dict[str, list[str]] = {"out": [], "err": []}
        code: int | None = None
        rests = {"out": "", "err": ""}
        for name, value in self.stream(node, argv, input, timeout_s, env):
            if name == "code":
                code = int(value)
                continue
            texts[name].append(value)
            if on_line:
                *lines, rests[name] = (rests[name] + value).split("\n")
                for line in lines:
                    on_line(line)
        if on_line:
            for rest in filter(None, rests.values()):
                on_line(rest)
        out, err = "".join(texts["out"]), "".join(texts["err"])
        if code is None:
            raise subprocess.TimeoutExpired(list(argv), timeout_s, out, err)
        return subprocess.CompletedProcess(list(argv), code, out, err)

    def stream(
        self,
        node: str,
        argv: Sequence[str],
        input: str | None = None,
        timeout_s: float = 60,
        env: dict[str, str] | None = None,
    ) -> Iterator[tuple[str, str]]:
        """Yield ("out", text), ("err", text) as they come and last ("code", number), unless time ran out."""
        request = {"do": "execute", "node": node, "argv": list(argv), "input": input, "timeout_s": timeout_s}
        finished = False
        for event in knock(self._door, request | {"env": env or {}}, timeout_s):
            for name, value in event.items():
                finished = finished or name in ("code", "timeout")
                if name != "timeout":
                    yield name, str(value)
        if not finished:
            raise LabError(f"The lab went away while {argv[0]} ran in {node}; see {self.log}.")

    def hello(self) -> dict[str, Any]:
        """The room's kernel release and when each step of its start was done."""
        return ask(self._door, {"do": "hello"})

    def stop_redis(self, *, crash: bool = False) -> None:
        ask(self._door, {"do": "broker", "action": "stop", "crash": crash})

    def start_redis(self) -> None:
        ask(self._door, {"do": "broker", "action": "start"})

    def redis_pid(self) -> int | None:
        """Redis' process id inside the lab's pid namespace, None while it is stopped."""
        pid: int | None = ask(self._door, {"do": "broker", "action": "look"})["pid"]
        return pid

    def stop_worker(self, director: str) -> None:
        """End a director's worker and keep it away until `start_worker`."""
        ask(self._door, {"do": "worker", "action": "stop", "director": director})

    def start_worker(self, director: str) -> None:
        ask(self._door, {"do": "worker", "action": "start", "director": director})

    def worker_config(self, director: str) -> str:
        """The worker's settings file, a path inside the room."""
        return str(RUN / f"{director}.json")

    def worker_pid(self, director: str) -> int | None:
        """The worker's process id inside the room: `execute("hub", ["kill", "-9", str(pid)])`."""
        pid: int | None = ask(self._door, {"do": "worker", "action": "look", "director": director})["pid"]
        return pid

    def real_server(self, action: str, node: str) -> float:
        """Let something happen to a real server; when it began, by the room's monotonic clock.

        `stop` lets its clients finish and returns when it has ended; `kill` and `freeze` do not ask it;
        `unplug` takes its cable. `start`, `thaw` and `plug` undo them.
        """
        at: float = ask(self._door, {"do": "real", "action": action, "node": node})["at"]
        return at

    def real_pid(self, node: str) -> int | None:
        """The server's process id inside the room."""
        pid: int | None = ask(self._door, {"do": "real", "action": "look", "node": node})["pid"]
        return pid

    def down(self) -> None:
        """End the lab; on return none of its processes, namespaces or mounts is left. Twice is fine."""
        if self.is_up:
            with contextlib.suppress(LabError):
                ask(self._door, {"do": "halt"}, timeout_s=DOWN_TIMEOUT_S)
            if not self._wait_until_gone(DOWN_TIMEOUT_S):
                for pid, started in self.processes:
                    if _is_running(pid, started):
                        os.kill(pid, 9)
                if not self._wait_until_gone(DOWN_TIMEOUT_S):
                    raise LabError(f"The lab's processes {self.processes} do not end. Look at them with ps.")
        if self._leash:
            self._leash.close()
        _tidy(self.directory)

    def _wait_until_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.is_up and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.is_up


def up(
    directory: str | Path = DEFAULT_DIRECTORY,
    *,
    panel_public_key: str | None,
    broker_persistent: bool = False,
    kind: str | None = None,
    attached: bool = False,
    progress: Progress = print,
) -> Lab:
    """Bring a lab up and wait until all its nodes answer. Without a panel key no workers are started.

    An attached lab ends with this process, however it ends, or when the Lab is forgotten; any other lives
    until `down`.
    LabUnavailable when this machine cannot have one.
    """
    kind = choose_kind(kind)
    directory = Path(directory).resolve()
    for path in (directory, PROJECT):
        if path.is_relative_to("/run"):
            raise LabError(
                f"A lab hides the machine's /run behind its own, and {path} is in it. Use another folder."
            )
    with _lock(directory):
        if _read_record(directory) is not None:
            raise LabError(f"A lab is already up in {directory}. Use it, or take it down first.")
        _prepare(directory, kind)
        cpu, claim = claim_cpu()
        settings = Settings(
            kind=kind,
            directory=str(directory),
            project=str(guest.ROOM_PROJECT) if kind == USER_MODE_LINUX else str(PROJECT),
            python=guest.room_python() if kind == USER_MODE_LINUX else sys.executable,
            panel_public_key=panel_public_key,
            broker_persistent=broker_persistent,
            cpu=cpu,
            leash=-1,
        )
        progress(f"lab: a room of the kind '{kind}' in {directory}")
        return _launch(directory, settings, claim, attached=attached, progress=progress)


def attach(directory: str | Path = DEFAULT_DIRECTORY) -> Lab:
    """The lab that is up in this folder."""
    directory = Path(directory).resolve()
    record = _read_record(directory)
    if record is None:
        raise LabError(f"No lab is up in {directory}. Start one with `python -m lab up`.")
    return Lab(directory, record)


def down(directory: str | Path = DEFAULT_DIRECTORY) -> bool:
    """Take the folder's lab down; False if there was none."""
    directory = Path(directory).resolve()
    record = _read_record(directory)
    if record is not None:
        Lab(directory, record).down()
    _tidy(directory)
    return record is not None


def _launch(
    directory: Path, settings: Settings, claim: socket.socket | None, *, attached: bool, progress: Progress
) -> Lab:
    began = time.monotonic()
    leash, lab_end = socket.socketpair()
    settings = replace(settings, leash=lab_end.fileno())
    handed = [lab_end.fileno(), *([claim.fileno()] if claim else [])]
    with open(directory / "lab.log", "wb") as log:
        process = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL"),
                *("--propagation", "private", "--"),
                # The shell is process 1 of the pid namespace and reaps orphans; it must not exec its command.
                *("sh", "-c", '"$@"; exit $?', "lab", sys.executable, "-m", "lab.hub", settings.dumps()),
            ],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"},
            pass_fds=handed,
            start_new_session=True,
        )
    lab_end.close()
    if claim:
        claim.close()
    try:
        leash.settimeout(UP_TIMEOUT_S)
        with leash.makefile("rb") as lines:
            record = _follow(directory, settings, process.pid, lines, began, progress)
        if not attached:
            leash.sendall(b"keep")
            leash.close()
    except BaseException:
        leash.close()  # the hub notices and ends
        process.kill()
        process.wait()
        raise
    return Lab(directory, record, leash if attached else None)


def _follow(
    directory: Path, settings: Settings, pid: int, lines: IO[bytes], began: float, progress: Progress
) -> dict[str, Any]:
    """Print what the hub says until it is ready; the record of the lab is written at its first word."""
    record: dict[str, Any] = {}
    reason = f"It was not ready after {UP_TIMEOUT_S:.0f} s."
    try:
        for line in lines:
            text = json.loads(line)
            if not record:
                record = {"settings": asdict(settings), "processes": _family(pid)}
                (directory / "lab.json").write_text(json.dumps(record))
            progress(f"lab: {time.monotonic() - began:4.1f} s  {text}")
            if text == "ready":
                return record
            reason = text
            if text.startswith("failed: "):
                break
    except TimeoutError:
        pass
    tail = (directory / "lab.log").read_text(errors="replace").replace("\0", "").splitlines()[-12:]
    raise LabError("\n".join([f"The lab did not come up ({reason}) The end of its lab.log:", *tail]))


def _family(outer: int) -> list[tuple[int, str]]:
    """The unshare process and process 1 of the lab, each with its start time against reused ids."""
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    return [(pid, _start_time(pid) or "") for pid in (outer, *map(int, children))]


def _start_time(pid: int) -> str | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _is_running(pid: int, started: str) -> bool:
    return _start_time(pid) == started


def _read_record(directory: Path) -> dict[str, Any] | None:
    """What is written down of the lab in this folder, if that lab is still running."""
    try:
        record: dict[str, Any] = json.loads((directory / "lab.json").read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return record if any(_is_running(pid, started) for pid, started in record["processes"]) else None


def _prepare(directory: Path, kind: str) -> None:
    """The folders of the lab; what the directors wrote in an earlier life stays."""
    _tidy(directory)
    owner = UNPRIVILEGED if kind == USER_MODE_LINUX else 0
    for name in ("door", "redis", "directors"):
        (directory / name).mkdir(exist_ok=True)
    _give(directory / "redis", UNPRIVILEGED)
    _give(directory / "directors", owner)
    short = short_path(directory)
    if short != directory:
        short.symlink_to(directory)


def _give(folder: Path, owner: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)


def _tidy(directory: Path) -> None:
    """Remove what only a running lab has; logs and the directors' state stay."""
    if directory.is_dir():
        (directory / "lab.json").unlink(missing_ok=True)
        (directory / "redis/redis.sock").unlink(missing_ok=True)
        shutil.rmtree(directory / "door", ignore_errors=True)
    if short_path(directory) != directory:
        short_path(directory).unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """One `up` at a time in a folder, and nobody but its owner in it: the sockets have no other lock."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (directory / "lock").exists() and any(directory.iterdir()):
        raise LabError(f"{directory} holds something else. Give the lab a folder of its own.")
    directory.chmod(0o700)
    with open(directory / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise LabError(f"Another `up` is at work in {directory}. Wait for it.") from problem
        yield
