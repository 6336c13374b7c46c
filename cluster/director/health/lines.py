"""What the worker and its checking process say to each other: one JSON value a line."""

from __future__ import annotations

import json
from typing import Any

from cluster.director.health import Pace, Tried, Watched
from cluster.ipvs.formats.document import (
    backend_from_document,
    backend_to_document,
    key_from_document,
    key_to_document,
)
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.document import (
    check_from_document,
    check_to_document,
    load_from_document,
    load_to_document,
)

# A line has at most a whole director's backends.
LONGEST_LINE = 256 * 1024 * 1024


def line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def watched_out(one: Watched, known: Verdict | None = None) -> list[Any]:
    """As a row: the plain values take a third of the room that names would."""
    return [
        key_to_document(one.service),
        backend_to_document(one.backend),
        check_to_document(one.check) if one.check else None,
        load_to_document(one.load) if one.load else None,
        one.flap_changes,
        one.flap_window_s,
        one.mark,
        verdict_out(known) if known else None,
    ]


def watched_in(row: list[Any]) -> tuple[Watched, Verdict | None]:
    service, backend, check, load, flap_changes, flap_window_s, mark, known = row
    one = Watched(
        key_from_document(service),
        backend_from_document(backend),
        None if check is None else check_from_document(check),
        None if load is None else load_from_document(load),
        flap_changes,
        flap_window_s,
        mark,
    )
    return one, None if known is None else verdict_in(known)


def verdict_out(verdict: Verdict) -> list[Any]:
    return [verdict.is_up, verdict.reason, verdict.since, verdict.is_flapping]


def verdict_in(row: list[Any]) -> Verdict:
    return Verdict(*row)


def tried_out(tried: Tried) -> list[Any]:
    return [tried.is_up, tried.reason, tried.took_ms, tried.text]


def tried_in(row: list[Any]) -> Tried:
    return Tried(*row)


def pace_out(pace: Pace) -> list[float]:
    return [pace.per_second, pace.late_share, pace.cpu_share]


def pace_in(row: list[float]) -> Pace:
    return Pace(*row)
