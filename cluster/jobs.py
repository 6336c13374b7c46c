"""Jobs: queue, send, send again, and take the reports. A run that is not over is its own outbox row.

Redis is a doorbell. Whatever is lost there is sent again by the sweep, until the director has said
how it ended.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from kombu.exceptions import OperationalError

from cluster import audit, live
from cluster.ipvs.formats.document import key_to_document, to_document
from cluster.ipvs.state import canonical_address
from cluster.models import Backend, Cluster, Director, Job, Revision, Run, Sweep, VirtualService
from cluster.wire import envelope
from cluster.wire.messages import (
    ORDER_LIFETIME_S,
    ORDER_TASK,
    Event,
    Operation,
    Order,
    Outcome,
    Report,
    order_queue,
)
from cluster.wire.payloads import Finished, changes_from, facts_from, has_sound_numbers
from lvsadmin.celery import app

logger = logging.getLogger(__name__)

# Between two sends of the same run to a director that is there: 5, 10, 20, 40, then every 60 seconds.
RESEND_AFTER_S = (5, 10, 20, 40, 60)
# Whoever queued a run sends it as well; the sweep must not come in between and send it twice.
FIRST_SEND_TAKES = timedelta(seconds=3)
# A director that is there and has said nothing for this long: nobody knows how it stands.
UNKNOWN_AFTER = timedelta(seconds=60)
# Strangers can announce themselves where Redis is reachable; the list of them stays short.
MOST_WAITING = 50
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


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
) -> Job:
    """Rows for a job and its runs, in the caller's transaction; the orders go out when it commits.

    An apply supersedes the runs of older applies that have not ended: the newest table says it all."""
    directors = list(directors)
    job = Job.objects.create(
        kind=kind,
        cluster=cluster,
        revision=revision,
        module=module,
        probe=probe or {},
        author_name=by.name,
        reason=reason,
    )
    if kind == Job.Kind.APPLY:
        older = Run.objects.filter(director__in=directors, job__kind=kind).exclude(status__in=Run.TERMINAL)
        older.update(status=Run.Status.SUPERSEDED, finished_at=timezone.now())
    runs = [Run(job=job, director=director, director_name=director.name) for director in directors]
    Run.objects.bulk_create(runs)
    transaction.on_commit(lambda: send_all(job.runs.all()))
    return job


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
    """Sign the order afresh and publish it; False where Redis is away."""
    run = Run.objects.select_related("director", "job__cluster", "job__revision").get(pk=run.pk)
    if run.director is None or run.is_over:
        return True
    try:
        app.send_task(
            ORDER_TASK,
            args=[signing_key().sign("order", _order(run, run.director).to_body())],
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


def _order(run: Run, director: Director) -> Order:
    job, now = run.job, time.time()
    payload: dict[str, Any] = {"module": job.module} | job.probe
    if job.revision is not None:
        payload = {"table": job.revision.table, "traffic": job.revision.traffic}
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


def sweep() -> None:
    """The panel worker's round: note who was heard, and send again what has no end yet."""
    now = timezone.now()
    Sweep.objects.update_or_create(pk=1, defaults={"at": now})
    answers = live.read(Director.objects.filter(cluster__isnull=False))
    if not answers.redis_is_up:
        return
    present = set()
    for one in answers.directors:
        _note_seen(one)
        if not one.is_stale:
            present.add(one.director.pk)
    open_runs = Run.objects.exclude(status__in=Run.TERMINAL).select_related("director").order_by("pk")
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


def take(message: object) -> None:
    """Believe a report if its director signed it, and write down what it says in one transaction.

    Reports that nobody signed, that are old, or that speak of unknown runs change nothing."""
    try:
        claimed = Report.from_body(envelope.unverified_body(message))
        if not NAME.fullmatch(claimed.director) or not has_sound_numbers(claimed):
            raise envelope.Refused("A report came whose sender or numbers cannot be.")
        if claimed.event is Event.HELLO:
            _take_hello(message, claimed)
            return
        director = Director.objects.filter(name=claimed.director).first()
        if director is None:
            raise envelope.Refused(f"A report came from {claimed.director}, which is not known.")
        report = Report.from_body(envelope.verify(message, "report", public=director.public_key))
    except envelope.Refused as refusal:
        logger.warning("report refused: %s", refusal)
        return
    with transaction.atomic():
        if not _is_news(director, report):
            return
        if report.event is Event.STARTED:
            ours = Run.objects.filter(uuid=_as_uuid(report.run), director=director)
            started = ours.exclude(status__in=Run.TERMINAL)
            started.update(status=Run.Status.RUNNING, started_at=timezone.now())
        elif report.event is Event.TRAFFIC:
            _note_changes(director, report)
        else:
            _take_finished(director, report)


def _is_news(director: Director, report: Report) -> bool:
    """Conditional update, so that of two workers with the same report only one goes on."""
    newer = Director.objects.filter(pk=director.pk, sequence__lt=report.sequence)
    return bool(newer.update(sequence=report.sequence))


def _take_hello(message: object, claimed: Report) -> None:
    public = claimed.payload.get("public_key")
    if not isinstance(public, str):
        raise envelope.Refused(f"A hello of {claimed.director} names no key.")
    report = Report.from_body(envelope.verify(message, "report", public=public))
    now, facts = timezone.now(), _with_clock(facts_from(report.payload.get("facts")), report)
    known = Director.objects.filter(name=report.director).first()
    if known is not None and known.public_key == public:
        is_news = Director.objects.filter(pk=known.pk, sequence__lt=report.sequence).update(
            announced_at=now, facts=facts, rival_key="", sequence=report.sequence
        )
        if is_news and facts.get("worker") != known.facts.get("worker"):
            # Whatever the worker before was at when it ended: waiting for the sweep could take a minute.
            send_all(Run.objects.filter(director=known).exclude(status__in=Run.TERMINAL))
    elif known is not None and known.cluster_id:
        # Reinstalled, or somebody with its name: an administrator has to look.
        Director.objects.filter(pk=known.pk).update(rival_key=public)
    elif known is not None:
        # Still waiting, or somebody has enrolled it since it was read here.
        Director.objects.filter(pk=known.pk, cluster=None).update(
            announced_at=now,
            facts=facts,
            public_key=public,
            sequence=report.sequence,
            table_sequence=0,
            frame_sequence=0,
        )
    elif Director.objects.waiting().count() < MOST_WAITING:
        Director.objects.create(
            name=report.director, public_key=public, facts=facts, announced_at=now, sequence=report.sequence
        )


def _take_finished(director: Director, report: Report) -> None:
    ours = Run.objects.filter(uuid=_as_uuid(report.run), director=director)
    run = ours.select_related("job__cluster", "job__revision").first()
    try:
        said = Finished.from_payload(report.payload)
    except envelope.Refused as refusal:
        logger.warning("report unreadable, director=%s run=%s error=%s", director, report.run, refusal)
        said = Finished(
            Outcome.FAILED,
            f"{director}'s report could not be read: {refusal}",
            "Check that panel and director run versions that fit each other, then apply again.",
            "unreadable report",
        )
    _note_kernel(director, run, report, said)
    if run is not None:
        _note_outcome(director, run, said)


def _note_kernel(director: Director, run: Run | None, report: Report, said: Finished) -> None:
    """What the report says of the machine and of its table, whichever run it is about."""
    changes: dict[str, Any] = {}
    if said.facts is not None:
        changes["facts"] = _with_clock(said.facts, report)
    if said.table is not None:
        owned = [key_to_document(key) for key in said.owned]
        changes |= {"table": to_document(said.table), "owned": owned, "table_sequence": report.sequence}
    # A report from before the director joined its present cluster says nothing of this one's revisions.
    is_of_now = report.epoch == director.epoch
    if run is not None and run.job.revision is not None and is_of_now and said.outcome is Outcome.APPLIED:
        changes |= {"applied_revision": run.job.revision.number, "applied_at": timezone.now()}
    if changes:
        Director.objects.filter(pk=director.pk).update(**changes)


def _note_outcome(director: Director, run: Run, said: Finished) -> None:
    """How the run stands. An unknown end that is reported again and again is one entry in the log."""
    over = timezone.now() if said.outcome in Run.TERMINAL else None
    open_run = Run.objects.filter(pk=run.pk).exclude(status__in=Run.TERMINAL)
    if not open_run.update(status=said.outcome, finished_at=over, report=said.told()):
        return
    if run.report.get("outcome") == said.outcome:
        return
    audit.record(
        f"run.{said.outcome}",
        f"{run.job.title} on {director.name}",
        by=audit.Actor(f"director {director.name}"),
        about=run.job,
        cluster=run.job.cluster,
        after={"steps": [step.command for step in said.steps]},
        result="done" if said.outcome is Outcome.APPLIED else said.outcome,
        reason=said.text,
    )


def _note_changes(director: Director, report: Report) -> None:
    """What a director did by itself, each in the log with its cause."""
    try:
        changes = changes_from(report.payload)
    except envelope.Refused as refusal:
        logger.warning("report unreadable, director=%s error=%s", director, refusal)
        return
    about = _spoken_of(director, {change.target for change in changes})
    for change in changes:
        audit.record(
            f"traffic.{change.standing.replace(' ', '-') or 'usual'}",
            change.target,
            by=audit.Actor(f"director {director.name}"),
            about=about.get(change.target),
            cluster=director.cluster,
            before={"standing": change.before},
            after={"standing": change.standing, "weight": change.weight, "at": change.at},
            reason=change.cause,
        )


def _spoken_of(director: Director, targets: set[str]) -> dict[str, VirtualService | Backend]:
    """The rows that a director's texts mean, so that what befell a backend is in its history as well."""
    addresses = set()
    for target in targets:
        # A stranger's text is no address to a database.
        with suppress(ValueError):
            addresses.add(canonical_address(target.partition(" of ")[0].rpartition(":")[0].strip("[]")))
    cluster = director.cluster_id
    backends = Backend.objects.filter(service__cluster=cluster, address__in=addresses).select_related(
        "service"
    )
    found: dict[str, VirtualService | Backend] = {f"{row} of {row.service}": row for row in backends}
    if targets - set(found):
        found |= {str(row): row for row in VirtualService.objects.filter(cluster=cluster)}
    return found


def _with_clock(facts: dict[str, Any], report: Report) -> dict[str, Any]:
    """The facts, and how far the director's clock is from ours."""
    return facts | {"clock_offset_s": round(report.at - time.time(), 1)}


def _as_uuid(text: str) -> uuid.UUID:
    """The run's id; for any other text the id that no run has."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.UUID(int=0)
