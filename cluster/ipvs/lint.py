"""What the kernel accepts, may be meant, and mostly is not. Each warning was measured on 6.1 or read there.

None of these blocks: an operator who knows better applies all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.ipvs.rules import Problem, Severity
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    TunnelKind,
    prefix_of,
)

# ip_vs_rr.c, ip_vs_lc.c and the others look whether a weight is 0 and no further.
_BLIND_TO_WEIGHT = frozenset({"rr", "lc", "dh"})
_HASHES_CLIENTS = frozenset({"sh", "mh"})
_HASHES_DESTINATION = frozenset({"dh", "lblc", "lblcr"})
_FALLBACK, _PORT = ServiceFlags.SCHEDULER_1, ServiceFlags.SCHEDULER_2


def table_warnings(table: Table) -> list[tuple[ServiceKey, Problem]]:
    """All that somebody should look at before this table is applied."""
    virtual = {service.key.address for service in table if not service.key.mark}
    found = []
    for service in table:
        found += [(service.key, problem) for problem in service_warnings(service)]
        found += [(service.key, problem) for problem in _loops(service, virtual)]
    return found


def service_warnings(service: Service) -> Iterator[Problem]:
    """What a service and its backends say that is rarely meant."""
    yield from _about_availability(service)
    yield from _about_weights(service)
    yield from _about_flags(service)
    yield from _about_persistence(service)
    for backend in service.backends:
        yield from _about_backend(service, backend)


def _about_availability(service: Service) -> Iterator[Problem]:
    if not service.backends:
        yield _warning("backends", "It has no backend, so clients are refused. Add one.", "no-backend")
    elif all(backend.weight == 0 for backend in service.backends):
        text = "All its backends have weight 0, so new connections are refused. Give one a weight."
        yield _warning("weight", text, "all-weights-0")
    elif (
        service.scheduler in _HASHES_CLIENTS and not service.flags & _FALLBACK and (quiet := _quiet(service))
    ):
        yield _warning(
            "flags",
            f"{service.scheduler} refuses the clients that hash to a backend of weight 0 ({quiet})."
            f" Set flag-1 ({service.scheduler}-fallback), or remove the backend.",
            "hash-without-fallback",
        )


def _about_weights(service: Service) -> Iterator[Problem]:
    weights = {backend.weight for backend in service.backends if backend.weight}
    if service.scheduler in _BLIND_TO_WEIGHT and len(weights) > 1:
        yield _warning(
            "scheduler",
            f"{service.scheduler} does not look at weights, and the backends have different ones."
            " Choose a weighted scheduler such as wrr or wlc, or make the weights equal.",
            "weights-ignored",
        )
    if service.scheduler == "fo" and len(service.backends) > 1:
        top = [str(backend.key) for backend in service.backends if backend.weight == max(weights, default=0)]
        if len(top) > 1:
            yield _warning(
                "weight",
                f"fo sends everything to the highest weight, and {_listed(top)} share it: the kernel's order"
                " decides. Give each backend a weight of its own.",
                "failover-tie",
            )
    if service.scheduler in _HASHES_DESTINATION and service.key.protocol is not Protocol.FIREWALL_MARK:
        yield _warning(
            "scheduler",
            f"{service.scheduler} spreads by the destination, which is the same for all clients of one"
            " virtual address: one backend gets everything. Choose sh, mh or wlc, or a firewall mark in front"
            " of caches.",
            "hashes-destination",
        )


def _about_flags(service: Service) -> Iterator[Problem]:
    meant = _FALLBACK | _PORT if service.scheduler in _HASHES_CLIENTS else ServiceFlags.NONE
    idle = service.flags & (_FALLBACK | _PORT | ServiceFlags.SCHEDULER_3) & ~meant
    if idle:
        names = {_FALLBACK: "flag-1", _PORT: "flag-2", ServiceFlags.SCHEDULER_3: "flag-3"}
        said = _listed([name for flag, name in names.items() if idle & flag])
        text = f"{said} means nothing to {service.scheduler}. Turn it off, or choose sh or mh."
        yield _warning("flags", text, "flag-without-meaning")


def _about_persistence(service: Service) -> Iterator[Problem]:
    held = service.persistence
    if held is None:
        return
    # With the engine sip, a caller's packets go to one backend call by call, which is what it is for.
    if service.flags & ServiceFlags.ONE_PACKET and not held.engine:
        text = (
            "One packet scheduling asks the scheduler for every packet, but persistence answers in its place:"
            " a client's packets all go to one backend. Turn one of the two off."
        )
        yield _warning("flags", text, "one-packet-persistent")
    if service.key.family == 4 and prefix_of(held.netmask) is None:
        text = "Its persistence mask has holes, which groups clients oddly. Use a prefix length."
        yield _warning("persistence_prefix", text, "mask-with-holes")
    if quiet := _quiet(service):
        yield _warning(
            "weight",
            f"Clients that persistence binds to {quiet} keep opening connections there despite weight 0,"
            " unless net.ipv4.vs.expire_quiescent_template is 1 on the directors. Set it, or wait for the"
            f" persistence time ({held.timeout_s} s) after their last connection.",
            "persistence-ignores-weight-0",
        )


def _about_backend(service: Service, backend: Backend) -> Iterator[Problem]:
    tunnel = backend.tunnel
    if backend.forwarding is Forwarding.TUNNEL and tunnel is not None:
        if tunnel.kind is TunnelKind.IPIP and tunnel.flags:
            text = f"{backend.key}: an IPIP tunnel has no checksum of its own. Choose GUE or GRE for one."
            yield _warning("tunnel_checksum", text, "ipip-checksum")
        if (":" in backend.address) != (service.key.family == 6):
            yield _warning(
                "address",
                f"{backend.key} is of the other address family, and while it is there no sync daemon can run"
                " on the director. Use the service's family where connections are synchronised.",
                "mixed-families-and-sync",
            )


def _loops(service: Service, virtual: set[str]) -> Iterator[Problem]:
    """A backend that is a virtual address of this very table."""
    for backend in service.backends:
        if backend.address in virtual and backend.address != service.key.address:
            text = (
                f"{backend.key} is a virtual address of this cluster: its packets come back to the director."
            )
            yield _warning("address", f"{text} Give the backend's own address.", "backend-is-virtual")


def _warning(field: str, text: str, code: str) -> Problem:
    return Problem(field, text, code, Severity.WARNING)


def _quiet(service: Service) -> str:
    """The backends of weight 0, for a sentence; empty where there is none."""
    return _listed([str(backend.key) for backend in service.backends if backend.weight == 0])


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
