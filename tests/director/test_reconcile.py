"""The loop: what checks, drains and profiles make of the table reaches the kernel, and nothing else does."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.director import reconcile
from cluster.director.apply import Director, restore, take
from cluster.director.health import News
from cluster.director.journal import Sequence as Numbers
from cluster.director.kernel import Answer
from cluster.director.lock import locked
from cluster.director.reconcile import Reconciler
from cluster.director.watch import Watch
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.plan import Step, plan
from cluster.ipvs.state import BackendKey, Table
from cluster.ipvs.stats import BackendCounters, Reading
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.checks import Check, Verdict
from cluster.ipvs.traffic.loads import settled
from cluster.ipvs.traffic.policy import (
    Drain,
    Hours,
    LoadRule,
    LoadSource,
    OnFailure,
    Policy,
    Profile,
    Target,
    Traffic,
)
from tests.director.stage import NOW, Stage, backend, service, table

ONE, TWO = backend(1, weight=4), backend(2, weight=4)
SHOP = service(1, ONE, TWO)
DOWN = Verdict(False, "connect timeout 3/3", NOW)
UP = Verdict(True, "", NOW)


class Theatre:
    """A worker with its loop, an order, and what the kernel holds afterwards."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.start()
        self.revision = 0

    def start(self) -> None:
        self.director: Director = self.stage.director()
        self.loop = Reconciler(self.director)

    def order(self, wanted: Table, **traffic: Any) -> None:
        self.revision += 1
        document = traffic_document.to_document(Traffic(**traffic))
        payload = {"table": to_document(wanted), "traffic": document}
        take(self.stage.order(wanted, payload=payload, revision=self.revision), self.director)
        assert self.stage.sent[-1]["payload"]["outcome"] == "applied", self.stage.sent[-1]["payload"]
        self.loop.round()

    def say(self, one: Any, verdict: Verdict) -> None:
        self.stage.checker.say(SHOP, one, verdict)
        self.loop.round()

    def later(self, seconds: float) -> None:
        self.stage.now += seconds
        self.loop.round()

    @property
    def weights(self) -> dict[str, int]:
        return {str(one.key): one.weight for shop in self.stage.actual for one in shop.backends}

    @property
    def told(self) -> list[tuple[str, str, str]]:
        reports = [said for said in self.stage.sent if said["event"] == "traffic"]
        changes = [change for said in reports for change in said["payload"]["changes"]]
        return [(change["target"], change["before"], change["standing"]) for change in changes]


def checked(**policy: Any) -> dict[str, Any]:
    return {"policies": {SHOP.key: Policy(check=Check(), **policy)}}


def test_a_backend_that_is_down_gets_no_new_connections_and_comes_back(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked())
    assert [one.backend for one in stage.checker.watched] == [ONE, TWO]
    play.say(ONE, DOWN)
    assert play.weights == {"10.0.0.1:80": 0, "10.0.0.2:80": 4}
    play.say(ONE, UP)
    assert play.weights == {"10.0.0.1:80": 4, "10.0.0.2:80": 4}
    name = f"10.0.0.1:80 of {SHOP.key}"
    assert play.told == [(name, "up", "down"), (name, "down", "up")]


def test_a_backend_that_is_down_leaves_the_table_where_the_policy_says_so(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked(on_failure=OnFailure.REMOVE))
    play.say(ONE, DOWN)
    assert play.weights == {"10.0.0.2:80": 4}
    play.say(ONE, UP)
    assert play.weights == {"10.0.0.1:80": 4, "10.0.0.2:80": 4}


def test_a_backend_that_comes_back_gets_its_weight_little_by_little(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked(ramp_s=40))
    play.say(ONE, DOWN)
    play.say(ONE, UP)
    seen = [play.weights["10.0.0.1:80"]]
    for _ in range(4):
        play.later(10)
        seen.append(play.weights["10.0.0.1:80"])
    assert seen == [1, 1, 2, 3, 4]
    assert [standing for _, _, standing in play.told] == ["down", "returning", "up"]


def test_a_restarted_worker_still_knows_who_is_down_and_who_is_returning(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked(ramp_s=40))
    play.say(TWO, DOWN)
    play.say(TWO, UP)
    play.say(ONE, DOWN)
    play.later(20)
    stage.kernel = type(stage.kernel)()  # the machine has been rebooted
    play.start()
    restore(play.director)
    play.loop.round()
    assert play.weights == {"10.0.0.1:80": 0, "10.0.0.2:80": 2}
    assert not [told for told in play.told if told[1] == "returning"]


def test_an_order_neither_wakes_the_dead_nor_forgets_a_drain(stage: Stage) -> None:
    play = Theatre(stage)
    drain = Drain(7, (Target(address="10.0.0.2"),), NOW)
    play.order(table(SHOP), **checked(), drains=(drain,))
    play.say(ONE, DOWN)
    wider = SHOP.with_backends([*SHOP.backends, backend(3, weight=4)])
    play.order(table(wider), **checked(), drains=(drain,))
    assert play.weights == {"10.0.0.1:80": 0, "10.0.0.2:80": 0, "10.0.0.3:80": 4}
    play.order(table(wider), **checked())
    assert play.weights == {"10.0.0.1:80": 0, "10.0.0.2:80": 4, "10.0.0.3:80": 4}


def test_a_planned_drain_begins_cuts_and_ends_by_the_directors_own_clock(stage: Stage) -> None:
    play = Theatre(stage)
    drain = Drain(7, (Target(SHOP.key, "10.0.0.1", 80),), NOW + 60, NOW + 180, NOW + 120)
    stage.is_broker_away = False
    play.order(table(SHOP), drains=(drain,))
    stage.is_broker_away = True
    seen = []
    for _ in range(4):
        seen.append(play.weights.get("10.0.0.1:80"))
        play.later(60)
    assert [*seen, play.weights.get("10.0.0.1:80")] == [4, 0, None, 4, 4]


def test_a_profile_holds_in_its_hours(stage: Stage) -> None:
    play = Theatre(stage)
    # NOW is 2027-01-15 08:00 UTC, a Friday.
    night = Profile(1, "night", {(SHOP.key, BackendKey("10.0.0.1", 80)): 9}, (Hours((4,), "20:00", "06:00"),))
    play.order(table(SHOP), profiles=(night,))
    assert play.weights["10.0.0.1:80"] == 4
    play.later(12 * 3600)
    assert play.weights["10.0.0.1:80"] == 9
    assert ("weights", "", "night") in play.told
    play.later(10 * 3600)
    assert play.weights["10.0.0.1:80"] == 4


def test_the_sorry_server_serves_while_nobody_else_does_and_all_down_is_told(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked(sorry=backend(9)))
    play.say(ONE, DOWN)
    play.say(TWO, DOWN)
    assert play.weights == {"10.0.0.1:80": 0, "10.0.0.2:80": 0, "10.0.0.9:80": 1}
    play.say(ONE, UP)
    assert play.weights == {"10.0.0.1:80": 4, "10.0.0.2:80": 0}
    told = [(before, after) for target, before, after in play.told if target.startswith("10.0.0.9")]
    assert told == [("spare", "sorry"), ("sorry", "spare")]


def test_nobody_left_is_loud(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked())
    play.say(ONE, DOWN)
    play.say(TWO, DOWN)
    assert (str(SHOP.key), "", "all down") in play.told


def test_what_somebody_else_changed_is_left_alone(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked())
    changed = table(SHOP.with_backends([ONE, TWO._replace(weight=9)]), service(5, backend(5)))
    stage.kernel.do(plan(stage.actual, changed, owned=stage.actual.keys).steps)
    play.say(ONE, DOWN)
    assert play.weights == {"10.0.0.1:80": 0, "10.0.0.2:80": 9, "10.0.0.5:80": 1}


def test_a_step_that_the_kernel_refuses_is_tried_again(stage: Stage, monkeypatch: Any) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked())

    def refuse(steps: Sequence[Step]) -> list[Answer]:
        return [Answer(step, errno.EINVAL) for step in steps]

    with monkeypatch.context() as patched:
        patched.setattr(stage.kernel, "do", refuse)
        play.say(ONE, DOWN)
    assert play.weights["10.0.0.1:80"] == 4
    play.loop.round()
    assert play.weights["10.0.0.1:80"] == 0


def test_the_lock_is_taken_only_where_something_is_to_be_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    @contextmanager
    def counting(path: Path, *, within_s: float) -> Iterator[None]:
        taken.append(stage.now)
        with locked(path, within_s=within_s):
            yield

    def rounds(count: int = 5) -> int:
        """How often the lock was taken, while others told their verdicts too."""
        before = len(taken)
        for _ in range(count):
            play.director.aim.hear([{}])
            play.later(1)
        return len(taken) - before

    monkeypatch.setattr(reconcile, "locked", counting)
    play = Theatre(stage)
    drain = Drain(7, (Target(SHOP.key, "10.0.0.2", 80),), NOW + 100)
    play.order(table(SHOP), **checked(ramp_s=4), drains=(drain,))
    rounds(1)
    assert rounds() == 0
    play.say(ONE, DOWN)
    assert play.weights["10.0.0.1:80"] == 0
    assert rounds() == 0
    play.say(ONE, UP)
    assert rounds(5) >= 4 and play.weights["10.0.0.1:80"] == 4, "a ramp has something to do each second"
    assert rounds() == 0
    play.later(NOW + 100 - stage.now)
    assert play.weights["10.0.0.2:80"] == 0 and rounds() == 0
    play.start()
    restore(play.director)
    rounds(1)
    assert rounds() == 0, "after a restart as well"


def test_a_verdict_that_comes_while_an_order_is_done_is_followed_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked())
    do = stage.kernel.do

    def hear_meanwhile(steps: Sequence[Step]) -> list[Answer]:
        play.director.aim.learn(News({(SHOP.key, ONE.key): DOWN}))
        return do(steps)

    wider = SHOP.with_backends([*SHOP.backends, backend(3)])
    with monkeypatch.context() as patched:
        patched.setattr(stage.kernel, "do", hear_meanwhile)
        play.order(table(wider), **checked())
    assert play.weights["10.0.0.1:80"] == 0


def test_an_order_under_way_is_not_overtaken(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked())
    play.director.aim.effective = None
    play.say(ONE, DOWN)
    assert play.weights["10.0.0.1:80"] == 4
    assert play.director.aim.effective is None


def test_a_frame_tells_what_the_kernel_is_meant_to_hold(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), **checked())
    play.say(ONE, DOWN)
    frames: list[Any] = []
    watch = Watch(
        play.director,
        key=stage.key,
        sequence=Numbers(stage.state_dir),
        put=lambda _, text: frames.append(stage.opened(text)),
        ask=lambda keys: [None for _ in keys],
    )
    watch.round()
    said = frames[-1]["payload"]
    assert said["wanted"] == said["fingerprint"] != ""
    assert said["observed"]["verdicts"][0]["reason"] == "connect timeout 3/3"
    outside = table(SHOP.with_backends([ONE, TWO]))
    stage.kernel.do(plan(stage.actual, outside, owned=stage.actual.keys).steps)
    watch.round()
    said = frames[-1]["payload"]
    assert said["wanted"] != said["fingerprint"]


def test_an_agent_says_how_much_its_backend_can_take(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP), policies={SHOP.key: Policy(load=LoadRule(port=8000))})
    assert [one.load for one in stage.checker.watched] == [LoadRule(port=8000)] * 2
    stage.checker.say_load(SHOP, ONE, 50)
    play.loop.round()
    assert play.weights == {"10.0.0.1:80": 2, "10.0.0.2:80": 4}
    stage.checker.say_load(SHOP, ONE, 25)
    play.loop.round()
    stage.checker.say_load(SHOP, ONE, 0)
    play.loop.round()
    assert play.weights == {"10.0.0.1:80": 0, "10.0.0.2:80": 4}
    assert [(before, after) for _, before, after in play.told] == [
        ("weight 4", "weight"),
        ("weight 2", "weight"),
        ("weight 1", "weight"),
    ]


def test_weights_follow_the_connections_within_their_limits(stage: Stage) -> None:
    play = Theatre(stage)
    rule = LoadRule(LoadSource.CONNECTIONS, least_percent=50)
    shop = service(1, ONE._replace(weight=100), TWO._replace(weight=100))
    play.order(table(shop), policies={shop.key: Policy(load=rule)})
    crowded = {
        (shop.key, ONE.key): BackendCounters(active=900),
        (shop.key, TWO.key): BackendCounters(active=100),
    }
    seen = []
    for _ in range(12):
        play.director.aim.reading = Reading(stage.actual, {}, crowded)
        play.later(6)
        seen.append(play.weights["10.0.0.1:80"])
    assert seen == sorted(seen, reverse=True) and seen[0] < 100 and 50 <= seen[-1] < 70
    assert play.weights["10.0.0.2:80"] == 100


def test_weights_end_where_the_panel_says_that_they_end(stage: Stage) -> None:
    play = Theatre(stage)
    rule = LoadRule(LoadSource.CONNECTIONS, least_percent=20)
    shop = service(1, ONE._replace(weight=100), TWO._replace(weight=100))
    play.order(table(shop), policies={shop.key: Policy(load=rule)})
    counted = {
        (shop.key, ONE.key): BackendCounters(active=400),
        (shop.key, TWO.key): BackendCounters(active=100),
    }
    held = play.director.aim.effective
    assert held is not None
    ends, rounds = settled(shop, rule, held, counted, {})
    for _ in range(rounds):
        play.director.aim.reading = Reading(stage.actual, {}, counted)
        play.later(6)
    assert ends == play.director.aim.observed.loads and rounds > 2
    assert play.weights["10.0.0.1:80"] == ends[shop.key, ONE.key] < 100


def test_a_table_is_in_memory_once_however_many_hold_it(stage: Stage) -> None:
    play = Theatre(stage)
    play.order(table(SHOP))
    record, held = play.director.journal.read(), play.director.aim.effective
    assert record and held and held.table.services[0] is record.ordered.table.services[0]
    play.start()
    restore(play.director)
    record, held = play.director.journal.read(), play.director.aim.effective
    assert record and held and held.table.services[0] is record.ordered.table.services[0]
