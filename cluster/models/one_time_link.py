"""The way in for a person who has no password yet, or no longer."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class OneTimeLink(models.Model):
    """One that is open; using it or making another one ends it. Only its SHA-256 is kept."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="one_time_link")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"one-time link of {self.user}"
