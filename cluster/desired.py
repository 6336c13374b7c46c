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
        state.Protocol.from_word(service.protocol), state.canonical_address(service.address), service.port
    )
    backends = tuple(backend_value(row) for row in service.backends.all()) if with_backends else ()
    return state.Service(key, service.scheduler, backends=backends)


def backend_value(backend: Backend) -> state.Backend:
    return state.Backend(
        state.canonical_address(backend.address),
        backend.port,
        state.Forwarding.from_word(backend.forwarding),
        backend.weight,
    )
