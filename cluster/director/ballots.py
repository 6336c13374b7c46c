"""The verdicts of the cluster's other directors, over Redis, each signed by its director."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.director.apply import Director
from cluster.ipvs.traffic import observed as observations
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.policy import Place, Traffic
from cluster.wire.envelope import Refused, SigningKey, parse, verify
from cluster.wire.messages import ballot_key

log = logging.getLogger(__name__)

# Three rounds of the watch. What is older is no ballot, so that a dead director does not vote for ever.
BALLOT_LIFETIME_S = 6.0

Ask = Callable[[Sequence[str]], Sequence[bytes | str | None]]
Put = Callable[[str, str], None]


class Ballots:
    """Tells the others what this director saw, and takes what they saw. The age of a ballot is how long it
    has been known here: no clock of another machine counts, and an old one put there anew has no higher
    number."""

    def __init__(
        self,
        director: Director,
        *,
        key: SigningKey,
        take_number: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._director = director
        self._key = key
        self._take_number = take_number
        self._monotonic = monotonic
        self._seen: dict[str, tuple[int, float, Mapping[Place, Verdict]]] = {}

    def exchange(self, traffic: Traffic, *, put: Put, ask: Ask) -> None:
        """Once a round, where a policy asks others. RedisError where the broker is away."""
        own = {
            "director": self._director.name,
            "number": self._take_number(),
            "observed": observations.to_document(self._director.aim.observed),
        }
        put(ballot_key(self._director.name), json.dumps(self._key.sign("ballot", own)))
        others = sorted(traffic.voters.keys() - {self._director.name})
        for name, text in zip(others, ask([ballot_key(name) for name in others]), strict=True):
            if text is not None:
                self._take(name, traffic.voters[name], text)
        self._seen = {name: kept for name, kept in self._seen.items() if name in others}

    def count(self) -> list[Mapping[Place, Verdict]]:
        """The others' verdicts that are not too old."""
        oldest = self._monotonic() - BALLOT_LIFETIME_S
        return [verdicts for _, at, verdicts in self._seen.values() if at > oldest]

    def _take(self, name: str, public_key: str, text: bytes | str) -> None:
        try:
            said: dict[str, Any] = dict(verify(parse(text), "ballot", public=public_key))
            number, found = said.get("number"), observations.from_document(said.get("observed"))
            if said.get("director") != name or not isinstance(number, int):
                raise Refused("The ballot is not of the director whose place it is in.")
        except (Refused, ValueError) as error:
            log.warning("ballot dropped of=%s reason=%s", name, error)
            return
        if number > self._seen.get(name, (0, 0.0, {}))[0]:
            self._seen[name] = number, self._monotonic(), found.verdicts
