"""Where a cluster asks for a vote: what most of its directors say of a backend counts, not what one sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import Place, Traffic


def voted(own: Observed, others: Sequence[Mapping[Place, Verdict]], traffic: Traffic) -> Observed:
    """`own` with the verdicts of the vote in services that ask for one. A backend is down where more than
    half of the directors that have a verdict say so; with two directors, that is both. Without others, our
    own verdict is the vote."""
    asking = {key for key, policy in traffic.policies.items() if policy.asks_others}
    if not asking or not others:
        return own
    places = {place for verdicts in (own.verdicts, *others) for place in verdicts if place[0] in asking}
    decided = {
        place: _decided(
            own.verdicts.get(place),
            [verdicts[place] for verdicts in others if place in verdicts],
        )
        for place in places
    }
    return replace(own, verdicts={**own.verdicts, **decided})


def _decided(own: Verdict | None, others: list[Verdict]) -> Verdict:
    ballots = [*([own] if own else []), *others]
    down = [one for one in ballots if not one.is_up]
    is_up = 2 * len(down) <= len(ballots)
    if not down:
        return own or others[0]
    # The earliest: when the last one agreed is not known here, and of a group it orders who goes out first.
    said = own if own and not own.is_up else down[0]
    # That it is held for going up and down says more than how it is down just now.
    said = next((one for one in down if one.is_flapping), said)
    reason = f"{said.reason}, for {len(down)} of {len(ballots)} directors"
    return Verdict(is_up, reason, min(one.since for one in down), any(one.is_flapping for one in down))
