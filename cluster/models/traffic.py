"""What operators do to live traffic at once, without the draft: drains and weight profiles."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from cluster.models.inventory import Cluster


class Drains(models.QuerySet["Drain"]):
    def wanted(self) -> models.QuerySet[Drain]:
        """Those that directors are to know of: not ended, and not over by their own plan."""
        return self.filter(ended_at=None).exclude(ends_at__lt=timezone.now())


class Drain(models.Model):
    """No new connections for the targets between `begins_at` and `ends_at`; empty is until somebody ends it,
    which `ended_at` and `ended_by` tell. At `cut_at` what is still connected is cut; `cut_by` is who did it
    by force, empty for a deadline. `targets` is a list of the documents of
    cluster.ipvs.traffic.policy.Target. A maintenance is a drain that begins later. `trail` is how many were
    connected when: pairs of Unix seconds and a number, kept by cluster/trails.py."""

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="drains")
    targets = models.JSONField()
    begins_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    cut_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    ticket = models.CharField(max_length=64, blank=True)
    author_name = models.CharField(max_length=150)
    created = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=150, blank=True)
    cut_by = models.CharField(max_length=150, blank=True)
    trail = models.JSONField(default=list)
    version = models.PositiveIntegerField(default=1)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = Drains.as_manager()

    class Meta:
        ordering = ["-begins_at", "-pk"]

    def __str__(self) -> str:
        return f"Drain {self.pk}"

    @property
    def ticket_link(self) -> str:
        return self.cluster.ticket_link(self.ticket)


class WeightProfile(models.Model):
    """Weights under a name, which hold while it is `pinned`, or in its hours while none is. Of two in their
    hours that with the lower `position` counts. `weights` and `hours` are those of the document of
    cluster.ipvs.traffic.policy.Profile."""

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="profiles")
    name = models.CharField(max_length=64)
    position = models.PositiveIntegerField(default=0)
    weights = models.JSONField(default=list)
    hours = models.JSONField(default=list)
    pinned = models.BooleanField(default=False)
    version = models.PositiveIntegerField(default=1)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["cluster", "name"], name="one_profile_per_name"),
            models.UniqueConstraint(
                fields=["cluster"], condition=models.Q(pinned=True), name="one_pinned_profile"
            ),
        ]

    def __str__(self) -> str:
        return self.name
