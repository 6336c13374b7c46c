"""The whole product in one folder: the lab, the panel's web server, its worker and its beat."""

import errno
import http.client
import json
import os
import re
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.wire.envelope import SigningKey
from lab.children import Child, Children
from lab.door import LabError
from lab.host import Lab
from lab.host import up as lab_up
from lab.layout import DIRECTORS, PROJECT
from lab.stand_in import StandIn

ADDRESS = "127.0.0.1"
USERNAME = "admin"
READY_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 120.0
# No letters and digits that look like others: people type this one.
PASSWORD_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"

Progress = Callable[[str], object]


class Stack:
    """LVS Admin as it runs, from `start` (or `with`) until `stop`.

    `stand_in` False wants the lab and fails without it, True wants none, None takes it where it can be had.
    `port` 0 is any free one. The folder must be empty or absent; everything that is written is in there.
    Nothing outlives this process, however it ends. Not for many threads.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, stand_in: bool | None = False, progress: Progress = print
    ) -> None:
        self.directory = directory.resolve()
        self.username = USERNAME
        self.password = "-".join(_word() for _ in range(4))
        self.api_token = ""
        self.lab: Lab | None = None
        self.no_lab_because = ""
        self._stand_in: StandIn | None = None
        self._wants_stand_in = stand_in
        self._progress = progress
        self._began = time.monotonic()
        self._children = Children()
        self._panel_public_key = ""
        # Held from here to the end, so that nobody takes the port in between.
        self._listener = listen(port)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{ADDRESS}:{self.port}/"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bring everything up and wait until it serves. LabError, and nothing left, where it can't be."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything; on return no process of it is left. Twice is fine."""
        try:
            self._children.stop()
        finally:
            try:
                if self._stand_in:
                    self._stand_in.stop()
                if self.lab:
                    self.lab.down()
            finally:
                self._listener.close()

    def manage(self, *arguments: str, input: str | None = None) -> str:
        """Run a `manage.py` command of this panel; its output. LabError, with its words, if it fails."""
        try:
            done = subprocess.run(
                [sys.executable, "manage.py", *arguments],
                cwd=PROJECT,
                env=self._environment(),
                input=input if input is not None else "",
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as problem:
            raise LabError(
                f"`manage.py {arguments[0]}` took longer than {COMMAND_TIMEOUT_S:.0f} s."
            ) from problem
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            raise LabError(f"`manage.py {arguments[0]}` failed:\n{tail}")
        return done.stdout

    def start_web(self) -> None:
        self._web.start()

    def stop_web(self) -> None:
        """Until `start_web`, requests wait in the socket's queue."""
        self._web.stop()

    def start_panel_worker(self) -> None:
        self._worker.start()

    def stop_panel_worker(self) -> None:
        self._worker.stop()

    def panel_worker_pid(self) -> int | None:
        return self._worker.pid

    def start_beat(self) -> None:
        self._beat.start()

    def stop_beat(self) -> None:
        self._beat.stop()

    def revive(self) -> list[str]:
        """Start again what has ended by itself, as a service manager would; the names of what had."""
        ended = self._children.ended() + (self._stand_in.children.ended() if self._stand_in else [])
        for child in ended:
            child.start()
        return [child.name for child in ended]

    def write_access(self, path: Path) -> None:
        """The address and the sign-in, for programs; readable by its owner alone."""
        access = {
            "url": self.url,
            "username": self.username,
            "password": self.password,
            "api_token": self.api_token,
        }
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(access, file, indent=1)

    def _start(self) -> None:
        if self.directory.exists() and any(self.directory.iterdir()):
            raise LabError(f"{self.directory} holds something else. Give the stack a folder of its own.")
        self._data.mkdir(mode=0o700, parents=True)
        self.directory.chmod(0o700)
        self._panel_public_key = SigningKey.load_or_create(self._data / "panel.key").public
        with ThreadPoolExecutor(1) as side:
            prepared = side.submit(self._prepare_panel)
            self._start_room()
            prepared.result()
        self._add_children()
        for child in (self._web, self._worker, self._beat):
            child.start()
        self._say("panel: web server, worker and beat are starting")
        self._wait_until_ready()

    def _prepare_panel(self) -> None:
        self.manage("migrate", "--verbosity", "0")
        self._say("panel: the database is made")
        self.manage("collectstatic", "--noinput", "--verbosity", "0")
        self.api_token = self.manage(
            "first_admin", self.username, "--token", "first", input=f"{self.password}\n"
        ).strip()
        self._say("panel: files are collected, the first administrator is made")

    def _start_room(self) -> None:
        if self._wants_stand_in is not True:
            try:
                self.lab = lab_up(
                    self.directory / "lab",
                    panel_public_key=self._panel_public_key,
                    attached=True,
                    progress=self._say_of_lab,
                )
                return
            except LabError as problem:
                if self._wants_stand_in is False:
                    raise
                self.no_lab_because = str(problem)
                self._say(f"lab: none. {problem}")
        self._stand_in = StandIn(self.directory / "stand-in", panel_public_key=self._panel_public_key)
        self._stand_in.start()
        self._say("directors: Redis and two workers with tables in memory are started instead of the lab")

    def _add_children(self) -> None:
        python = sys.executable
        celery = [python, "-m", "celery", "-A", "lvsadmin.celery"]
        descriptor = self._listener.fileno()
        web = [python, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "-b", f"fd://{descriptor}"]
        worker = [
            *(*celery, "worker", "-Q", "panel", "--pool", "solo", "--hostname", f"panel-{self.port}@lab"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"),
        ]
        beat = [*celery, "beat", "-s", str(self._data / "beat"), "--pidfile=", "-l", "WARNING"]
        self._web = self._add("web server", "web", [*web, "lvsadmin.wsgi"], [descriptor])
        self._worker = self._add("panel's worker", "worker", worker)
        self._beat = self._add("panel's beat", "beat", beat)

    def _add(self, name: str, short: str, argv: list[str], pass_fds: list[int] | None = None) -> Child:
        log = self.directory / f"{short}.log"
        child = Child(name, argv, log=log, env=self._environment(), pass_fds=pass_fds or [])
        return self._children.add(child)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _environment(self) -> dict[str, str]:
        """Ours without what would change the panel or its programs, plus where its files and Redis are."""
        unwanted = re.compile(r"(LVSADMIN|CELERY|GUNICORN|DJANGO)_")
        kept = {name: value for name, value in os.environ.items() if not unwanted.match(name)}
        room = self.lab or self._stand_in
        return kept | {
            "DJANGO_SETTINGS_MODULE": "lvsadmin.settings",
            "LVSADMIN_DATA_DIR": str(self._data),
            "LVSADMIN_PLAIN_HTTP": "1",
            # Who has just read a password off a terminal shall see the panel first. Pages say that it is off.
            "LVSADMIN_SECOND_FACTOR_REQUIRED": "0",
            "LVSADMIN_REDIS_URL": room.redis_url if room else "",
            "PYTHONUNBUFFERED": "1",
        }

    def _wait_until_ready(self) -> None:
        waits: dict[str, Callable[[], bool]] = {
            "the web server answers": self._web_answers,
            "the panel's worker goes its rounds": lambda: self._count("cluster_sweep") > 0,
            "both directors have announced themselves": lambda: (
                self._count("cluster_director") >= len(DIRECTORS)
            ),
        }
        deadline = time.monotonic() + READY_TIMEOUT_S
        while waits:
            self._children.check()
            if self._stand_in:
                self._stand_in.children.check()
            for text in [text for text, is_true in waits.items() if is_true()]:
                self._say(f"panel: {text}")
                del waits[text]
            if time.monotonic() > deadline:
                raise LabError(
                    f"After {READY_TIMEOUT_S:.0f} s it is still not so that {' and '.join(waits)}. "
                    f"Look at the logs in {self.directory}."
                )
            time.sleep(0.05)

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _count(self, table: str) -> int:
        """Rows in a table of the panel's database: truer, and cheaper, than asking a page."""
        with closing(sqlite3.connect(f"{(self._data / 'panel.sqlite3').as_uri()}?mode=ro", uri=True)) as rows:
            (number,) = rows.execute(f"select count(*) from {table}").fetchone()
            return int(number)

    def _say(self, text: str) -> None:
        self._progress(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def _say_of_lab(self, line: str) -> None:
        self._say(re.sub(r"^lab:\s+([\d.]+ s\s+)?", "lab: ", line))


def listen(port: int) -> socket.socket:
    """A listening socket on this machine alone. LabError where the port is taken."""
    try:
        return socket.create_server((ADDRESS, port), backlog=128)
    except OSError as problem:
        reason = "is taken" if problem.errno == errno.EADDRINUSE else f"cannot be used ({problem})"
        raise LabError(
            f"Port {port} {reason}. End what uses it, or choose another: make demo PORT=8080."
        ) from problem


def _word() -> str:
    return "".join(secrets.choice(PASSWORD_LETTERS) for _ in range(5))
