"""From single results of a check to a verdict: counts in a row, and backends that go up and down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.verdicts import Judge

TIMEOUT = "connect timeout"
Results = list[tuple[bool, float]]


def said(judge: Judge, results: str, *, begins: float = 0.0, every_s: float = 1.0) -> list[Verdict]:
    """What is said about results as `++-`, one every second."""
    taken = (
        judge.take(one == "+", "" if one == "+" else TIMEOUT, now=begins + number * every_s)
        for number, one in enumerate(results)
    )
    return [verdict for verdict in taken if verdict]


def test_a_backend_is_down_after_as_many_failures_in_a_row_as_were_asked_for() -> None:
    assert said(Judge(2, 3), "--+--+--") == [Verdict(True, "", 2.0)]
    assert said(Judge(2, 3), "---") == [Verdict(False, "connect timeout 3/3", 2.0)]


def test_a_backend_is_up_again_after_as_many_successes_in_a_row() -> None:
    judge = Judge(2, 1)
    assert said(judge, "-+-+-") == [Verdict(False, "connect timeout 1/1", 0.0)]
    assert said(judge, "++", begins=10) == [Verdict(True, "", 11.0)]


def test_a_verdict_is_said_once() -> None:
    assert said(Judge(1, 1), "+++---+++") == [
        Verdict(True, "", 0.0),
        Verdict(False, "connect timeout 1/1", 3.0),
        Verdict(True, "", 6.0),
    ]


def test_another_reason_is_told_and_the_backend_is_down_since_before() -> None:
    judge = Judge(1, 1)
    judge.take(False, TIMEOUT, now=5.0)
    assert judge.take(False, "HTTP status 503", now=9.0) == Verdict(False, "HTTP status 503 1/1", 5.0)


def test_a_restart_goes_on_from_the_verdict_that_is_known() -> None:
    down = Verdict(False, "connect timeout 3/3", 5.0)
    assert said(Judge(2, 3, known=down), "---") == []
    assert said(Judge(2, 3, known=down), "++", begins=50) == [Verdict(True, "", 51.0)]
    up = Verdict(True, "", 5.0)
    assert said(Judge(2, 3, known=up), "+--+--") == []


def test_a_backend_that_flaps_is_held_down_until_it_has_been_steady() -> None:
    judge = Judge(1, 1, flap_changes=3, flap_window_s=60)
    *_, held = said(judge, "+-+-")
    assert (held.is_up, held.is_flapping, held.since) == (False, True, 3.0)
    assert held.reason == "up and down too often: held until steady for 60 s"
    assert said(judge, "+" * 60, begins=4) == []
    assert said(judge, "++", begins=64) == [Verdict(True, "", 64.0)]


def test_a_backend_that_flaps_and_then_stays_down_is_down_for_its_own_reason() -> None:
    judge = Judge(1, 1, flap_changes=3, flap_window_s=60)
    said(judge, "+-+-")
    assert said(judge, "-" * 70, begins=4) == [Verdict(False, "connect timeout 1/1", 63.0)]


def test_changes_far_apart_are_no_flapping() -> None:
    assert not any(one.is_flapping for one in said(Judge(1, 1, 3, 60), "+-" * 20, every_s=31))


def test_a_held_backend_is_not_up_because_its_director_was_restarted() -> None:
    held = Verdict(False, "up and down too often: held until steady for 60 s", 0.0, True)
    judge = Judge(2, 3, 4, 60, held)
    # Long after it was held: the window begins anew, as nobody knows what it did meanwhile.
    assert said(judge, "-" * 55, begins=5_000) == []
    assert said(judge, "-" * 10, begins=5_055) == [Verdict(False, "connect timeout 3/3", 5_060.0)]
    assert said(judge, "++", begins=5_100) == [Verdict(True, "", 5_101.0)]


def test_a_held_backend_is_let_go_where_flapping_counts_no_more() -> None:
    held = Verdict(False, "up and down too often: held until steady for 60 s", 0.0, True)
    assert said(Judge(2, 3, 0, 60, held), "++", begins=100)[-1] == Verdict(True, "", 101.0)


results = st.lists(st.tuples(st.booleans(), st.floats(0.1, 30.0)), max_size=80)
counts = st.integers(1, 5)


@given(results, counts, counts)
def test_the_verdict_only_turns_after_the_count_in_a_row(results: Results, rise: int, fall: int) -> None:
    judge, now, is_up, in_row = Judge(rise, fall), 0.0, True, 0
    for good, pause in results:
        now += pause
        in_row = in_row + 1 if good != is_up else 0
        if in_row >= (rise if good else fall):
            is_up, in_row = good, 0
        verdict = judge.take(good, TIMEOUT, now=now)
        assert verdict is None or (verdict.is_up == is_up and not verdict.is_flapping)
        assert judge.known is None or judge.known.is_up == is_up


@given(results, counts, counts, st.integers(0, 4), st.booleans())
def test_no_restart_brings_a_backend_up_without_its_successes(
    results: Results, rise: int, fall: int, flap_changes: int, is_flapping: bool
) -> None:
    judge = Judge(rise, fall, flap_changes, 60, Verdict(False, "before", 0.0, is_flapping))
    now, in_row, risen = 1_000.0, 0, False
    for good, pause in results:
        now += pause
        in_row = in_row + 1 if good else 0
        risen = risen or in_row >= rise
        verdict = judge.take(good, TIMEOUT, now=now)
        assert risen or verdict is None or not verdict.is_up


@given(results, counts, counts, st.integers(2, 4))
def test_within_a_window_a_backend_turns_no_more_often_than_it_may(
    results: Results, rise: int, fall: int, flap_changes: int
) -> None:
    judge, now, ups = Judge(rise, fall, flap_changes, 60), 0.0, []
    for good, pause in results:
        now += pause
        verdict = judge.take(good, TIMEOUT, now=now)
        if verdict and verdict.is_up:
            ups.append(now)
    for at in ups:
        assert sum(at - 60 < other <= at for other in ups) <= flap_changes


@pytest.mark.parametrize("reason", ["HTTP status 503", "connection refused"])
def test_the_reason_says_how_many_failures_it_took(reason: str) -> None:
    judge = Judge(1, 4)
    *_, last = [judge.take(False, reason, now=now) for now in range(4)]
    assert last is not None and last.reason == f"{reason} 4/4"
