"""Revisions that are not settled yet, and those whose hour has not come."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from cluster.models.inventory import Cluster
from cluster.models.job import Job
from cluster.models.revision import Revision


class Rollouts(models.QuerySet["Rollout"]):
    def open(self) -> Self:
        """Those that wait: for a confirmation, or for the first director. One a cluster at most."""
        return self.filter(status=Rollout.Status.OPEN)

    def waiting(self) -> Self:
        """Those that are not settled yet: open, or going back."""
        return self.filter(status__in=Rollout.WAITING)


class Rollout(models.Model):
    """A revision that waits to be confirmed until `ends_at`, or is on one director first, or both.

    `back` is the revision whose content comes back without that, None for an empty table. `first` is the
    name of the director that gets it before the others. `within_min` empty: nothing is to be confirmed.
    Percentages are how far backends in service and open connections may fall meanwhile."""

    class Status(models.TextChoices):
        OPEN = "open"
        SETTLED = "settled"
        GOING_BACK = "going-back"
        WENT_BACK = "went-back"

    WAITING = (Status.OPEN, Status.GOING_BACK)

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="rollouts")
    revision = models.ForeignKey(Revision, models.CASCADE, related_name="rollouts")
    back = models.ForeignKey(Revision, models.CASCADE, null=True, related_name="+")
    job = models.ForeignKey(Job, models.CASCADE, related_name="rollouts")
    first = models.CharField(max_length=32, blank=True)
    within_min = models.PositiveSmallIntegerField(null=True)
    backends_percent = models.PositiveSmallIntegerField(null=True)
    connections_percent = models.PositiveSmallIntegerField(null=True)
    ends_at = models.DateTimeField(null=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    cause = models.CharField(max_length=500, blank=True)
    ended_by = models.CharField(max_length=150, blank=True)
    ended_at = models.DateTimeField(null=True)

    objects = Rollouts.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster"], condition=models.Q(status="open"), name="one_open_rollout"
            )
        ]

    def __str__(self) -> str:
        return f"Revision {self.revision.number} of {self.cluster}"

    @property
    def left(self) -> timedelta:
        """Until the end of the trial; nothing where it is over."""
        assert self.ends_at is not None
        return max(timedelta(), self.ends_at - timezone.now())

    @property
    def left_words(self) -> str:
        """Minutes and seconds until then."""
        minutes, seconds = divmod(round(self.left.total_seconds()), 60)
        return f"{minutes}:{seconds:02}"

    @property
    def trial(self) -> dict[str, Any]:
        """As an order says it: with the time that is left, so that all directors go back at one moment."""
        limits = {name: getattr(self, name) for name in ("backends_percent", "connections_percent")}
        return {"within_s": self.left.total_seconds()} | limits

    @property
    def is_waiting(self) -> bool:
        """Whether it is not settled yet."""
        return self.status in Rollout.WAITING

    @property
    def is_late(self) -> bool:
        """Whether the time to confirm it is over."""
        return self.ends_at is not None and timezone.now() >= self.ends_at

    @property
    def back_words(self) -> str:
        return f"revision {self.back.number}" if self.back else "an empty table"


class PlannedApply(models.Model):
    """A reviewed draft that is applied later, whatever the draft says then: `table`, `policies`, `switches`
    are what was reviewed, those that begin with `base` what was applied then.

    It goes out at `begins_at`, or within the window from there to `ends_at`, where there is one. `how` and
    `why` are what How and Why of cluster.actions.changes say."""

    class Status(models.TextChoices):
        PLANNED = "planned"
        DONE = "done"
        CANCELLED = "cancelled"
        REFUSED = "refused"

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="planned_applies")
    table = models.JSONField()
    policies = models.JSONField(default=list)
    switches = models.JSONField(default=dict)
    fingerprint = models.CharField(max_length=64)
    base_fingerprint = models.CharField(max_length=64, blank=True)
    base_policies = models.JSONField(default=list)
    base_switches = models.JSONField(default=dict)
    how = models.JSONField(default=dict)
    why = models.JSONField(default=dict)
    begins_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    author_name = models.CharField(max_length=150)
    reason = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PLANNED)
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")
    cause = models.CharField(max_length=500, blank=True)
    ended_by = models.CharField(max_length=150, blank=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["begins_at", "pk"]
        indexes = [
            models.Index(fields=["begins_at"], name="planned_applies", condition=models.Q(status="planned"))
        ]

    def __str__(self) -> str:
        return f"Planned apply {self.pk}"
