"""TCP connections for thousands of checks a second: no task for each, and mostly no wait of the loop either.

Nearly every backend has answered a hundredth of a second later, so all new connections are looked at together
then. The loop waits for those that take longer.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable

from cluster.director.health.agenda import TURN_S, Agenda
from cluster.director.health.sockets import Goal, open_socket

# An errno and None, or 0 and a connected socket, which is the taker's to close.
Done = Callable[[int, socket.socket | None], None]


class Connector:
    """All of one loop."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        # By the number of their files.
        self._new: dict[int, Connecting] = {}

    def begin(self, goal: Goal, done: Done) -> Connecting:
        """`done` is called later, once. OSError where there can be no socket."""
        connecting = Connecting(goal, done)
        if not self._new:
            self._agenda.at(self._agenda.now() + TURN_S, self._look)
        self._new[connecting.file] = connecting
        return connecting

    def _look(self) -> None:
        new, self._new = self._new, {}
        looked_at = select.poll()
        for file, connecting in new.items():
            if connecting.is_under_way:
                looked_at.register(file, select.POLLOUT)
        for file, events in looked_at.poll(0):
            new.pop(file).look(is_failed=bool(events & ~select.POLLOUT))
        for connecting in new.values():
            connecting.wait()


class Connecting:
    """One connection, until it is made or has failed."""

    def __init__(self, goal: Goal, done: Done) -> None:
        self.is_under_way = True
        self._done = done
        self._socket = open_socket(goal, socket.SOCK_STREAM)
        self.file = self._socket.fileno()
        # Of what is refused at once the next look tells as well: poll() calls such a socket hung up.
        self._code = self._socket.connect_ex((goal.address, goal.port))

    def give_up(self) -> None:
        """End it as if it had timed out."""
        self._end(errno.ETIMEDOUT)

    def look(self, *, is_failed: bool) -> None:
        """Take what has become of it."""
        if self._code in (0, errno.EINPROGRESS):
            self._code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if is_failed else 0
        self._end(self._code)

    def wait(self) -> None:
        """Have the loop wait for it."""
        if self.is_under_way:
            # By its number: the loop would ask the kernel for a socket's names, to no use.
            asyncio.get_running_loop().add_writer(self.file, self._writable)

    def _writable(self) -> None:
        asyncio.get_running_loop().remove_writer(self.file)
        self.look(is_failed=True)

    def _end(self, code: int) -> None:
        if not self.is_under_way:
            return
        self.is_under_way = False
        if code:
            asyncio.get_running_loop().remove_writer(self.file)
            self._socket.close()
        self._done(code, None if code else self._socket)
