"""Directors that vote: three of them over one broker, and what comes of forged, old and missing ballots."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from cluster.director.apply import Director
from cluster.director.ballots import Ballots
from cluster.director.health import News
from cluster.director.journal import Goal
from cluster.ipvs.traffic.checks import Check, Verdict
from cluster.ipvs.traffic.policy import Policy, Traffic
from cluster.wire.envelope import SigningKey
from cluster.wire.messages import ballot_key
from tests.director.stage import NOW, Stage, backend, service, table

ONE = backend(1)
SHOP = service(1, ONE)
PLACE = SHOP.key, ONE.key
DOWN, UP = Verdict(False, "connect timeout 3/3", NOW), Verdict(True, "", NOW)
THEIRS = SigningKey(b"o" * 32)
TRAFFIC = Traffic({SHOP.key: Policy(Check(), asks_others=True)}, voters={"director2": THEIRS.public})


class Box:
    """The broker's keys."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def put(self, key: str, text: str) -> None:
        self.values[key] = text.encode()

    def ask(self, keys: Sequence[str]) -> list[bytes | str | None]:
        return [self.values.get(key) for key in keys]

    def cast(
        self, verdict: Verdict, number: int, *, key: SigningKey = THEIRS, name: str = "director2"
    ) -> None:
        """Put another director's ballot where it belongs."""
        one = {"address": ONE.address, "port": ONE.port, "up": verdict.is_up, "reason": "", "since": NOW}
        service = {"protocol": "tcp", "address": SHOP.key.address, "port": SHOP.key.port}
        body = {"director": name, "number": number, "observed": {"verdicts": [one | {"service": service}]}}
        self.put(ballot_key("director2"), json.dumps(key.sign("ballot", body)))


@pytest.fixture
def box() -> Box:
    return Box()


class Voter:
    """Director 1 with its ballots."""

    def __init__(self, stage: Stage, box: Box) -> None:
        self.clock = 0.0
        self.director: Director = stage.director()
        numbers = iter(range(1, 1000))
        self.ballots = Ballots(
            self.director, key=stage.key, take_number=lambda: next(numbers), monotonic=lambda: self.clock
        )
        self.box = box

    def round(self) -> list[bool]:
        """What the others say, each as whether the backend is up."""
        self.ballots.exchange(TRAFFIC, put=self.box.put, ask=self.box.ask)
        return [verdicts[PLACE].is_up for verdicts in self.ballots.count()]


@pytest.fixture
def voter(stage: Stage, box: Box) -> Voter:
    return Voter(stage, box)


def test_a_ballot_of_another_director_counts_until_it_is_old(voter: Voter, box: Box) -> None:
    assert voter.round() == []
    box.cast(DOWN, 7)
    assert voter.round() == [False]
    voter.clock = 5.0
    assert voter.round() == [False]
    voter.clock = 7.0
    assert voter.round() == [], "the same ballot lying there is no sign of life"
    box.cast(DOWN, 8)
    assert voter.round() == [False]


@pytest.mark.parametrize("how", ["other key", "other name", "older number", "not JSON", "odd observation"])
def test_a_ballot_that_cannot_be_believed_changes_nothing(voter: Voter, box: Box, how: str) -> None:
    box.cast(UP, 7)
    assert voter.round() == [True]
    match how:
        case "other key":
            box.cast(DOWN, 8, key=SigningKey(b"x" * 32))
        case "other name":
            box.cast(DOWN, 8, name="director3")
        case "older number":
            box.cast(DOWN, 6)
        case "not JSON":
            box.put(ballot_key("director2"), "{")
        case _:
            signed = THEIRS.sign("ballot", {"director": "director2", "number": 8, "observed": [1]})
            box.put(ballot_key("director2"), json.dumps(signed))
    assert voter.round() == [True]


def test_what_this_director_saw_is_there_for_the_others(voter: Voter, box: Box) -> None:
    voter.director.aim.learn(News({PLACE: DOWN}))
    voter.round()
    body = json.loads(json.loads(box.values[ballot_key("director1")])["body"])
    assert body["observed"]["verdicts"][0]["up"] is False


def test_the_vote_decides_what_the_kernel_is_to_hold(stage: Stage) -> None:
    aim = stage.director().aim
    goal = Goal(1, 1, table(SHOP), TRAFFIC)
    aim.learn(News({PLACE: DOWN}))
    aim.hear([{PLACE: UP}])
    assert aim.of(goal).table == goal.table
    aim.hear([{PLACE: DOWN}])
    assert not aim.of(goal).table.services[0].backends[0].weight
    aim.hear([])
    assert not aim.of(goal).table.services[0].backends[0].weight, "alone, it goes by its own verdict"
