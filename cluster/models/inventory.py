"""The draft that operators edit: clusters with their directors, virtual services and backends."""

from __future__ import annotations

from django.db import models

from cluster.ipvs.rules import SCHEDULERS
from cluster.ipvs.state import endpoint
from cluster.wire.envelope import fingerprint


class Cluster(models.Model):
    """Directors that carry the same table. The cluster's uuid is what messages name."""

    uuid = models.UUIDField(unique=True, editable=False)
    name = models.CharField(max_length=64, unique=True)
    description = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Director(models.Model):
    """A machine whose kernel balances. Without a cluster it has announced itself and waits to be added.

    `name` is the id in the director's own configuration and names its queue. `epoch` rises at each
    enrolment. `table` and `owned` are what it last reported of its kernel."""

    name = models.SlugField(max_length=32, unique=True)
    cluster = models.ForeignKey(Cluster, models.SET_NULL, null=True, blank=True, related_name="directors")
    public_key = models.CharField(max_length=64)
    epoch = models.BigIntegerField(default=0)
    enrolled_at = models.DateTimeField(null=True)
    announced_at = models.DateTimeField()
    seen_at = models.DateTimeField(null=True)
    facts = models.JSONField(default=dict)
    sequence = models.BigIntegerField(default=0)
    table = models.JSONField(null=True)
    owned = models.JSONField(default=list)
    applied_revision = models.PositiveIntegerField(default=0)
    applied_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public_key)

    @property
    def is_stand_in(self) -> bool:
        """True where it keeps its table in memory because it has no IPVS kernel."""
        return bool(self.facts.get("stand_in"))


class VirtualService(models.Model):
    """An address and port that clients use."""

    PROTOCOLS = [("tcp", "TCP"), ("udp", "UDP")]
    SCHEDULER_CHOICES = [(name, f"{name} ({words})") for name, words in SCHEDULERS.items()]

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="services")
    name = models.CharField(max_length=64, blank=True)
    protocol = models.CharField(max_length=3, choices=PROTOCOLS, default="tcp")
    address = models.GenericIPAddressField()
    port = models.PositiveIntegerField()
    scheduler = models.CharField(max_length=15, choices=SCHEDULER_CHOICES, default="rr")
    version = models.PositiveIntegerField(default=1)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["address", "port", "protocol"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "protocol", "address", "port"], name="one_service_per_address"
            )
        ]

    def __str__(self) -> str:
        return f"{self.protocol.upper()} {self.endpoint}"

    @property
    def endpoint(self) -> str:
        return endpoint(self.address, self.port)


class Backend(models.Model):
    """One server behind a service."""

    FORWARDINGS = [("masquerade", "Masquerade (NAT)"), ("direct", "Direct routing")]

    service = models.ForeignKey(VirtualService, models.CASCADE, related_name="backends")
    name = models.CharField(max_length=64, blank=True)
    address = models.GenericIPAddressField()
    port = models.PositiveIntegerField()
    forwarding = models.CharField(max_length=10, choices=FORWARDINGS, default="masquerade")
    weight = models.PositiveIntegerField(default=1)
    version = models.PositiveIntegerField(default=1)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["address", "port"]
        constraints = [
            models.UniqueConstraint(fields=["service", "address", "port"], name="one_backend_per_address")
        ]

    def __str__(self) -> str:
        return self.endpoint

    @property
    def endpoint(self) -> str:
        return endpoint(self.address, self.port)
