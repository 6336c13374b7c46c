"""Tables and steps in the words of ipvsadm(8): commands to paste, what `ipvsadm -Sn` would say, and back.

What the tool has no words for is written in words of our own; docs/formats.md lists them. `ipvsadm -R` says
that it does not know such a word, passes over its line and goes on. At a comment, or at a line that it
understands and does not like, it stops and takes nothing more (measured, ipvsadm 1.31).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from cluster.ipvs.formats.ipvsadm_reader import parse
from cluster.ipvs.formats.writing import tunnel_has_words
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
    endpoint,
)

__all__ = ["command", "dotted", "flag_names", "parse", "render", "save", "service_words"]

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
# Makes the tool pass over a line at which it would stop, or which it would program as something else.
_BEYOND = "--beyond-ipvsadm"
_LONGEST_TIMEOUT_S = 31 * 86400
_LARGEST_INT = 0x7FFFFFFF
_TUNNEL_FLAGS = {0: "--tun-nocsum", 1: "--tun-csum", 2: "--tun-remcsum"}


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
        key = service.key
        words = [f"-A {_BEYOND}" if _is_beyond(service) else "-A", service_words(key), *_settings(service)]
        lines.append(" ".join(words))
        for backend in service.backends:
            command = f"-a {_BEYOND}" if _is_backend_beyond(key, backend) else "-a"
            target = f"-r {endpoint(backend.address, backend.port)}"
            lines.append(" ".join([command, service_words(key), target, *_backend_settings(backend)]))
    return lines


def render(table: Table) -> str:
    """`save` as one text, which `parse` reads back without loss. `ipvsadm -R` takes all that the tool can
    say, passes over the other lines, and stops at none."""
    return "".join(f"{line}\n" for line in save(table))


def service_words(key: ServiceKey) -> str:
    """`-t 192.0.2.1:80`, `-u [2001:db8::1]:53`, `-f 7` or `-f 7 -6`."""
    if key.protocol is Protocol.FIREWALL_MARK:
        return f"-f {key.mark}" + (" -6" if key.family == 6 else "")
    return (
        f"{_PROTOCOLS.get(key.protocol, '--protocol-' + key.protocol.word)} {endpoint(key.address, key.port)}"
    )


def _is_beyond(service: Service) -> bool:
    key, held = service.key, service.persistence
    is_marked = key.protocol is Protocol.FIREWALL_MARK
    return (
        (is_marked and not key.mark)
        or (not is_marked and not key.port and held is None)
        or (bool(service.flags & ServiceFlags.ONE_PACKET) and key.protocol in (Protocol.TCP, Protocol.SCTP))
        or (held is not None and not 1 <= held.timeout_s <= _LONGEST_TIMEOUT_S)
        or (held is not None and key.family == 6 and not held.netmask)
        or any(name.startswith("number-") for name in flag_names(service))
    )


def _is_backend_beyond(key: ServiceKey, backend: Backend) -> bool:
    is_marked = key.protocol is Protocol.FIREWALL_MARK
    keeps_port = backend.forwarding in (Forwarding.DIRECT, Forwarding.TUNNEL)
    return (
        (not is_marked and keeps_port and backend.port != key.port)
        or (backend.tunnel is None and (":" in backend.address) != (key.family == 6))
        or (backend.tunnel is not None and not tunnel_has_words(backend.tunnel))
        or max(backend.weight, backend.upper, backend.lower) > _LARGEST_INT
    )


def _settings(service: Service) -> Iterator[str]:
    yield f"-s {service.scheduler}"
    if held := service.persistence:
        yield f"-p {held.timeout_s}"
        alone = 128 if service.key.family == 6 else 0xFFFFFFFF
        if held.netmask != alone:
            yield f"-M {held.netmask if service.key.family == 6 else dotted(held.netmask)}"
        if held.engine:
            yield f"--pe {held.engine}"
    if service.flags & ServiceFlags.ONE_PACKET:
        yield "-o"
    if names := list(flag_names(service)):
        yield f"-b {','.join(names)}"


def flag_names(service: Service) -> Iterator[str]:
    """The names of the scheduler's flags, and `number-…` for what is left without a name."""
    own = f"{service.scheduler}-" if service.scheduler in ("sh", "mh") else ""
    names = {
        ServiceFlags.SCHEDULER_1: f"{own}fallback" if own else "flag-1",
        ServiceFlags.SCHEDULER_2: f"{own}port" if own else "flag-2",
        ServiceFlags.SCHEDULER_3: "flag-3",
    }
    # Plain numbers: the inverse of a flag knows nothing of bits without a name.
    rest = int(service.flags) & ~int(ServiceFlags.ONE_PACKET)
    for flag, name in names.items():
        if rest & flag:
            yield name
            rest &= ~int(flag)
    if rest:
        yield f"number-{rest}"


def _backend_settings(backend: Backend) -> Iterator[str]:
    yield _FORWARDINGS.get(backend.forwarding, f"--forwarding-{backend.forwarding.word}")
    yield f"-w {backend.weight}"
    if backend.tunnel:
        yield from _tunnel_settings(backend.tunnel)
    if backend.upper:
        yield f"-x {backend.upper}"
    if backend.lower:
        yield f"-y {backend.lower}"


def _tunnel_settings(tunnel: Tunnel) -> Iterator[str]:
    yield f"--tun-type {tunnel.kind.word}"
    if tunnel.port:
        yield f"--tun-port {tunnel.port}"
    if tunnel.flags in _TUNNEL_FLAGS:
        # ipvsadm takes none of them with ipip, where none is what 0 means.
        if tunnel.flags or tunnel.kind is not TunnelKind.IPIP:
            yield _TUNNEL_FLAGS[tunnel.flags]
    else:
        yield f"--tun-flags {tunnel.flags}"


def dotted(mask: int) -> str:
    """An IPv4 mask as `255.255.255.0`."""
    return socket.inet_ntoa(struct.pack("!I", mask))
