"""ipvsadm itself as a witness, on a real IPVS: it takes all of our lines that it can, and stops at none."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from cluster.ipvs.formats import ipvsadm
from cluster.ipvs.state import Service, ServiceFlags, Table
from tests.ipvs.tables import tables

pytestmark = pytest.mark.kernel

# What ipvsadm 1.31 passes over: each has a word that it does not know.
OWN_WORDS = ("--beyond-ipvsadm", "--protocol-", "--forwarding-", "--tun-flags")
LAST = "-A -f 99 -s rr"


def _restored(text: str) -> tuple[int, str]:
    """Status of `ipvsadm -R`, and then `ipvsadm -Sn`, in a network namespace of its own."""
    script = "ip link set lo up; ipvsadm -R 2>/dev/null; echo $?; ipvsadm -Sn"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], input=text, capture_output=True, text=True, timeout=30
    )
    status, _, saved = done.stdout.partition("\n")
    return int(status), saved


def _as_saved(service: Service) -> Service:
    """What is left of a service in the tool's own export: no thresholds, no flag-3 of sh and mh."""
    flags = service.flags
    if service.scheduler in ("sh", "mh") and flags & (ServiceFlags.SCHEDULER_1 | ServiceFlags.SCHEDULER_2):
        flags &= ~ServiceFlags.SCHEDULER_3
    backends = tuple(backend._replace(upper=0, lower=0) for backend in service.backends)
    return replace(service, flags=flags, backends=backends)


@settings(
    max_examples=5,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(tables)
def test_the_tool_restores_all_that_it_can_and_stops_at_no_line(table: Table) -> None:
    lines = ipvsadm.save(table)
    sayable = [line for line in lines if not any(word in line for word in OWN_WORDS)]
    wanted = ipvsadm.parse("\n".join([*sayable, LAST])).table
    # The status is that of the last line alone; that the last line was taken says that none stopped it.
    status, saved = _restored("".join(f"{line}\n" for line in [*lines, LAST]))
    assert status == 0
    read = ipvsadm.parse(saved)
    assert read.is_whole
    assert [_as_saved(service) for service in wanted] == [_as_saved(service) for service in read.table]


def test_the_tool_stops_at_a_comment_so_we_write_none() -> None:
    first, second = "-A -t 192.0.2.1:80 -s rr\n", "-A -t 192.0.2.2:80 -s rr\n"
    status, saved = _restored(f"{first}# comment\n{second}")
    assert (status, saved) == (255, first)
    assert _restored(f"{first}\n{second}")[0] == 0
