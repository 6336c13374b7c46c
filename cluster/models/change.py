"""Changes that wait for approval, and what people answered."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from cluster.models.inventory import Cluster
from cluster.models.revision import Revision


class ChangeRequest(models.Model):
    """Somebody asks that the draft as it was reviewed may be applied. `draft_print` is
    that of cluster.desired: with another draft the request is void.

    `table` and `traffic` are documents of that draft as those of a revision, and `base` is the number of the
    newest revision then, 0 before the first: what was asked for can be looked at for ever. Of a cluster one
    request at most is open; `revision` is what an applied one became."""

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        APPLIED = "applied", "Applied"
        REFUSED = "refused", "Refused"
        WITHDRAWN = "withdrawn", "Withdrawn"
        SUPERSEDED = "superseded", "Superseded"

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="change_requests")
    draft_print = models.CharField(max_length=64)
    table = models.JSONField()
    traffic = models.JSONField(default=dict)
    base = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.OPEN)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    author_name = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    ticket = models.CharField(max_length=64, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=150, blank=True)
    revision = models.ForeignKey(Revision, models.SET_NULL, null=True, related_name="change_requests")

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster"], condition=models.Q(status="open"), name="one_open_request_per_cluster"
            )
        ]

    def __str__(self) -> str:
        return f"change request {self.pk} of {self.cluster}"

    @property
    def ticket_link(self) -> str:
        return self.cluster.ticket_link(self.ticket)


class Answer(models.Model):
    """What one person said to a request, with a sentence. A refusal closes the request, also one by somebody
    who approved it before."""

    change = models.ForeignKey(ChangeRequest, models.CASCADE, related_name="answers")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    author_name = models.CharField(max_length=150)
    is_approval = models.BooleanField()
    sentence = models.CharField(max_length=200)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["change", "author_name", "is_approval"], name="one_answer_per_person"
            )
        ]

    def __str__(self) -> str:
        return f"{self.author_name} {'approved' if self.is_approval else 'refused'} {self.change}"
