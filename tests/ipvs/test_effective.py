"""What the kernel is to hold: who takes connections when backends die, are drained, come back, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.state import Backend, BackendKey, Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check, Verdict
from cluster.ipvs.traffic.effective import Effective, Standing, effective, next_switch, profile_at, within
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import (
    Drain,
    Hours,
    LoadRule,
    OnFailure,
    Place,
    Policy,
    Profile,
    Target,
    Traffic,
)
from cluster.ipvs.traffic.verdicts import Judge
from tests.ipvs.tables import few, tables

NOW = 1_000_000.0
KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
OTHER = ServiceKey(Protocol.TCP, "192.0.2.1", 443)
BACKENDS = tuple(Backend(f"10.0.0.{number}", 80, weight=10 * number) for number in (1, 2, 3, 4))
ONE, TWO, THREE, FOUR = (backend.key for backend in BACKENDS)
SHOP = Service(KEY, "wrr", backends=BACKENDS)
TABLE = Table((SHOP, Service(OTHER, "wrr", backends=BACKENDS)))
CHECKED = Policy(Check())
WORKDAYS = (0, 1, 2, 3, 4)


def down(*backends: BackendKey, since: float = NOW - 60, key: ServiceKey = KEY) -> dict[Place, Verdict]:
    return {(key, one): Verdict(False, "connect timeout 3/3", since + at) for at, one in enumerate(backends)}


def of(policy: Policy = CHECKED, *, now: float = NOW, **said: object) -> Effective:
    """The table under one policy; what was observed, drains and profiles by name."""
    seen = Observed(**{name: said.pop(name) for name in ("verdicts", "returning", "loads") if name in said})  # type: ignore[arg-type]
    return effective(TABLE, Traffic({KEY: policy}, **said), seen, now=now)  # type: ignore[arg-type]


def weights(found: Effective, key: ServiceKey = KEY) -> list[int | None]:
    """Of the four backends; None for one that is not in the table."""
    held = {backend.key: backend.weight for backend in found.table.by_key[key].backends}
    return [held.get(backend.key) for backend in BACKENDS]


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


# Failures.


def test_a_backend_that_is_down_takes_no_new_connections_and_keeps_its_own() -> None:
    found = of(verdicts=down(TWO))
    assert weights(found) == [10, 0, 30, 40] and weights(found, OTHER) == [10, 20, 30, 40]
    note = found.notes[KEY, TWO]
    assert (note.standing, note.cause) == (Standing.DOWN, "connect timeout 3/3")


def test_a_service_can_have_its_dead_backends_removed_instead() -> None:
    found = of(replace(CHECKED, on_failure=OnFailure.REMOVE), verdicts=down(TWO))
    assert weights(found) == [10, None, 30, 40]
    assert found.notes[KEY, TWO].standing is Standing.REMOVED


def test_without_a_check_an_old_verdict_says_nothing() -> None:
    assert weights(of(Policy(ramp_s=5), verdicts=down(TWO))) == [10, 20, 30, 40]


def test_a_check_of_one_backend_alone_judges_that_one_alone() -> None:
    found = of(Policy(None, {TWO: Check()}), verdicts=down(ONE, TWO))
    assert weights(found) == [10, 0, 30, 40]


def test_a_backend_that_flaps_says_so_once() -> None:
    judge = Judge(1, 1, flap_changes=2)
    for second, is_up in enumerate((True, False, True)):
        verdict = judge.take(is_up, "refused", now=NOW + second)
    assert verdict and verdict.is_flapping
    cause = of(verdicts={(KEY, ONE): verdict}).notes[KEY, ONE].cause
    assert cause == "up and down too often: held until steady for 300 s"


def test_no_more_than_the_share_is_taken_out_and_the_longest_down_go_first() -> None:
    found = of(replace(CHECKED, most_out_percent=50), verdicts=down(FOUR, ONE, TWO))
    assert weights(found) == [0, 20, 30, 0]
    note = found.notes[KEY, TWO]
    assert note.standing is Standing.KEPT and "at most 50 %" in note.cause


def test_drained_backends_count_into_the_share() -> None:
    drain = Drain(1, (Target(KEY, ONE.address, ONE.port),), 0.0)
    found = of(replace(CHECKED, most_out_percent=50), verdicts=down(TWO, THREE), drains=(drain,))
    assert weights(found) == [0, 0, 30, 40]


def test_who_has_no_weight_does_not_count_into_the_share() -> None:
    off = Profile(1, "night", {(KEY, ONE): 0, (KEY, TWO): 0}, pinned=True)
    found = of(replace(CHECKED, most_out_percent=50), verdicts=down(ONE, THREE, FOUR), profiles=(off,))
    assert weights(found) == [0, 0, 0, 40]
    assert found.notes[KEY, ONE].standing is Standing.DOWN


def test_a_dead_backend_to_which_a_profile_gives_weight_gets_none() -> None:
    table = Table((SHOP.with_backends([BACKENDS[0]._replace(weight=0), *BACKENDS[1:]]),))
    busy = Profile(1, "busy", {(KEY, ONE): 50}, pinned=True)
    seen = Observed(down(ONE))
    found = effective(table, Traffic({KEY: CHECKED}, profiles=(busy,)), seen, now=NOW)
    assert weights(found)[0] == 0 and found.notes[KEY, ONE].standing is Standing.DOWN


def test_a_sorry_server_serves_while_nobody_else_does() -> None:
    policy = replace(CHECKED, sorry=Backend("10.0.9.9", 8080, weight=0))
    all_down = of(policy, verdicts=down(ONE, TWO, THREE, FOUR))
    (sorry,) = (one for one in all_down.table.by_key[KEY].backends if one.address == "10.0.9.9")
    assert sorry.weight == 1 and all_down.notes[KEY, sorry.key].standing is Standing.SORRY
    one_up = of(policy, verdicts=down(ONE, TWO, THREE))
    assert len(one_up.table.by_key[KEY].backends) == 4


def test_with_a_share_of_all_but_one_no_sorry_server_is_needed() -> None:
    policy = replace(CHECKED, sorry=Backend("10.0.9.9", 8080), most_out_percent=75)
    found = of(policy, verdicts=down(ONE, TWO, THREE, FOUR))
    assert weights(found) == [0, 0, 0, 40] and len(found.table.by_key[KEY].backends) == 4


# Drains.


@pytest.mark.parametrize(
    ("target", "shop", "other"),
    [
        (Target(KEY), [0, 0, 0, 0], [10, 20, 30, 40]),
        (Target(None, TWO.address), [10, 0, 30, 40], [10, 0, 30, 40]),
        (Target(None, TWO.address, 81), [10, 20, 30, 40], [10, 20, 30, 40]),
        (Target(OTHER, TWO.address, 80), [10, 20, 30, 40], [10, 0, 30, 40]),
        (Target(OTHER, TWO.address), [10, 20, 30, 40], [10, 0, 30, 40]),
    ],
)
def test_a_drain_covers_a_service_a_host_or_one_backend(
    target: Target, shop: list[int], other: list[int]
) -> None:
    found = effective(TABLE, Traffic(drains=(Drain(7, (target,), 0.0),)), Observed(), now=NOW)
    assert (weights(found), weights(found, OTHER)) == (shop, other)
    drained = {place for place, note in found.notes.items() if note.standing is Standing.DRAINING}
    assert len(drained) == (shop + other).count(0) and all(found.notes[one].drain == 7 for one in drained)


def test_a_drain_begins_cuts_and_ends_by_the_clock() -> None:
    drain = Drain(1, (Target(KEY, ONE.address, 80),), NOW, ends_at=NOW + 100, cut_at=NOW + 50)
    first = [weights(of(Policy(), now=NOW + after, drains=(drain,)))[0] for after in (-0.1, 0, 49.9, 50, 100)]
    assert first == [10, 0, 0, None, 10]


def test_of_two_drains_that_cover_a_backend_the_one_that_cuts_first_counts() -> None:
    target = (Target(KEY, ONE.address, 80),)
    found = of(Policy(), drains=(Drain(1, target, 0.0), Drain(2, target, 0.0, cut_at=NOW)))
    assert found.notes[KEY, ONE].standing is Standing.CUT and found.notes[KEY, ONE].drain == 2


# Ramps and loads.


def test_a_backend_that_comes_back_gets_its_weight_bit_by_bit() -> None:
    policy, up = replace(CHECKED, ramp_s=60), {(KEY, FOUR): Verdict(True, "", NOW)}
    said = [
        weights(of(policy, now=NOW + after, verdicts=up, returning={(KEY, FOUR): NOW}))[3]
        for after in (-5, 0, 15, 30, 59, 60)
    ]
    assert said == [1, 1, 10, 20, 39, 40]


def test_a_load_moves_the_weight_within_the_limits() -> None:
    policy = Policy(load=LoadRule(least_percent=20, most_percent=150))
    loads = {(KEY, ONE): 0, (KEY, TWO): 50, (KEY, THREE): 5, (KEY, FOUR): 200}
    found = of(policy, loads=loads)
    assert weights(found) == [0, 10, 6, 60]
    assert found.notes[KEY, ONE].cause == "its agent wants to be drained"
    assert found.notes[KEY, TWO].cause == "load: 50 % of 20"
    assert weights(of(Policy(), loads=loads)) == [10, 20, 30, 40]


def test_a_load_counts_on_top_of_a_profile() -> None:
    busy = Profile(1, "busy", {(KEY, TWO): 80}, pinned=True)
    found = of(Policy(load=LoadRule()), loads={(KEY, TWO): 50}, profiles=(busy,))
    assert weights(found) == [10, 40, 30, 40]
    assert found.notes[KEY, TWO].cause == "profile busy, load: 50 % of 80"


# Profiles and hours.

DAY = Profile(1, "day", {(KEY, ONE): 7}, (Hours(WORKDAYS, "08:00", "18:00", "Europe/Berlin"),))
SALE = Profile(2, "sale", {(KEY, ONE): 70}, (Hours((0,), "12:00", "13:00", "Europe/Berlin"),))


def test_the_pinned_profile_holds_else_the_first_in_its_hours() -> None:
    noon = at("2026-03-02 12:30", "Europe/Berlin")
    assert profile_at((DAY, SALE), noon) == DAY and profile_at((SALE, DAY), noon) == SALE
    pinned = replace(SALE, pinned=True)
    assert profile_at((DAY, pinned), noon) == profile_at((DAY, pinned), noon + 86400 * 5) == pinned
    assert profile_at((DAY, SALE), at("2026-03-01 12:30", "Europe/Berlin")) is None


def test_a_profile_moves_the_weights_that_it_names_alone() -> None:
    found = effective(
        TABLE, Traffic(profiles=(DAY,)), Observed(), now=at("2026-03-02 08:00", "Europe/Berlin")
    )
    assert weights(found) == [7, 20, 30, 40] and found.profile == DAY
    assert found.notes[KEY, ONE].cause == "profile day"


@pytest.mark.parametrize(
    ("hours", "moment", "expected"),
    [
        (Hours((0,), "08:00", "18:00"), "2026-03-02 07:59:59", False),
        (Hours((0,), "08:00", "18:00"), "2026-03-02 08:00", True),
        (Hours((0,), "08:00", "18:00"), "2026-03-02 18:00", False),
        (Hours((0,), "08:00", "18:00"), "2026-03-03 12:00", False),
        # Past midnight the hours belong to the day on which they began: Sunday night into Monday.
        (Hours((6,), "22:00", "06:00"), "2026-03-01 23:00", True),
        (Hours((6,), "22:00", "06:00"), "2026-03-02 05:59", True),
        (Hours((6,), "22:00", "06:00"), "2026-03-02 06:00", False),
        (Hours((6,), "22:00", "06:00"), "2026-03-01 05:00", False),
        (Hours((6,), "22:00", "06:00"), "2026-03-02 23:00", False),
        # All day where it ends as it begins.
        (Hours((2,), "00:00", "00:00"), "2026-03-04 00:00", True),
        (Hours((2,), "09:00", "09:00"), "2026-03-04 23:59", True),
        (Hours((2,), "09:00", "09:00"), "2026-03-05 00:00", False),
        (Hours((0,), "22:00", "00:00"), "2026-03-02 23:59", True),
        (Hours((0,), "22:00", "00:00"), "2026-03-03 00:00", False),
    ],
)
def test_hours_by_the_clock(hours: Hours, moment: str, expected: bool) -> None:
    assert within(hours, at(moment)) is expected
    moved = replace(hours, zone="Asia/Kolkata")
    assert within(moved, at(moment, "Asia/Kolkata")) is expected


def test_hours_follow_the_zones_clock_through_the_change_to_summer_time() -> None:
    night = Hours((6,), "01:30", "03:30", "Europe/Berlin")
    # On 29 March 2026 the clock goes from 02:00 to 03:00: two hours on the wall are one.
    begins = at("2026-03-29 00:30")
    assert [within(night, begins + minutes * 60) for minutes in (-1, 0, 59, 60, 61)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    skipped = Hours((6,), "02:15", "02:45", "Europe/Berlin")
    assert not any(within(skipped, at("2026-03-29 00:00") + minute * 60) for minute in range(180))
    # It begins in the hour that is left out, so it is on from its end.
    into = Hours((6,), "02:15", "04:00", "Europe/Berlin")
    assert not within(into, at("2026-03-29 00:59:59")) and within(into, at("2026-03-29 01:00"))


def test_hours_come_twice_where_the_clock_is_put_back() -> None:
    twice = Hours((6,), "02:15", "02:45", "Europe/Berlin")
    on = [minute for minute in range(240) if within(twice, at("2026-10-24 23:00") + minute * 60)]
    assert on == [*range(75, 105), *range(135, 165)]


def test_in_a_zone_that_nobody_knows_utc_counts() -> None:
    for zone in ("Mars/Olympus", "", "../etc/passwd", "Europe", "\0", "x" * 5000):
        assert within(Hours((0,), "08:00", "09:00", zone), at("2026-03-02 08:30"))


def _first_change(profiles: tuple[Profile, ...], now: float) -> tuple[float, Profile | None] | None:
    """What next_switch says, by trying every minute of a week and the hour that a week may be longer."""
    holds = profile_at(profiles, now)
    minutes = (now - now % 60 + 60 * number for number in range(1, 8 * 1440))
    return next(((at, then) for at in minutes if (then := profile_at(profiles, at)) != holds), None)


_clocks = st.sampled_from(["00:00", "02:15", "02:45", "08:00", "13:37", "23:59"])
_hours = st.builds(
    Hours,
    st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True).map(tuple),
    _clocks,
    _clocks,
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
_profiles = st.lists(st.lists(_hours, max_size=2).map(tuple), max_size=3).map(
    lambda found: tuple(Profile(number, str(number), hours=hours) for number, hours in enumerate(found))
)


@few
@given(
    _profiles,
    st.sampled_from(["2026-03-28 20:10", "2026-10-24 20:10", "2026-10-03 09:00", "2026-06-01 00:00"]),
)
def test_the_next_switch_is_when_the_director_will_switch(profiles: tuple[Profile, ...], begin: str) -> None:
    now = at(begin)
    assert next_switch(profiles, now) == _first_change(profiles, now)


def test_no_hours_are_no_next_switch() -> None:
    assert next_switch((), NOW) is next_switch((replace(SALE, hours=()),), NOW) is None
    assert next_switch((replace(DAY, pinned=True),), NOW) is None
    always = Profile(1, "all", hours=(Hours(tuple(range(7)), "00:00", "00:00"),))
    assert next_switch((always,), NOW) is None


# Whatever the table.


@few
@given(tables)
def test_a_table_that_nothing_moves_is_the_very_same(table: Table) -> None:
    found = effective(table, Traffic(), Observed(), now=NOW)
    assert found.table is table
    assert not found.notes
    for service in table:
        for backend in service.backends:
            note = found.note(service.key, backend)
            assert (note.standing, note.weight) == (Standing.UNCHECKED, backend.weight)


_policies = st.builds(
    Policy,
    st.none() | st.just(Check()),
    on_failure=st.sampled_from(OnFailure),
    most_out_percent=st.integers(0, 100),
    ramp_s=st.sampled_from([0, 60]),
    sorry=st.none() | st.just(Backend("10.0.9.9", 80)),
    load=st.none() | st.just(LoadRule()),
)


@few
@given(tables, st.data())
def test_what_is_said_of_a_backend_is_what_the_table_has(table: Table, data: st.DataObject) -> None:
    places = [(service.key, backend.key) for service in table for backend in service.backends]
    some = st.lists(st.sampled_from(places), unique=True) if places else st.just([])
    targets = [Target(key, backend.address, backend.port) for key, backend in data.draw(some)]
    traffic = Traffic(
        {service.key: data.draw(st.none() | _policies) or Policy() for service in table},
        (Drain(1, tuple(targets), 0.0, cut_at=data.draw(st.sampled_from([None, NOW]))),),
        (Profile(1, "p", {place: data.draw(st.integers(0, 9)) for place in data.draw(some)}, pinned=True),),
    )
    seen = Observed(
        {one: Verdict(False, "no", NOW - data.draw(st.integers(0, 9))) for one in data.draw(some)},
        dict.fromkeys(data.draw(some), NOW - 30),
        {one: data.draw(st.integers(0, 300)) for one in data.draw(some)},
    )
    found = effective(table, traffic, seen, now=NOW)
    held = {(service.key, one.key): one.weight for service in found.table for one in service.backends}
    out_of_it = {Standing.CUT, Standing.REMOVED}
    notes = dict(found.notes) | {
        (service.key, one.key): found.note(service.key, one) for service in table for one in service.backends
    }
    assert held == {place: note.weight for place, note in notes.items() if note.standing not in out_of_it}
    for service in table:
        policy = traffic.policies[service.key]
        gone = [
            (service.key, one.key)
            for one in service.backends
            if notes[service.key, one.key].standing in {Standing.DOWN, Standing.REMOVED}
        ]
        bases = {one: traffic.profiles[0].weights.get(one, 0) for one in gone}
        bases |= {
            (service.key, one.key): one.weight
            for one in service.backends
            if (service.key, one.key) in gone and (service.key, one.key) not in traffic.profiles[0].weights
        }
        taken = sum(weight > 0 for weight in bases.values())
        assert taken * 100 <= policy.most_out_percent * len(service.backends)
    assert effective(table, traffic, seen, now=NOW) == found


def test_where_one_service_is_moved_the_others_are_the_same_objects() -> None:
    found = of(verdicts=down(ONE))
    assert found.table.by_key[OTHER] is TABLE.by_key[OTHER]


def test_what_moved_a_weight_before_is_forgotten() -> None:
    assert weights(of(verdicts=down(ONE))) == [0, 20, 30, 40]
    found = effective(TABLE, Traffic(), Observed(), now=NOW)
    assert found.note(KEY, BACKENDS[0]).standing is Standing.UNCHECKED and found.table is TABLE
