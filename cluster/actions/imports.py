"""Take a whole table into a draft: from a file, or from what runs on a director."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as replaced

from django.db import transaction

from cluster import desired
from cluster.actions.drafts import record_whole
from cluster.actions.histories import draft_of
from cluster.actions.problems import Rejected, lock_cluster
from cluster.actions.rows import coming_back, remove, write_policy, write_service
from cluster.audit import Actor
from cluster.ipvs.rules import Problem, table_problems
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.traffic.policy import Policy
from cluster.models import Cluster, VirtualService


def merged(draft: Table, found: Table, *, replace: bool) -> Table:
    """The draft after the import: services of `found` win; with `replace` there are no others."""
    kept = () if replace else tuple(service for service in draft if service.key not in found.by_key)
    return Table(kept + found.services)


def policy_after(before: Policy, found: Policy | None) -> Policy:
    """A service's policy after the import: what the text says wins, and what it has no words for stays."""
    if found is None:
        return before
    after = replaced(before, sorry=found.sorry or before.sorry)
    if found.check is None and not found.overrides:
        return after
    return replaced(after, check=found.check, overrides=found.overrides, on_failure=found.on_failure)


@transaction.atomic
def import_table(
    cluster: Cluster,
    found: Table,
    *,
    policies: Mapping[ServiceKey, Policy] | None = None,
    replace: bool,
    seen: str,
    source: str,
    by: Actor,
) -> Table:
    """Make the draft say what `merged` says, and for `policies` what `policy_after` says. Names of services
    and backends stay, and one that the audit log knows comes back as the same.

    `seen` is the print of the draft that the operator compared with. Rejected where the draft is
    another one now, where a rule forbids a service, and where the panel cannot hold one; then nothing is
    written."""
    cluster = lock_cluster(cluster)
    before = draft_of(cluster)
    if desired.draft_print(before.said.table, before.said.policies) != seen:
        raise Rejected(Problem("", "The draft has changed since you looked. Look at the changes again."))
    after = merged(before.said.table, found, replace=replace)
    if problems := table_problems(found):
        raise Rejected(*(Problem("", f"{key}: {problem.text}") for key, problem in problems))
    rows, known = desired.service_rows(cluster), coming_back(cluster, found)
    remove([row for key, row in rows.items() if key not in after.by_key])
    try:
        for service in found:
            row = write_service(cluster, rows.get(service.key), service, by, known)
            if (policy := (policies or {}).get(service.key)) is not None:
                fresh = VirtualService.objects.get(pk=row.pk)
                write_policy(row, policy_after(desired.policy_value(fresh), policy), by)
    except ValueError as error:
        raise Rejected(Problem("", str(error))) from None
    record_whole("cluster.import", source, before, by=by, cluster=cluster)
    return after
