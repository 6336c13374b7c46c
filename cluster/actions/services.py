"""Virtual services of a draft: add, edit, remove. Nothing reaches a director before Apply."""

from __future__ import annotations

from django.db import transaction

from cluster import audit, desired
from cluster.actions.problems import Rejected, save_if_unchanged, values
from cluster.audit import Actor
from cluster.ipvs.rules import Problem, backend_problems, service_problems
from cluster.models import Cluster, VirtualService

NAMES = ("name", "protocol", "address", "port", "scheduler")


@transaction.atomic
def add_service(
    cluster: Cluster, *, name: str, protocol: str, address: str, port: int, scheduler: str, by: Actor
) -> VirtualService:
    """Add a service to the draft. Rejected where a rule or another service of the cluster forbids it."""
    service = VirtualService(
        cluster=cluster, name=name, protocol=protocol, address=address, port=port, scheduler=scheduler
    )
    _judge(service)
    service.changed_by = by.name
    service.save()
    audit.record("service.add", service, by=by, cluster=cluster, after=values(service, NAMES))
    return service


@transaction.atomic
def edit_service(
    service: VirtualService,
    *,
    seen_version: int,
    name: str,
    protocol: str,
    address: str,
    port: int,
    scheduler: str,
    by: Actor,
) -> None:
    """Change a service of the draft; its backends have to fit the new address and port as well."""
    before = values(service, NAMES)
    service.name, service.scheduler = name, scheduler
    service.protocol, service.address, service.port = protocol, address, port
    _judge(service)
    _judge_backends(service)
    save_if_unchanged(service, seen_version=seen_version, names=NAMES, by=by.name)
    audit.record(
        "service.edit", service, by=by, cluster=service.cluster, before=before, after=values(service, NAMES)
    )


@transaction.atomic
def remove_service(service: VirtualService, *, by: Actor) -> None:
    """Remove a service and its backends from the draft."""
    before = values(service, NAMES) | {"backends": [str(backend) for backend in service.backends.all()]}
    audit.record("service.remove", service, by=by, cluster=service.cluster, before=before)
    service.delete()


def _judge(service: VirtualService) -> None:
    problems = list(service_problems(desired.service_value(service, with_backends=False)))
    same = VirtualService.objects.filter(
        cluster=service.cluster, protocol=service.protocol, address=service.address, port=service.port
    )
    if same.exclude(pk=service.pk).exists():
        text = f"{service.cluster} has {service} already. Edit that one, or choose another address or port."
        problems.append(Problem("address", text))
    if problems:
        raise Rejected(*problems)


def _judge_backends(service: VirtualService) -> None:
    value = desired.service_value(service)
    for backend in value.backends:
        for problem in backend_problems(value, backend):
            field = "port" if problem.field == "port" else "address"
            raise Rejected(Problem(field, f"The backend {backend.key} would not fit: {problem.text}"))
