"""A table as plain JSON values, without loss, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from cluster.ipvs.state import (
    Backend,
    BackendKey,
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

_Kind = TypeVar("_Kind", Protocol, Forwarding, TunnelKind)

VERSION = 1

# The widths of the kernel's fields: include/uapi/linux/ip_vs.h.
LARGEST_U8, LARGEST_U16, LARGEST_U32, LARGEST_INT = 0xFF, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF
# IP_VS_CONN_F_FWD_MASK
LARGEST_FORWARDING = 7
# IP_VS_SCHEDNAME_MAXLEN and IP_VS_PENAME_MAXLEN, less the NUL at the end; also "firewall-mark".
LONGEST_NAME = 15
LONGEST_ADDRESS = 64
_NAME = re.compile(r"[!-~]*")


def to_document(table: Table) -> dict[str, Any]:
    """`{"version": 1, "services": [...]}`; equal tables give equal documents."""
    return {"version": VERSION, "services": [service_to_document(service) for service in table]}


def from_document(document: object) -> Table:
    """Read what `to_document` wrote; names that it does not write are passed over.

    ValueError for anything else, with a sentence that names the place: a table has passed here only if
    a kernel could hold it, with no service and no backend twice."""
    said = _object(document, "The table document")
    version = said.get("version")
    if version != VERSION or not isinstance(version, int) or isinstance(version, bool):
        raise ValueError(f"The table document's version is not {VERSION}, the only one that is known.")
    services = tuple(
        _service_in(service, f"services[{index}]") for index, service in enumerate(_list(said, "services"))
    )
    _refuse_repeated([service.key for service in services], "services")
    return Table(services)


def services_at_once(said: dict[str, Any]) -> object:
    """For json.loads, as its object_hook: each service of a table's document is read as soon as its text
    ends, so that never more than one lies there in plain values. `from_document` takes it as it is."""
    return _service_in(said, "The service") if "backends" in said else said


def fingerprint(table: Table) -> str:
    """SHA-256 of the canonical document, in hex: equal exactly where the tables are."""
    digest = hashlib.sha256()
    for piece in canonical_pieces(table):
        digest.update(piece)
    return digest.hexdigest()


def canonical_pieces(table: Table) -> Iterator[bytes]:
    """The canonical JSON of the table's document, a service at a time: the plain values of 100,000 backends
    at once would take 60 MB."""
    yield b'{"services":['
    for number, service in enumerate(table):
        yield b"," if number else b""
        yield canonical_json(service_to_document(service))
    yield b'],"version":%d}' % VERSION


def canonical_json(value: Any) -> bytes:
    """One way to write a value: sorted names, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def key_to_document(key: ServiceKey) -> dict[str, Any]:
    out: dict[str, Any] = {"protocol": key.protocol.word, "address": key.address, "port": key.port}
    return out | ({"mark": key.mark} if key.mark else {})


def key_from_document(document: object, place: str = "The key") -> ServiceKey:
    """Read what `key_to_document` wrote. ValueError, with a sentence, for anything else."""
    said = _object(document, place)
    protocol = _named(Protocol, said, "protocol", place, most=LARGEST_U16)
    key = ServiceKey(
        protocol,
        _address(said, place),
        _number(said, "port", place, most=LARGEST_U16),
        _number(said, "mark", place, default=0),
    )
    # Without a mark the kernel takes each protocol number with an address, also the 0 that stands for marks.
    nowhere = key.address in ("0.0.0.0", "::") and not key.port
    if key.mark and not (protocol is Protocol.FIREWALL_MARK and nowhere):
        raise ValueError(
            f"{place}.mark needs the protocol firewall-mark, the address 0.0.0.0 or ::, and port 0."
        )
    return key


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


def backend_from_document(document: object, place: str = "The backend") -> Backend:
    """Read what `backend_to_document` wrote. ValueError, with a sentence, for anything else."""
    return _backend_in(document, place)


def _service_in(document: object, place: str) -> Service:
    if isinstance(document, Service):
        return document
    said = _object(document, place)
    key = key_from_document(said, place)
    held = said.get("persistence")
    backends = tuple(
        _backend_in(backend, f"{place}.backends[{index}]")
        for index, backend in enumerate(_list(said, "backends", place))
    )
    _refuse_repeated([backend.key for backend in backends], f"{place}.backends")
    return Service(
        key,
        _word(said, "scheduler", place),
        ServiceFlags(_number(said, "flags", place, default=0)),
        None if held is None else _persistence_in(held, f"{place}.persistence", family=key.family),
        backends,
    )


def _persistence_in(document: object, place: str, *, family: int) -> Persistence:
    said = _object(document, place)
    return Persistence(
        _number(said, "timeout_s", place),
        _number(said, "netmask", place, least=1, most=128)
        if family == 6
        else _number(said, "netmask", place),
        _word(said, "engine", place),
    )


def _backend_in(document: object, place: str) -> Backend:
    said = _object(document, place)
    forwarding = _named(Forwarding, said, "forwarding", place, most=LARGEST_FORWARDING)
    tunnel = said.get("tunnel")
    if (tunnel is not None) != (forwarding is Forwarding.TUNNEL):
        raise ValueError(f"{place}.tunnel must be there with the forwarding tunnel, and with no other.")
    return Backend(
        _address(said, place),
        _number(said, "port", place, most=LARGEST_U16),
        forwarding,
        _number(said, "weight", place, most=LARGEST_INT),
        _number(said, "upper", place, default=0),
        _number(said, "lower", place, default=0),
        None if tunnel is None else _tunnel_in(tunnel, f"{place}.tunnel"),
    )


def _tunnel_in(document: object, place: str) -> Tunnel:
    said = _object(document, place)
    return Tunnel(
        _named(TunnelKind, said, "kind", place, most=LARGEST_U8),
        _number(said, "port", place, most=LARGEST_U16),
        _number(said, "flags", place, most=LARGEST_U16),
    )


# No sentence below quotes a value: it may be a megabyte long, or nested deeper than repr() can go.


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not an object.")
    return value


def _list(said: dict[str, Any], name: str, place: str = "") -> list[Any]:
    value = said.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{_at(place, name)} is not a list.")
    return value


def _number(
    said: dict[str, Any],
    name: str,
    place: str,
    *,
    least: int = 0,
    most: int = LARGEST_U32,
    default: int | None = None,
) -> int:
    value = said.get(name, default)
    # True is an int to Python, and 1.0 is equal to 1: neither was meant.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{_at(place, name)} is not a whole number between {least} and {most}.")
    return value


def _word(said: dict[str, Any], name: str, place: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or len(value) > LONGEST_NAME or not _NAME.fullmatch(value):
        raise ValueError(f"{_at(place, name)} is not a name of at most {LONGEST_NAME} characters.")
    return value


def _named(kind: type[_Kind], said: dict[str, Any], name: str, place: str, *, most: int) -> _Kind:
    word = _word(said, name, place)
    try:
        found = kind.from_word(word)
    except ValueError as error:
        raise ValueError(f"{_at(place, name)}: {error}") from None
    if found > most:
        raise ValueError(f"{_at(place, name)} has a number above {most}.")
    if word not in (found.word, f"number-{found:d}"):
        # The published schema has one way to write each word, and so has the panel.
        raise ValueError(f"{_at(place, name)} is to be written “{found.word}”.")
    return found


def _address(said: dict[str, Any], place: str) -> str:
    value = said.get("address")
    try:
        if isinstance(value, str) and len(value) <= LONGEST_ADDRESS:
            return canonical_address(value)
    except ValueError:
        pass
    raise ValueError(f"{_at(place, 'address')} is not an IP address.")


def _refuse_repeated(keys: Sequence[ServiceKey | BackendKey], place: str) -> None:
    seen = set()
    for index, key in enumerate(keys):
        if key in seen:
            raise ValueError(f"{place}[{index}] is {key}, which is there already.")
        seen.add(key)


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
