"""The audit log: append-only and hash-chained. Names are text, so that history outlives its objects."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models


class AuditEntry(models.Model):
    """`hash` covers every other column and the hash before; cluster.audit computes and verifies it. `format`
    says which columns there were to cover.

    `role` is that by which the actor could. `session` is a fingerprint of the session or token. `object_kind`
    and `object_id` name the record whose history the entry belongs to; `target` says it in words."""

    format = models.PositiveSmallIntegerField(default=1)
    sequence = models.BigIntegerField(unique=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    role = models.CharField(max_length=40, blank=True)
    session = models.CharField(max_length=24, blank=True)
    address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=32, blank=True)
    action = models.CharField(max_length=40)
    target = models.CharField(max_length=200)
    object_kind = models.CharField(max_length=16, blank=True)
    object_id = models.CharField(max_length=40, blank=True)
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
            models.Index(fields=["object_kind", "object_id", "-sequence"], name="audit_by_object"),
            models.Index(fields=["request_id", "-sequence"], name="audit_by_request"),
            models.Index(fields=["result", "-sequence"], name="audit_by_result"),
            models.Index(fields=["at", "sequence"], name="audit_by_time"),
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
    """One row, locked by whoever appends: the end of the chain. What is older than `sealed_sequence` lies in
    segments outside of the database, and the chain begins after it; `seal` is that, signed. The panel reads
    the log again round and round, and is at `rechecked_sequence`. `broken` is where the panel's own look at
    new entries found that the chain is not what was written, in words; empty while all is well."""

    sequence = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)
    sealed_sequence = models.BigIntegerField(default=0)
    sealed_hash = models.CharField(max_length=64, default="0" * 64)
    seal = models.JSONField(null=True)
    rechecked_sequence = models.BigIntegerField(default=0)
    broken = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"#{self.sequence}"


class AuditCheckpoint(models.Model):
    """The entry `sequence` had its hash at `at`: signed in `envelope`, with a key that is not in here and
    whose fingerprint is `key`. The same lies in a file, in syslog and with the directors."""

    sequence = models.BigIntegerField()
    key = models.CharField(max_length=64)
    at = models.DateTimeField()
    envelope = models.JSONField()

    class Meta:
        ordering = ["-sequence"]
        constraints = [models.UniqueConstraint(fields=["key", "sequence"], name="one_checkpoint_per_entry")]

    def __str__(self) -> str:
        return f"#{self.sequence} at {self.at:%F %T}"


class AuditSearch(models.Model):
    """A search that somebody keeps, under a name of their own."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="audit_searches")
    name = models.CharField(max_length=64)
    query = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_search_per_name")]

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"
