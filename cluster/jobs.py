"""Jobs: queue, send, send again. A run that is not over is its own outbox row.

Redis is a doorbell. Whatever is lost there is sent again by the sweep, until the director has said
how it ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from kombu.exceptions import OperationalError

from cluster import audit, live
from cluster.models import Cluster, Director, Job, Revision, Rollout, Run, Sweep
from cluster.permissions import Need, may_still_order
from cluster.wire import envelope
from cluster.wire.messages import (
    ORDER_LIFETIME_S,
    ORDER_TASK,
    Operation,
    Order,
    Outcome,
    order_queue,
)
from lvsadmin.celery import app

logger = logging.getLogger(__name__)

# Between two sends of the same run to a director that is there: 5, 10, 20, 40, then every 60 seconds.
RESEND_AFTER_S = (5, 10, 20, 40, 60)
# Whoever queued a run sends it as well; the sweep must not come in between and send it twice.
FIRST_SEND_TAKES = timedelta(seconds=3)
# A director that is there and has said nothing for this long: nobody knows how it stands.
UNKNOWN_AFTER = timedelta(seconds=60)


@cache
def signing_key() -> envelope.SigningKey:
    """The panel's key; directors pin its public half."""
    return envelope.SigningKey.load_or_create(settings.PANEL_KEY_FILE)


def queue(
    *,
    kind: Job.Kind,
    cluster: Cluster,
    directors: Iterable[Director],
    by: audit.Actor,
    reason: str = "",
    revision: Revision | None = None,
    module: str = "",
    probe: dict[str, Any] | None = None,
    needs: Need = "apply",
    first: str = "",
) -> Job:
    """Rows for a job and its runs, in the caller's transaction; the orders go out when it commits, those of
    all directors or, with a name in `first`, that of this one: the others are held until `release`. `needs`
    is the permission that `by` has ordered it with.

    An apply supersedes the runs of older applies that have not ended: the newest table says it all."""
    directors = list(directors)
    job = Job.objects.create(
        kind=kind,
        cluster=cluster,
        revision=revision,
        module=module,
        probe=probe or {},
        author_name=by.name,
        author_id=by.user_id,
        needs=needs,
        reason=reason,
        request_id=by.request_id,
    )
    if kind == Job.Kind.APPLY:
        _supersede(job, [one for one in directors if first in ("", one.name)])
    held, queued = Run.Status.HELD, Run.Status.QUEUED
    runs = [
        Run(job=job, director=one, director_name=one.name, status=queued if first in ("", one.name) else held)
        for one in directors
    ]
    Run.objects.bulk_create(runs)
    transaction.on_commit(lambda: send_all(job.runs.all()))
    return job


def release(job: Job) -> None:
    """Let the held runs of the job go, in the caller's transaction."""
    held = job.runs.filter(status=Run.Status.HELD)
    pks = list(held.values_list("pk", flat=True))
    _supersede(job, Director.objects.filter(pk__in=held.values("director")))
    held.update(status=Run.Status.QUEUED, queued_at=timezone.now())
    transaction.on_commit(lambda: send_all(job.runs.filter(pk__in=pks)))


def _supersede(job: Job, directors: Iterable[Director]) -> None:
    """End what these directors have not done yet of older applies and of confirmations of those."""
    kinds = [Job.Kind.APPLY, Job.Kind.CONFIRM]
    older = Run.objects.filter(director__in=directors, job__kind__in=kinds, job__lt=job.pk)
    older.exclude(status__in=Run.TERMINAL).update(status=Run.Status.SUPERSEDED, finished_at=timezone.now())


def cancel_open_runs(director: Director) -> None:
    """End the runs of a director that leaves its cluster."""
    open_runs = Run.objects.filter(director=director).exclude(status__in=Run.TERMINAL)
    open_runs.update(status=Run.Status.CANCELLED, finished_at=timezone.now())


def send_all(runs: Iterable[Run]) -> None:
    """Send until the first sign that Redis is away; the sweep does the rest later."""
    for run in runs:
        if not send(run):
            return


def send(run: Run) -> bool:
    """Sign the order afresh and publish it; False where Redis is away. Who ordered it must still be allowed
    to: else it is not signed, and the run ends as refused."""
    run = Run.objects.select_related("director", "job__cluster", "job__revision").get(pk=run.pk)
    if run.director is None or run.is_over or run.status == Run.Status.HELD:
        return True
    rollout = _rollout(run.job)
    if rollout is not None and rollout.is_late:
        # It is about to go back: rollouts.settle.
        return True
    if not may_still_order(run.job):
        _refuse(run)
        return True
    try:
        app.send_task(
            ORDER_TASK,
            args=[signing_key().sign("order", _order(run, run.director, rollout).to_body())],
            queue=order_queue(run.director.name),
            retry=False,
            ignore_result=True,
        )
    except OperationalError as error:
        logger.warning("order not sent, run=%s error=%s", run.uuid, error)
        return False
    Run.objects.filter(pk=run.pk).update(sends=F("sends") + 1, sent_at=timezone.now())
    # A report may have come in between; it is never overwritten.
    Run.objects.filter(pk=run.pk, status=Run.Status.QUEUED).update(status=Run.Status.SENT)
    return True


def _refuse(run: Run) -> None:
    """End a run whose author has lost the right to it."""
    job = run.job
    reason = f"{job.author_name} no longer has the permission “{job.needs}” in {job.cluster}."
    sent = "It was sent before, so the director may have carried it out: compare its table. "
    told = {
        "outcome": str(Outcome.REFUSED),
        "text": f"Not signed: {reason}",
        "remedy": (sent if run.sends else "") + "Somebody who has it can press Try again, or apply anew.",
        "unsigned": True,
    }
    with transaction.atomic():
        # The look at the right is a moment old, and a report may have come in between.
        open_run = Run.objects.filter(pk=run.pk).exclude(status__in=Run.TERMINAL)
        if open_run.update(status=Run.Status.REFUSED, finished_at=timezone.now(), report=told):
            audit.record(
                "run.unsigned",
                f"{job.title} on {run.director_name}",
                by=replace(audit.PANEL, request_id=job.request_id),
                about=job,
                cluster=job.cluster,
                result="refused",
                reason=reason,
            )


def _rollout(job: Job) -> Rollout | None:
    """The one that waits with this job's revision."""
    if job.kind != Job.Kind.APPLY:
        return None
    return Rollout.objects.open().filter(revision=job.revision).first()


def _order(run: Run, director: Director, rollout: Rollout | None) -> Order:
    job, now = run.job, time.time()
    payload: dict[str, Any] = {"module": job.module} | job.probe
    if job.kind == Job.Kind.CONFIRM:
        payload = {}
    elif job.revision is not None:
        payload = {"table": job.revision.table, "traffic": job.revision.traffic}
        if job.cluster.enforce:
            payload["enforce"] = True
    if rollout is not None and rollout.ends_at is not None:
        payload["trial"] = rollout.trial
    return Order(
        operation=Operation(job.kind),
        run=str(run.uuid),
        director=director.name,
        cluster=str(job.cluster.uuid),
        epoch=director.epoch,
        revision=job.revision.number if job.revision else 0,
        operator=job.author_name,
        issued_at=now,
        expires_at=now + ORDER_LIFETIME_S,
        payload=payload,
    )


def sweep() -> live.Live:
    """The panel worker's round: note who was heard, and send again what has no end yet. What was heard."""
    now = timezone.now()
    Sweep.objects.update_or_create(pk=1, defaults={"at": now})
    answers = live.read(Director.objects.filter(cluster__isnull=False))
    if not answers.redis_is_up:
        return answers
    present = set()
    for one in answers.directors:
        _note_seen(one)
        if not one.is_stale:
            present.add(one.director.pk)
    open_runs = Run.objects.exclude(status__in=Run.TERMINAL).select_related("director").order_by("pk")
    open_runs = open_runs.exclude(status=Run.Status.HELD)
    due = [run for run in open_runs if _is_due(run, is_present=run.director_id in present, now=now)]
    send_all(due)
    silent = Run.objects.filter(
        director__in=present,
        status__in=[Run.Status.SENT, Run.Status.RUNNING],
        queued_at__lt=now - UNKNOWN_AFTER,
        sends__gte=3,
    )
    silent.update(status=Run.Status.UNKNOWN)
    Director.objects.gone().delete()
    return answers


def _note_seen(one: live.DirectorLive) -> None:
    """Keep the number and the time of a frame that is newer than all before: an older one that comes again
    is then no sign of life, and “last heard” survives Redis."""
    if one.frame is None or one.at is None:
        return
    newer = Director.objects.filter(pk=one.director.pk, frame_sequence__lt=one.frame.sequence)
    newer.update(frame_sequence=one.frame.sequence, seen_at=datetime.fromtimestamp(one.at, UTC))


def _is_due(run: Run, *, is_present: bool, now: datetime) -> bool:
    if run.sent_at is None:
        return now - run.queued_at > FIRST_SEND_TAKES
    # To a director that is away one message is enough: it waits in the queue.
    wait = RESEND_AFTER_S[min(run.sends, len(RESEND_AFTER_S)) - 1]
    return is_present and now - run.sent_at > timedelta(seconds=wait)
