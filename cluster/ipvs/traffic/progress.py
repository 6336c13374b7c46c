"""How far a drain is: whether anybody is still connected, and until when somebody can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cluster.ipvs.settings import Timeouts
from cluster.ipvs.state import Protocol, Service, ServiceKey
from cluster.ipvs.stats import BackendCounters
from cluster.ipvs.traffic.policy import Drain

# net/netfilter/ipvs/ip_vs_conn.c: a template whose connections have not all ended is asked again this much
# later.
_TEMPLATE_PERIOD_S: Final = 60


@dataclass(frozen=True, slots=True)
class LatestEnd:
    """`at` is the moment after which nobody is connected any more, in Unix seconds, and `cause` says in a
    sentence what it follows from. Where it is not `certain`, a client that goes on talking stays longer; None
    where nothing is known."""

    at: float | None
    cause: str
    certain: bool = False


def is_drained(service: Service, counted: BackendCounters, *, templates_hold: bool) -> bool:
    """Nobody is connected, and nobody is sent there again. Established connections count; for UDP and
    firewall marks inactive ones too, because the kernel calls all of UDP inactive. `templates_hold`: the
    director obeys persistence even where the weight is 0."""
    if counted.active or (service.persistence and templates_hold and counted.persistent):
        return False
    return not (counts_inactive(service.key) and counted.inactive)


def counts_inactive(key: ServiceKey) -> bool:
    """Whether inactive connections of this service may be clients that still talk."""
    return key.protocol in (Protocol.UDP, Protocol.FIREWALL_MARK)


def latest_end(
    service: Service,
    counted: BackendCounters,
    drain: Drain,
    timeouts: Timeouts | None,
    *,
    templates_hold: bool,
    now: float,
) -> LatestEnd:
    """The latest moment at which a client of this backend can still be connected. `timeouts` are the
    director's, None where it has not said them."""
    silent = _latest_silent_end(service, counted, timeouts, templates_hold=templates_hold, now=now)
    if silent is not None and silent.certain:
        return silent
    if drain.cut_at is not None:
        # One that is cut by force has no moment of its own.
        return LatestEnd(max(drain.cut_at, now), "What is left then is cut.", True)
    return silent or LatestEnd(None, "A client that goes on talking can stay for ever.")


def _latest_silent_end(
    service: Service,
    counted: BackendCounters,
    timeouts: Timeouts | None,
    *,
    templates_hold: bool,
    now: float,
) -> LatestEnd | None:
    if is_drained(service, counted, templates_hold=templates_hold):
        return LatestEnd(now, "Nobody is connected.", True)
    if timeouts is None:
        return None
    left_s, cause = 0, ""
    if counted.active:
        left_s = timeouts.tcp_s
        cause = f"An established connection is forgotten after {timeouts.tcp_s} silent seconds."
    if counts_inactive(service.key) and counted.inactive and timeouts.udp_s > left_s:
        left_s = timeouts.udp_s
        cause = f"A UDP client is forgotten after {timeouts.udp_s} silent seconds."
    held = service.persistence
    if held and templates_hold and counted.persistent:
        left_s = max(held.timeout_s, left_s + _TEMPLATE_PERIOD_S if left_s else 0)
        cause = f"Persistence holds a client for {held.timeout_s} s after its last connection."
    return LatestEnd(now + left_s, f"{cause} Who goes on talking stays longer.")
