"""A table as virtual_server blocks that keepalived 2.2.7 takes without a word.

Checks are not part of a table, so keepalived will hold every backend for healthy until somebody adds some.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.ipvs.formats.fidelity import Rendered
from cluster.ipvs.formats.ipvsadm import dotted, flag_names
from cluster.ipvs.formats.keepalived_settings import (
    CHECKSUMS,
    LONGEST_TIMEOUT_S,
    METHODS,
    PROTOCOLS,
)
from cluster.ipvs.formats.writing import Writing, tunnel_has_words
from cluster.ipvs.rules import SCHEDULERS
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
)

_METHODS = {forwarding: word for word, forwarding in METHODS.items()}
_PROTOCOLS = {protocol: word for word, protocol in PROTOCOLS.items()}
_CHECKSUMS = {flags: word for word, flags in CHECKSUMS.items()}
_ENGINE = re.compile(r"[A-Za-z0-9_.-]{0,15}")


def render(table: Table) -> Rendered:
    """The blocks, and a note for each service and backend that keepalived has no words for."""
    writing = Writing()
    for service in table:
        if missing := _missing(service):
            writing.leave_out(str(service.key), missing)
            continue
        _write(service, writing)
    return writing.finished()


def _write(service: Service, writing: Writing) -> None:
    said: list[Backend] = []
    left_out: list[tuple[Backend, str]] = []
    for backend in service.backends:
        if missing := _missing_of_backend(service.key, backend):
            left_out.append((backend, missing))
        else:
            said.append(backend)
    if not sum(backend.weight for backend in said) & 0xFFFFFFFF:
        # keepalived ignores a virtual server without real servers. It sums up weights in 32 bits, and with a
        # sum of 0 it sets the quorum to 0 and the hysteresis to 4294967295.
        missing = "keepalived wants a real server with a weight, and no sum of weights that is 0 in 32 bits"
        writing.leave_out(str(service.key), missing)
        return
    method = _method(said[0])
    writing.add(f"virtual_server {_head(service.key)} {{")
    writing.add(*(f"    {line}" for line in _settings(service)), f"    lvs_method {method}")
    for backend, missing in left_out:
        writing.leave_out(f"{backend.key} of {service.key}", missing)
    for backend in said:
        port = f" {backend.port}" if backend.port else ""
        writing.add(f"    real_server {backend.address}{port} {{", f"        weight {backend.weight}")
        if _method(backend) != method:
            writing.add(f"        lvs_method {_method(backend)}")
        if backend.upper:
            writing.add(f"        uthreshold {backend.upper}")
        if backend.lower:
            writing.add(f"        lthreshold {backend.lower}")
        writing.add("    }")
    writing.add("}")


def _head(key: ServiceKey) -> str:
    if key.protocol is Protocol.FIREWALL_MARK:
        return f"fwmark {key.mark}"
    return f"{key.address} {key.port}" if key.port else key.address


def _settings(service: Service) -> Iterator[str]:
    key, held = service.key, service.persistence
    if key.protocol is Protocol.FIREWALL_MARK:
        # Without it, keepalived would take the family from the real servers.
        yield f"ip_family {'inet6' if key.family == 6 else 'inet'}"
    else:
        yield f"protocol {_PROTOCOLS[key.protocol]}"
    yield f"lvs_sched {service.scheduler}"
    yield from flag_names(service)
    if service.flags & ServiceFlags.ONE_PACKET:
        yield "ops"
    if held:
        if held.netmask != (128 if key.family == 6 else 0xFFFFFFFF):
            yield f"persistence_granularity {held.netmask if key.family == 6 else dotted(held.netmask)}"
        yield f"persistence_timeout {held.timeout_s}"
        if held.engine:
            yield f"persistence_engine {held.engine}"


def _method(backend: Backend) -> str:
    word, tunnel = _METHODS[backend.forwarding], backend.tunnel
    if tunnel is None or tunnel == Tunnel():
        return word
    words = [word, "type", tunnel.kind.word]
    if tunnel.kind is TunnelKind.GUE:
        words += ["port", str(tunnel.port)]
    if tunnel.flags:
        words.append(_CHECKSUMS[tunnel.flags])
    return " ".join(words)


def _missing(service: Service) -> str:
    """What keepalived has no words for, as the second half of a sentence; empty where it has all."""
    key, held = service.key, service.persistence
    is_marked = key.protocol is Protocol.FIREWALL_MARK
    if not is_marked and key.protocol not in _PROTOCOLS:
        return f"keepalived has no protocol {key.protocol.word}"
    if is_marked and not key.mark:
        return "keepalived has no firewall mark 0"
    if not is_marked and not key.port and held is None:
        return "keepalived makes a service without a port persistent"
    if service.scheduler not in SCHEDULERS:
        return f"keepalived has no scheduler {service.scheduler}"
    if any(name.startswith("number-") for name in flag_names(service)):
        return "keepalived has no words for some of its flags"
    if service.flags & ServiceFlags.ONE_PACKET and not is_marked and key.protocol is not Protocol.UDP:
        return "keepalived has one packet scheduling for UDP alone"
    if held and not 1 <= held.timeout_s <= LONGEST_TIMEOUT_S:
        return f"keepalived's persistence is from 1 to {LONGEST_TIMEOUT_S} seconds"
    if held and not _ENGINE.fullmatch(held.engine):
        return "keepalived cannot write the name of its persistence engine"
    return ""


def _missing_of_backend(key: ServiceKey, backend: Backend) -> str:
    is_marked = key.protocol is Protocol.FIREWALL_MARK
    is_masqueraded = backend.forwarding is Forwarding.MASQUERADE
    if backend.forwarding not in _METHODS:
        return f"keepalived has no forwarding {backend.forwarding.word}"
    if (":" in backend.address) != (key.family == 6) and backend.tunnel is None:
        return "keepalived takes the other family through tunnels alone"
    if not is_masqueraded and backend.port != key.port:
        return "keepalived changes a port with NAT alone"
    if is_masqueraded and not backend.port and not is_marked and key.port:
        return f"keepalived gives a real server without a port the service's, {key.port}"
    if backend.tunnel and not tunnel_has_words(backend.tunnel):
        return "keepalived has no such tunnel"
    return ""
