"""Weight profiles that would surprise their author are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cluster.ipvs.state import BackendKey, Protocol, ServiceKey
from cluster.ipvs.traffic.policy import Hours, Profile
from cluster.ipvs.traffic.profile_rules import hours_problems, overlapping, profile_problems

PLACE = ServiceKey(Protocol.TCP, "192.0.2.1", 80), BackendKey("10.0.0.1", 80)
DAY = Hours((0, 1), "08:00", "18:00", "Europe/Berlin")
SALE = Profile(1, "sale", {PLACE: 5}, (DAY,))
NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_a_sound_profile_has_no_problem() -> None:
    assert list(profile_problems(SALE, {PLACE})) == []


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        (replace(SALE, name=""), "name"),
        (replace(SALE, name="x" * 65), "name"),
        (replace(SALE, name="a\nb"), "name"),
        (replace(SALE, weights={}), "weights"),
        (replace(SALE, weights={PLACE: 65536}), "weights"),
        (replace(SALE, weights={(PLACE[0], BackendKey("10.0.0.2", 80)): 1}), "weights"),
        (replace(SALE, hours=(DAY,) * 21), "hours"),
    ],
)
def test_a_problem_names_its_field(profile: Profile, field: str) -> None:
    assert [problem.field for problem in profile_problems(profile, {PLACE})] == [field]


@pytest.mark.parametrize(
    ("hours", "field"),
    [
        (replace(DAY, days=()), "days"),
        (replace(DAY, days=(7,)), "days"),
        (replace(DAY, begins="8:00"), "begins"),
        (replace(DAY, ends="24:00"), "ends"),
        (replace(DAY, zone="Mars/Olympus"), "zone"),
        (replace(DAY, zone="../../etc/passwd"), "zone"),
        (replace(DAY, zone=""), "zone"),
    ],
)
def test_hours_that_no_clock_shows(hours: Hours, field: str) -> None:
    assert [problem.field for problem in hours_problems(hours)] == [field]


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (Hours((0,), "17:59", "20:00", "Europe/Berlin"), True),
        (Hours((0,), "18:00", "20:00", "Europe/Berlin"), False),
        (Hours((6,), "22:00", "08:01", "Europe/Berlin"), True),
        (Hours((6,), "22:00", "08:00", "Europe/Berlin"), False),
        (Hours((2,), "08:00", "08:00", "Europe/Berlin"), False),
        (Hours((1,), "08:00", "08:00", "Europe/Berlin"), True),
        # 16:30 UTC is after six in summer alone.
        (Hours((0,), "16:30", "16:45", "UTC"), True),
        (Hours((0,), "17:30", "17:45", "UTC"), False),
    ],
)
def test_hours_that_meet(hours: Hours, expected: bool) -> None:
    other = Profile(2, "other", {}, (hours,))
    assert overlapping(SALE, other, now=NOW) is overlapping(other, SALE, now=NOW) is expected
