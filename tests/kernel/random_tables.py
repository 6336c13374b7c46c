"""Random tables that the kernel takes, from a seed that a failing test names."""

from __future__ import annotations

import random

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

SCHEDULERS = ["rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq"]


def random_table(seed: int, *, services: int = 8) -> Table:
    dice = random.Random(seed)
    keys = {_key(dice) for _ in range(services)}
    return Table(tuple(_service(dice, key) for key in sorted(keys)))


def _key(dice: random.Random) -> ServiceKey:
    is_v6 = dice.random() < 0.4
    if dice.random() < 0.25:
        return ServiceKey(Protocol.FIREWALL_MARK, "::" if is_v6 else "0.0.0.0", 0, dice.randint(1, 4))
    protocol = dice.choice([Protocol.TCP, Protocol.UDP, Protocol.SCTP])
    address = f"2001:db8::{dice.randint(1, 3)}" if is_v6 else f"192.0.2.{dice.randint(1, 3)}"
    return ServiceKey(protocol, address, dice.choice([53, 80, 65535]))


def _service(dice: random.Random, key: ServiceKey) -> Service:
    held = None
    if dice.random() < 0.4:
        mask = dice.choice([128, 64, 1]) if key.family == 6 else dice.choice([0xFFFFFFFF, 0xFFFFFF00])
        engine = "sip" if key.protocol is Protocol.UDP and dice.random() < 0.5 else ""
        held = Persistence(dice.choice([1, 300, 86400]), mask, engine)
    flags = ServiceFlags(dice.choice([0, 0, 0x8, 0x18]))
    if key.protocol is Protocol.UDP and dice.random() < 0.3:
        flags |= ServiceFlags.ONE_PACKET
    places = {(dice.randint(1, 9), dice.choice([80, 8080])) for _ in range(dice.randint(0, 6))}
    backends = tuple(_backend(dice, key, *place) for place in sorted(places))
    return Service(key, dice.choice(SCHEDULERS), flags, held, backends)


def _backend(dice: random.Random, key: ServiceKey, last: int, port: int) -> Backend:
    forwarding = dice.choice([Forwarding.MASQUERADE, Forwarding.DIRECT, Forwarding.TUNNEL])
    tunnel = None
    # Apart by method and first port, so that a port that is made fit below can't meet a twin.
    net = f"fd00:{forwarding + 1:x}::" if key.family == 6 else f"10.0.{int(forwarding)}."
    address = f"{net}{last * 10 + (port == 80)}"
    if forwarding is Forwarding.TUNNEL:
        kind = dice.choice(list(TunnelKind)[:3])
        is_gue = kind is TunnelKind.GUE
        tunnel = Tunnel(
            kind, 6080 if is_gue else 0, dice.choice([0, 1]) if kind is not TunnelKind.IPIP else 0
        )
    elif forwarding is Forwarding.DIRECT:
        port = key.port
    if key.protocol is Protocol.FIREWALL_MARK and forwarding is not Forwarding.MASQUERADE:
        port = 0
    upper = dice.choice([0, 0, 1000])
    return Backend(
        address,
        port,
        forwarding,
        dice.choice([0, 1, 100, 65535]),
        upper,
        dice.choice([0, 100]) if upper else 0,
        tunnel,
    )
