"""What a director says of a revision that it took back by itself, and what that means to its run."""

from __future__ import annotations

import logging

from cluster import audit
from cluster.models import Director, Rollout, Run
from cluster.wire import envelope
from cluster.wire.messages import Outcome, Report
from cluster.wire.payloads import Finished, cause_from

logger = logging.getLogger(__name__)


def read(director: Director, report: Report) -> tuple[Finished, str]:
    """What the report says, and why the director went back; one that cannot be read says at least that."""
    try:
        return Finished.from_payload(report.payload), cause_from(report.payload)
    except envelope.Refused as refusal:
        logger.warning("report unreadable, director=%s run=%s error=%s", director, report.run, refusal)
        return Finished(Outcome.UNKNOWN, f"{director} took this revision back."), "it did not say why"


def note(director: Director, run: Run, report: Report, said: Finished, cause: str) -> None:
    """The run's end and an entry in the log, within the caller's transaction; actions.rollouts draws the
    other directors after it. A report that comes again changes nothing."""
    # A drain may have moved it to a newer revision, which this director has not heard of.
    Rollout.objects.open().filter(cluster=run.job.cluster, job__lte=run.job_id).update(
        status=Rollout.Status.GOING_BACK, cause=f"{director}: {cause}"[:500]
    )
    # The end of a run that never came about is told by a report of its own.
    applied = Run.objects.filter(pk=run.pk, status__in=[Run.Status.APPLIED, Run.Status.REVERTED])
    if not applied.update(status=Run.Status.REVERTED, report=said.told()) or run.report == said.told():
        return
    back = report.payload.get("back")
    audit.record(
        "run.went-back",
        f"{run.job.title} on {director.name}",
        by=audit.director_actor(director.name, run.job.request_id),
        about=run.job,
        cluster=run.job.cluster,
        before={"revision": report.revision},
        after={
            "revision": back if isinstance(back, int) else None,
            "steps": [one.command for one in said.steps],
        },
        result="done" if said.outcome is Outcome.APPLIED else said.outcome,
        reason=said.text,
    )
