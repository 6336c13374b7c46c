"""Trying a check now: run it once against each target of an order, and say what came. The kernel is left
alone, and no verdict comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from cluster.director.converge import Result
from cluster.director.health import Checker, Tried, Watched
from cluster.director.journal import Record
from cluster.ipvs.state import Backend, BackendKey
from cluster.ipvs.traffic.checks import Check, check_problems
from cluster.ipvs.traffic.document import check_from_document, target_from_document
from cluster.ipvs.traffic.paths import check_marks
from cluster.ipvs.traffic.policy import Place, Target
from cluster.wire.messages import Outcome

MOST_TARGETS: Final = 200
# Orders wait behind a try, so it may not last as long as a check may.
LONGEST_TRY_S: Final = 10.0

_NO_PATH = "there is no way through the service to this backend before the policy is applied"


def probe(payload: dict[str, Any], checker: Checker, record: Record | None, *, director: str) -> Result:
    """Read the check and the targets, run the check once against each, and give the answers in the order of
    the targets. REFUSED, with a sentence, where the payload cannot be read or the check is unusable."""
    try:
        check, places = _wanted(payload)
    except ValueError as error:
        return Result(
            Outcome.REFUSED,
            f"{director} cannot try what this order asks for: {error}",
            "Correct the check, or see that panel and director run versions that fit each other.",
            "bad probe",
        )
    quick = replace(check, timeout_s=min(check.timeout_s, LONGEST_TRY_S))
    marks = _marks(record) if check.through_service else {}
    able = [place for place in places if not check.through_service or place in marks]
    watched = [
        Watched(key, Backend(at.address, at.port), quick, mark=marks.get((key, at), 0)) for key, at in able
    ]
    tried = checker.try_now(watched) if watched else []
    if len(tried) != len(watched):
        return Result(
            Outcome.FAILED,
            f"The checks of {director} gave no answer, so nothing was tried.",
            f"Look into the log of {director}'s worker, and try again.",
            "no checker",
        )
    found = dict(zip(able, tried, strict=True))
    answers = [(place, found.get(place) or Tried(False, _NO_PATH, 0.0)) for place in places]
    return Result(
        Outcome.APPLIED,
        _summary(answers, director, check, quick),
        tried=tuple(_answer(place, one) for place, one in answers),
    )


def _wanted(payload: dict[str, Any]) -> tuple[Check, list[Place]]:
    check = check_from_document(payload.get("check"))
    if problem := next(check_problems(check), None):
        raise ValueError(f"{problem.field}: {problem.text}")
    targets = payload.get("targets")
    if not isinstance(targets, list) or not 1 <= len(targets) <= MOST_TARGETS:
        raise ValueError(f"The targets are no list of 1 to {MOST_TARGETS}.")
    read = (target_from_document(one, f"targets[{index}]") for index, one in enumerate(targets))
    return check, [_place(target) for target in dict.fromkeys(read)]


def _place(target: Target) -> Place:
    if target.service is None or not target.address:
        raise ValueError("A target names no backend of a service.")
    return target.service, BackendKey(target.address, target.port)


def _marks(record: Record | None) -> dict[Place, int]:
    return check_marks(record.ordered.table, record.ordered.traffic) if record else {}


def _summary(answers: Sequence[tuple[Place, Tried]], director: str, check: Check, quick: Check) -> str:
    up = sum(tried.is_up for _, tried in answers)
    text = f"By {director}'s try {up} of {len(answers)} backends are up."
    if quick != check:
        text += f" Each was given {quick.timeout_s:g} s, less than the check's {check.timeout_s:g} s."
    return text


def _answer(place: Place, tried: Tried) -> dict[str, Any]:
    return {
        "target": f"{place[1]} of {place[0]}",
        "up": tried.is_up,
        "reason": tried.reason,
        "took_ms": tried.took_ms,
        "text": tried.text,
    }
