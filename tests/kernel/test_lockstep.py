"""A random walk that both kernels take together: no answer and no table may ever differ.

For longer than a check of a commit may take, in the lab:
`python -m lab exec director1 -- env LOCKSTEP_STEPS=100000 python -m pytest tests/kernel/test_lockstep.py`
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from cluster.director.kernel import Kernel
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.settings import DEFAULT_TIMEOUTS, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Tunnel,
    TunnelKind,
    canonical_address,
)
from tests.kernel import raw

STEPS = int(os.environ.get("LOCKSTEP_STEPS", "5000"))
STEPS_A_WALK = 100
ACTS_BETWEEN_TABLES = 20
INTERFACES = {"lo": 65536, "dummy0": 1500}

MARK, TCP, UDP, SCTP = Protocol.FIREWALL_MARK, Protocol.TCP, Protocol.UDP, Protocol.SCTP
KEYS = [
    ServiceKey(TCP, "192.0.2.1", 80),
    ServiceKey(TCP, "192.0.2.1", 0),
    ServiceKey(UDP, "192.0.2.1", 80),
    ServiceKey(SCTP, "2001:db8::1", 65535),
    ServiceKey(UDP, "2001:db8::1", 5060),
    ServiceKey(TCP, canonical_address("::ffff:192.0.2.1"), 80),
    ServiceKey(Protocol(50), "192.0.2.1", 0),
    ServiceKey(TCP, "0.0.0.0", 0),
    ServiceKey(MARK, "0.0.0.0", 0, 0),
    ServiceKey(MARK, "0.0.0.0", 0, 1),
    ServiceKey(MARK, "::", 0, 1),
    ServiceKey(MARK, "::", 0, 2**32 - 1),
]
GOOD_SCHEDULERS = [
    "none",
    "rr",
    "wrr",
    "lc",
    "wlc",
    "fo",
    "ovf",
    "lblc",
    "lblcr",
    "dh",
    "sh",
    "mh",
    "sed",
    "nq",
]
BAD_SCHEDULERS = ["foo", "", "x" * 15, "x" * 16, "wlc ", "RR", "sched-ö"]
FLAGS = [0, 0, 0x4, 0x8, 0x10, 0x20, 0x38, 0x3C, 0x40]
ENGINES = ["", "", "sip"]
BAD_ENGINES = ["foo", "x" * 15, "x" * 16, "x" * 17]
ADDRESSES = {
    4: ["10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1", "240.0.0.1"],
    6: ["fd00::1", "fd00::2", "::1", canonical_address("::10.0.0.1"), "fec0::1"],
}
BAD_ADDRESSES = {
    4: ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255"],
    6: ["::", "fe80::1", "ff02::1", canonical_address("::ffff:10.0.0.1")],
}
WEIGHTS = [0, 1, 100, 65535, 2**31 - 1]
BAD_WEIGHTS = [-1, -(2**31), 2**31]
THRESHOLDS = [(0, 0), (0, 0), (10, 5), (10, 10), (2**32 - 1, 0)]
BAD_THRESHOLDS = [(0, 5), (5, 10), (2**32, 0), (-1, 0)]


@dataclass(frozen=True)
class Call:
    """A setting that is asked of a kernel by its method's name."""

    name: str
    arguments: tuple[Any, ...]


Act = Step | Call
_Value = TypeVar("_Value")


class Walk(RuleBasedStateMachine):
    """One walk from an empty table on. Hypothesis takes many, and leaves out what a difference needs not."""

    netlink: ClassVar[NetlinkKernel]

    def __init__(self) -> None:
        super().__init__()
        _empty(self.netlink)
        self.memory = MemoryKernel(interfaces=INTERFACES)
        self.acts = 0

    # From a seed, so that few values are extreme: hypothesis by itself likes those.
    @rule(seed=st.integers(0, 2**32 - 1))
    def act(self, seed: int) -> None:
        act = _act(random.Random(seed))
        note(repr(act))
        assert do(self.netlink, act) == do(self.memory, act)
        # What was touched after each act, all of it now and then: reading is what takes the time.
        touched = [act.service.key] if isinstance(act, Step) else []
        is_time = self.acts % ACTS_BETWEEN_TABLES == 0
        self.acts += 1
        self._compare(None if is_time else touched)
        if isinstance(act, Call):
            ours, theirs = self.memory.read_settings(), self.netlink.read_settings()
            assert (theirs.timeouts, theirs.daemons) == (ours.timeouts, ours.daemons)

    def teardown(self) -> None:
        self._compare(None)

    def _compare(self, keys: list[ServiceKey] | None) -> None:
        ours, theirs = (
            kernel.read().table if keys is None else kernel.read_services(keys)
            for kernel in (self.memory, self.netlink)
        )
        assert theirs == ours


@pytest.mark.kernel
def test_no_answer_and_no_table_ever_differ(netlink: NetlinkKernel) -> None:
    for words in ("link add dummy0 type dummy", "address add 10.77.0.1/24 dev dummy0", "link set dummy0 up"):
        subprocess.run(["ip", *words.split()], check=True, timeout=10)
    Walk.netlink = netlink
    walks = max(1, STEPS // STEPS_A_WALK)
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=walks,
            stateful_step_count=STEPS_A_WALK,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def do(kernel: Kernel, act: Act) -> int:
    if isinstance(act, Step):
        return kernel.do([act])[0].errno
    return raw.errno_of(lambda: getattr(kernel, act.name)(*act.arguments))


def _empty(netlink: NetlinkKernel) -> None:
    raw.order(raw.FLUSH)
    for daemon in netlink.read_settings().daemons:
        netlink.stop_daemon(daemon.role)
    netlink.set_timeouts(DEFAULT_TIMEOUTS)


def _act(dice: random.Random) -> Act:
    if dice.random() < 0.1:
        return _call(dice)
    # Few services and many backends, as in life; removing is rarer, so that there is something to meet.
    operation = dice.choices(list(Operation), [5, 4, 2, 12, 6, 3])[0]
    key = dice.choice(KEYS)
    if operation in (Operation.ADD_SERVICE, Operation.SET_SERVICE, Operation.REMOVE_SERVICE):
        return Step(operation, _service(dice, key))
    return Step(operation, Service(key), _backend(dice, key.family))


def _service(dice: random.Random, key: ServiceKey) -> Service:
    held = None
    if dice.random() < 0.5:
        masks = [0, 1, 64, 128, 129] if key.family == 6 else [0, 0xFFFFFF00, 0xFF00FF00, 0xFFFFFFFF]
        # Longer ones the kernel keeps modulo its ticks.
        timeout_s = dice.choice([0, 1, 300, 2_678_400, 4_294_967])
        held = Persistence(timeout_s, dice.choice(masks), _mostly(dice, ENGINES, BAD_ENGINES))
    flags = ServiceFlags(dice.choice(FLAGS))
    return Service(key, _mostly(dice, GOOD_SCHEDULERS, BAD_SCHEDULERS), flags, held)


def _backend(dice: random.Random, service_family: int) -> Backend:
    family = service_family if dice.random() < 0.85 else 10 - service_family
    forwarding = Forwarding(dice.choice([0, 0, 0, 1, 2, 2, 2, 3, 3, 4, 7, 8, 10]))
    upper, lower = _mostly(dice, THRESHOLDS, BAD_THRESHOLDS)
    tunnel = None
    if forwarding is Forwarding.TUNNEL:
        kind = TunnelKind(dice.choice([0, 1, 2, 9]))
        tunnel = Tunnel(kind, dice.choice([0, 6080, 65535]), dice.choice([0, 1, 2, 3, 65535]))
    return Backend(
        _mostly(dice, ADDRESSES[family], BAD_ADDRESSES[family]),
        dice.choice([0, 80, 65535]),
        forwarding,
        _mostly(dice, WEIGHTS, BAD_WEIGHTS),
        upper,
        lower,
        tunnel,
    )


def _call(dice: random.Random) -> Call:
    role = dice.choice(list(SyncRole))
    match dice.randrange(5):
        case 0:
            # Between 2147483 and what the kernel's ticks allow lies what only some kernels refuse.
            seconds = [0, 0, 1, 900, 2_147_483, -1, 2**31 - 1, 2**31]
            return Call("set_timeouts", (Timeouts(*(dice.choice(seconds) for _ in range(3))),))
        case 1:
            return Call("start_daemon", (_daemon(dice, role),))
        case 2 | 3:
            return Call("stop_daemon", (role,))
        case _:
            return Call("zero", (dice.choice([None, *KEYS]),))


def _daemon(dice: random.Random, role: SyncRole) -> SyncDaemon:
    return SyncDaemon(
        role,
        dice.choice(["lo", "dummy0", "dummy0", "nope", "", "x" * 15, "x" * 16]),
        dice.choice([0, 1, 255, 256, -1]),
        dice.choice(["", "", "224.0.0.81", "239.1.2.3", "10.0.0.1", "fd00::1"]),
        dice.choice([0, 8848, 65535, 65536]) if dice.random() < 0.3 else 0,
        dice.choice([0, 1, 255, 256]) if dice.random() < 0.3 else 0,
        dice.choice([0, 1, 1024, 1472, 65487, 65535]),
    )


def _mostly(dice: random.Random, good: Sequence[_Value], bad: Sequence[_Value]) -> _Value:
    return dice.choice(good if dice.random() < 0.9 else bad)
