"""The real servers: HTTP on 80 and 8080 and UDP on 53, over IPv4 and IPv6, answering with their node's name.

Each is a process of its own, so that one can be killed or frozen. All are forked from this one, because an
interpreter costs a guest a second: a node's name on standard input starts its server, and the process id
comes back when that listens, or 0.
"""

import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

from lab.netns import inside

HTTP_PORTS = (80, 8080)
UDP_PORT = 53
LONGEST_REQUEST = 64 * 1024
IPV6_RECVPKTINFO = 49  # linux/in6.h; absent from the socket module on some builds
IP_PKTINFO = 8
IPV6_PKTINFO = 50
# How long a server that was asked to end waits for clients that say nothing.
LONGEST_FAREWELL_S = 10.0
LOOK_S = 0.5


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them; nobody asks how they ended
    for line in sys.stdin:
        print(_fork(line.strip()), flush=True)


def _fork(node: str) -> int:
    """The process id of the node's server once it listens, 0 where it could not."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            RealServer(node).serve(lambda: os.write(writing, b"1"))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as listens:
        return pid if listens.read(1) else 0


class RealServer:
    """One node's sockets and who is connected."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.is_ending = False
        self.connections: set[_Connection] = set()
        self._ready = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []

    def serve(self, when_ready: Callable[[], object]) -> None:
        """Answer until SIGTERM. Then each open connection gets one more answer, which says that it is the
        last, and this returns when none is left."""
        signal.signal(signal.SIGTERM, self._end)
        with inside(self.node):
            for port in HTTP_PORTS:
                self._listen(port)
            for family in (socket.AF_INET, socket.AF_INET6):
                self._hear(family)
        when_ready()
        while not self.is_ending:
            self._turn(LOOK_S)
        self._turn(0)  # closing would reset those that wait to be accepted
        for listener in self._listeners:
            self._ready.unregister(listener)
            listener.close()
        deadline = time.monotonic() + LONGEST_FAREWELL_S
        while self.connections and time.monotonic() < deadline:
            self._turn(LOOK_S)

    def leave(self, connection: "_Connection") -> None:
        self._ready.unregister(connection.sock)
        connection.sock.close()
        self.connections.discard(connection)

    def _end(self, number: int, frame: object) -> None:
        self.is_ending = True

    def _turn(self, timeout_s: float) -> None:
        for key, _ in self._ready.select(timeout_s):
            key.data()

    def _watch(self, sock: socket.socket, act: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._ready.register(sock, selectors.EVENT_READ, act)

    def _listen(self, port: int) -> None:
        listener = socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024, reuse_port=False
        )

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return  # no more, or the client gave up between the event and this call
                connection = _Connection(self, sock)
                self.connections.add(connection)
                self._watch(sock, connection.read)

        self._watch(listener, accept)
        self._listeners.append(listener)

    def _hear(self, family: socket.AddressFamily) -> None:
        """Answer datagrams from the very address they were sent to, else a VIP's client would drop the
        answer."""
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("", UDP_PORT))

        def answer() -> None:
            try:
                payload, notes, _, client = sock.recvmsg(2048, 256)
                reply_from = [note for note in (_source(*note) for note in notes) if note]
                sock.sendmsg([self.node.encode(), b" ", payload], reply_from, 0, client)
            except OSError:
                return

        self._watch(sock, answer)


class _Connection:
    """One client's TCP connection; it stays open for as long as the client wants and the server lives."""

    def __init__(self, server: RealServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.received = b""

    def read(self) -> None:
        try:
            piece = self.sock.recv(LONGEST_REQUEST)
            self.received += piece
            while b"\r\n\r\n" in self.received:
                head, self.received = self.received.split(b"\r\n\r\n", 1)
                if not self._answer(head):
                    piece = b""
                    break
        except OSError:
            piece = b""
        if not piece or len(self.received) > LONGEST_REQUEST:
            self.server.leave(self)

    def _answer(self, head: bytes) -> bool:
        """Send one response; tells whether the connection stays open."""
        request = head.decode("latin-1").lower()
        asked_to_close = self.server.is_ending or "connection: close" in request
        stays = not asked_to_close and ("http/1.1" in request or "keep-alive" in request)
        node = self.server.node
        body = f"{node}\n"
        lines = [
            "HTTP/1.1 200 OK",
            "Content-Type: text/plain",
            f"Content-Length: {len(body)}",
            f"Connection: {'keep-alive' if stays else 'close'}",
            f"X-Server: {node}",
            f"X-Client: {_plain(self.sock.getpeername()[0])}",
            f"X-Address: {_plain(self.sock.getsockname()[0])}",
        ]
        self.sock.sendall("\r\n".join([*lines, "", body]).encode())
        return stays


def _source(level: int, kind: int, note: bytes) -> tuple[int, int, bytes] | None:
    """Turn "arrived at this address" into "send from this address", on whatever interface routing picks."""
    if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
        _, local, _ = struct.unpack("=I4s4s", note[:12])
        return level, kind, struct.pack("=I4s4s", 0, local, bytes(4))
    if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
        return level, kind, note[:16] + bytes(4)
    return None


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


if __name__ == "__main__":
    main()
