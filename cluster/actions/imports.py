"""Take a whole table into a draft: from a file, or from what runs on a director."""

from __future__ import annotations

from django.db import transaction

from cluster import audit, desired
from cluster.actions.problems import Rejected, lock_cluster
from cluster.audit import Actor
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.formats.ipvsadm import save
from cluster.ipvs.rules import Problem, table_problems
from cluster.ipvs.state import Service, Table
from cluster.models import Backend, Cluster, VirtualService

# The audit log keeps so many lines of before and after; the draft itself has them all.
MOST_LINES = 500


def merged(draft: Table, found: Table, *, replace: bool) -> Table:
    """The draft after the import: services of `found` win; with `replace` there are no others."""
    kept = () if replace else tuple(service for service in draft if service.key not in found.by_key)
    return Table(kept + found.services)


@transaction.atomic
def import_table(
    cluster: Cluster, found: Table, *, replace: bool, seen: str, source: str, by: Actor
) -> Table:
    """Make the draft say what `merged` says; names of services and backends stay.

    `seen` is the fingerprint of the draft that the operator compared with. Rejected where the draft is
    another one now, where a rule forbids a service, and where the panel cannot hold one; then nothing is
    written."""
    cluster = lock_cluster(cluster)
    before = desired.draft_table(cluster)
    if fingerprint(before) != seen:
        raise Rejected(Problem("", "The draft has changed since you looked. Look at the changes again."))
    after = merged(before, found, replace=replace)
    if problems := table_problems(found):
        raise Rejected(*(Problem("", f"{key}: {problem.text}") for key, problem in problems))
    rows = {desired.service_value(row, with_backends=False).key: row for row in cluster.services.all()}
    try:
        for service in found:
            _write(cluster, rows.get(service.key), service, by)
    except ValueError as error:
        raise Rejected(Problem("", str(error))) from None
    for key, row in rows.items():
        if key not in after.by_key:
            row.delete()
    audit.record(
        "cluster.import",
        source,
        by=by,
        cluster=cluster,
        before={"table": save(before)[:MOST_LINES]},
        after={"table": save(after)[:MOST_LINES]},
    )
    return after


def _write(cluster: Cluster, row: VirtualService | None, service: Service, by: Actor) -> None:
    row = row or VirtualService(cluster=cluster, version=0)
    if row.pk is None or desired.service_value(row, with_backends=False) != service.header:
        for name, value in desired.service_columns(service).items():
            setattr(row, name, value)
        row.version, row.changed_by = row.version + 1, by.name
        row.save()
    there = {desired.backend_value(backend).key: backend for backend in row.backends.all()}
    for wanted in service.backends:
        backend = there.pop(wanted.key, None) or Backend(service=row, version=0)
        if backend.pk is None or desired.backend_value(backend) != wanted:
            for name, value in desired.backend_columns(wanted).items():
                setattr(backend, name, value)
            backend.version, backend.changed_by = backend.version + 1, by.name
            backend.save()
    for gone in there.values():
        gone.delete()
