"""What a report carries is read whole and safe to store, or refused with the place that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.director.converge import Result, to_payload
from cluster.director.kernel import NOT_TRIED, Answer
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from cluster.wire.envelope import Refused
from cluster.wire.messages import Event, Outcome, Report
from cluster.wire.payloads import LONGEST_TEXT, MOST_STEPS, Finished, facts_from, has_sound_numbers
from tests.ipvs.test_document import anything

SHOP = Service(
    ServiceKey(Protocol.TCP, "192.0.2.1", 80), "rr", backends=(Backend("192.0.2.2", 80, weight=3),)
)
STEP = {"kind": "add", "text": "Add it.", "command": "ipvsadm -A", "status": "done", "error": ""}
GOOD: dict[str, Any] = {
    "outcome": "partial",
    "text": "One step was refused.",
    "remedy": "Look.",
    "detail": "EINVAL",
    "bug": False,
    "planned": 2,
    "steps": [STEP],
    "facts": {"kernel": "6.1.0"},
    "table": {"version": 1, "services": []},
    "owned": [],
}


def test_what_a_director_writes_is_read_as_it_was_meant() -> None:
    answers = (
        Answer(Step(Operation.ADD_SERVICE, SHOP.header), 0),
        Answer(Step(Operation.ADD_BACKEND, SHOP.header, SHOP.backends[0]), NOT_TRIED),
    )
    result = Result(
        Outcome.PARTIAL, "Not all.", "Look.", "EINVAL", planned=2, answers=answers, table=Table((SHOP,))
    )
    written = json.loads(json.dumps(to_payload(result, {"kernel": "6.1.0", "stand_in": False})))
    said = Finished.from_payload(written)
    assert (said.outcome, said.text, said.remedy, said.detail) == (
        Outcome.PARTIAL,
        "Not all.",
        "Look.",
        "EINVAL",
    )
    assert (said.table, said.owned, said.planned) == (Table((SHOP,)), (SHOP.key,), 2)
    assert [step.status for step in said.steps] == ["done", "skipped"]
    assert said.facts is not None and said.facts["kernel"] == "6.1.0"
    kept = ("outcome", "text", "remedy", "detail", "bug", "planned", "steps")
    assert said.told() == {name: written[name] for name in kept}


def test_a_report_without_a_reading_has_no_table() -> None:
    said = Finished.from_payload({"outcome": "unknown", "text": "No answer."})
    assert said.table is None and said.facts is None and said.steps == ()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("outcome", "splendid", "outcome is not one of applied, partial, refused, failed, unknown."),
        ("outcome", ["applied"], "outcome is not one of"),
        ("outcome", "queued", "outcome is not one of"),
        ("text", None, "text is not a text."),
        ("remedy", 5, "remedy is not a text."),
        ("detail", {}, "detail is not a text."),
        ("bug", "no", "bug is neither true nor false."),
        ("planned", -1, "planned is not a whole number"),
        ("planned", 10**30, "planned is not a whole number"),
        ("planned", True, "planned is not a whole number"),
        ("steps", {"0": STEP}, "steps is not a list."),
        ("steps", ["ipvsadm -A"], r"steps\[0\] is not an object."),
        ("steps", [STEP, STEP | {"command": None}], r"steps\[1\].command is not a text."),
        ("table", None, "The table document is not an object."),
        ("table", {"version": 1, "services": [{}]}, r"services\[0\]"),
        ("owned", "all", "owned is not a list."),
        ("owned", [{"protocol": "tcp"}], r"owned\[0\].address is not an IP address."),
        ("owned", [["tcp"]], r"owned\[0\] is not an object."),
        ("answers", "up", "answers is not a list."),
        ("answers", ["up"], r"answers\[0\] is not an object."),
        ("answers", [{"took_ms": 1.0, "up": "yes"}], r"answers\[0\].up is neither true nor false."),
        ("answers", [{"took_ms": float("nan")}], r"answers\[0\].took_ms is not a number of milliseconds."),
        ("answers", [{"took_ms": 1.0, "reason": 5}], r"answers\[0\].reason is not a text."),
    ],
)
def test_an_odd_part_is_refused_by_its_name(name: str, value: Any, said: str) -> None:
    Finished.from_payload(GOOD)
    with pytest.raises(Refused, match=said):
        Finished.from_payload(GOOD | {name: value})


@given(st.sampled_from(sorted(GOOD)), anything)
def test_anything_in_any_part_is_read_or_refused(name: str, value: Any) -> None:
    try:
        said = Finished.from_payload(GOOD | {name: value})
    except Refused:
        return
    text = json.dumps(said.told() | {"facts": said.facts}, ensure_ascii=False, allow_nan=False)
    assert b"\\u0000" not in text.encode()


@given(anything | st.dictionaries(st.sampled_from(["kernel", "modules", "notices", "stand_in"]), anything))
def test_any_facts_become_some_that_can_be_stored(said: Any) -> None:
    text = json.dumps(facts_from(said), ensure_ascii=False, allow_nan=False)
    assert b"\\u0000" not in text.encode()


def test_what_no_database_takes_is_replaced_and_what_is_long_is_cut() -> None:
    said = Finished.from_payload(
        GOOD | {"text": "a\0b\ud800c\udfff", "detail": "x" * 10_000, "steps": [STEP] * 700}
    )
    assert said.text == "a\ufffdb\ufffdc\ufffd"
    assert (len(said.detail), len(said.steps)) == (LONGEST_TEXT, MOST_STEPS)
    facts = facts_from({"hostname": "lb\0\ud9991", "notices": ["\0"] * 50, "modules": [{"name": 1}, "x"]})
    assert facts["hostname"] == "lb\ufffd\ufffd1"
    assert facts["notices"] == ["\ufffd"] * 20 and facts["modules"] == []


def test_facts_that_are_nested_very_deeply_are_none() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert facts_from({"kernel": deep, "notices": [deep], "modules": [{"name": deep, "state": deep}]}) == {
        "notices": [],
        "modules": [],
        "stand_in": False,
        "goes_back": False,
        "orders_dropped": 0,
    }


@pytest.mark.parametrize("changes", [{"sequence": 10**30}, {"sequence": -1}, {"at": 10**400}, {"at": -1}])
@pytest.mark.parametrize("at", [1.5, float("nan"), float("inf")])
def test_numbers_that_cannot_be_stored_are_noticed(changes: dict[str, Any], at: float) -> None:
    body = Report(Event.HELLO, "", "director1", "", 0, 0, 3, at, {}).to_body()
    assert has_sound_numbers(Report.from_body(body)) == (at == 1.5)
    assert not has_sound_numbers(Report.from_body(body | changes))
