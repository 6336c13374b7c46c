"""The tables that are measured, and each peer's own words for them."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.ipvs.formats.ipvsadm import render
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table


def table(services: int, backends: int) -> Table:
    """So many services with so many backends each; every address is used once."""
    return Table(tuple(_service(number, backends) for number in range(services)))


def with_one_weight(before: Table, weight: int) -> Table:
    """The same table, but for the weight of one backend, the last of the last service."""
    *others, last = before.services
    *kept, one = last.backends
    return Table((*others, last.with_backends([*kept, one._replace(weight=weight)])))


def as_saved(wanted: Table) -> str:
    """As `ipvsadm -Sn` would have saved it."""
    return render(wanted)


def as_keepalived(wanted: Table) -> str:
    """As keepalived's configuration, without checkers."""
    return "".join(_virtual_server(service) for service in wanted)


def _service(number: int, backends: int) -> Service:
    key = ServiceKey(Protocol.TCP, f"10.{_last(number + 1)}", 80)
    first = number * backends + 1
    return Service(
        key, "rr", backends=tuple(Backend(f"11.{_last(first + n)}", 8080) for n in range(backends))
    )


def _last(number: int) -> str:
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


def _virtual_server(service: Service) -> str:
    body = "".join(_lines(service))
    return f"virtual_server {service.key.address} {service.key.port} {{\n{body}}}\n"


def _lines(service: Service) -> Iterator[str]:
    yield f" lb_algo {service.scheduler}\n lb_kind NAT\n protocol TCP\n"
    for one in service.backends:
        yield f" real_server {one.address} {one.port} {{\n  weight {one.weight}\n }}\n"
