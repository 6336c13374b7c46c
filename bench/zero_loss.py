"""How many requests of real clients fail while backends and directors meet every kind of fault.

Two hundred clients keep their connections through both forwarding modes at once, and ten open a new one for
each request. `make bench` runs it after the measurements of speed; `python -m bench.zero_loss` runs it alone.

In direct routing a director sees nothing of what a server answers, and so remembers a closed connection for
two minutes and a refused one for one. With the kernel's default a new connection from the same port then goes
where the old one went, weight 0 or not. Hence expire_nodest_conn 1, for all that compete; conn_reuse_mode 3
helps closed connections alone.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.clients import Answers, Failure, percentile
from bench.goals import Figures, print_figures, print_goals, zero_loss_goals
from bench.orders import KEY, Orders
from bench.scene import CHECK, DIRECTOR, MODES, Program, both_services, clients_in, crowd, weights_in
from bench.scene_keepalived import Keepalived
from cluster.ipvs.state import Table
from cluster.ipvs.traffic.policy import Drain, Policy, Target, Traffic
from lab.door import LabError
from lab.host import Lab, up
from lab.layout import REALS, lan4

Say = Callable[[object], object]

FAULTS = {"kill -9": ("kill", "start"), "frozen": ("freeze", "thaw"), "unplugged": ("unplug", "plug")}
ROUNDS = 3
# Longer than it takes to find out, with three time limits and three intervals of a second each.
NOTICED_WITHIN_S = 20.0
# What a client that asks once a second, for at most two, may still tell of a moment ago.
ECHO_S = 3.5
OUTAGE_S = 60.0
WEIGHT_CHANGES = 1000


def choose_anew(lab: Lab) -> None:
    """Have the director choose a backend anew where a new connection comes from a port that it knows, and
    would go to one at weight 0."""
    command = [lab.python, "-m", "cluster.director", "sysctl", "expire_nodest_conn", "1"]
    done = lab.execute(DIRECTOR, command)
    if done.returncode:
        raise LabError(f"The director did not take expire_nodest_conn: {done.stderr}")


class Side(Protocol):
    """Who looks after the backends in a scene."""

    name: str

    def start(self) -> None:
        """Serve both services, with checks, and return when the kernel does."""

    def stop(self) -> None: ...


class Ours:
    """Our director, by signed orders to its real worker."""

    name = "ours"

    def __init__(self, lab: Lab) -> None:
        self.orders = Orders(lab, DIRECTOR)
        self._policies = {service.key: Policy(check=CHECK) for service in both_services()}

    def start(self) -> None:
        self.apply()

    def stop(self) -> None:
        return

    def apply(self, table: Table | None = None, *drains: Drain) -> None:
        self.orders.wait(self.send(table, *drains))

    def send(self, table: Table | None = None, *drains: Drain) -> str:
        return self.orders.send(table or both_services(), Traffic(self._policies, drains))


@dataclass
class Scene:
    """What was seen; complete when the block of `played` has ended."""

    answers: dict[str, Answers]
    weights: list[tuple[float, int, str, int | None]]

    @property
    def failures(self) -> list[Failure]:
        return [failure for one in self.answers.values() for failure in one.failures]

    @property
    def requests(self) -> int:
        return sum(one.requests for one in self.answers.values())

    def __str__(self) -> str:
        kinds = Counter(
            f"{failure.kind} of a {'new' if failure.is_new else 'kept'} connection"
            for failure in self.failures
        )
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        slowest = max(one.p99_ms for one in self.answers.values())
        return f"{len(self.failures)} of {self.requests} failed{said and f' ({said})'}, p99 {slowest:.0f} ms"


@contextmanager
def played(lab: Lab, *, clients: int = 200) -> Iterator[tuple[Scene, Program]]:
    """A scene with its clients on the stage, and the watch over the weights."""
    scene = Scene({}, [])
    with weights_in(lab) as watch, clients_in(lab, crowd(clients)) as people:
        yield scene, watch
    scene.answers |= Answers.read(people.said[-1])
    scene.weights += [(one["at"], one["port"], one["address"], one["weight"]) for one in watch.said]


def rolling_restart(lab: Lab, ours: Ours) -> Scene:
    """Every real server in turn is drained, ended politely, started and given its traffic back."""
    with played(lab) as (scene, _):
        for number, real in enumerate(REALS, 1):
            ours.apply(None, Drain(number, (Target(address=lan4(real)),), begins_at=time.time() - 1))
            lab.real_server("stop", real)
            lab.real_server("start", real)
            ours.apply()
            time.sleep(2)
    return scene


def worker_killed(lab: Lab, times: int = 3) -> Scene:
    """The director's worker dies and is started again by its service manager."""
    with played(lab) as (scene, _):
        for _ in range(times):
            lab.execute("hub", ["kill", "-9", str(worker_pid(lab))])
            time.sleep(1)
            worker_pid(lab)
            time.sleep(2)
    return scene


def redis_stopped(lab: Lab, seconds: float = OUTAGE_S) -> Scene:
    """Redis is away for a while; no panel runs either."""
    with played(lab) as (scene, _):
        lab.stop_redis()
        try:
            time.sleep(seconds)
        finally:
            lab.start_redis()
        time.sleep(2)
    return scene


def weight_changes(lab: Lab, ours: Ours, changes: int = WEIGHT_CHANGES, seconds: float = 60.0) -> Scene:
    """So many weights change, evenly over that time, by orders of two changes each."""
    with played(lab) as (scene, _):
        ours.apply()
        began = time.monotonic()
        orders = changes // len(MODES)
        for number in range(orders):
            time.sleep(max(0.0, began + number * seconds / orders - time.monotonic()))
            weights = [1, 1, 1]
            weights[number % 3] = 2 + number % 7
            run = ours.send(both_services(weights))
        ours.orders.wait(run)
        ours.apply()
    return scene


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a scene: from `began` to `noticed`, when neither service gave the backend new
    connections; `failed` requests began in between or went on then, `late` ones began after that."""

    began: float
    noticed: float
    failed: int
    late: int

    @property
    def seconds(self) -> float:
        return self.noticed - self.began


def backend_fault(
    lab: Lab, fault: str, rounds: int = ROUNDS, *, meanwhile: Callable[[], object] = lambda: None
) -> tuple[Scene, list[Fault]]:
    """The same fault befalls one real server after the other, at any moment between two checks; `meanwhile`
    is done while it is out."""
    do, undo = FAULTS[fault]
    times = []
    with played(lab) as (scene, watch):
        for number in range(rounds):
            real = REALS[number % len(REALS)]
            time.sleep(random.uniform(0, CHECK.interval_s))
            began = lab.real_server(do, real)
            try:
                noticed = _wait_for_weight(watch, real, began, is_out=True)
                meanwhile()
                time.sleep(ECHO_S)
            finally:
                undone = lab.real_server(undo, real)
            _wait_for_weight(watch, real, undone, is_out=False)
            times.append((began, noticed))
    return scene, [fault_of(scene, *one) for one in times]


def fault_of(scene: Scene, began: float, noticed: float) -> Fault:
    """Which of the failed requests this fault cost."""
    near = [failure for failure in scene.failures if began <= failure.ended <= noticed + ECHO_S]
    late = [failure for failure in near if failure.began > noticed]
    return Fault(began, noticed, len(near) - len(late), len(late))


def _wait_for_weight(watch: Program, real: str, since: float, *, is_out: bool) -> float:
    """When the last of both services has taken the server out, or has it back."""
    deadline = time.monotonic() + NOTICED_WITHIN_S
    while time.monotonic() < deadline:
        seen = {
            one["port"]: one["at"]
            for one in list(watch.said)
            if one["address"] == lan4(real) and one["at"] >= since and (not one["weight"]) == is_out
        }
        if len(seen) == len(MODES):
            return float(max(seen.values()))
        time.sleep(0.1)
    raise LabError(f"{real} {'kept its' if is_out else 'got no'} weight for {NOTICED_WITHIN_S:.0f} s.")


def worker_pid(lab: Lab) -> int:
    """That of the director's worker, once it runs."""
    deadline = time.monotonic() + NOTICED_WITHIN_S
    while time.monotonic() < deadline:
        if pid := lab.worker_pid(DIRECTOR):
            return pid
        time.sleep(0.1)
    raise LabError("The director's worker does not come back.")


def measure(folder: Path, say: Say, rounds: int = ROUNDS) -> Figures:
    """All scenes: ours in one lab, keepalived on the same faults in another."""
    figures: Figures = {}
    say("zero loss: a lab with our director")
    lab = up(folder / "ours", panel_public_key=KEY.public, attached=True, progress=lambda _: None)
    try:
        ours = Ours(lab)
        ours.start()
        choose_anew(lab)
        lab.stop_worker("director2")  # it has nothing to do here
        scenes: dict[str, Callable[[], Scene]] = {
            "every backend drained and restarted": lambda: rolling_restart(lab, ours),
            "worker killed and restarted": lambda: worker_killed(lab),
            "Redis and panel away for a minute": lambda: redis_stopped(lab),
            "1,000 weight changes in a minute": lambda: weight_changes(lab, ours),
        }
        for name, play in scenes.items():
            scene = play()
            say(f"zero loss: {name}: {scene}")
            figures[f"failed requests, {name}"] = [float(len(scene.failures))]
        _measure_faults(lab, ours, figures, say, rounds)
    finally:
        lab.down()
    say("zero loss: a lab with keepalived")
    lab = up(folder / "keepalived", panel_public_key=None, attached=True, progress=lambda _: None)
    try:
        keepalived = Keepalived(lab)
        keepalived.start()
        choose_anew(lab)
        try:
            _measure_faults(lab, keepalived, figures, say, rounds)
        finally:
            keepalived.stop()
    finally:
        lab.down()
    return figures


def _measure_faults(lab: Lab, side: Side, figures: Figures, say: Say, rounds: int) -> None:
    for name in FAULTS:
        scene, faults = backend_fault(lab, name, rounds)
        seconds = sorted(fault.seconds for fault in faults)
        say(
            f"zero loss: {side.name}, backend {name}: {scene}; no new connection after "
            f"{percentile(seconds, 50):.2f} s (p50), {percentile(seconds, 99):.2f} s (p99)"
        )
        figures[f"failed requests, {name}, {side.name}"] = [float(one.failed + one.late) for one in faults]
        figures[f"of them late, {name}, {side.name}"] = [float(one.late) for one in faults]
        figures[f"no new connection after, {name}, {side.name}"] = seconds


def main() -> int:
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), lambda text: print(f"bench: {text}", flush=True))
    except LabError as problem:
        print(f"bench: {problem}", file=sys.stderr, flush=True)
        return 1
    reached = zero_loss_goals(figures)
    print_figures(figures)
    print_goals(reached)
    return 0 if all(goal["met"] for goal in reached.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
