"""What reports carry, read once and strictly: what passes here can be stored and shown.

A genuine signature says who wrote a message, not that it has the right shape: the worker may be of
another version, or broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from cluster.ipvs import settings, tuning
from cluster.ipvs.formats.document import from_document, key_from_document
from cluster.ipvs.state import ServiceKey, Table
from cluster.wire.envelope import Refused
from cluster.wire.messages import MOST_CHANGES, Frame, Outcome, Report

# A director tells 500 steps at most; of more the rest is cut.
MOST_STEPS = 500
MOST_ANSWERS = 200
LONGEST_TEXT = 2000
MOST_SYSCTLS = 200
LARGEST_COUNT = 2**31 - 1
# What a column of 64 bits holds, and a time that datetime can say.
LARGEST_SEQUENCE = 2**63 - 1
LARGEST_TIME = 4e10

# PostgreSQL refuses both in a text, and SQLite the second.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class StepTold:
    """One step for people: what it was, what became of it, what the kernel said, and what it did to open
    connections."""

    kind: str
    text: str
    command: str
    status: str
    error: str
    impact: str = ""


@dataclass(frozen=True, slots=True)
class AnswerTold:
    """What one try of a check came to at one backend: whether it is up, why, and what it answered."""

    target: str
    up: bool
    reason: str
    took_ms: float
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The payload of a FINISHED report. `table` and `facts` are None where the report has none; `owned` are
    services of the table; `answers` are those to a try of a check."""

    outcome: Outcome
    text: str
    remedy: str = ""
    detail: str = ""
    bug: bool = False
    planned: int = 0
    steps: tuple[StepTold, ...] = ()
    facts: dict[str, Any] | None = None
    table: Table | None = None
    owned: tuple[ServiceKey, ...] = ()
    answers: tuple[AnswerTold, ...] = ()

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Refused, with a sentence that names the place, where any part is not what it should be. Names that
        this version does not know are passed over."""
        try:
            return cls(
                _outcome(payload.get("outcome")),
                _text(payload, "text"),
                _text(payload, "remedy", default=""),
                _text(payload, "detail", default=""),
                _claim(payload, "bug"),
                _count(payload, "planned"),
                tuple(_step(step, index) for index, step in enumerate(_list(payload, "steps")[:MOST_STEPS])),
                facts_from(payload["facts"]) if "facts" in payload else None,
                from_document(payload["table"]) if "table" in payload else None,
                tuple(
                    key_from_document(key, f"owned[{index}]")
                    for index, key in enumerate(_list(payload, "owned"))
                ),
                tuple(
                    _answer(answer, f"answers[{index}].")
                    for index, answer in enumerate(_list(payload, "answers")[:MOST_ANSWERS])
                ),
            )
        except ValueError as error:
            raise Refused(str(error)) from None

    def told(self) -> dict[str, Any]:
        """What a run keeps of it: all that is for people."""
        words = {"text": self.text, "remedy": self.remedy, "detail": self.detail}
        told: dict[str, Any] = {"outcome": str(self.outcome)} | words
        told |= {"bug": self.bug, "planned": self.planned, "steps": [asdict(step) for step in self.steps]}
        return told | ({"answers": [asdict(answer) for answer in self.answers]} if self.answers else {})


def cause_from(payload: Mapping[str, Any]) -> str:
    """Why a director went back, of a WENT_BACK report. Refused where it is no text."""
    try:
        return _text(payload, "cause")
    except ValueError as error:
        raise Refused(str(error)) from None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a director did by itself: which backend or service, how it stood and stands, and why."""

    at: float
    target: str
    before: str
    standing: str
    weight: int
    cause: str


def changes_from(payload: Mapping[str, Any]) -> tuple[Change, ...]:
    """What a TRAFFIC report tells. Refused, with a sentence that names the place, where any part is not what
    it should be."""
    try:
        return tuple(
            _change(said, f"changes[{index}].")
            for index, said in enumerate(_list(payload, "changes")[:MOST_CHANGES])
        )
    except ValueError as error:
        raise Refused(str(error)) from None


def facts_from(said: object) -> dict[str, Any]:
    """What a director says of its machine, as far as it has the shape that pages count on. Never an
    exception: strangers announce themselves as well."""
    if not isinstance(said, dict):
        said = {}
    words = {
        name: storable(said[name], 200)
        for name in ("kernel", "ipvs", "hostname", "worker")
        if isinstance(said.get(name), str)
    }
    lists = {
        name: [storable(entry, 400) for entry in said[name][:most] if isinstance(entry, str)]
        for name, most in (("schedulers", 100), ("addresses", 1000), ("notices", 20))
        if isinstance(said.get(name), list)
    }
    modules = said.get("modules")
    known = [
        {"name": storable(entry["name"], 64), "state": storable(entry["state"], 16)}
        for entry in (modules[:200] if isinstance(modules, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("state"), str)
    ]
    return {
        **words,
        **lists,
        **_settings(said.get("settings")),
        "modules": known,
        "stand_in": said.get("stand_in") is True,
        "goes_back": said.get("goes_back") is True,
        "orders_dropped": _number(said.get("orders_dropped")),
        **_witness(said.get("witness")),
    }


def _witness(said: object) -> dict[str, Any]:
    """Which checkpoint of the audit log the director holds; nothing from one that keeps none."""
    if not isinstance(said, dict):
        return {}
    sequence, text = said.get("sequence"), said.get("hash")
    if type(sequence) is not int or not 0 <= sequence <= LARGEST_SEQUENCE or not isinstance(text, str):
        return {}
    return {"witness": {"sequence": sequence, "hash": storable(text, 64)}}


def _number(said: object) -> int:
    """A count that stays below what can be stored; 0 for anything else."""
    return said if type(said) is int and 0 <= said <= LARGEST_COUNT else 0


def _settings(said: object) -> dict[str, Any]:
    """What there is beside the table, in the shape that the core writes; nothing where nothing was read."""
    if not isinstance(said, dict) or not said:
        return {}
    found = settings.to_document(settings.from_document(said))
    sysctls = tuning.to_document(tuning.from_document(said.get("sysctls"))[:MOST_SYSCTLS])
    return {"settings": _cleaned(found | {"sysctls": sysctls})}


def _cleaned(value: Any) -> Any:
    """The same with every text storable, names included."""
    match value:
        case str():
            return storable(value, 400)
        case dict():
            return {storable(name, 64): _cleaned(inner) for name, inner in value.items()}
        case list():
            return [_cleaned(inner) for inner in value]
        case _:
            return value


def has_sound_numbers(message: Report | Frame) -> bool:
    """Whether sequence and time are numbers that can be stored and computed with. JSON also has 10**400 and,
    to Python, NaN; comparing is all that may be done with such."""
    return 0 <= message.sequence <= LARGEST_SEQUENCE and 0 <= message.at <= LARGEST_TIME


def storable(text: str, most: int) -> str:
    """The text as any database takes it: NUL and lone surrogates replaced, and cut."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text[:most])


def _outcome(value: object) -> Outcome:
    if isinstance(value, str) and value in list(Outcome):
        return Outcome(value)
    raise ValueError(f"outcome is not one of {', '.join(Outcome)}.")


def _step(value: object, index: int) -> StepTold:
    if not isinstance(value, dict):
        raise ValueError(f"steps[{index}] is not an object.")
    names = ("kind", "text", "command", "status", "error")
    place = f"steps[{index}]."
    told = {name: _text(value, name, place=place) for name in names}
    return StepTold(**told, impact=_text(value, "impact", place=place, default=""))


def _answer(value: object, place: str) -> AnswerTold:
    if not isinstance(value, dict):
        raise ValueError(f"{place[:-1]} is not an object.")
    took_ms = value.get("took_ms")
    # NaN is in no interval.
    if not isinstance(took_ms, int | float) or isinstance(took_ms, bool) or not 0 <= took_ms <= LARGEST_COUNT:
        raise ValueError(f"{place}took_ms is not a number of milliseconds.")
    up = _claim(value, "up", place=place)
    words = {name: _text(value, name, place=place, default="") for name in ("target", "reason", "text")}
    return AnswerTold(up=up, took_ms=float(took_ms), **words)


def _change(value: object, place: str) -> Change:
    if not isinstance(value, dict):
        raise ValueError(f"{place[:-1]} is not an object.")
    at = value.get("at")
    if not isinstance(at, int | float) or not 0 <= at <= LARGEST_TIME:
        raise ValueError(f"{place}at is not a time.")
    words = {name: _text(value, name, place=place) for name in ("target", "before", "standing", "cause")}
    return Change(at=at, weight=_count(value, "weight"), **words)


def _text(said: Mapping[str, Any], name: str, *, place: str = "", default: str | None = None) -> str:
    value = said.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{place}{name} is not a text.")
    return storable(value, LONGEST_TEXT)


def _claim(said: Mapping[str, Any], name: str, *, place: str = "") -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{place}{name} is neither true nor false.")
    return value


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_COUNT:
        raise ValueError(f"{name} is not a whole number between 0 and {LARGEST_COUNT}.")
    return value


def _list(said: Mapping[str, Any], name: str) -> list[Any]:
    value = said.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list.")
    return value
