"""What somebody else did to our services: found object by object, with the time in which it happened, and put
right where the cluster wants that or an operator asks for it. Nothing but what is ours is ever touched.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cluster.director.kernel import Answer, Kernel
from cluster.ipvs.drift import Difference, Thing, differences, mending
from cluster.ipvs.state import ServiceKey, Table
from cluster.wire.drifted import label, place_to_document, value_to_document

log = logging.getLogger(__name__)

MOST_TOLD = 200
# Enforcing is for slips and not for wars: so many things a round, each so often, and then no more.
MOST_AT_ONCE = 20
HEAL_AGAIN_AFTER_S = 5.0
MOST_HEALINGS = 3
WAR_S = 600.0
TRUCE_S = 3600.0


@dataclass(frozen=True)
class Wrong:
    """One thing that is not as it should be. `right_at` is when it was seen right last, `wrong_at` when it
    was seen wrong first; they are the same where nobody looked before."""

    difference: Difference
    right_at: float
    wrong_at: float


class Drift:
    """What the watch has found. It looks, the loop heals, so each call may come from another thread: they
    replace what they change as a whole."""

    def __init__(self) -> None:
        self._wrong: dict[Thing, Wrong] = {}
        self._looked_at: float | None = None
        self._healed: list[dict[str, Any]] = []
        self._healings: dict[Thing, deque[float]] = {}
        self._fought: dict[Thing, float] = {}
        self._number: tuple[int, int] | None = None
        self._told: tuple[object, ...] | None = None

    def look(self, wanted: Table | None, ours: Table, *, at: float) -> None:
        """Compare. None for `wanted` says that it changed meanwhile: then the next look tells."""
        if wanted is None:
            return
        found = {} if wanted == ours else differences(wanted, ours)
        before, since = self._wrong, at if self._looked_at is None else self._looked_at
        self._wrong = {
            thing: Wrong(
                difference,
                before[thing].right_at if thing in before else since,
                before[thing].wrong_at if thing in before else at,
            )
            for thing, difference in found.items()
        }
        self._looked_at = at

    def news(self) -> dict[str, Any] | None:
        """What a DRIFT report says: all that is wrong now, and what was healed since the last; None where
        nothing has changed since then."""
        wrong, fought, healed = self._wrong, self._fought, self._healed
        if self._looked_at is None:
            return None
        told = ({thing: one.difference for thing, one in wrong.items()}, frozenset(fought))
        if told == self._told and not healed:
            return None
        self._told, self._healed = told, self._healed[len(healed) :]
        objects = [
            _out(thing, one) | {"fought": thing in fought} for thing, one in list(wrong.items())[:MOST_TOLD]
        ]
        return {"objects": objects, "healed": healed[:MOST_TOLD], "more": max(0, len(wrong) - MOST_TOLD)}

    @property
    def is_settled(self) -> bool:
        """Whether nothing is wrong, and no truce is left to end."""
        return not self._wrong and not self._fought

    def to_heal(self, number: tuple[int, int], *, at: float) -> list[Thing]:
        """What is to be put right now, of a few at a time. A new order ends each truce."""
        if number != self._number:
            self._number, self._fought, self._healings = number, {}, {}
        self._fought = {thing: since for thing, since in self._fought.items() if 0 <= at - since < TRUCE_S}
        chosen = []
        for thing in self._wrong:
            healings = self._healings.get(thing, deque())
            if thing in self._fought or (healings and 0 <= at - healings[-1] < HEAL_AGAIN_AFTER_S):
                continue
            if len([moment for moment in healings if at - moment < WAR_S]) >= MOST_HEALINGS:
                log.error("drift comes again, healing stops thing=%s", label(thing))
                self._fought = self._fought | {thing: at}
                self._healings.pop(thing, None)
                continue
            chosen.append(thing)
        return chosen[:MOST_AT_ONCE]

    def note_healing(self, things: Iterable[Thing], refused: Iterable[Thing], *, at: float) -> None:
        """These were tried just now; those of them that the kernel refused are tried again, as often."""
        without = set(refused)
        for thing in things:
            self._healings.setdefault(thing, deque(maxlen=MOST_HEALINGS)).append(at)
            if thing not in without and (one := self._wrong.get(thing)) is not None:
                log.warning("drift healed thing=%s", label(thing))
                self._healed = [*self._healed, _out(thing, one) | {"at": at}]


def heal(
    kernel: Kernel, wanted: Table, owned: frozenset[ServiceKey], things: Iterable[Thing]
) -> tuple[list[Answer], list[Thing]]:
    """Put these things right, and which of them are not so afterwards. The caller holds the director's lock.
    KernelError where the kernel says nothing."""
    chosen = set(things)
    keys = {service for service, _ in chosen} & owned
    steps = mending(kernel.read_services(keys), wanted, owned=owned, things=chosen)
    answers = kernel.do(steps) if steps else []
    left = differences(wanted.only(keys), kernel.read_services(keys)).keys()
    return answers, [thing for thing in chosen if thing in left or thing[0] not in keys]


def _out(thing: Thing, one: Wrong) -> dict[str, Any]:
    sides = {"wanted": one.difference.wanted, "actual": one.difference.actual}
    written = {name: value_to_document(value) for name, value in sides.items()}
    return place_to_document(thing) | written | {"right_at": one.right_at, "wrong_at": one.wrong_at}
