"""How a check travels the way of clients' packets: by a firewall mark that one backend has for itself.

A packet to the virtual address that carries the mark goes to this backend, by its own forwarding method;
Seesaw checks real servers this way: https://github.com/google/seesaw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from zlib import crc32

from cluster.ipvs.state import Backend, Forwarding, Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.policy import Place, Traffic

# Marks that nobody is likely to use: "LV" and two bytes more.
FIRST_MARK: Final = 0x4C56_0000
_MARKS: Final = 0x1_0000


def is_check_path(key: ServiceKey) -> bool:
    """Whether this service is there for checks alone."""
    return key.protocol is Protocol.FIREWALL_MARK and FIRST_MARK <= key.mark < FIRST_MARK + _MARKS


def check_marks(table: Table, traffic: Traffic) -> dict[Place, int]:
    """The mark of each backend that is checked through its service. It mostly stays when others come and
    go."""
    marks: dict[Place, int] = {}
    taken: set[int] = set()
    through = {
        key: policy
        for key, policy in traffic.policies.items()
        if any(check and check.through_service for check in (policy.check, *policy.overrides.values()))
    }
    for key in sorted(through):
        policy, service = through[key], table.by_key.get(key)
        if service is None:
            continue
        for backend in service.backends:
            check = policy.check_of(backend.key)
            if check and check.through_service and can_be_checked_through(service, backend):
                place = service.key, backend.key
                at = crc32(f"{service.key} {backend.key}".encode()) % _MARKS
                while at in taken:
                    at = (at + 1) % _MARKS
                taken.add(at)
                marks[place] = FIRST_MARK + at
    return marks


def can_be_checked_through(service: Service, backend: Backend) -> bool:
    """Only where the backend itself holds the service's address; with a mark there is none."""
    return not service.key.mark and backend.forwarding in (Forwarding.DIRECT, Forwarding.TUNNEL)


def path_services(table: Table, marks: Mapping[Place, int]) -> list[Service]:
    """The services that the kernel needs for these marks."""
    paths = []
    for service in table.only({key for key, _ in marks}) if marks else ():
        nowhere = "::" if service.key.family == 6 else "0.0.0.0"
        for backend in service.backends:
            if mark := marks.get((service.key, backend.key)):
                key = ServiceKey(Protocol.FIREWALL_MARK, nowhere, 0, mark)
                alone = Backend(
                    backend.address, backend.port, backend.forwarding, weight=1, tunnel=backend.tunnel
                )
                paths.append(Service(key, "rr", backends=(alone,)))
    return paths
