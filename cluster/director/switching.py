"""The kernel's switches net.ipv4.vs.*, set as a goal wants them once its table is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.director.converge import Result
from cluster.director.journal import Goal
from cluster.director.tuning import set_switches
from cluster.ipvs.tuning import Switching
from cluster.wire.messages import Outcome

if TYPE_CHECKING:
    from cluster.director.apply import Director


def switched(result: Result, goal: Goal, director: Director) -> Result:
    """Set the kernel's switches as the goal wants them, where the table came as far as that. One that cannot
    be set is told, and is no failure: the table, and all who use it, do not depend on it."""
    if director.switches is None or result.outcome not in (Outcome.APPLIED, Outcome.PARTIAL):
        return result
    answers = set_switches(goal.traffic.switches, director.switches)
    director.aim.switch_problems = {step.name: problem for step, problem in answers if problem}
    if not answers:
        return result
    left = [f" Not set: {step.name}. {problem}" for step, problem in answers if problem]
    set_now = len(answers) - len(left)
    said = f" {set_now} switch{'' if set_now == 1 else 'es'} set and read back." if set_now else ""
    return replace(
        result,
        text=result.text + said + "".join(left),
        planned=result.planned + len(answers),
        switches=tuple(_told(step, problem) for step, problem in answers),
    )


def _told(step: Switching, problem: str) -> dict[str, str]:
    status = "failed" if problem else "done"
    told = {"kind": "change", "text": str(step), "command": step.command, "impact": ""}
    return told | {"status": status, "error": problem}
