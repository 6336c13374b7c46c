"""The article's network: client, router, two directors and three real servers on one LAN.

Everything is a list of `ip -batch` lines and sysctls, so that both kinds of room build the very same thing.
"""

import subprocess
from pathlib import Path

from lab.layout import (
    CLIENT,
    CLIENT6,
    DIRECTORS,
    LAN,
    MANAGEMENT_GATEWAY,
    MODULES,
    NODES,
    REALS,
    ROOM_ADDRESS,
    SPARE_VIP,
    SPARE_VIP6,
    USER_MODE_LINUX,
    VIP,
    VIP6,
    lan4,
    lan6,
)
from lab.netns import inside

# Replies that must pass the director again (masquerading) look up their route here.
VIA_DIRECTOR = 100

# Interfaces inherit `default` when they are made. Without accept_dad=0 IPv6 is silent for its first second.
EVERY_NODE = {
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/accept_ra": 0,
}
FORWARDS = {
    "ipv4/ip_forward": 1,
    "ipv6/conf/all/forwarding": 1,
    "ipv6/conf/default/forwarding": 1,
}
# A director sends packets out of the interface they came in on; a redirect would teach others a way round it.
NO_REDIRECTS_SENT = {"ipv4/conf/all/send_redirects": 0, "ipv4/conf/default/send_redirects": 0}
# A real server owns the VIP but must not claim it on the LAN. IPv6 needs no twin of this: Linux answers
# neighbour solicitations only for addresses of the very interface they arrive on, and the VIP is on lo.
SILENT_ABOUT_VIPS = {
    "ipv4/conf/all/arp_ignore": 1,
    "ipv4/conf/default/arp_ignore": 1,
    "ipv4/conf/all/arp_announce": 2,
    "ipv4/conf/default/arp_announce": 2,
    "ipv4/conf/all/accept_redirects": 0,
    "ipv4/conf/default/accept_redirects": 0,
    "ipv6/conf/all/accept_redirects": 0,
    "ipv6/conf/default/accept_redirects": 0,
}


def load_modules() -> None:
    """Load what the lab needs; the other schedulers stay out, so that loading one can be tried.

    A failure shows in the next steps, and is none where a kernel has all this built in.
    """
    subprocess.run(["modprobe", "-a", *MODULES], timeout=30)


def make_nodes() -> None:
    """Create the namespaces and their sysctls, before any interface could inherit other values."""
    _ip("hub", [f"netns add {node}" for node in NODES])
    for node in NODES:
        with inside(node):
            _write(sysctls(node))


def wire_nodes(kind: str) -> None:
    """Create links, addresses, routes and rules."""
    _ip("hub", hub_lines(kind))
    if kind == USER_MODE_LINUX:
        _write({"ipv4/ip_forward": 1})  # between the tap and the directors' management network
    for node in NODES:
        _ip(node, node_lines(node))
    for node in REALS:
        _ip(node, [f"rule add from {lan6(node)} lookup {VIA_DIRECTOR}"], family="-6")


def sysctls(node: str) -> dict[str, int]:
    """The values below /proc/sys/net that make the node what it is."""
    values = dict(EVERY_NODE)
    if node == "router" or node in DIRECTORS:
        values |= FORWARDS
    if node in DIRECTORS:
        values |= NO_REDIRECTS_SENT
    if node in REALS:
        values |= SILENT_ABOUT_VIPS
    return values


def hub_lines(kind: str) -> list[str]:
    """Bridges and cables, seen from the room's own namespace."""
    lines = ["link set lo up"]
    if kind == USER_MODE_LINUX:
        # Routed, not bridged: a raw or tap transport may hand a bridge its own frames back.
        lines += ["link set vec0 up", f"addr add {ROOM_ADDRESS}/24 dev vec0"]
    for bridge in ("lan", "mgmt"):
        lines += [
            f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0",
            f"link set {bridge} addrgenmode none up",
        ]
    lines += [f"addr add {MANAGEMENT_GATEWAY}/24 dev mgmt"]
    lines += ["link add eth0 netns client type veth peer name eth1 netns router"]
    for node in LAN:
        lines += _cable(f"lan-{node}", "lan", "eth0", node)
    for node in DIRECTORS:
        lines += _cable(f"mgmt-{node}", "mgmt", "mgmt0", node)
    return lines


def node_lines(node: str) -> list[str]:
    """Addresses and routes of one node."""
    lines = ["link set lo up", "link set eth0 up"]
    if node == "client":
        return lines + [
            f"addr add {CLIENT}/24 dev eth0",
            f"addr add {CLIENT6}/64 dev eth0 nodad",
            "route add default via 10.0.0.1",
            "route add default via fd00:c::1",
        ]
    lines += [f"addr add {lan4(node)}/24 dev eth0", f"addr add {lan6(node)}/64 dev eth0 nodad"]
    if node == "router":
        return lines + [
            "link set eth1 up",
            "addr add 10.0.0.1/24 dev eth1",
            "addr add fd00:c::1/64 dev eth1 nodad",
        ]
    lines += [f"route add default via {lan4('router')}", f"route add default via {lan6('router')}"]
    return lines + (_director_lines(node) if node in DIRECTORS else _real_lines(node))


def _director_lines(node: str) -> list[str]:
    vip4, vip6 = (VIP, VIP6) if node == "director1" else (SPARE_VIP, SPARE_VIP6)
    return [
        f"addr add {vip4}/32 dev eth0",
        f"addr add {vip6}/128 dev eth0 nodad",
        "link set mgmt0 up",
        f"addr add 10.123.1.{LAN[node]}/24 dev mgmt0",
        f"route add 10.123.0.0/24 via {MANAGEMENT_GATEWAY}",
    ]


def _real_lines(node: str) -> list[str]:
    """Both of the article's modes at once: the source address of a reply decides which way it leaves.

    From its own address (masquerading) through director1, from a VIP (direct routing) straight to the router.
    """
    lines = [f"addr add {vip}/32 dev lo" for vip in (VIP, SPARE_VIP)]
    lines += [f"addr add {vip}/128 dev lo nodad" for vip in (VIP6, SPARE_VIP6)]
    return lines + [
        f"route add 192.168.50.0/24 dev eth0 table {VIA_DIRECTOR}",
        f"route add default via {lan4('director1')} table {VIA_DIRECTOR}",
        f"route add fd00:50::/64 dev eth0 table {VIA_DIRECTOR}",
        f"route add default via {lan6('director1')} table {VIA_DIRECTOR}",
        f"rule add from {lan4(node)} lookup {VIA_DIRECTOR}",
    ]


def _cable(name: str, bridge: str, interface: str, node: str) -> list[str]:
    return [
        f"link add {name} type veth peer name {interface} netns {node}",
        f"link set {name} master {bridge} addrgenmode none up",
    ]


def _ip(node: str, lines: list[str], family: str = "-4") -> None:
    command = ["ip", "-batch", "-"] if family == "-4" else ["ip", family, "-batch", "-"]
    with inside(node):
        subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True, timeout=30)


def _write(values: dict[str, int]) -> None:
    for name, value in values.items():
        (Path("/proc/sys/net") / name).write_text(f"{value}\n")
