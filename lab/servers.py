"""The three real servers: one process, its sockets in three namespaces, each answering with its node's name.

HTTP on 80 and 8080 and UDP on 53, both over IPv4 and IPv6. One process, because three interpreters would
cost a guest more than three seconds.
"""

import selectors
import socket
import struct
from collections.abc import Callable

from lab.layout import REALS
from lab.netns import inside

HTTP_PORTS = (80, 8080)
UDP_PORT = 53
LONGEST_REQUEST = 64 * 1024
IPV6_RECVPKTINFO = 49  # linux/in6.h; absent from the socket module on some builds
IP_PKTINFO = 8
IPV6_PKTINFO = 50

_ready = selectors.DefaultSelector()


def main() -> None:
    for node in REALS:
        with inside(node):
            for port in HTTP_PORTS:
                _listen(node, port)
            for family in (socket.AF_INET, socket.AF_INET6):
                _hear(node, family)
    print("ready", flush=True)
    while True:
        for key, _ in _ready.select():
            key.data()


def _watch(sock: socket.socket, act: Callable[[], None]) -> None:
    sock.setblocking(False)
    _ready.register(sock, selectors.EVENT_READ, act)


def _listen(node: str, port: int) -> None:
    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024, reuse_port=False
    )

    def accept() -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # the client gave up between the event and this call
        connection = _Connection(node, sock)
        _watch(sock, connection.read)

    _watch(listener, accept)


class _Connection:
    """One client's TCP connection; it stays open for as long as the client wants."""

    def __init__(self, node: str, sock: socket.socket) -> None:
        self.node = node
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
            _ready.unregister(self.sock)
            self.sock.close()

    def _answer(self, head: bytes) -> bool:
        """Send one response; tells whether the connection stays open."""
        request = head.decode("latin-1").lower()
        asked_to_close = "connection: close" in request
        stays = not asked_to_close and ("http/1.1" in request or "keep-alive" in request)
        body = f"{self.node}\n"
        lines = [
            "HTTP/1.1 200 OK",
            "Content-Type: text/plain",
            f"Content-Length: {len(body)}",
            f"Connection: {'keep-alive' if stays else 'close'}",
            f"X-Server: {self.node}",
            f"X-Client: {_plain(self.sock.getpeername()[0])}",
            f"X-Address: {_plain(self.sock.getsockname()[0])}",
        ]
        self.sock.sendall("\r\n".join([*lines, "", body]).encode())
        return stays


def _hear(node: str, family: socket.AddressFamily) -> None:
    """Answer datagrams from the very address they were sent to, else a VIP's client would drop the answer."""
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
            reply_from = [_source(level, kind, note) for level, kind, note in notes]
            sock.sendmsg([node.encode(), b" ", payload], [note for note in reply_from if note], 0, client)
        except OSError:
            return

    _watch(sock, answer)


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
