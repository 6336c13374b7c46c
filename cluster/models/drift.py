"""What somebody else changed in a director's kernel, object by object."""

from __future__ import annotations

from typing import Self

from django.db import models

from cluster.models.inventory import Cluster, Director


class Drifts(models.QuerySet["Drift"]):
    def open(self) -> Self:
        """Those that are still so, on directors that are still of that cluster."""
        return self.filter(gone_at=None, director__cluster=models.F("cluster"))


class Drift(models.Model):
    """One service's own settings, or one backend, that is not as its director wants it. `place` is what a
    REPAIR order names, `wanted` and `actual` are documents, None for not there. It happened after `right_at`
    and before `wrong_at`, by the director's clock. `fought`: the director gave up healing it."""

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="drifts")
    director = models.ForeignKey(Director, models.CASCADE, related_name="drifts")
    label = models.CharField(max_length=200)
    place = models.JSONField()
    wanted = models.JSONField(null=True)
    actual = models.JSONField(null=True)
    right_at = models.DateTimeField()
    wrong_at = models.DateTimeField()
    fought = models.BooleanField(default=False)
    gone_at = models.DateTimeField(null=True)
    healed = models.BooleanField(default=False)

    objects = Drifts.as_manager()

    class Meta:
        ordering = ["director__name", "label"]
        constraints = [
            models.UniqueConstraint(
                fields=["director", "label"], condition=models.Q(gone_at=None), name="one_open_drift"
            )
        ]

    def __str__(self) -> str:
        return f"{self.label} on {self.director}"
