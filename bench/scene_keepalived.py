"""keepalived as the one that looks after the backends: the same services, check and times as ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from bench.scene import CHECK, DIRECTOR, both_services
from cluster.ipvs.state import Backend, Forwarding, Service
from lab.door import LabError
from lab.host import Lab

SETTINGS = "/tmp/keepalived.conf"
PIDS = ("/tmp/keepalived.pid", "/tmp/checkers.pid")
START_WITHIN_S = 20.0
KINDS = {Forwarding.MASQUERADE: "NAT", Forwarding.DIRECT: "DR"}


class Keepalived:
    """keepalived on the director, without VRRP."""

    name = "keepalived"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def start(self) -> None:
        lab = self._lab
        lab.execute(DIRECTOR, ["tee", SETTINGS], input=configuration())
        command = ["keepalived", "--dont-fork", "--check", "--log-console", "--use-file", SETTINGS]
        options = ["--pid", PIDS[0], "--checkers_pid", PIDS[1]]
        threading.Thread(
            target=lambda: lab.execute(DIRECTOR, command + options, timeout_s=900), daemon=True
        ).start()
        deadline = time.monotonic() + START_WITHIN_S
        wanted = sum(1 + len(service.backends) for service in both_services())
        while len(lab.execute(DIRECTOR, ["ipvsadm", "-Sn"]).stdout.splitlines()) < wanted:
            if time.monotonic() > deadline:
                raise LabError("keepalived did not load both services.")
            time.sleep(0.2)

    def stop(self) -> None:
        self._lab.execute(DIRECTOR, ["sh", "-c", f"kill -9 $(cat {' '.join(PIDS)})"])


def configuration() -> str:
    """A retry of keepalived's is a failure more than the first; weight 0 on failure, as ours has it."""
    return "".join(line + "\n" for service in both_services() for line in _virtual_server(service))


def _virtual_server(service: Service) -> Iterator[str]:
    yield f"virtual_server {service.key.address} {service.key.port} {{"
    yield f"  delay_loop {CHECK.interval_s:g}"
    yield f"  lb_algo {service.scheduler}"
    yield f"  lb_kind {KINDS[service.backends[0].forwarding]}"
    yield "  protocol TCP"
    for backend in service.backends:
        yield from _real_server(backend)
    yield "}"


def _real_server(backend: Backend) -> Iterator[str]:
    yield f"  real_server {backend.address} {backend.port} {{"
    yield f"    weight {backend.weight}"
    yield "    inhibit_on_failure"
    yield "    HTTP_GET {"
    yield "      url {"
    yield f"        path {CHECK.path}"
    yield "        status_code 200"
    yield "      }"
    yield f"      connect_timeout {CHECK.timeout_s:g}"
    yield f"      retry {CHECK.fall - 1}"
    yield f"      delay_before_retry {CHECK.interval_s:g}"
    yield "    }"
    yield "  }"
