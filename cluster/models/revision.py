"""The numbered, immutable documents that directors are given."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from cluster.models.inventory import Cluster


class Revision(models.Model):
    """`table` is the document of cluster.ipvs.formats.document, `traffic` that of cluster.ipvs.traffic.
    Apply makes a revision of the draft; a drain or a profile makes one of the newest revision.

    The database itself refuses to change one, but for an author whose account is removed, and to delete one
    before its cluster: `remove_cluster` deletes them after it."""

    cluster = models.ForeignKey(Cluster, models.DO_NOTHING, related_name="revisions")
    number = models.PositiveIntegerField()
    table = models.JSONField()
    traffic = models.JSONField(default=dict)
    fingerprint = models.CharField(max_length=64)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    author_name = models.CharField(max_length=150)
    reason = models.CharField(max_length=200, blank=True)
    ticket = models.CharField(max_length=64, blank=True)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["cluster", "number"], name="one_revision_per_number")]

    def __str__(self) -> str:
        return f"{self.cluster} revision {self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk:
            raise TypeError("A revision never changes; make a new one.")
        super().save(*args, **kwargs)

    @property
    def ticket_link(self) -> str:
        return self.cluster.ticket_link(self.ticket)


class RevisionTag(models.Model):
    """A name for a revision, beside it because a revision never changes."""

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="revision_tags")
    revision = models.ForeignKey(Revision, models.CASCADE, related_name="tags")
    name = models.CharField(max_length=64)
    author_name = models.CharField(max_length=150)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["cluster", "name"], name="one_revision_per_tag")]

    def __str__(self) -> str:
        return self.name
