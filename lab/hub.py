"""The process that owns a lab from inside its namespaces: mounts, Redis, the room, and the door for the host.

`up` starts it below a shell that is process 1 of a new pid namespace; when either ends, the kernel ends the
rest. Nothing else has to be cleaned up: the namespaces, their mounts and interfaces go with the last process.
"""

import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

from lab import guest
from lab.agent import Request, read_request, send
from lab.broker import FOLDER as BROKER_FOLDER
from lab.broker import Broker
from lab.door import LabError
from lab.layout import (
    AGENT_PORT,
    AGENT_SOCKET,
    BROKER_ADDRESS,
    ROOM_ADDRESS,
    ROOM_STATE,
    RUN,
    USER_MODE_LINUX,
    Settings,
)

DOOR = RUN / "door/door.sock"
READY = "ready"
KEEP = b"keep"  # `up` sends it to let the lab outlive the process that called it
ROOM_TIMEOUT_S = 60.0
REST_TIMEOUT_S = 12.0
PIECE = 65536


def main() -> None:
    settings = Settings.loads(sys.argv[1])
    leash = socket.socket(fileno=settings.leash)
    threading.Thread(target=_stay_on, args=[leash], daemon=True).start()
    try:
        _run(settings, leash)
    except LabError as problem:
        _say(leash, f"failed: {problem}")
    except Exception as problem:
        traceback.print_exc()
        _say(leash, f"failed: {type(problem).__name__}: {problem}")


def _run(settings: Settings, leash: socket.socket) -> None:
    _say(leash, "namespaces made")
    _mount_private(settings)
    if settings.kind == USER_MODE_LINUX:
        guest.connect_tap()
    else:
        # The room builds its own side later; Redis needs its address now.
        _run_all("ip link set lo up", f"ip addr add {BROKER_ADDRESS}/32 dev lo")
    broker = Broker(persistent=settings.broker_persistent)
    broker.start()
    _say(leash, "Redis answers")
    room = _start_room(settings)
    threading.Thread(target=_open_door, args=[settings, broker], daemon=True).start()
    _wait_for_agent(settings, room)
    _say(leash, READY)
    code = room.wait()
    print(f"hub: the room ended with {code}", flush=True)


def _stay_on(leash: socket.socket) -> None:
    """End the lab with the process that called `up`, unless that process lets it go."""
    if leash.recv(len(KEEP)) != KEEP:
        print("hub: the owner is gone", flush=True)
        _end()
    # No more to hear; the lab now lives until `down`.


def _mount_private(settings: Settings) -> None:
    """A /proc for this pid namespace and a /run of our own: named namespaces and sockets live there."""
    directory = Path(settings.directory)
    _run_all("mount -t proc proc /proc", "mount -t tmpfs -o mode=755 tmpfs /run")
    Path("/run/netns").mkdir()
    for place, source in (
        (BROKER_FOLDER, directory / "redis"),
        (ROOM_STATE, directory / "directors"),
        (DOOR.parent, directory / "door"),
    ):
        place.mkdir(parents=True)
        subprocess.run(["mount", "--bind", source, place], check=True, timeout=10)
    if settings.kind != USER_MODE_LINUX:
        project = settings.project
        subprocess.run(["mount", "--bind", project, project], check=True, timeout=10)
        subprocess.run(["mount", "-o", "remount,bind,ro", project], check=True, timeout=10)


def _start_room(settings: Settings) -> subprocess.Popen[bytes]:
    if settings.kind == USER_MODE_LINUX:
        guest.build_tree(settings)
        return subprocess.Popen(guest.command(settings), stdin=subprocess.DEVNULL)
    told = RUN / "room.json"
    told.write_text(settings.dumps())
    return subprocess.Popen(
        [settings.python, "-S", "-m", "lab.room", str(told)], cwd=settings.project, stdin=subprocess.DEVNULL
    )


def _wait_for_agent(settings: Settings, room: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + ROOM_TIMEOUT_S
    while time.monotonic() < deadline:
        if room.poll() is not None:
            raise LabError(f"The room ended with {room.returncode} while it was built.")
        try:
            _ask_agent(settings, {"do": "hello"}, timeout_s=2)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise LabError(f"The room did not answer within {ROOM_TIMEOUT_S:.0f} s.")


def _open_door(settings: Settings, broker: Broker) -> None:
    listener = socket.socket(socket.AF_UNIX)
    DOOR.unlink(missing_ok=True)
    listener.bind(str(DOOR))
    DOOR.chmod(0o600)
    listener.listen(128)
    while True:
        visitor, _ = listener.accept()
        threading.Thread(target=_receive, args=[visitor, settings, broker], daemon=True).start()


def _receive(visitor: socket.socket, settings: Settings, broker: Broker) -> None:
    with visitor:
        try:
            received = read_request(visitor)
            if received is None:
                return
            request, line = received
            if request["do"] == "broker":
                send(visitor, _change_broker(broker, request))
            elif request["do"] == "halt":
                _halt(visitor, settings)
            else:
                with _connect_agent(settings, timeout_s=10) as room:
                    room.sendall(line)
                    _relay(visitor, room)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as problem:  # the host must hear of it, whatever it was
            send(visitor, {"error": f"{type(problem).__name__}: {problem}"})


def _change_broker(broker: Broker, request: Request) -> Request:
    if request["action"] == "stop":
        broker.stop(crash=bool(request.get("crash")))
    elif request["action"] == "start":
        broker.start()
    return {"pid": broker.pid}


def _halt(visitor: socket.socket, settings: Settings) -> None:
    try:
        _ask_agent(settings, {"do": "rest"}, timeout_s=REST_TIMEOUT_S)
    except OSError as problem:
        print(f"hub: the room could not be put to rest: {problem}", flush=True)
    send(visitor, {})
    _end()


def _connect_agent(settings: Settings, *, timeout_s: float) -> socket.socket:
    if settings.kind == USER_MODE_LINUX:
        room = socket.create_connection((ROOM_ADDRESS, AGENT_PORT), timeout=timeout_s)
    else:
        room = socket.socket(socket.AF_UNIX)
        room.settimeout(timeout_s)
        room.connect(str(AGENT_SOCKET))
    room.settimeout(None)
    return room


def _ask_agent(settings: Settings, request: Request, *, timeout_s: float) -> Request:
    with _connect_agent(settings, timeout_s=timeout_s) as room:
        room.settimeout(timeout_s)
        send(room, request)
        received = read_request(room)
    if received is None:
        raise ConnectionError("the agent closed the connection")
    return received[0]


def _relay(visitor: socket.socket, room: socket.socket) -> None:
    """Carry bytes both ways until either side closes; the other then closes too, which kills a command."""
    other = {visitor: room, room: visitor}
    with selectors.DefaultSelector() as ready:
        for side in other:
            ready.register(side, selectors.EVENT_READ, other[side])
        while True:
            for key, _ in ready.select():
                piece = os.read(key.fd, PIECE)
                if not piece:
                    return
                key.data.sendall(piece)


def _say(leash: socket.socket, text: str) -> None:
    print(f"hub: {text}", flush=True)
    try:
        leash.sendall(json.dumps(text).encode() + b"\n")
    except OSError:
        return  # the watching thread ends the lab


def _end() -> NoReturn:
    os._exit(0)


def _run_all(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True, timeout=10)


if __name__ == "__main__":
    main()
