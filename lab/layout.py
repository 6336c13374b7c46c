"""Names, addresses and paths that both sides of a lab agree on; values only, standard library only."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

HOST_KERNEL = "host kernel"
USER_MODE_LINUX = "user mode linux"
KINDS = (HOST_KERNEL, USER_MODE_LINUX)

HUB = "hub"  # the room's own network namespace, where the bridges are
DIRECTORS = ("director1", "director2")
REALS = ("real1", "real2", "real3")
NODES = ("client", "router", *DIRECTORS, *REALS)

CLIENT = "10.0.0.2"
CLIENT6 = "fd00:c::2"
VIP = "192.168.50.10"
VIP6 = "fd00:50::10"
SPARE_VIP = "192.168.50.20"
SPARE_VIP6 = "fd00:50::20"
LAN = {"router": 1, "director1": 2, "director2": 3, "real1": 11, "real2": 12, "real3": 13}

BROKER_ADDRESS = "10.123.0.1"  # Redis, on the machine's side
ROOM_ADDRESS = "10.123.0.2"  # the guest's end of the tap
MANAGEMENT_GATEWAY = "10.123.1.1"  # the room's end of the directors' management network
BROKER_URL = f"redis://{BROKER_ADDRESS}:6379/0"
AGENT_PORT = 7000

# A unix socket's address holds 107 characters; a deeper folder gets a short link to itself.
LONGEST_DIRECTORY = 80

MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_wlc", "veth", "bridge")

# Redis and the guest's kernel run as nobody: neither needs anything of the machine.
UNPRIVILEGED = 65534

# Inside a lab /run is a private tmpfs, so these paths are the same in both kinds of room and for every lab.
RUN = Path("/run/lab")
ROOM_STATE = RUN / "directors"
AGENT_SOCKET = RUN / "agent.sock"

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Settings:
    """What `up` decided and the processes of the lab are told, as one JSON argument."""

    kind: str
    directory: str  # the lab's folder on the machine
    project: str  # the project inside the room
    python: str  # the interpreter inside the room
    panel_public_key: str | None
    broker_persistent: bool
    cpu: int
    leash: int  # file descriptor of the socket to the process that called `up`

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Settings":
        return cls(**json.loads(text))


def lan4(node: str) -> str:
    """The IPv4 address of a node on the LAN."""
    return f"192.168.50.{LAN[node]}"


def lan6(node: str) -> str:
    """The IPv6 address of a node on the LAN; its last part reads like the IPv4 one."""
    return f"fd00:50::{LAN[node]}"


def short_path(directory: Path) -> Path:
    """The folder itself, or where its path is too long for the address of a socket in it, the short link
    that whoever prepares the folder makes."""
    if len(str(directory)) <= LONGEST_DIRECTORY:
        return directory
    return Path("/tmp") / f"lvs-lab-{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"
