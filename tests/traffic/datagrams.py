"""UDP clients in one process: what they asked, and every datagram that got no answer.

`python -S -m tests.traffic.datagrams SETTINGS` runs on the lab's client until SIGTERM. SETTINGS is JSON,
`[{"name", "address", "port", "clients", "pause_s", "keeps_port"}]`: a client with `keeps_port` asks from one
port for ever, another from a new one each time. It prints `{"ready": process id}` once every client has
asked, and at the end `{name: {"requests", "failures", "servers"}}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

LIMIT_S = 2.0
LONGEST_RUN_S = 600.0


class _Answers(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes | OSError] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.heard.put_nowait(exc if isinstance(exc, OSError) else OSError(str(exc)))


async def ask(transport: asyncio.DatagramTransport, answers: _Answers, text: str) -> str:
    """The name of who answered. OSError where nobody did in time, or it was refused."""
    transport.sendto(text.encode())
    async with asyncio.timeout(LIMIT_S):
        while True:
            said = await answers.heard.get()
            if isinstance(said, OSError):
                raise said
            name, _, echo = said.decode().partition(" ")
            if echo == text:
                return name


async def client(group: dict[str, Any], number: int, found: dict[str, Any], stopping: asyncio.Event) -> None:
    loop, count = asyncio.get_running_loop(), 0
    held: tuple[asyncio.DatagramTransport, _Answers] | None = None
    while not stopping.is_set():
        if held is None:
            held = await loop.create_datagram_endpoint(
                _Answers, remote_addr=(group["address"], group["port"])
            )
        count += 1
        try:
            found["servers"][await ask(*held, f"{number}.{count}")] += 1
        except (OSError, TimeoutError) as problem:
            found["failures"].append(type(problem).__name__)
        found["requests"] += 1
        if not group["keeps_port"]:
            held[0].close()
            held = None
        with suppress(TimeoutError):
            async with asyncio.timeout(group["pause_s"]):
                await stopping.wait()


async def main(groups: list[dict[str, Any]]) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.call_later(LONGEST_RUN_S, stopping.set)
    found: dict[str, Any] = {
        group["name"]: {"requests": 0, "failures": [], "servers": Counter()} for group in groups
    }
    async with asyncio.TaskGroup() as tasks:
        for group in groups:
            for number in range(group["clients"]):
                tasks.create_task(client(group, number, found[group["name"]], stopping))
        await asyncio.sleep(1)
        print(json.dumps({"ready": os.getpid()}), flush=True)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
