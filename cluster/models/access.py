"""Who may do what, and the tokens that programs sign in with."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone

from cluster.models.inventory import Cluster


class Role(models.TextChoices):
    """The built-in roles; cluster.permissions says what each may do."""

    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    APPROVER = "approver", "Approver"
    ADMINISTRATOR = "administrator", "Administrator"
    AUDITOR = "auditor", "Auditor"


class CustomRole(models.Model):
    """A named set of permissions that an administrator has put together."""

    name = models.CharField(max_length=32, unique=True)
    description = models.CharField(max_length=200, blank=True)
    permissions = models.JSONField(default=list)
    version = models.PositiveIntegerField(default=1)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RoleBinding(models.Model):
    """A role for one user or one group, in one cluster or (cluster empty) everywhere. `role` is a built-in
    one, or empty where `custom` names one that an administrator made."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="role_bindings"
    )
    group = models.ForeignKey(Group, models.CASCADE, null=True, blank=True, related_name="role_bindings")
    role = models.CharField(max_length=16, choices=Role.choices, blank=True)
    custom = models.ForeignKey(
        CustomRole, models.PROTECT, null=True, blank=True, related_name="role_bindings"
    )
    cluster = models.ForeignKey(Cluster, models.CASCADE, null=True, blank=True, related_name="role_bindings")

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(user=None, group__isnull=False) | models.Q(user__isnull=False, group=None),
                name="role_of_a_user_or_a_group",
            ),
            models.CheckConstraint(
                condition=models.Q(role="", custom__isnull=False)
                | (~models.Q(role="") & models.Q(custom=None)),
                name="role_built_in_or_custom",
            ),
            # NULLs differ from each other in SQL, hence numbers in their place.
            models.UniqueConstraint(
                Coalesce("user", 0),
                Coalesce("group", 0),
                "role",
                Coalesce("custom", 0),
                Coalesce("cluster", 0),
                name="one_binding_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.role_name} of {self.cluster or 'all clusters'}"

    @property
    def role_name(self) -> str:
        return self.custom.name if self.custom else self.role


class ServiceAccount(models.Model):
    """Marks the account of a program: it has no password, nobody signs in with it, and it works through API
    tokens alone."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="service_account"
    )
    purpose = models.CharField(max_length=200)

    def __str__(self) -> str:
        return str(self.user)


class ApiToken(models.Model):
    """A bearer token; only its SHA-256 is kept. It can do what `permissions` names, in `cluster` or (empty)
    everywhere, and of that no more than its user can at the time of the request."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=64)
    digest = models.CharField(max_length=64, unique=True)
    permissions = models.JSONField(default=list)
    cluster = models.ForeignKey(Cluster, models.CASCADE, null=True, blank=True, related_name="api_tokens")
    created = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    @property
    def is_over(self) -> bool:
        return self.expires_at <= timezone.now()
