"""Hypothesis strategies: any table that a kernel could hold, foreign oddities included."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
)

# Whole tables are slow to draw; the suite must stay short enough to be run at every save.
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_numbers = st.integers(1, 4)
_ports = st.sampled_from([0, 53, 80, 65535])

_addressed = st.builds(
    ServiceKey,
    st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol(50)]),
    _numbers.map("192.0.2.{}".format) | _numbers.map("2001:db8::{}".format),
    _ports,
    st.just(0),
)
_marked = st.builds(
    lambda address, mark: ServiceKey(Protocol.FIREWALL_MARK, address, 0, mark),
    st.sampled_from(["0.0.0.0", "::"]),
    st.integers(1, 3),
)
keys = _addressed | _marked

_tunnels = st.builds(
    Tunnel, st.sampled_from([TunnelKind.IPIP, TunnelKind.GRE]), st.just(0), st.integers(0, 2)
) | st.builds(Tunnel, st.just(TunnelKind.GUE), st.integers(1, 65535), st.integers(0, 2))


@st.composite
def _backend(draw: st.DrawFn, family: int) -> Backend:
    forwarding = draw(st.sampled_from([Forwarding(number) for number in (0, 1, 2, 3, 4, 7)]))
    tunnel = draw(_tunnels) if forwarding is Forwarding.TUNNEL else None
    is_v6 = draw(st.booleans()) if tunnel else family == 6
    last, upper = draw(_numbers), draw(st.sampled_from([0, 10, 1000]))
    return Backend(
        f"fd00::{last}" if is_v6 else f"10.0.0.{last}",
        draw(_ports),
        forwarding,
        draw(st.sampled_from([0, 1, 2, 65535, 2**31 - 1])),
        upper,
        draw(st.sampled_from([0, 5])) if upper else 0,
        tunnel,
    )


@st.composite
def services(draw: st.DrawFn, key: ServiceKey | None = None) -> Service:
    """A service, with the given key or any."""
    key = key or draw(keys)
    masks = [128, 64, 1] if key.family == 6 else [0xFFFFFFFF, 0xFFFFFF00, 0]
    held = draw(
        st.none()
        | st.builds(Persistence, st.integers(1, 86400), st.sampled_from(masks), st.sampled_from(["", "sip"]))
    )
    return Service(
        key,
        draw(st.sampled_from(["rr", "wlc", "mh", "none"])),
        ServiceFlags(draw(st.sampled_from([0, 0x4, 0x8, 0x3C]))),
        held,
        tuple(draw(st.lists(_backend(key.family), max_size=5, unique_by=lambda backend: backend.key))),
    )


tables = st.lists(services(), max_size=5, unique_by=lambda service: service.key).map(
    lambda found: Table(tuple(found))
)
