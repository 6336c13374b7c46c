"""A table as ldirectord.cf. With checktype=on the backends are in the kernel as the table says."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.ipvs.formats.fidelity import Rendered
from cluster.ipvs.formats.ipvsadm import dotted, flag_names
from cluster.ipvs.formats.ldirectord_reader import FORWARDINGS
from cluster.ipvs.formats.writing import Writing
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    Tunnel,
    endpoint,
)

_FORWARDINGS = {forwarding: word for word, forwarding in FORWARDINGS.items()}
_PROTOCOLS = {Protocol.TCP: "tcp", Protocol.UDP: "udp", Protocol.FIREWALL_MARK: "fwm"}


def render(table: Table) -> Rendered:
    """The sections, and a note for each service and backend that ldirectord has no words for."""
    writing = Writing()
    for service in table:
        if missing := _missing(service):
            writing.leave_out(str(service.key), missing)
            continue
        if not writing.is_empty:
            writing.add("")
        _write(service, writing)
    return writing.finished()


def _write(service: Service, writing: Writing) -> None:
    key, six = service.key, "6" if service.key.family == 6 else ""
    where = str(key.mark) if key.protocol is Protocol.FIREWALL_MARK else endpoint(key.address, key.port)
    writing.add(f"virtual{six}={where}", *(f"    {line}" for line in _settings(service)))
    for backend in service.backends:
        if missing := _missing_of_backend(key, backend):
            writing.leave_out(f"{backend.key} of {key}", missing)
        else:
            writing.add(f"    real{six}={' '.join(_words(backend))}")


def _settings(service: Service) -> Iterator[str]:
    key, held = service.key, service.persistence
    yield f"protocol={_PROTOCOLS[key.protocol]}"
    yield f"scheduler={service.scheduler}"
    if names := list(flag_names(service)):
        yield f"schedflags={','.join(names)}"
    if service.flags & ServiceFlags.ONE_PACKET:
        yield "ops=yes"
    if held:
        yield f"persistent={held.timeout_s}"
        if held.netmask != (128 if key.family == 6 else 0xFFFFFFFF):
            yield f"netmask={held.netmask if key.family == 6 else dotted(held.netmask)}"
    yield "checktype=on"


def _words(backend: Backend) -> Iterator[str]:
    yield endpoint(backend.address, backend.port)
    yield _FORWARDINGS[backend.forwarding]
    yield str(backend.weight)
    if backend.lower:
        yield f"l:{backend.lower}"
    if backend.upper:
        yield f"u:{backend.upper}"


def _missing(service: Service) -> str:
    """What ldirectord has no words for, as the second half of a sentence; empty where it has all."""
    key, held = service.key, service.persistence
    is_marked = key.protocol is Protocol.FIREWALL_MARK
    if key.protocol not in _PROTOCOLS:
        return f"ldirectord has no protocol {key.protocol.word}"
    if is_marked and not key.mark:
        return "ldirectord has no firewall mark 0"
    if not is_marked and not key.port and held is None:
        return "ldirectord takes a service without a port only if it is persistent"
    if not re.fullmatch(r"[a-z]{1,15}", service.scheduler):
        return f"ldirectord has no scheduler {service.scheduler}"
    if any(name.startswith("number-") for name in flag_names(service)):
        return "ldirectord has no words for some of its flags"
    if service.flags & ServiceFlags.ONE_PACKET and key.protocol is not Protocol.UDP:
        return "ldirectord has one packet scheduling for UDP alone"
    if held and held.engine:
        return "ldirectord has no persistence engines"
    if held and not held.timeout_s:
        return "ldirectord has no persistence of 0 seconds"
    return ""


def _missing_of_backend(key: ServiceKey, backend: Backend) -> str:
    if backend.forwarding not in _FORWARDINGS:
        return f"ldirectord has no forwarding {backend.forwarding.word}"
    if (":" in backend.address) != (key.family == 6):
        return "ldirectord has no backends of the other family"
    if backend.forwarding is not Forwarding.MASQUERADE and backend.port != key.port:
        return "ldirectord changes a port with masq alone"
    if backend.tunnel not in (None, Tunnel()):
        return "ldirectord has no tunnels but plain ipip"
    return ""
