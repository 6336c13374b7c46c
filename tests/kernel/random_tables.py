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


# Masks with holes and of everybody, which the kernel takes as well.
MASKS = [0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFF00, 0xFF00FF00, 0]


def drawn_seed(number: int) -> int:
    """Another one in each run and for each number; pytest-randomly seeds runs. A failing test shows it."""
    seed = random.getrandbits(32) + number
    print(f"random_table({seed})")
    return seed


def random_table(seed: int, *, services: int = 8, is_odd: bool = False) -> Table:
    """`is_odd` adds what ipvsadm has no words for: protocols, methods and flags without a name."""
    dice = random.Random(seed)
    keys = {_key(dice, is_odd) for _ in range(services)}
    table = Table(tuple(_service(dice, key) for key in sorted(keys)))
    return Table(tuple(_made_odd(dice, one) for one in table)) if is_odd else table


def _key(dice: random.Random, is_odd: bool) -> ServiceKey:
    is_v6 = dice.random() < 0.4
    if dice.random() < 0.25:
        return ServiceKey(Protocol.FIREWALL_MARK, "::" if is_v6 else "0.0.0.0", 0, dice.randint(1, 4))
    protocol = dice.choice([Protocol.TCP, Protocol.UDP, Protocol.SCTP])
    if is_odd and dice.random() < 0.2:
        protocol = Protocol(dice.choice([1, 50, 255]))
    address = f"2001:db8::{dice.randint(1, 3)}" if is_v6 else f"192.0.2.{dice.randint(1, 3)}"
    return ServiceKey(protocol, address, dice.choice([0, 53, 80, 65535]))


def _service(dice: random.Random, key: ServiceKey) -> Service:
    held = None
    # ipvsadm wants port 0 to be persistent.
    is_anywhere = key.protocol is not Protocol.FIREWALL_MARK and key.port == 0
    if is_anywhere or dice.random() < 0.4:
        mask = dice.choice([128, 64, 1]) if key.family == 6 else dice.choice(MASKS)
        engine = "sip" if key.protocol is Protocol.UDP and dice.random() < 0.5 else ""
        held = Persistence(dice.choice([1, 300, 86400]), mask, engine)
    scheduler = dice.choice(SCHEDULERS)
    # ipvsadm has no word for the third flag of sh and mh.
    third = [] if scheduler in ("sh", "mh") else [0x20, 0x38]
    flags = ServiceFlags(dice.choice([0, 0, 0x8, 0x10, 0x18, *third]))
    if key.protocol is Protocol.UDP and dice.random() < 0.3:
        flags |= ServiceFlags.ONE_PACKET
    places = {(dice.randint(1, 9), dice.choice([80, 8080])) for _ in range(dice.randint(0, 6))}
    backends = tuple(_backend(dice, key, *place) for place in sorted(places))
    return Service(key, scheduler, flags, held, backends)


def _backend(dice: random.Random, key: ServiceKey, last: int, port: int) -> Backend:
    forwarding = dice.choice([Forwarding.MASQUERADE, Forwarding.DIRECT, Forwarding.TUNNEL])
    tunnel = None
    # Apart by method and first port, so that a port that is made fit below can't meet a twin.
    net = f"fd00:{forwarding + 1:x}::" if key.family == 6 else f"10.0.{int(forwarding)}."
    suffix = last * 10 + (port == 80)
    address = f"{net}{suffix}"
    if forwarding is Forwarding.TUNNEL:
        kind = dice.choice(list(TunnelKind)[:3])
        flags = {TunnelKind.IPIP: [0], TunnelKind.GUE: [0, 1, 2], TunnelKind.GRE: [0, 1]}[kind]
        tunnel = Tunnel(
            kind, dice.choice([1, 6080, 65535]) if kind is TunnelKind.GUE else 0, dice.choice(flags)
        )
        port = key.port
        if dice.random() < 0.3:
            address = f"10.9.0.{suffix}" if key.family == 6 else f"fd00:9::{suffix}"
    elif forwarding is Forwarding.DIRECT:
        port = key.port
    if key.protocol is Protocol.FIREWALL_MARK and forwarding is not Forwarding.MASQUERADE:
        port = 0
    upper = dice.choice([0, 0, 1000])
    return Backend(
        address,
        port,
        forwarding,
        dice.choice([0, 1, 100, 65535, 2**31 - 1]),
        upper,
        dice.choice([0, 100]) if upper else 0,
        tunnel,
    )


def _made_odd(dice: random.Random, service: Service) -> Service:
    flags = service.flags | ServiceFlags(dice.choice([0, 0, 0x20, 0x40, 0x3C]))
    backends = (
        one._replace(forwarding=Forwarding(dice.choice([1, 4, 7])))
        if one.forwarding is Forwarding.DIRECT and dice.random() < 0.5
        else one._replace(port=dice.choice([0, one.port]))
        for one in service.backends
    )
    by_key = {one.key: one for one in backends}
    scheduler = dice.choice([service.scheduler, "none"])
    return Service(service.key, scheduler, flags, service.persistence, tuple(by_key.values()))
