"""What somebody else changed: the draft takes it, or the director puts it right, thing by thing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from django.db import transaction
from django.db.models import Model

from cluster import audit, desired, drifts, jobs
from cluster.actions import backends, services
from cluster.actions.backends import BackendFields
from cluster.actions.problems import Rejected, because, lock_cluster, require_reason, ticketed
from cluster.actions.services import ServiceFields
from cluster.audit import Actor
from cluster.ipvs.drift import in_words
from cluster.ipvs.rules import Problem
from cluster.ipvs.state import Backend, BackendKey, Service, ServiceKey
from cluster.models import Backend as BackendRow
from cluster.models import Cluster, Drift, Job, VirtualService
from cluster.seen import mark_of
from cluster.wire.drifted import thing_in


@transaction.atomic
def adopt(drift: Drift, *, seen: str, seen_draft: str, by: Actor) -> None:
    """The draft says of this thing what the kernel has; an apply then makes that what all directors want.
    `seen` and `seen_draft` are what the page carried. Rejected where it is gone or another one now, where
    somebody has edited it in the draft, and where that says so already or has no place for it."""
    cluster = lock_cluster(drift.cluster)
    row = _still(drift, seen)
    _refuse_edited(row, seen_draft)
    key, backend = thing_in(row.place)
    actual = drifts.value(row, "actual")
    try:
        if backend is None:
            assert actual is None or isinstance(actual, Service)
            about: Model = _adopt_service(cluster, key, actual, by)
        else:
            assert actual is None or isinstance(actual, Backend)
            about = _adopt_backend(cluster, key, backend, actual, by)
    except ValueError as error:
        raise Rejected(Problem("", f"The draft cannot say that. {error}")) from None
    before, after = row.wanted, row.actual
    audit.record("drift.adopt", row, by=by, about=about, cluster=cluster, before=before, after=after)


@transaction.atomic
def revert(drift: Drift, *, seen: str, reason: str, by: Actor, ticket: str = "") -> Job:
    """The director puts this one thing right. `seen` is what the page carried. Rejected without a reason, and
    where it is right again, or wrong in another way."""
    require_reason(reason)
    cluster = lock_cluster(drift.cluster)
    row = _still(drift, seen)
    job = jobs.queue(
        kind=Job.Kind.REPAIR,
        cluster=cluster,
        directors=[row.director],
        by=by,
        reason=because(str(row), reason),
        probe={"places": [row.place]},
    )
    after = {"job": job.pk, "wanted": row.wanted} | ticketed(ticket)
    # What the draft does not have has no history but the drift's.
    about = desired.spoken_of(cluster.pk, {row.label}).get(row.label)
    audit.record(
        "drift.revert",
        row,
        by=by,
        about=about,
        cluster=cluster,
        before=row.actual,
        after=after,
        reason=reason,
    )
    return job


@transaction.atomic
def set_enforcing(cluster: Cluster, *, enforce: bool, reason: str, by: Actor, ticket: str = "") -> Job | None:
    """Whether the directors put right by themselves what somebody else changes. They are told at once; None
    where there are none. Rejected without a reason, and where it is so already."""
    require_reason(reason)
    row = lock_cluster(cluster)
    if row.enforce == enforce:
        said = "enforces" if enforce else "does not enforce"
        raise Rejected(Problem("", f"{row} {said} already. Nothing was changed."))
    row.enforce = enforce
    row.save(update_fields=["enforce"])
    directors = list(row.directors.all())
    job = None
    if directors and row.revisions.exists():
        job = jobs.queue(
            kind=Job.Kind.ENFORCE,
            cluster=row,
            directors=directors,
            by=by,
            reason=reason[:200],
            probe={"enforce": enforce},
            needs="administer",
        )
    before = {"enforce": not enforce}
    after = {"enforce": enforce, "job": job.pk if job else None} | ticketed(ticket)
    audit.record("cluster.enforce", row, by=by, cluster=row, before=before, after=after, reason=reason)
    return job


def _still(drift: Drift, seen: str) -> Drift:
    # A director's report takes no turn at the cluster.
    rows = Drift.objects.open().select_for_update(of=("self",), no_key=True)
    row = rows.filter(pk=drift.pk).select_related("director", "cluster").first()
    if row is None:
        raise Rejected(Problem("", f"{drift} is as it should be again. Nothing was done."))
    if drifts.seen_of(row) != seen:
        wanted, actual = (in_words(drifts.value(row, side)) for side in ("wanted", "actual"))
        text = f"{row} is not what the page showed any more: it is {actual}, and should be {wanted}."
        raise Rejected(Problem("", f"{text} Nothing was done; decide anew."))
    return row


def _refuse_edited(row: Drift, seen_draft: str) -> None:
    draft = desired.spoken_of(row.cluster_id, {row.label}).get(row.label)
    if drifts.seen_draft_of(row, draft) != seen_draft:
        who = (draft.changed_by if draft else "") or "Somebody"
        text = f"{who} has edited {row.label} in the draft since you opened the page."
        raise Rejected(Problem("", f"{text} Nothing was adopted; look at the draft, and decide anew."))


def _service(cluster: Cluster, key: ServiceKey) -> VirtualService | None:
    rows = VirtualService.objects.filter(cluster=cluster, protocol=key.protocol.word, port=key.port)
    return rows.filter(address=key.address, mark=key.mark).first()


def _adopt_service(cluster: Cluster, key: ServiceKey, actual: Service | None, by: Actor) -> VirtualService:
    """The row, which may be gone now."""
    row = _service(cluster, key)
    if actual is None:
        if row is None:
            raise Rejected(Problem("", f"The draft of {cluster} has no {key} either."))
        services.remove_service(row, seen=mark_of(row), by=by)
        return row
    said = _fields(ServiceFields, desired.service_columns(actual), row)
    if row is None:
        return services.add_service(cluster, said, by=by)
    services.edit_service(row, said, seen_version=row.version, by=by)
    return row


def _adopt_backend(
    cluster: Cluster, key: ServiceKey, place: BackendKey, actual: Backend | None, by: Actor
) -> BackendRow:
    """The row, which may be gone now."""
    service = _service(cluster, key)
    row = service.backends.filter(address=place.address, port=place.port).first() if service else None
    if actual is None:
        if row is None:
            raise Rejected(Problem("", f"The draft of {cluster} has no {place} of {key} either."))
        backends.remove_backend(row, seen=mark_of(row), by=by)
        return row
    if service is None:
        raise Rejected(
            Problem("", f"The draft of {cluster} has no {key}. Adopt it from its director's page.")
        )
    said = _fields(BackendFields, desired.backend_columns(actual), row)
    if row is None:
        return backends.add_backend(service, said, by=by)
    backends.edit_backend(row, said, seen_version=row.version, by=by)
    return row


def _fields(kind: Any, columns: dict[str, Any], row: Any) -> Any:
    """The kernel's columns, with the name that people gave it."""
    names = {field.name for field in fields(kind)}
    return kind(
        **{name: value for name, value in columns.items() if name in names}, name=row.name if row else ""
    )
