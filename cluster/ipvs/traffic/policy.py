"""What the operators want beside the table: how each service treats failures, and what is drained when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.ipvs.state import Backend, BackendKey, ServiceKey
from cluster.ipvs.traffic.checks import Check

# A backend of a service: what verdicts, ramps and weights are kept by.
Place = tuple[ServiceKey, BackendKey]


class OnFailure(StrEnum):
    """What becomes of a backend that is down: weight 0 keeps its open connections, removal ends them."""

    WEIGHT = "weight"
    REMOVE = "remove"


class LoadSource(StrEnum):
    """Who says how much a backend can take: an agent on it over HTTP, or its connections per weight."""

    AGENT = "agent"
    CONNECTIONS = "connections"


@dataclass(frozen=True, slots=True)
class LoadRule:
    """Weights follow the load, between `least_percent` and `most_percent` of what they would be. For an
    agent: `GET path` at `port` of the backend each `interval_s` answers `up`, `drain` or `75%`."""

    source: LoadSource = LoadSource.AGENT
    port: int = 0
    path: str = "/"
    interval_s: float = 5.0
    least_percent: int = 10
    most_percent: int = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """How one service treats its backends. `overrides` are checks of single backends instead of `check`.

    At most `most_out_percent` of the backends are taken out for being down. One that changes
    `flap_changes` times within `flap_window_s` is held down; 0 for never. A backend that comes back
    gets its weight over `ramp_s`. `sorry` serves while no backend can. With `asks_others`, down is what
    more than half of the directors that say something say."""

    check: Check | None = None
    overrides: Mapping[BackendKey, Check] = field(default_factory=dict)
    on_failure: OnFailure = OnFailure.WEIGHT
    most_out_percent: int = 100
    ramp_s: int = 0
    flap_changes: int = 0
    flap_window_s: int = 300
    sorry: Backend | None = None
    load: LoadRule | None = None
    asks_others: bool = False

    def check_of(self, backend: BackendKey) -> Check | None:
        return self.overrides.get(backend, self.check)


@dataclass(frozen=True, slots=True)
class Target:
    """What is drained: a service, a host in all services (no service and port 0), or one backend."""

    service: ServiceKey | None = None
    address: str = ""
    port: int = 0

    def covers(self, service: ServiceKey, backend: BackendKey) -> bool:
        return (
            self.service in (None, service)
            and self.address in ("", backend.address)
            and self.port in (0, backend.port)
        )

    def __str__(self) -> str:
        what = str(BackendKey(self.address, self.port)) if self.port else self.address
        if self.service is None:
            return f"host {what}"
        return f"{what} of {self.service}" if what else str(self.service)


@dataclass(frozen=True, slots=True)
class Drain:
    """No new connections for the targets between `begins_at` and `ends_at`, None for open. At `cut_at` what
    is still connected is cut: the backends leave the table. Times are Unix seconds. A planned maintenance is
    a drain that begins later."""

    id: int
    targets: tuple[Target, ...]
    begins_at: float
    ends_at: float | None = None
    cut_at: float | None = None

    def is_on(self, now: float) -> bool:
        return self.begins_at <= now and (self.ends_at is None or now < self.ends_at)

    def cuts(self, now: float) -> bool:
        return self.is_on(now) and self.cut_at is not None and self.cut_at <= now


@dataclass(frozen=True, slots=True)
class Hours:
    """From `begins` to `ends`, as `08:00`, on these days (0 is Monday) by the clock of `zone`. Past midnight
    where it ends before it begins; all day where both are the same."""

    days: tuple[int, ...]
    begins: str
    ends: str
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights under a name. They hold while it is `pinned`, or in its hours while none is pinned."""

    id: int
    name: str
    weights: Mapping[Place, int] = field(default_factory=dict)
    hours: tuple[Hours, ...] = ()
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    """All that operators want beside the table. Of profiles in their hours the first counts. `voters` are the
    cluster's directors with their public keys, where a policy asks others. `switches` are values below
    net.ipv4.vs by name; what is not named stays as a director has it."""

    policies: Mapping[ServiceKey, Policy] = field(default_factory=dict)
    drains: tuple[Drain, ...] = ()
    profiles: tuple[Profile, ...] = ()
    voters: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, str] = field(default_factory=dict)

    @property
    def asks_others(self) -> bool:
        return any(policy.asks_others for policy in self.policies.values())
