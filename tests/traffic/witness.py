"""What did the packets do, and what does ipvsadm say? Neither asks the panel."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from lab.host import Lab

VIP = "192.168.50.10"
VIP6 = "fd00:50::10"
# The kernel's estimator copies its counters every 2 s.
COUNTERS_LAG_S = 2.5


@dataclass(frozen=True)
class Answer:
    """Who answered, which client it saw, and on which address the request came in."""

    server: str
    client: str
    address: str


def ask(lab: Lab, count: int, url: str = f"http://{VIP}/") -> list[Answer]:
    """HTTP requests from the client, a connection each, one after the other; AssertionError if one fails."""
    script = f"for i in $(seq {count}); do curl -gsS --max-time 3 -D - -o /dev/null '{url}' || exit 1; done"
    done = lab.execute("client", ["sh", "-c", script])
    assert done.returncode == 0, done.stderr
    names = ("X-Server", "X-Client", "X-Address")
    found = [re.findall(rf"^{name}: (\S+)", done.stdout, re.MULTILINE) for name in names]
    answers = [Answer(*values) for values in zip(*found, strict=True)]
    assert len(answers) == count
    return answers


def servers(answers: list[Answer]) -> dict[str, int]:
    """How many each has answered."""
    return {name: sum(answer.server == name for answer in answers) for name in {a.server for a in answers}}


def saved(lab: Lab, director: str) -> list[str]:
    """`ipvsadm -Sn` in the director's namespace, sorted: the kernel's order means nothing."""
    done = lab.execute(director, ["ipvsadm", "-Sn"])
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


def packets(lab: Lab, director: str) -> tuple[int, int]:
    """Incoming and outgoing packets of the service on the VIP, once the counters have settled."""
    _, incoming, outgoing = _counters(lab, director)
    return incoming, outgoing


def connections(lab: Lab, director: str) -> int:
    """All connections of the service on the VIP, once the counters have settled."""
    return _counters(lab, director)[0]


def _counters(lab: Lab, director: str) -> tuple[int, int, int]:
    time.sleep(COUNTERS_LAG_S)
    text = lab.execute(director, ["ipvsadm", "-Ln", "--stats", "--exact"]).stdout
    line = next(line for line in text.splitlines() if VIP in line)
    conns, incoming, outgoing = (int(number) for number in line.split()[2:5])
    return conns, incoming, outgoing
