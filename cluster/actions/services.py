"""Virtual services of a draft: add, edit, remove. Nothing reaches a director before Apply."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from django.db import transaction

from cluster import audit, desired
from cluster.actions import backends
from cluster.actions.problems import Rejected, changed_since, lock_cluster, save_if_unchanged, values
from cluster.audit import Actor
from cluster.draft import WITH_ITS_SERVICE
from cluster.ipvs.rules import Problem, backend_problems, service_problems
from cluster.models import Cluster, VirtualService
from cluster.seen import is_as_seen


@dataclass(frozen=True)
class ServiceFields:
    """What operators say of a service; the columns of VirtualService with the same names."""

    protocol: str
    address: str
    port: int
    scheduler: str = "rr"
    name: str = ""
    mark: int = 0
    flags: int = 0
    persistence_s: int | None = None
    persistence_prefix: int | None = None
    persistence_engine: str = ""


NAMES = tuple(field.name for field in fields(ServiceFields))


@transaction.atomic
def add_service(cluster: Cluster, said: ServiceFields, *, by: Actor) -> VirtualService:
    """Add a service to the draft. Rejected where a rule or another service of the cluster forbids it."""
    service = VirtualService(cluster=lock_cluster(cluster), **asdict(said))
    _judge(service)
    service.changed_by = by.name
    service.save()
    audit.record("service.add", service, by=by, cluster=cluster, after=values(service, NAMES))
    return service


@transaction.atomic
def edit_service(service: VirtualService, said: ServiceFields, *, seen_version: int, by: Actor) -> None:
    """Change a service of the draft; its backends have to fit the new address and port as well."""
    lock_cluster(service.cluster)
    before = values(service, NAMES)
    for name, value in asdict(said).items():
        setattr(service, name, value)
    _judge(service)
    _judge_backends(service)
    save_if_unchanged(service, seen_version=seen_version, names=NAMES, by=by.name)
    audit.record(
        "service.edit", service, by=by, cluster=service.cluster, before=before, after=values(service, NAMES)
    )


@transaction.atomic
def remove_service(service: VirtualService, *, seen: str, by: Actor) -> None:
    """Remove a service and its backends from the draft. `seen` is the mark of the page that showed them;
    Rejected where somebody else has changed one of them since, or was faster."""
    lock_cluster(service.cluster)
    row = VirtualService.objects.filter(pk=service.pk).select_related("cluster").first()
    if row is None:
        raise Rejected(Problem("", f"Somebody has removed {service} meanwhile."))
    if not is_as_seen(row, seen):
        raise changed_since(row)
    gone = list(row.backends.all())
    entries = [backends.removal(backend, by=by, reason=WITH_ITS_SERVICE) for backend in gone]
    # By what is said here it comes back as the same.
    before = values(row, (*NAMES, "version")) | {"backends": [str(backend) for backend in gone]}
    entries.append(audit.entry("service.remove", row, by=by, cluster=row.cluster, before=before))
    row.delete()
    audit.record_all(entries)


def _judge(service: VirtualService) -> None:
    problems = list(service_problems(desired.service_value(service, with_backends=False)))
    same = VirtualService.objects.filter(
        cluster=service.cluster,
        protocol=service.protocol,
        address=service.address,
        port=service.port,
        mark=service.mark,
    )
    if same.exclude(pk=service.pk).exists():
        field = "mark" if service.is_marked else "address"
        text = f"{service.cluster} has {service} already. Edit that one, or choose another {field}."
        problems.append(Problem(field, text))
    if problems:
        raise Rejected(*problems)


def _judge_backends(service: VirtualService) -> None:
    value = desired.service_value(service)
    for backend in value.backends:
        for problem in backend_problems(value, backend):
            field = "port" if problem.field == "port" else "address"
            raise Rejected(Problem(field, f"The backend {backend.key} would not fit: {problem.text}"))
