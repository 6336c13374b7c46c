"""What a scene adds up to: which failed request is whose."""

from __future__ import annotations

from bench.clients import Answers, Failure
from bench.zero_loss import ECHO_S, Fault, Scene, fault_of


def scene(*failures: Failure) -> Scene:
    kept = Answers(100, 10, 0, 1.0, 2.0, failures[:1])
    new = Answers(50, 50, 0, 1.0, 20.0, failures[1:])
    return Scene({"kept": kept, "new": new}, [])


def failed(began: float, ended: float) -> Failure:
    return Failure(began, ended, "timeout", False)


def test_what_was_in_flight_and_what_came_before_the_verdict_is_of_the_fault_and_later_ones_are_late() -> (
    None
):
    in_flight, before, across, late = failed(9, 11), failed(11, 12), failed(13, 15), failed(14.5, 16.5)
    elsewhere = failed(8, 9.5), failed(20, 14 + ECHO_S + 9)
    seen = scene(in_flight, before, across, late, *elsewhere)
    assert fault_of(seen, began=10, noticed=14) == Fault(10, 14, failed=3, late=1)


def test_a_scene_tells_what_failed_in_one_line() -> None:
    said = str(scene(failed(1, 3), Failure(1, 1, "refused", True)))
    assert said == (
        "2 of 150 failed (1 refused of a new connection, 1 timeout of a kept connection), p99 20 ms"
    )
    assert str(scene()) == "0 of 150 failed, p99 20 ms"
