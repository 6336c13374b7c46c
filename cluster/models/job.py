"""Jobs and their runs, one a director. A run that has not ended is its own outbox row."""

from __future__ import annotations

import uuid

from django.db import models

from cluster.models.inventory import Cluster, Director
from cluster.models.revision import Revision


class Job(models.Model):
    """One wish of one operator: a revision applied or confirmed, a kernel module loaded, a check tried, drift
    put right. `probe` is what such an order says: of a check `{"check": document, "targets": [target's
    document]}`, of drift `{"places": [place]}` or `{"enforce": bool}`."""

    class Kind(models.TextChoices):
        APPLY = "apply", "Apply"
        LOAD_MODULE = "load-module", "Load module"
        PROBE = "probe", "Try a check"
        CONFIRM = "confirm", "Confirm"
        REPAIR = "repair", "Put right"
        ENFORCE = "enforce", "Enforce"

    kind = models.CharField(max_length=16, choices=Kind.choices)
    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="jobs")
    revision = models.ForeignKey(Revision, models.CASCADE, null=True, related_name="jobs")
    module = models.CharField(max_length=64, blank=True)
    probe = models.JSONField(default=dict)
    author_name = models.CharField(max_length=150)
    # Whose right is looked at again when an order is signed, and which right: a number and no foreign key,
    # so that an account that is gone is not taken for the panel itself, which has none.
    author_id = models.BigIntegerField(null=True)
    needs = models.CharField(max_length=16, default="apply")
    reason = models.CharField(max_length=200, blank=True)
    # The click that ordered it: what comes of it belongs to the same request in the audit log.
    request_id = models.CharField(max_length=32, blank=True)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"Job {self.pk}"

    @property
    def title(self) -> str:
        if self.kind == Job.Kind.LOAD_MODULE:
            return f"Load module {self.module}"
        if self.kind == Job.Kind.PROBE:
            return f"Try a check of {self.cluster}"
        if self.kind == Job.Kind.REPAIR:
            return f"Put right in {self.cluster}"
        if self.kind == Job.Kind.ENFORCE:
            return f"{'Enforce' if self.probe.get('enforce') else 'Stop enforcing'} {self.cluster}"
        assert self.revision is not None
        if self.kind == Job.Kind.CONFIRM:
            return f"Confirm revision {self.revision.number} of {self.cluster}"
        return f"Apply revision {self.revision.number} to {self.cluster}"


class Run(models.Model):
    """A job's share on one director. Its uuid is what the order and the reports name."""

    class Status(models.TextChoices):
        # Not before another director's run is over: nothing sends it.
        HELD = "held"
        QUEUED = "queued"
        SENT = "sent"
        RUNNING = "running"
        APPLIED = "applied"
        PARTIAL = "partial"
        REFUSED = "refused"
        FAILED = "failed"
        UNKNOWN = "unknown"
        # Applied, and taken back by the director itself.
        REVERTED = "reverted"
        SUPERSEDED = "superseded"
        CANCELLED = "cancelled"

    TERMINAL = frozenset({"applied", "partial", "refused", "failed", "reverted", "superseded", "cancelled"})

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(Job, models.CASCADE, related_name="runs")
    director = models.ForeignKey(Director, models.SET_NULL, null=True, related_name="runs")
    director_name = models.CharField(max_length=32)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    sends = models.PositiveIntegerField(default=0)
    queued_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    report = models.JSONField(default=dict)

    class Meta:
        ordering = ["director_name"]
        constraints = [models.UniqueConstraint(fields=["job", "director"], name="one_run_per_director")]
        indexes = [
            models.Index(
                fields=["director"],
                name="open_runs",
                condition=models.Q(status__in=["queued", "sent", "running", "unknown"]),
            )
        ]

    def __str__(self) -> str:
        return f"{self.job} on {self.director_name}"

    @property
    def is_over(self) -> bool:
        return self.status in Run.TERMINAL


class Sweep(models.Model):
    """One row: when the panel's own worker last went its round."""

    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.at:%F %T}"
