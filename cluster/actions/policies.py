"""Health policies of a draft: how a service treats its backends, a backend's own check, trying a check."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

from django.db import transaction

from cluster import audit, desired, jobs
from cluster.actions.problems import Rejected, lock_cluster, save_if_unchanged
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.ipvs.state import BackendKey
from cluster.ipvs.traffic import document
from cluster.ipvs.traffic.checks import Check, check_problems
from cluster.ipvs.traffic.policy import Policy, Target
from cluster.ipvs.traffic.rules import fit_problems, policy_problems
from cluster.ipvs.traffic.words import check_words, policy_words
from cluster.models import Backend, Cluster, Job, VirtualService

# A director takes no more at once; see cluster.director.probing.
MOST_TRIED = 200
NEEDS_ADMINISTRATOR = (
    "A check of another address than the backend's own needs the role administrator, because directors would"
    " connect to it. Leave the check as it is, or ask an administrator."
)


@transaction.atomic
def set_policy(
    service: VirtualService, said: Policy, *, seen_version: int, is_administrator: bool, by: Actor
) -> None:
    """Change how the service treats its backends; their own checks stay. Rejected where a rule forbids it,
    where it checks another address and `is_administrator` is False, and where somebody was faster."""
    lock_cluster(service.cluster)
    before = desired.policy_value(service)
    wanted = replace(said, overrides=before.overrides)
    problems = list(policy_problems(wanted, desired.service_value(service)))
    if wanted.check != before.check and not is_administrator:
        problems += _elsewhere(wanted.check, backend=None)
    if problems:
        raise Rejected(*problems)
    service.policy = _with_unknown(service.policy, wanted)
    save_if_unchanged(service, seen_version=seen_version, names=("policy",), by=by.name)
    audit.record(
        "service.set-policy",
        service,
        by=by,
        cluster=service.cluster,
        before=dict(policy_words(before)),
        after=dict(policy_words(wanted)),
    )


@transaction.atomic
def set_override(
    backend: Backend, check: Check | None, *, seen_version: int, is_administrator: bool, by: Actor
) -> None:
    """Give a backend a check of its own, or with None the service's again. Rejected as `set_policy` does."""
    lock_cluster(backend.service.cluster)
    value, before = desired.backend_value(backend), override_of(backend)
    service = desired.service_value(backend.service)
    if check is not None:
        problems = [*check_problems(check), *fit_problems(check, service, [value])]
        if check != before and not is_administrator:
            problems += _elsewhere(check, backend=value.key)
        if problems:
            raise Rejected(*problems)
    old, backend.check_override = backend.check_override, None
    if check is not None:
        said = document.check_to_document(check)
        backend.check_override = _laid_over(old or {}, said, known=document.CHECK_NAMES)
    save_if_unchanged(backend, seen_version=seen_version, names=("check_override",), by=by.name)
    audit.record(
        "backend.set-check",
        f"{backend} of {backend.service}",
        by=by,
        about=backend,
        cluster=backend.service.cluster,
        before={"check": check_words(before) if before else "the service's"},
        after={"check": check_words(check) if check else "the service's"},
    )


@transaction.atomic
def try_check(
    service: VirtualService,
    check: Check | None,
    backends: Sequence[Backend],
    *,
    is_administrator: bool,
    by: Actor,
) -> Job:
    """Queue one run of the check, against these backends, on every director of the cluster; nothing is
    changed anywhere. Rejected where there is no check, no backend or no director, where the check is
    unusable, and where it checks another address, is not saved, and `is_administrator` is False."""
    cluster = lock_cluster(service.cluster)
    directors = list(cluster.directors.all())
    if check is None:
        raise Rejected(Problem("kind", "There is no check to try. Choose one."))
    values = [desired.backend_value(row) for row in backends]
    if not values:
        raise Rejected(Problem("", f"{service} has no backend that this check is for. Add one first."))
    if not directors:
        raise Rejected(Problem("", f"{cluster} has no director that could try it. Add one first."))
    problems = [*check_problems(check), *fit_problems(check, desired.service_value(service), values)]
    is_saved = check in (desired.policy_value(service).check, *map(override_of, backends))
    if not is_saved and not is_administrator:
        problems += _elsewhere(check, backend=values[0].key if len(values) == 1 else None)
    if problems:
        raise Rejected(*problems)
    return _queue(cluster, service, check, values[:MOST_TRIED], by=by)


def override_of(backend: Backend) -> Check | None:
    """The backend's own check; None where it has the service's."""
    said = backend.check_override
    return None if said is None else document.check_from_document(said)


def _queue(
    cluster: Cluster, service: VirtualService, check: Check, backends: Sequence[Any], *, by: Actor
) -> Job:
    key = desired.service_value(service, with_backends=False).key
    targets = [document.target_to_document(Target(key, one.address, one.port)) for one in backends]
    job = jobs.queue(
        kind=Job.Kind.PROBE,
        cluster=cluster,
        directors=list(cluster.directors.all()),
        by=by,
        reason=f"{service}: {check_words(check)}"[:200],
        probe={"check": document.check_to_document(check), "targets": targets},
        needs="operate",
    )
    audit.record("service.try-check", service, by=by, cluster=cluster, after={"check": check_words(check)})
    return job


def _elsewhere(check: Check | None, *, backend: BackendKey | None) -> list[Problem]:
    if check is None or check.address in ("", backend.address if backend else ""):
        return []
    return [Problem("address", NEEDS_ADMINISTRATOR)]


def _with_unknown(before: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """The policy's document, with what the one before says and this version of the panel does not know."""
    said = document.policy_to_document(policy)
    # These are in the backends' own rows.
    said.pop("overrides", None)
    if "check" in said and "check" in before:
        said["check"] = _laid_over(before["check"], said["check"], known=document.CHECK_NAMES)
    return _laid_over(before, said, known=document.POLICY_NAMES)


def _laid_over(before: dict[str, Any], said: dict[str, Any], *, known: Set[str]) -> dict[str, Any]:
    return {name: value for name, value in before.items() if name not in known} | said
