"""Nobody notices: not a drained backend, not a dead worker, not a Redis that is away. What a dead backend
costs is what came before it was found out.

The scenes are those of bench/zero_loss.py, shorter; there they run beside keepalived.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.orders import KEY
from bench.scene import both_services
from bench.zero_loss import (
    Ours,
    Scene,
    backend_fault,
    choose_anew,
    redis_stopped,
    rolling_restart,
    weight_changes,
    worker_killed,
    worker_pid,
)
from lab.host import Lab, up

pytestmark = pytest.mark.traffic


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of its own: its directors obey the bench's key instead of a panel's."""
    lab = up(tmp_path_factory.mktemp("zero-loss"), panel_public_key=KEY.public, attached=True)
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def ours(lab: Lab) -> Ours:
    ours = Ours(lab)
    ours.start()
    choose_anew(lab)
    lab.stop_worker("director2")
    return ours


def expect_no_loss(scene: Scene, *, requests: int) -> None:
    assert scene.failures == [], str(scene)
    assert scene.requests >= requests
    assert all(one.requests for one in scene.answers.values()), "both modes, kept and new connections"


def test_every_backend_is_drained_and_restarted_and_no_request_fails(lab: Lab, ours: Ours) -> None:
    scene = rolling_restart(lab, ours)
    expect_no_loss(scene, requests=500)
    assert [weight for _, _, _, weight in scene.weights] == [0, 0, 1, 1] * 3
    kept = [one for name, one in scene.answers.items() if name.endswith("kept")]
    assert sum(one.connections for one in kept) > 300, "each server sent its clients away once"


def test_the_worker_is_killed_and_no_request_fails(lab: Lab, ours: Ours) -> None:
    scene = worker_killed(lab, times=2)
    expect_no_loss(scene, requests=200)
    assert scene.weights == [], "a restart touches nothing"


def test_redis_is_away_and_no_request_fails(lab: Lab, ours: Ours) -> None:
    scene = redis_stopped(lab, seconds=6)
    expect_no_loss(scene, requests=200)
    assert scene.weights == []


def test_weights_change_all_the_time_and_no_request_fails(lab: Lab, ours: Ours) -> None:
    scene = weight_changes(lab, ours, changes=100, seconds=6)
    expect_no_loss(scene, requests=200)
    assert len(scene.weights) >= 100


@pytest.mark.parametrize("fault", ["kill -9", "frozen"])
def test_a_dead_backend_costs_only_what_came_before_it_was_found_out(
    lab: Lab, ours: Ours, fault: str
) -> None:
    scene, (found,) = backend_fault(lab, fault, rounds=1)
    assert found.failed > 0 and found.late == 0, str(scene)
    assert len(scene.failures) == found.failed, "nothing fails when it comes back"


def test_a_killed_worker_gives_a_dead_backend_nothing(lab: Lab, ours: Ours) -> None:
    def kill_worker() -> None:
        lab.execute("hub", ["kill", "-9", str(worker_pid(lab))])
        time.sleep(1)
        worker_pid(lab)
        time.sleep(4)

    scene, (found,) = backend_fault(lab, "kill -9", rounds=1, meanwhile=kill_worker)
    assert len(scene.failures) == found.failed > 0, str(scene)
    assert [weight for _, _, _, weight in scene.weights] == [0, 0, 1, 1], "not even for a moment"


def test_orders_all_the_time_neither_hide_a_dead_backend_nor_wake_it(lab: Lab, ours: Ours) -> None:
    over = threading.Event()

    def order_all_the_time() -> None:
        for number in itertools.count():
            if over.wait(0.2):
                return
            ours.send(both_services((2 + number % 3, 2 + number % 4, 2 + number % 5)))

    with ThreadPoolExecutor(1) as panel:
        ordering = panel.submit(order_all_the_time)
        try:
            scene, (found,) = backend_fault(lab, "kill -9", rounds=1)
        finally:
            over.set()
        ordering.result()
    ours.apply()
    assert len(scene.failures) == found.failed > 0 and found.late == 0, str(scene)


def test_with_redis_away_a_dead_backend_is_found_out_as_well(lab: Lab, ours: Ours) -> None:
    lab.stop_redis()
    try:
        scene, (found,) = backend_fault(lab, "kill -9", rounds=1)
    finally:
        lab.start_redis()
    assert found.failed > 0 and found.late == 0, str(scene)
