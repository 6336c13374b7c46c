"""Backends of a draft: add, edit, set the weight, remove. Nothing reaches a director before Apply."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from django.db import transaction

from cluster import audit, desired
from cluster.actions.problems import Rejected, changed_since, lock_cluster, save_if_unchanged, values
from cluster.audit import Actor
from cluster.ipvs.rules import Problem, backend_problems
from cluster.models import AuditEntry, Backend, VirtualService
from cluster.seen import is_as_seen


@dataclass(frozen=True)
class BackendFields:
    """What operators say of a backend; the columns of Backend with the same names."""

    address: str
    port: int
    forwarding: str = "masquerade"
    weight: int = 1
    name: str = ""
    upper: int = 0
    lower: int = 0
    tunnel: str = "ipip"
    tunnel_port: int = 0
    tunnel_checksum: int = 0


NAMES = tuple(field.name for field in fields(BackendFields))


@transaction.atomic
def add_backend(service: VirtualService, said: BackendFields, *, by: Actor) -> Backend:
    """Add a backend to the draft. Rejected where a rule or another backend of the service forbids it."""
    lock_cluster(service.cluster)
    if not VirtualService.objects.filter(pk=service.pk).exists():
        raise Rejected(Problem("", f"Somebody has removed {service} meanwhile. Nothing was added."))
    backend = Backend(service=service, **asdict(said))
    _judge(backend)
    backend.changed_by = by.name
    backend.save()
    audit.record(
        "backend.add",
        _target(backend),
        by=by,
        about=backend,
        cluster=service.cluster,
        after=values(backend, NAMES),
    )
    return backend


@transaction.atomic
def edit_backend(backend: Backend, said: BackendFields, *, seen_version: int, by: Actor) -> None:
    """Change a backend of the draft."""
    lock_cluster(backend.service.cluster)
    before = values(backend, NAMES)
    for name, value in asdict(said).items():
        setattr(backend, name, value)
    _judge(backend)
    save_if_unchanged(backend, seen_version=seen_version, names=NAMES, by=by.name)
    _record_edit("backend.edit", backend, before, by)


@transaction.atomic
def set_weight(backend: Backend, *, seen_version: int, weight: int, by: Actor) -> None:
    """Change the weight alone: what one does in a peak period."""
    lock_cluster(backend.service.cluster)
    before = values(backend, ("weight",))
    backend.weight = weight
    _judge(backend)
    save_if_unchanged(backend, seen_version=seen_version, names=("weight",), by=by.name)
    _record_edit("backend.set-weight", backend, before, by)


@transaction.atomic
def remove_backend(backend: Backend, *, seen: str, by: Actor) -> None:
    """Remove a backend from the draft. `seen` is the mark of the page that showed it; Rejected where somebody
    else has changed it since, or was faster."""
    lock_cluster(backend.service.cluster)
    row = Backend.objects.filter(pk=backend.pk).select_related("service__cluster").first()
    if row is None:
        raise Rejected(Problem("", f"Somebody has removed {backend} meanwhile."))
    if not is_as_seen(row, seen):
        raise changed_since(row)
    said = removal(row, by=by)
    row.delete()
    audit.record_all([said])


def removal(backend: Backend, *, by: Actor, reason: str = "") -> AuditEntry:
    """The entry that it was removed. By what `before` says it comes back as the same."""
    return audit.entry(
        "backend.remove",
        _target(backend),
        by=by,
        about=backend,
        cluster=backend.service.cluster,
        before=values(backend, (*NAMES, "version")),
        reason=reason,
    )


def _judge(backend: Backend) -> None:
    service = desired.service_value(backend.service, with_backends=False)
    problems = list(backend_problems(service, desired.backend_value(backend)))
    same = Backend.objects.filter(service=backend.service, address=backend.address, port=backend.port)
    if same.exclude(pk=backend.pk).exists():
        text = f"{backend.service} has the backend {backend} already. Edit that one instead."
        problems.append(Problem("address", text))
    if problems:
        raise Rejected(*problems)


def _record_edit(action: str, backend: Backend, before: dict[str, object], by: Actor) -> None:
    after = values(backend, tuple(before))
    cluster = backend.service.cluster
    audit.record(action, _target(backend), by=by, about=backend, cluster=cluster, before=before, after=after)


def _target(backend: Backend) -> str:
    return f"{backend} of {backend.service}"
