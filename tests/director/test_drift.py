"""What somebody else does to our services is found, timed, told, and put right where that is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.director.apply import Director, restore, take
from cluster.director.journal import Sequence as Numbers
from cluster.director.kernel import NoAnswer
from cluster.director.kernel.memory import Faults
from cluster.director.reconcile import Reconciler
from cluster.director.watch import Watch
from cluster.ipvs.drift import differences, in_words, mending
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.plan import plan
from cluster.ipvs.state import Persistence, Service, Table
from cluster.wire.drifted import DriftTold, label, place_to_document
from cluster.wire.envelope import Refused
from cluster.wire.messages import Operation
from tests.director.stage import NOW, Stage, backend, service, table

SHOP, DNS = service(1, backend(1), backend(2)), service(2, backend(3))
WANTED = table(SHOP, DNS)
FOREIGN = service(9, backend(9))


class Theatre:
    """A director whose kernel somebody else can change."""

    def __init__(self, stage: Stage, **payload: Any) -> None:
        self.stage = stage
        self.director: Director = stage.director()
        self.loop = Reconciler(self.director)
        self.watch = Watch(
            self.director,
            key=stage.key,
            sequence=Numbers(stage.state_dir),
            put=lambda _, text: None,
            ask=lambda _: [],
            monotonic=lambda: stage.now,
        )
        self.order(Operation.APPLY, **{"table": to_document(WANTED)} | payload)
        self.later()

    def order(self, operation: Operation, revision: int = 1, **payload: Any) -> dict[str, Any]:
        order = self.stage.order(Table(), operation=operation, revision=revision, payload=payload, run="r")
        take(order, self.director)
        said: dict[str, Any] = self.stage.sent[-1]["payload"]
        return said

    def somebody_wants(self, *services: Service) -> None:
        """ipvsadm, with the whole table."""
        actual = self.stage.actual
        wanted = table(*services)
        self.stage.kernel.do(plan(actual, wanted, owned=actual.keys | wanted.keys).steps)

    def later(self, seconds: float = 2.0) -> None:
        """A round of the watch, and one of the loop."""
        self.stage.now += seconds
        self.watch.round()
        self.loop.round()

    @property
    def told(self) -> list[DriftTold]:
        found = [said["payload"] for said in self.stage.sent if said["event"] == "drift"]
        return [DriftTold.from_payload(payload) for payload in found]

    @property
    def wrong(self) -> list[tuple[str, str, str]]:
        objects = self.told[-1].objects
        return [(label(one.thing), in_words(one.wanted), in_words(one.actual)) for one in objects]


@pytest.fixture
def drifted(stage: Stage) -> Theatre:
    return Theatre(stage)


def test_each_thing_is_told_with_what_it_should_be_and_is(drifted: Theatre) -> None:
    assert drifted.told == [DriftTold((), (), 0)], "all is well, after a start"
    other = service(1, backend(1, weight=9), backend(4), scheduler="wlc")
    drifted.somebody_wants(other, FOREIGN)
    drifted.later()
    assert drifted.wrong == [
        ("TCP 192.0.2.1:80", "scheduler rr", "scheduler wlc"),
        ("10.0.0.1:80 of TCP 192.0.2.1:80", "weight 1, masquerade", "weight 9, masquerade"),
        ("10.0.0.2:80 of TCP 192.0.2.1:80", "weight 1, masquerade", "absent"),
        ("10.0.0.4:80 of TCP 192.0.2.1:80", "absent", "weight 1, masquerade"),
        ("TCP 192.0.2.2:80", "scheduler rr", "absent"),
    ]
    count = len(drifted.told)
    drifted.later()
    assert len(drifted.told) == count, "nothing new, nothing told"
    drifted.somebody_wants(SHOP, DNS)
    drifted.later()
    assert drifted.wrong == []


def test_the_window_is_from_the_last_look_that_was_right_to_the_first_that_was_wrong(
    drifted: Theatre,
) -> None:
    drifted.later()
    right = drifted.stage.now
    drifted.somebody_wants(service(1, backend(1, weight=9), backend(2)), DNS)
    drifted.later()
    (one,) = drifted.told[-1].objects
    assert (one.right_at, one.wrong_at) == (right, right + 2)
    drifted.somebody_wants(service(1, backend(1, weight=8), backend(2)), DNS)
    drifted.later()
    (one,) = drifted.told[-1].objects
    assert (one.right_at, one.wrong_at) == (right, right + 2), "it was wrong all the time"


def test_an_order_that_brings_it_is_no_drift(drifted: Theatre) -> None:
    drifted.order(Operation.APPLY, 2, table=to_document(table(SHOP)))
    drifted.later()
    assert drifted.wrong == [] and len(drifted.told) == 1


def test_one_thing_is_put_right_and_nothing_else(drifted: Theatre) -> None:
    drifted.somebody_wants(service(1, backend(1, weight=9), backend(2, weight=9)), FOREIGN)
    drifted.later()
    first = next(iter(SHOP.backends))
    said = drifted.order(Operation.REPAIR, places=[place_to_document((SHOP.key, first.key))])
    assert said["outcome"] == "applied" and len(said["steps"]) == 1
    assert said["text"] == "10.0.0.1:80 of TCP 192.0.2.1:80 is as it should be again on director1."
    assert drifted.stage.actual == table(service(1, backend(1), backend(2, weight=9)), FOREIGN)
    said = drifted.order(Operation.REPAIR, places=[place_to_document((DNS.key, None))])
    assert said["outcome"] == "applied"
    assert drifted.stage.actual == table(service(1, backend(1), backend(2, weight=9)), DNS, FOREIGN)
    said = drifted.order(Operation.REPAIR, places=[place_to_document((DNS.key, None))])
    assert "was so already" in said["text"]
    drifted.later()
    assert [name for name, _, _ in drifted.wrong] == ["10.0.0.2:80 of TCP 192.0.2.1:80"]


def test_what_is_not_ours_is_not_put_right(drifted: Theatre) -> None:
    drifted.somebody_wants(SHOP, DNS, FOREIGN)
    said = drifted.order(Operation.REPAIR, places=[place_to_document((FOREIGN.key, None))])
    assert said["outcome"] == "failed" and FOREIGN in drifted.stage.actual.services


def test_a_refused_or_silent_repair_says_so(drifted: Theatre) -> None:
    drifted.somebody_wants(SHOP)
    drifted.stage.kernel.faults = Faults(refuse={drifted.stage.kernel.writes + 1: 12})
    place = place_to_document((DNS.key, None))
    assert drifted.order(Operation.REPAIR, places=[place])["outcome"] == "failed"
    drifted.stage.kernel.faults = Faults(silent=NoAnswer("no answer"))
    assert drifted.order(Operation.REPAIR, places=[place])["outcome"] == "unknown"


@pytest.mark.parametrize(
    "places", [None, [], 7, [7], [{"service": 7}], [{"service": {}, "backend": {"address": "x"}}]]
)
def test_places_that_cannot_be_read_are_refused(drifted: Theatre, places: Any) -> None:
    writes = drifted.stage.kernel.writes
    assert drifted.order(Operation.REPAIR, places=places)["outcome"] == "refused"
    assert drifted.stage.kernel.writes == writes


def test_an_enforcing_cluster_heals_by_itself_and_tells_each_healing(stage: Stage) -> None:
    drifted = Theatre(stage, enforce=True)
    drifted.somebody_wants(service(1, backend(1, weight=9), backend(2)), FOREIGN)
    drifted.later()
    assert stage.actual == table(SHOP, DNS, FOREIGN)
    drifted.later()
    assert drifted.wrong == []
    healed = [label(one.thing) for told in drifted.told for one in told.healed]
    assert healed == ["10.0.0.1:80 of TCP 192.0.2.1:80", "TCP 192.0.2.2:80"]


def test_enforcing_is_switched_on_and_off_and_outlives_a_restart(drifted: Theatre) -> None:
    stage = drifted.stage
    assert "puts right" in drifted.order(Operation.ENFORCE, enforce=True)["text"]
    drifted.director = stage.director()
    restore(drifted.director)
    record = drifted.director.journal.read()
    assert record is not None and record.enforce
    assert drifted.order(Operation.ENFORCE, enforce="yes")["outcome"] == "refused"
    old = stage.order(Table(), operation=Operation.ENFORCE, payload={"enforce": True})
    stage.now += 1
    assert "leaves what" in drifted.order(Operation.ENFORCE, enforce=False)["text"]
    take(old, drifted.director)
    record = drifted.director.journal.read()
    assert record is not None and not record.enforce, "an old copy of an order says nothing"


def test_a_war_with_another_program_is_noticed_said_and_given_up(stage: Stage) -> None:
    drifted = Theatre(stage, enforce=True)
    other = service(1, backend(1, weight=9), backend(2))
    for _ in range(8):
        drifted.somebody_wants(other, DNS)
        drifted.later()
        drifted.later(6)
    assert stage.actual == table(other, DNS), "it has given up"
    (one,) = drifted.told[-1].objects
    assert one.fought
    assert sum(len(told.healed) for told in drifted.told) == 3
    drifted.somebody_wants(other)
    drifted.later()
    assert stage.actual == table(other, DNS), "other things are still healed"
    drifted.order(Operation.APPLY, 2, table=to_document(WANTED), enforce=True)
    drifted.somebody_wants(other, DNS)
    drifted.later()
    assert stage.actual == WANTED, "a new order ends the truce"


def test_healing_is_bounded_and_a_refusal_is_not_repeated_at_once(stage: Stage) -> None:
    many = [service(last, backend(last)) for last in range(1, 60)]
    drifted = Theatre(stage, table=to_document(table(*many)), enforce=True)
    drifted.somebody_wants()
    drifted.later()
    assert len(stage.actual) == 20
    drifted.loop.round()
    drifted.loop.round()
    assert len(stage.actual) == 59
    stage.kernel.faults = Faults(refuse={stage.kernel.writes + turn: 12 for turn in range(1, 3)})
    drifted.somebody_wants(*many[1:])
    writes = stage.kernel.writes
    drifted.later()
    drifted.loop.round()
    assert stage.kernel.writes - writes <= 2
    drifted.later(6)
    assert len(stage.actual) == 59


def test_a_service_without_its_difference_in_backends_is_one_thing() -> None:
    held = Service(SHOP.key, "rr", persistence=Persistence(300, 0xFFFFFFFF), backends=SHOP.backends)
    found = differences(table(SHOP), table(held))
    assert list(found) == [(SHOP.key, None)]
    assert in_words(found[SHOP.key, None].actual) == "scheduler rr, persistent 300 s"
    assert differences(WANTED, WANTED) == {}


def test_what_is_not_owned_is_neither_added_nor_removed() -> None:
    things = [(SHOP.key, None), (DNS.key, None)]
    assert mending(table(DNS), table(SHOP), owned=frozenset(), things=things) == []
    assert len(mending(table(DNS), table(SHOP), owned=frozenset([SHOP.key]), things=things)) == 3


@pytest.mark.parametrize(
    "payload",
    [
        {"objects": 7},
        {"objects": [7]},
        {"objects": [{"service": {}}]},
        {"more": "x"},
        {"objects": [place_to_document((SHOP.key, None)) | {"right_at": "x", "wrong_at": NOW}]},
        {"healed": [place_to_document((SHOP.key, None)) | {"wanted": {}, "right_at": 1, "wrong_at": 1}]},
    ],
)
def test_a_report_that_cannot_be_read_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        DriftTold.from_payload(payload)
