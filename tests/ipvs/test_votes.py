"""A vote of directors: what most of those say that say something."""

from __future__ import annotations

import pytest

from cluster.ipvs.state import BackendKey, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import Policy, Traffic
from cluster.ipvs.traffic.votes import voted

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
PLACE = KEY, BackendKey("10.0.0.1", 80)
ASKING = Traffic({KEY: Policy(asks_others=True)})
UP, DOWN = Verdict(True, "", 1.0), Verdict(False, "connect timeout 3/3", 2.0)


@pytest.mark.parametrize(
    ("own", "others", "is_up"),
    [
        (DOWN, [], False),
        (DOWN, [UP], True),
        (DOWN, [DOWN], False),
        (UP, [DOWN], True),
        (UP, [DOWN, DOWN], False),
        (DOWN, [UP, UP], True),
        (DOWN, [UP, UP, DOWN], True),
        (None, [DOWN], False),
        (UP, [UP], True),
    ],
)
def test_more_than_half_of_the_ballots_decide(
    own: Verdict | None, others: list[Verdict], is_up: bool
) -> None:
    seen = Observed({PLACE: own} if own else {})
    counted = voted(seen, [{PLACE: verdict} for verdict in others], ASKING)
    assert counted.verdicts[PLACE].is_up is is_up
    if others and (own is DOWN or DOWN in others):
        down = [own, *others].count(DOWN)
        ballots = len(others) + bool(own)
        assert f"connect timeout 3/3, for {down} of {ballots} directors" in counted.verdicts[PLACE].reason


def test_a_service_that_asks_nobody_goes_by_its_own_verdict() -> None:
    seen = Observed({PLACE: DOWN})
    assert voted(seen, [{PLACE: UP}, {PLACE: UP}], Traffic({KEY: Policy()})) == seen


def test_that_a_backend_is_held_for_flapping_stays_the_reason_in_a_vote() -> None:
    held = Verdict(False, "up and down too often: held until steady for 300 s", 5.0, is_flapping=True)
    counted = voted(Observed({PLACE: DOWN}), [{PLACE: held}], ASKING).verdicts[PLACE]
    assert counted.is_flapping and counted.reason == f"{held.reason}, for 2 of 2 directors"
