"""Rows to tables and back: the only bridge between what operators edit and what the core thinks about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.db.models import prefetch_related_objects

from cluster import models
from cluster.ipvs import state
from cluster.ipvs.compare import Said
from cluster.ipvs.formats.document import canonical_json, fingerprint, from_document
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Drain, Policy, Profile, Traffic
from cluster.models import Backend, Cluster, VirtualService

KNOWN_FLAGS = sum(state.ServiceFlags)
# PostgreSQL's integer has 31 bits, the kernel's fields have 32.
LARGEST_COLUMN = 0x7FFFFFFF
_NO_SWITCHES: Mapping[str, str] = {}


def draft_table(cluster: Cluster) -> state.Table:
    """The table that the draft says now."""
    prefetch_related_objects([cluster], "services__backends")
    return state.Table(tuple(service_value(service) for service in cluster.services.all()))


def draft_traffic(cluster: Cluster) -> Traffic:
    """What the draft says of failures and switches, and which drains and profiles there are now."""
    return with_operations(drafted(cluster), cluster)


def drafted(cluster: Cluster) -> Traffic:
    """What the draft says of failures and switches."""
    return Traffic(draft_policies(cluster), switches=cluster.switches)


def revision_said(revision: models.Revision | models.ChangeRequest | None) -> Said:
    """What a revision says, or what was asked to become one, as the draft could say it; nothing for none."""
    if revision is None:
        return Said(state.Table(), {}, {})
    traffic = traffic_document.from_document(revision.traffic) if revision.traffic else Traffic()
    policies = {key: policy for key, policy in traffic.policies.items() if policy != Policy()}
    return Said(from_document(revision.table), policies, traffic.switches)


def draft_said(cluster: Cluster) -> Said:
    """What the draft says, read once."""
    return Said(draft_table(cluster), draft_policies(cluster), cluster.switches)


def draft_policies(cluster: Cluster) -> dict[state.ServiceKey, Policy]:
    """The policies that the draft says now, without those that say nothing."""
    prefetch_related_objects([cluster], "services__backends")
    policies = {}
    for service in cluster.services.all():
        if (policy := policy_value(service)) != Policy():
            policies[service_value(service, with_backends=False).key] = policy
    return policies


def draft_print(
    table: state.Table,
    policies: Mapping[state.ServiceKey, Policy],
    switches: Mapping[str, str] = _NO_SWITCHES,
) -> str:
    """What tells one draft from another: the table's fingerprint, and that of the policies and switches where
    there are any. Drains and profiles are no part of a draft. An import touches no switches, so its print
    leaves them out."""
    said = {"policies": traffic_document.policies_to_document(policies), "switches": dict(switches)}
    if not any(said.values()):
        return fingerprint(table)
    return hashlib.sha256(canonical_json({"table": fingerprint(table)} | said)).hexdigest()


def with_operations(traffic: Traffic, cluster: Cluster) -> Traffic:
    """The same policies and switches with the drains, profiles and voters of now."""
    drains = tuple(drain_value(row) for row in cluster.drains.wanted().order_by("pk"))
    voters = {}
    if traffic.asks_others:
        voters = dict(cluster.directors.values_list("name", "public_key"))
    profiles = tuple(map(profile_value, cluster.profiles.all()))
    return replace(traffic, drains=drains, profiles=profiles, voters=voters)


def policy_value(service: VirtualService) -> Policy:
    """A service's policy with the overrides of its backends."""
    overrides = {
        backend_value(row).key: traffic_document.check_from_document(row.check_override)
        for row in service.backends.all()
        if row.check_override is not None
    }
    return replace(traffic_document.policy_from_document(service.policy), overrides=overrides)


def drain_value(row: models.Drain) -> Drain:
    targets = tuple(map(traffic_document.target_from_document, row.targets))
    ends, cut = (at.timestamp() if at else None for at in (row.ends_at, row.cut_at))
    # What was to begin or to be cut at once is, whatever a director's clock says.
    cut = 0.0 if row.cut_by else cut
    begins = row.begins_at.timestamp() if row.begins_at > row.created and not row.cut_by else 0.0
    return Drain(row.pk, targets, begins, ends, cut)


def profile_value(row: models.WeightProfile) -> Profile:
    return traffic_document.profile_from_document(
        {
            "id": row.pk or 0,
            "name": row.name,
            "weights": row.weights,
            "hours": row.hours,
            "pinned": row.pinned,
        }
    )


def service_rows(cluster: Cluster) -> dict[state.ServiceKey, VirtualService]:
    """The draft's services by what makes each the same service."""
    return {service_value(row, with_backends=False).key: row for row in cluster.services.all()}


def rows_by_target(cluster: Cluster) -> dict[str, VirtualService | Backend]:
    """The draft's services and backends by what the audit log calls them."""
    prefetch_related_objects([cluster], "services__backends")
    found: dict[str, VirtualService | Backend] = {}
    for key, row in service_rows(cluster).items():
        found[str(key)] = row
        found |= {f"{backend_value(backend).key} of {key}": backend for backend in row.backends.all()}
    return found


def spoken_of(cluster: int | None, targets: Set[str]) -> dict[str, VirtualService | Backend]:
    """The rows of this cluster that a director's texts mean, so that what befell a backend is in its history
    as well. At most one question for the backends and one for the services, however many there are."""
    addresses = set()
    for target in targets:
        # A stranger's text is no address to a database.
        with suppress(ValueError):
            addresses.add(state.canonical_address(target.partition(" of ")[0].rpartition(":")[0].strip("[]")))
    rows = Backend.objects.filter(service__cluster=cluster, address__in=addresses).select_related("service")
    found: dict[str, VirtualService | Backend] = {f"{row} of {row.service}": row for row in rows}
    if targets - set(found):
        found |= {str(row): row for row in VirtualService.objects.filter(cluster=cluster)}
    return found


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


def service_columns(service: state.Service) -> dict[str, Any]:
    """The columns that hold this service, which no rule forbids, without its name. ValueError, with a
    sentence, where none can."""
    key, held = service.key, service.persistence
    if int(service.flags) & ~KNOWN_FLAGS:
        raise ValueError(f"{key}: the panel does not know all of its flags, {int(service.flags):#x}.")
    prefix = None
    if held is not None and key.family == 6:
        prefix = held.netmask if held.netmask != 128 else None
    elif held is not None and held.netmask != 0xFFFFFFFF:
        prefix = state.prefix_of(held.netmask)
        if prefix is None:
            raise ValueError(f"{key}: its persistence mask has holes. Use a prefix length instead.")
    return {
        "protocol": key.protocol.word,
        "address": key.address,
        "port": key.port,
        "mark": key.mark,
        "scheduler": service.scheduler,
        "flags": int(service.flags),
        "persistence_s": held.timeout_s if held else None,
        "persistence_prefix": prefix,
        "persistence_engine": held.engine if held else "",
    }


def backend_columns(backend: state.Backend) -> dict[str, Any]:
    """The columns that hold this backend, which no rule forbids, without its name. ValueError, with a
    sentence, where none can."""
    tunnel = backend.tunnel or state.Tunnel()
    if max(backend.upper, backend.lower) > LARGEST_COLUMN:
        raise ValueError(f"{backend.key}: it has a threshold above {LARGEST_COLUMN}.")
    return {
        "address": backend.address,
        "port": backend.port,
        "forwarding": backend.forwarding.word,
        "weight": backend.weight,
        "upper": backend.upper,
        "lower": backend.lower,
        "tunnel": tunnel.kind.word,
        "tunnel_port": tunnel.port,
        "tunnel_checksum": tunnel.flags,
    }
