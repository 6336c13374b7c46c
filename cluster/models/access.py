"""Who may do what, and the tokens that programs sign in with."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from cluster.models.inventory import Cluster


class Role(models.TextChoices):
    """From least to most; cluster.access says what each may do."""

    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    ADMINISTRATOR = "administrator", "Administrator"


class RoleBinding(models.Model):
    """A role for one user, in one cluster or (cluster empty) everywhere."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="role_bindings")
    role = models.CharField(max_length=16, choices=Role.choices)
    cluster = models.ForeignKey(Cluster, models.CASCADE, null=True, blank=True, related_name="role_bindings")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "cluster"], name="one_role_per_cluster"),
            # NULLs differ from each other in SQL, hence a constraint of its own.
            models.UniqueConstraint(
                fields=["user"], condition=models.Q(cluster=None), name="one_role_everywhere"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.role} of {self.cluster or 'all clusters'}"


class ApiToken(models.Model):
    """A bearer token; only its SHA-256 is kept. It can do what its user can see."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=64)
    digest = models.CharField(max_length=64, unique=True)
    created = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"
