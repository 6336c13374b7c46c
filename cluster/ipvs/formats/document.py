"""A table as plain JSON values, without loss, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
    canonical_address,
)

VERSION = 1


def to_document(table: Table) -> dict[str, Any]:
    """`{"version": 1, "services": [...]}`; equal tables give equal documents."""
    return {"version": VERSION, "services": [service_to_document(service) for service in table]}


def from_document(document: dict[str, Any]) -> Table:
    """Read what `to_document` wrote. ValueError, with a sentence, for anything else."""
    if document.get("version") != VERSION:
        raise ValueError(f"The table document has version {document.get('version')!r}; {VERSION} is known.")
    try:
        return Table(tuple(_service_in(service) for service in document["services"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The table document is not complete: {error!r}.") from error


def fingerprint(table: Table) -> str:
    """SHA-256 of the canonical document, in hex: equal exactly where the tables are."""
    return hashlib.sha256(canonical_json(to_document(table))).hexdigest()


def canonical_json(value: Any) -> bytes:
    """One way to write a value: sorted names, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def key_to_document(key: ServiceKey) -> dict[str, Any]:
    out: dict[str, Any] = {"protocol": key.protocol.word, "address": key.address, "port": key.port}
    return out | ({"mark": key.mark} if key.mark else {})


def key_from_document(document: dict[str, Any]) -> ServiceKey:
    return ServiceKey(
        Protocol.from_word(document["protocol"]),
        canonical_address(document["address"]),
        int(document["port"]),
        int(document.get("mark", 0)),
    )


def service_to_document(service: Service) -> dict[str, Any]:
    """One service with its backends, as the table's document holds it."""
    out = key_to_document(service.key) | {"scheduler": service.scheduler}
    if service.flags:
        out["flags"] = int(service.flags)
    if held := service.persistence:
        out["persistence"] = {"timeout_s": held.timeout_s, "netmask": held.netmask, "engine": held.engine}
    return out | {"backends": [backend_to_document(backend) for backend in service.backends]}


def backend_to_document(backend: Backend) -> dict[str, Any]:
    """One backend, as the table's document holds it."""
    out: dict[str, Any] = {
        "address": backend.address,
        "port": backend.port,
        "forwarding": backend.forwarding.word,
        "weight": backend.weight,
    }
    if backend.upper or backend.lower:
        out |= {"upper": backend.upper, "lower": backend.lower}
    if backend.tunnel:
        out["tunnel"] = {
            "kind": backend.tunnel.kind.word,
            "port": backend.tunnel.port,
            "flags": backend.tunnel.flags,
        }
    return out


def _service_in(document: dict[str, Any]) -> Service:
    held = document.get("persistence")
    return Service(
        key_from_document(document),
        str(document["scheduler"]),
        ServiceFlags(document.get("flags", 0)),
        Persistence(int(held["timeout_s"]), int(held["netmask"]), str(held["engine"])) if held else None,
        tuple(_backend_in(backend) for backend in document["backends"]),
    )


def _backend_in(document: dict[str, Any]) -> Backend:
    tunnel = document.get("tunnel")
    return Backend(
        canonical_address(document["address"]),
        int(document["port"]),
        Forwarding.from_word(document["forwarding"]),
        int(document["weight"]),
        int(document.get("upper", 0)),
        int(document.get("lower", 0)),
        Tunnel(TunnelKind.from_word(tunnel["kind"]), int(tunnel["port"]), int(tunnel["flags"]))
        if tunnel
        else None,
    )
