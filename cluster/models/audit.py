"""The audit log: append-only and hash-chained. Names are text, so that history outlives its objects."""

from __future__ import annotations

from typing import Any

from django.db import models


class AuditEntry(models.Model):
    """`hash` covers every other column and the hash before; cluster.audit computes and verifies it."""

    sequence = models.BigIntegerField(unique=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=32, blank=True)
    action = models.CharField(max_length=40)
    target = models.CharField(max_length=200)
    cluster = models.CharField(max_length=64, blank=True)
    cluster_uuid = models.CharField(max_length=36, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    result = models.CharField(max_length=16, default="done")
    reason = models.CharField(max_length=400, blank=True)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-sequence"]
        indexes = [
            models.Index(fields=["actor", "-sequence"], name="audit_by_actor"),
            models.Index(fields=["action", "-sequence"], name="audit_by_action"),
            models.Index(fields=["cluster_uuid", "-sequence"], name="audit_by_cluster"),
        ]

    def __str__(self) -> str:
        return f"#{self.sequence} {self.actor} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk:
            raise TypeError("An audit entry never changes.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("An audit entry is never deleted.")


class AuditHead(models.Model):
    """One row, locked by whoever appends: the end of the chain."""

    sequence = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    def __str__(self) -> str:
        return f"#{self.sequence}"
