"""The draft that operators edit: clusters with their directors, virtual services and backends."""

from __future__ import annotations

from datetime import timedelta
from typing import Self
from urllib.parse import quote

from django.db import models
from django.utils import timezone

from cluster.ipvs.rules import SCHEDULERS
from cluster.ipvs.state import endpoint
from cluster.wire.envelope import fingerprint


class Cluster(models.Model):
    """Directors that carry the same table. The cluster's uuid is what messages name. `switches` are the
    values below net.ipv4.vs that its directors are to have, by name; what is not named they keep.

    `approvals` is how many people, other than those who made a change, have to approve it. `ticket_url` is
    where a ticket is read, with {ticket} in its place; empty where tickets are only named.

    What the form of an apply begins with: `confirm_min` to be confirmed in, `backends_percent` and
    `connections_percent` by which either may fall meanwhile. With `enforce`, its directors put
    right by themselves what somebody else changes."""

    APPROVALS = [(0, "Nobody: who may apply, applies"), (1, "One other person"), (2, "Two other people")]

    uuid = models.UUIDField(unique=True, editable=False)
    name = models.CharField(max_length=64, unique=True)
    description = models.CharField(max_length=200, blank=True)
    switches = models.JSONField(default=dict, blank=True)
    approvals = models.PositiveSmallIntegerField(choices=APPROVALS, default=0)
    ticket_url = models.CharField(max_length=200, blank=True)
    version = models.PositiveIntegerField(default=1)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(auto_now=True)
    confirm_min = models.PositiveSmallIntegerField(null=True, blank=True)
    backends_percent = models.PositiveSmallIntegerField(null=True, blank=True)
    connections_percent = models.PositiveSmallIntegerField(null=True, blank=True)
    enforce = models.BooleanField(default=False)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def schedulers(self) -> set[str]:
        """The schedulers that each of its directors has or can load. All of them as long as no director has
        said, because then nobody knows better."""
        said = [set(known) for one in self.directors.all() if (known := one.facts.get("schedulers"))]
        return set(SCHEDULERS).intersection(*said)

    def ticket_link(self, ticket: str) -> str:
        """Where this ticket is read; empty where nobody knows."""
        return self.ticket_url.replace("{ticket}", quote(ticket, safe="")) if ticket else ""


# Who waits to be added says so every 30 s; who stopped is not waiting any more.
FORGET_WAITING_AFTER = timedelta(minutes=10)


class Directors(models.QuerySet["Director"]):
    def waiting(self) -> Self:
        """Those that belong to no cluster and have announced themselves lately."""
        return self.filter(cluster=None, announced_at__gte=timezone.now() - FORGET_WAITING_AFTER)

    def gone(self) -> Self:
        """Those that waited, never belonged to a cluster, and stopped. Who has an epoch is kept with it: it
        may come back, and refuses orders of a lower one."""
        return self.filter(cluster=None, epoch=0, announced_at__lt=timezone.now() - FORGET_WAITING_AFTER)


class Director(models.Model):
    """A machine whose kernel balances. Without a cluster it has announced itself and waits to be added.

    `name` is the id in the director's own configuration and names its queue. `epoch` rises at each
    enrolment. `table` and `owned` are what it last reported of its kernel. `rival_key` is another key that
    was announced under its name since it was last heard.

    It numbers all that it says: `sequence` is its newest report's, `table_sequence` that of the report that
    `table` is from, `frame_sequence` that of the newest frame the sweep has seen, which came at `seen_at`."""

    name = models.SlugField(max_length=32, unique=True)
    cluster = models.ForeignKey(Cluster, models.SET_NULL, null=True, blank=True, related_name="directors")
    public_key = models.CharField(max_length=64)
    rival_key = models.CharField(max_length=64, blank=True)
    epoch = models.BigIntegerField(default=0)
    enrolled_at = models.DateTimeField(null=True)
    announced_at = models.DateTimeField()
    seen_at = models.DateTimeField(null=True)
    facts = models.JSONField(default=dict)
    sequence = models.BigIntegerField(default=0)
    table_sequence = models.BigIntegerField(default=0)
    frame_sequence = models.BigIntegerField(default=0)
    table = models.JSONField(null=True)
    owned = models.JSONField(default=list)
    # How many things are not as they should be beyond those that its last report had room for.
    untold_drift = models.PositiveIntegerField(default=0)
    applied_revision = models.PositiveIntegerField(default=0)
    applied_at = models.DateTimeField(null=True)

    objects = Directors.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public_key)

    @property
    def rival_fingerprint(self) -> str:
        return fingerprint(self.rival_key) if self.rival_key else ""

    @property
    def clock_is_off(self) -> bool:
        """By more than a message takes on its way."""
        return abs(float(self.facts.get("clock_offset_s", 0))) > 4

    @property
    def goes_back(self) -> bool:
        """Whether its worker takes back by itself what nobody confirms; one of an older release does not."""
        return bool(self.facts.get("goes_back"))

    @property
    def is_waiting(self) -> bool:
        """As `Directors.waiting` has it."""
        return self.cluster_id is None and self.announced_at >= timezone.now() - FORGET_WAITING_AFTER

    @property
    def is_stand_in(self) -> bool:
        """True where it keeps its table in memory because it has no IPVS kernel."""
        return bool(self.facts.get("stand_in"))


class VirtualService(models.Model):
    """An address and port that clients use, or a firewall mark.

    With a mark the address is 0.0.0.0 or ::, for the family is part of the identity, and the port is 0.
    `persistence_s` empty means not persistent; `persistence_prefix` groups clients by network, and empty
    means each client alone. `policy` is the document of cluster.ipvs.traffic.policy.Policy, without the
    overrides, which are the backends'."""

    PROTOCOLS = [("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP"), ("firewall-mark", "Firewall mark")]
    SCHEDULER_CHOICES = [(name, f"{name} ({words})") for name, words in SCHEDULERS.items()]

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="services")
    name = models.CharField(max_length=64, blank=True)
    protocol = models.CharField(max_length=16, choices=PROTOCOLS, default="tcp")
    address = models.GenericIPAddressField()
    port = models.PositiveIntegerField()
    mark = models.PositiveBigIntegerField(default=0)
    scheduler = models.CharField(max_length=15, choices=SCHEDULER_CHOICES, default="rr")
    flags = models.PositiveSmallIntegerField(default=0)
    persistence_s = models.PositiveIntegerField(null=True, blank=True)
    persistence_prefix = models.PositiveSmallIntegerField(null=True, blank=True)
    persistence_engine = models.CharField(max_length=16, blank=True)
    policy = models.JSONField(default=dict, blank=True)
    version = models.PositiveIntegerField(default=1)
    changed_by = models.CharField(max_length=150, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["address", "port", "protocol", "mark"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "protocol", "address", "port", "mark"], name="one_service_per_address"
            )
        ]

    def __str__(self) -> str:
        return self.endpoint if self.is_marked else f"{self.protocol.upper()} {self.endpoint}"

    @property
    def features(self) -> list[str]:
        """What is set beyond address and scheduler, for lists."""
        said = []
        if self.persistence_s is not None:
            shared = f" by /{self.persistence_prefix}" if self.persistence_prefix else ""
            said.append(f"persistent {self.persistence_s} s{shared}")
        if self.persistence_engine:
            said.append(f"by {self.persistence_engine}")
        names = {4: "one packet", 8: "flag-1", 16: "flag-2", 32: "flag-3"}
        return said + [name for bit, name in names.items() if self.flags & bit]

    @property
    def is_marked(self) -> bool:
        return self.protocol == "firewall-mark"

    @property
    def endpoint(self) -> str:
        """As ServiceKey says it: `192.0.2.1:80`, or `firewall mark 7`."""
        if self.is_marked:
            return f"firewall mark {self.mark}" + (" IPv6" if ":" in self.address else "")
        return endpoint(self.address, self.port)


class Backend(models.Model):
    """One server behind a service. `check_override` is the document of a check in place of the service's."""

    FORWARDINGS = [("masquerade", "Masquerade (NAT)"), ("direct", "Direct routing"), ("tunnel", "Tunnel")]
    TUNNELS = [("ipip", "IPIP"), ("gue", "GUE"), ("gre", "GRE")]
    CHECKSUMS = [(0, "no checksum"), (1, "checksum"), (2, "remote checksum offload")]

    service = models.ForeignKey(VirtualService, models.CASCADE, related_name="backends")
    name = models.CharField(max_length=64, blank=True)
    address = models.GenericIPAddressField()
    port = models.PositiveIntegerField()
    forwarding = models.CharField(max_length=10, choices=FORWARDINGS, default="masquerade")
    weight = models.PositiveIntegerField(default=1)
    upper = models.PositiveIntegerField(default=0)
    lower = models.PositiveIntegerField(default=0)
    tunnel = models.CharField(max_length=4, choices=TUNNELS, default="ipip")
    tunnel_port = models.PositiveIntegerField(default=0)
    tunnel_checksum = models.PositiveSmallIntegerField(choices=CHECKSUMS, default=0)
    check_override = models.JSONField(null=True, blank=True)
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

    @property
    def features(self) -> list[str]:
        """What is set beyond address, method and weight, for lists."""
        said = []
        if self.forwarding == "tunnel":
            said.append(self.get_tunnel_display() + (f" port {self.tunnel_port}" if self.tunnel_port else ""))
        if self.upper:
            said.append(
                f"up to {self.upper} connections" + (f", again below {self.lower}" if self.lower else "")
            )
        return said
