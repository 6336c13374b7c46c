"""Make the rows of a draft say what a value says, in the caller's transaction, with the cluster locked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster import desired
from cluster.audit import Actor
from cluster.draft import Former, former
from cluster.ipvs.compare import Said
from cluster.ipvs.state import Service, Table
from cluster.ipvs.traffic import document
from cluster.ipvs.traffic.policy import Policy
from cluster.models import Backend, Cluster, VirtualService

_AT_ONCE = 500


def write_draft(cluster: Cluster, said: Said, *, by: Actor) -> None:
    """Make the draft say just this; what says it already stays as it is, and what the audit log knows comes
    back under its id. ValueError, with a sentence, where no row can."""
    table, policies, switches = said
    rows, known = desired.service_rows(cluster), coming_back(cluster, table)
    remove([row for key, row in rows.items() if key not in table.by_key])
    for service in table:
        row = write_service(cluster, rows.get(service.key), service, by, known)
        write_policy(row, policies.get(service.key, Policy()), by)
    if cluster.switches != switches:
        cluster.switches = dict(switches)
        # A form of them that was opened before does not fit any more.
        cluster.version, cluster.changed_by = cluster.version + 1, by.name
        cluster.save(update_fields=["switches", "version", "changed_by", "changed_at"])


def coming_back(cluster: Cluster, table: Table) -> dict[str, Former]:
    """What the audit log knows of those services and backends of the table that are not in the draft."""
    targets = {str(service.key) for service in table}
    targets |= {f"{backend.key} of {service.key}" for service in table for backend in service.backends}
    return former(cluster, targets.difference(desired.rows_by_target(cluster)))


def write_service(
    cluster: Cluster,
    row: VirtualService | None,
    service: Service,
    by: Actor,
    known: Mapping[str, Former],
) -> VirtualService:
    """The row of this service with its backends; a new one for None, or the one of `known` again. ValueError
    as `write_draft`."""
    was = known.get(str(service.key), Former())
    row = row or VirtualService(pk=was.pk, cluster=cluster, version=was.version, name=was.name)
    if row._state.adding or desired.service_value(row, with_backends=False) != service.header:
        for name, value in desired.service_columns(service).items():
            setattr(row, name, value)
        row.version, row.changed_by = row.version + 1, by.name
        row.save(force_insert=row._state.adding)
    there = {desired.backend_value(backend).key: backend for backend in row.backends.all()}
    new = []
    for wanted in service.backends:
        was = known.get(f"{wanted.key} of {service.key}", Former())
        backend = there.pop(wanted.key, None) or Backend(
            pk=was.pk, service=row, version=was.version, name=was.name
        )
        is_new = backend._state.adding
        if is_new or desired.backend_value(backend) != wanted:
            for name, value in desired.backend_columns(wanted).items():
                setattr(backend, name, value)
            backend.version, backend.changed_by = backend.version + 1, by.name
            if is_new:
                new.append(backend)
            else:
                backend.save()
    Backend.objects.bulk_create(new)
    remove(list(there.values()))
    return row


def remove(rows: Sequence[VirtualService] | Sequence[Backend]) -> None:
    """Delete them, in parts of which each is one statement. The objects keep their ids, for the audit log."""
    for at in range(0, len(rows), _AT_ONCE):
        part = rows[at : at + _AT_ONCE]
        type(part[0])._default_manager.filter(pk__in=[row.pk for row in part]).delete()


def write_policy(row: VirtualService, policy: Policy, by: Actor) -> None:
    """The service's policy, and the overrides of those backends that there are."""
    row = VirtualService.objects.get(pk=row.pk)
    if desired.policy_value(row) == policy:
        return
    row.policy = document.policy_to_document(replace(policy, overrides={}))
    row.version, row.changed_by = row.version + 1, by.name
    row.save()
    for backend in row.backends.all():
        check = policy.overrides.get(desired.backend_value(backend).key)
        wanted = document.check_to_document(check) if check else None
        if backend.check_override != wanted:
            backend.check_override = wanted
            backend.version, backend.changed_by = backend.version + 1, by.name
            backend.save()
