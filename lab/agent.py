"""Runs commands in the room's nodes on behalf of the host: one connection, one request, a stream of events.

A request is one JSON line. The answer to `execute` is JSON lines {"out": text}, {"err": text} and last
{"code": number} or {"timeout": true}; every other answer is one line. Closing the connection kills the
command.
"""

import codecs
import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from lab.layout import BROKER_ADDRESS, HUB, NODES

PIECE = 65536
# How long to go on reading after the command ended, while a child it left behind still holds the pipe.
LINGER_S = 0.5

Request = dict[str, Any]
Handler = Callable[[Request], Request]


def serve(
    listener: socket.socket, handlers: dict[str, Handler], environment: dict[str, str], folder: str
) -> None:
    """Answer requests until the process ends; every connection has a thread of its own."""
    while True:
        connection, peer = listener.accept()
        # The directors' management network can route here too, but commands come from the host alone.
        if listener.family == socket.AF_INET and peer[0] != BROKER_ADDRESS:
            connection.close()
            continue
        arguments = (connection, handlers, environment, folder)
        threading.Thread(target=_converse, args=arguments, daemon=True).start()


def read_request(connection: socket.socket) -> tuple[Request, bytes] | None:
    """The first line, parsed and as it came; None if the other side left without one."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = connection.recv(PIECE)
        if not piece:
            return None
        line += piece
    return json.loads(line), bytes(line)


def send(connection: socket.socket, event: Request) -> None:
    connection.sendall(json.dumps(event).encode() + b"\n")


def _converse(
    connection: socket.socket, handlers: dict[str, Handler], environment: dict[str, str], folder: str
) -> None:
    with connection:
        try:
            received = read_request(connection)
            if received is None:
                return
            request = received[0]
            if request["do"] == "execute":
                _execute(connection, request, environment, folder)
            else:
                send(connection, handlers[request["do"]](request))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as problem:  # the host must hear of it, whatever it was
            send(connection, {"error": f"{type(problem).__name__}: {problem}"})


def _execute(connection: socket.socket, request: Request, environment: dict[str, str], folder: str) -> None:
    node, argv = request["node"], request["argv"]
    if node not in (HUB, *NODES):
        raise ValueError(f"There is no node {node!r}. The nodes are {HUB}, {', '.join(NODES)}.")
    process = subprocess.Popen(
        argv if node == HUB else ["nsenter", f"--net=/run/netns/{node}", "--", *argv],
        stdin=subprocess.DEVNULL if request.get("input") is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment | request.get("env", {}),
        start_new_session=True,
    )
    try:
        if process.stdin:
            feeder = threading.Thread(target=_feed, args=[process, request["input"]], daemon=True)
            feeder.start()
        finished = _pump(connection, process, time.monotonic() + request["timeout_s"])
        send(connection, {"code": process.wait()} if finished else {"timeout": True})
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _feed(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin
    try:
        process.stdin.write(text.encode())
        process.stdin.close()
    except OSError:
        return  # the command did not want all of it


def _pump(connection: socket.socket, process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Forward output until the command has ended; False when its time is up."""
    assert process.stdout and process.stderr
    decode = codecs.getincrementaldecoder("utf-8")
    with selectors.DefaultSelector() as ready:
        ready.register(connection, selectors.EVENT_READ, None)
        ready.register(process.stdout, selectors.EVENT_READ, ("out", decode("replace")))
        ready.register(process.stderr, selectors.EVENT_READ, ("err", decode("replace")))
        ended: float | None = None
        while len(ready.get_map()) > 1:
            if ended is None and process.poll() is not None:
                ended = time.monotonic()
            if ended is not None and time.monotonic() > ended + LINGER_S:
                break
            if time.monotonic() > deadline:
                return False
            for key, _ in ready.select(timeout=0.1):
                if key.data is None:
                    raise BrokenPipeError("the host closed the connection")
                piece = os.read(key.fd, PIECE)
                name, decoder = key.data
                if text := decoder.decode(piece, final=not piece):
                    send(connection, {name: text})
                if not piece:
                    ready.unregister(key.fileobj)
        while process.poll() is None:  # it closed its output but goes on
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True
