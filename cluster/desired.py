"""Rows to tables: the only bridge between what operators edit and what the core thinks about."""

from __future__ import annotations

from django.db.models import prefetch_related_objects

from cluster.ipvs import state
from cluster.models import Backend, Cluster, VirtualService


def draft_table(cluster: Cluster) -> state.Table:
    """The table that the draft says now."""
    prefetch_related_objects([cluster], "services__backends")
    return state.Table(tuple(service_value(service) for service in cluster.services.all()))


def service_value(service: VirtualService, *, with_backends: bool = True) -> state.Service:
    """One row as a value; without backends, the header that rules judge alone."""
    key = state.ServiceKey(
        state.Protocol.from_word(service.protocol),
        state.canonical_address(service.address),
        service.port,
        service.mark,
    )
    backends = tuple(backend_value(row) for row in service.backends.all()) if with_backends else ()
    flags = state.ServiceFlags(service.flags)
    return state.Service(key, service.scheduler, flags, _persistence(service, key.family), backends)


def backend_value(backend: Backend) -> state.Backend:
    return state.Backend(
        state.canonical_address(backend.address),
        backend.port,
        state.Forwarding.from_word(backend.forwarding),
        backend.weight,
        backend.upper,
        backend.lower,
        _tunnel(backend),
    )


def _persistence(service: VirtualService, family: int) -> state.Persistence | None:
    if service.persistence_s is None:
        return None
    prefix = service.persistence_prefix
    if family == 6:
        netmask = 128 if prefix is None else prefix
    else:
        netmask = state.netmask_of(32 if prefix is None else prefix)
    return state.Persistence(service.persistence_s, netmask, service.persistence_engine)


def _tunnel(backend: Backend) -> state.Tunnel | None:
    if backend.forwarding != "tunnel":
        return None
    kind = state.TunnelKind.from_word(backend.tunnel)
    return state.Tunnel(kind, backend.tunnel_port, backend.tunnel_checksum)
