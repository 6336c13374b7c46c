"""What directors report, believed where they signed it, and written down."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from cluster import audit, desired, drifts, jobs, refusals, went_back
from cluster.ipvs.formats.document import key_to_document, to_document
from cluster.models import Director, Run
from cluster.wire import envelope
from cluster.wire.messages import Event, Outcome, Report
from cluster.wire.payloads import Finished, changes_from, facts_from, has_sound_numbers

logger = logging.getLogger(__name__)

# Strangers can announce themselves where Redis is reachable; the list of them stays short.
MOST_WAITING = 50
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


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
        _note_refusal(message, str(refusal))
        return
    with transaction.atomic():
        if not _is_news(director, report):
            return
        # A hello may have come in between.
        director.refresh_from_db(fields=["facts"])
        if report.event is Event.STARTED:
            ours = Run.objects.filter(uuid=_as_uuid(report.run), director=director)
            started = ours.exclude(status__in=Run.TERMINAL)
            started.update(status=Run.Status.RUNNING, started_at=timezone.now())
        elif report.event is Event.TRAFFIC:
            _note_changes(director, report)
        elif report.event is Event.DRIFT:
            drifts.note(director, report)
        elif report.event is Event.WENT_BACK:
            _take_went_back(director, report)
        else:
            _take_finished(director, report)


def _note_refusal(message: object, why: str) -> None:
    """A name that no director has is not repeated: whoever reaches Redis can make up as many as they like."""
    try:
        name = Report.from_body(envelope.unverified_body(message)).director
    except envelope.Refused:
        name = ""
    known = Director.objects.filter(name=name).select_related("cluster")
    director = known.first() if NAME.fullmatch(name) else None
    refusals.note(
        "report.refused",
        director or "a report",
        by=audit.PANEL,
        reason=why if director else "It came of no director that is known, or could not be read.",
        about=director,
        cluster=director.cluster if director else None,
    )


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
        with transaction.atomic():
            # Of two at once each is compared with the one before.
            known = Director.objects.select_for_update(no_key=True).get(pk=known.pk)
            is_news = Director.objects.filter(pk=known.pk, sequence__lt=report.sequence).update(
                announced_at=now, facts=facts, rival_key="", sequence=report.sequence
            )
            if is_news:
                _note_dropped(known, facts)
        if is_news and facts.get("worker") != known.facts.get("worker"):
            # Whatever the worker before was at when it ended: waiting for the sweep could take a minute.
            jobs.send_all(Run.objects.filter(director=known).exclude(status__in=Run.TERMINAL))
    elif known is not None and known.cluster_id:
        # Reinstalled, or somebody with its name: an administrator has to look.
        with transaction.atomic():
            if Director.objects.filter(pk=known.pk).exclude(rival_key=public).update(rival_key=public):
                _note_rival(known, public)
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


def _note_dropped(director: Director, facts: dict[str, Any]) -> None:
    """Messages in the director's queue that the panel had not signed for it, since its hello before."""
    is_same_worker = facts.get("worker") == director.facts.get("worker")
    count = facts["orders_dropped"] - (director.facts.get("orders_dropped", 0) if is_same_worker else 0)
    if count <= 0:
        return
    what = "1 message" if count == 1 else f"{count} messages"
    refusals.note(
        "order.dropped",
        director,
        by=audit.director_actor(director.name),
        reason=f"{what} in its queue bore no signature of this panel for it. Somebody else reaches Redis, or"
        " the panel's key was changed while orders waited.",
        about=director,
        cluster=director.cluster,
    )


def _note_rival(director: Director, public: str) -> None:
    """Once for each key, and not for a hello that is told again."""
    why = f"Somebody says hello as {director} with another key, {envelope.fingerprint(public)}."
    refusals.note(
        "director.rival-key",
        director,
        by=audit.PANEL,
        reason=f"{why} If it was set up anew, remove it from its cluster and add it again.",
        about=director,
        cluster=director.cluster,
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


def _take_went_back(director: Director, report: Report) -> None:
    runs = Run.objects.filter(uuid=_as_uuid(report.run), director=director)
    run = runs.select_related("job__cluster", "job__revision").first()
    said, cause = went_back.read(director, report)
    _note_kernel(director, None, report, said)
    if run is not None and report.epoch == director.epoch:
        went_back.note(director, run, report, said, cause)


def _note_kernel(director: Director, run: Run | None, report: Report, said: Finished) -> None:
    """What the report says of the machine and of its table, whichever run it is about."""
    changes: dict[str, Any] = {}
    if said.facts is not None:
        # By these a hello is compared with the one before.
        kept = {name: director.facts[name] for name in ("worker", "orders_dropped") if name in director.facts}
        changes["facts"] = _with_clock(said.facts, report) | kept
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
    """How the run stands. An unknown end that is reported again and again is one entry in the log. What the
    panel has refused to sign again may have been done from an earlier send: the director knows better."""
    over = timezone.now() if said.outcome in Run.TERMINAL else None
    open_run = Run.objects.filter(~Q(status__in=Run.TERMINAL) | Q(report__unsigned=True), pk=run.pk)
    if not open_run.update(status=said.outcome, finished_at=over, report=said.told()):
        return
    if run.report.get("outcome") == said.outcome:
        return
    audit.record(
        f"run.{said.outcome}",
        f"{run.job.title} on {director.name}",
        by=audit.director_actor(director.name, run.job.request_id),
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
    about = desired.spoken_of(director.cluster_id, {change.target for change in changes})
    audit.record_all(
        [
            audit.entry(
                f"traffic.{change.standing.replace(' ', '-') or 'usual'}",
                change.target,
                by=audit.director_actor(director.name),
                about=about.get(change.target),
                cluster=director.cluster,
                before={"standing": change.before},
                after={"standing": change.standing, "weight": change.weight, "at": change.at},
                reason=change.cause,
            )
            for change in changes
        ]
    )


def _with_clock(facts: dict[str, Any], report: Report) -> dict[str, Any]:
    """The facts, and how far the director's clock is from ours."""
    return facts | {"clock_offset_s": round(report.at - time.time(), 1)}


def _as_uuid(text: str) -> uuid.UUID:
    """The run's id; for any other text the id that no run has."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.UUID(int=0)
