"""Tables and steps in the words of ipvsadm(8): commands to paste, and what `ipvsadm -Sn` would say."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    TunnelKind,
    endpoint,
)

_OPERATIONS = {
    Operation.ADD_SERVICE: "-A",
    Operation.SET_SERVICE: "-E",
    Operation.REMOVE_SERVICE: "-D",
    Operation.ADD_BACKEND: "-a",
    Operation.SET_BACKEND: "-e",
    Operation.REMOVE_BACKEND: "-d",
}
_PROTOCOLS = {Protocol.TCP: "-t", Protocol.UDP: "-u", Protocol.SCTP: "--sctp-service"}
_FORWARDINGS = {Forwarding.MASQUERADE: "-m", Forwarding.DIRECT: "-g", Forwarding.TUNNEL: "-i"}


def command(step: Step) -> str:
    """The command line that does the same as this step."""
    words = ["ipvsadm", _OPERATIONS[step.operation], service_words(step.service.key)]
    if step.operation in (Operation.ADD_SERVICE, Operation.SET_SERVICE):
        words.extend(_settings(step.service))
    elif step.backend is not None:
        words.append(f"-r {endpoint(step.backend.address, step.backend.port)}")
        if step.operation is not Operation.REMOVE_BACKEND:
            words.extend(_backend_settings(step.backend))
    return " ".join(words)


def save(table: Table) -> list[str]:
    """The lines of `ipvsadm -Sn` for this table, thresholds included, which the tool itself forgets."""
    lines = []
    for service in table:
        lines.append(" ".join(["-A", service_words(service.key), *_settings(service)]))
        for backend in service.backends:
            target = f"-r {endpoint(backend.address, backend.port)}"
            lines.append(" ".join(["-a", service_words(service.key), target, *_backend_settings(backend)]))
    return lines


def service_words(key: ServiceKey) -> str:
    """`-t 192.0.2.1:80`, `-u [2001:db8::1]:53`, `-f 7` or `-f 7 -6`."""
    if key.protocol is Protocol.FIREWALL_MARK:
        return f"-f {key.mark}" + (" -6" if key.family == 6 else "")
    return (
        f"{_PROTOCOLS.get(key.protocol, '--protocol-' + key.protocol.word)} {endpoint(key.address, key.port)}"
    )


def _settings(service: Service) -> Iterator[str]:
    yield f"-s {service.scheduler}"
    if held := service.persistence:
        yield f"-p {held.timeout_s}"
        alone = 128 if service.key.family == 6 else 0xFFFFFFFF
        if held.netmask != alone:
            yield f"-M {held.netmask if service.key.family == 6 else _dotted(held.netmask)}"
        if held.engine:
            yield f"--pe {held.engine}"
    if service.flags & ServiceFlags.ONE_PACKET:
        yield "-o"
    names = [
        f"flag-{number}"
        for number, flag in enumerate(
            (ServiceFlags.SCHEDULER_1, ServiceFlags.SCHEDULER_2, ServiceFlags.SCHEDULER_3), start=1
        )
        if service.flags & flag
    ]
    if names:
        yield f"-b {','.join(names)}"


def _backend_settings(backend: Backend) -> Iterator[str]:
    yield _FORWARDINGS.get(backend.forwarding, f"--forwarding-{backend.forwarding.word}")
    if tunnel := backend.tunnel:
        if tunnel.kind is not TunnelKind.IPIP:
            yield f"--tun-type {tunnel.kind.word}"
        if tunnel.port:
            yield f"--tun-port {tunnel.port}"
        if tunnel.kind is not TunnelKind.IPIP:
            yield {0: "--tun-nocsum", 1: "--tun-csum", 2: "--tun-remcsum"}.get(tunnel.flags, "--tun-nocsum")
    yield f"-w {backend.weight}"
    if backend.upper:
        yield f"-x {backend.upper}"
    if backend.lower:
        yield f"-y {backend.lower}"


def _dotted(mask: int) -> str:
    return socket.inet_ntoa(struct.pack("!I", mask))
