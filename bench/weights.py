"""Says when a backend's weight changes in the kernel: one JSON line each, with a hundred looks a second.

`python -S -m bench.weights` runs in a director's namespace until SIGTERM. First comes `{"ready": process
id}`, then `{"at": monotonic seconds, "port": the service's, "address": the backend's, "weight": number or
null}`; null is a backend that has left the table.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

LOOK_S = 0.01
TABLE = Path("/proc/net/ip_vs")

Weights = dict[tuple[int, str], int]


def weights(text: str) -> Weights:
    """The weight of each IPv4 backend in the text of /proc/net/ip_vs, by service port and address."""
    return dict(_rows(text))


def changes(before: Weights, after: Weights) -> Iterator[tuple[int, str, int | None]]:
    """Port, address and weight of what is not as it was."""
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield *key, after.get(key)


def _rows(text: str) -> Iterator[tuple[tuple[int, str], int]]:
    port = 0
    for line in text.splitlines():
        words = line.split()
        if words[0] in ("TCP", "UDP", "SCTP"):
            port = int(words[1].rsplit(":", 1)[1], 16)
        elif words[0] == "->" and words[1].count(":") == 1 and words[1][0] != "R":
            address = str(IPv4Address(int(words[1].split(":")[0], 16)))
            yield (port, address), int(words[3])


def _main() -> None:
    known = weights(TABLE.read_text())
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while True:
        time.sleep(LOOK_S)
        at = time.monotonic()
        seen = weights(TABLE.read_text())
        for port, address, weight in changes(known, seen):
            print(json.dumps({"at": at, "port": port, "address": address, "weight": weight}), flush=True)
        known = seen


if __name__ == "__main__":
    _main()
