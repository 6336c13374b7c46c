"""What is said: orders down, reports and frames up. Every field is under the signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from cluster.wire.envelope import Refused

# An order is dropped when it is this old; the panel signs a fresh one at each resend. Wide enough for
# clocks that are some minutes apart, because order is kept by revisions and never by clocks.
ORDER_LIFETIME_S = 15 * 60
CLOCK_TOLERANCE_S = 10 * 60

# Of what a director did by itself, a report tells so many changes and counts the rest.
MOST_CHANGES = 200

# What a director gives each frame to live in Redis; what is left of it tells how long it lies there.
FRAME_LIFETIME_S = 3600

ORDER_TASK = "director.order"
REPORT_TASK = "panel.report"
REPORT_QUEUE = "panel"


def order_queue(director: str) -> str:
    """The queue that only this director's worker reads."""
    return f"director.{director}"


def frame_key(director: str) -> str:
    """The Redis key of a director's newest signed frame."""
    return f"live:{director}"


def ballot_key(director: str) -> str:
    """The Redis key of what a director's checks say, for the other directors of its cluster."""
    return f"ballot:{director}"


class Operation(StrEnum):
    APPLY = "apply"
    LOAD_MODULE = "load-module"
    PROBE = "probe"
    CONFIRM = "confirm"
    REPAIR = "repair"
    ENFORCE = "enforce"
    WITNESS = "witness"


class Event(StrEnum):
    HELLO = "hello"
    STARTED = "started"
    FINISHED = "finished"
    TRAFFIC = "traffic"
    WENT_BACK = "went-back"
    DRIFT = "drift"


class Outcome(StrEnum):
    APPLIED = "applied"
    PARTIAL = "partial"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


class _Message:
    """Reading and writing of the dataclasses below: known fields, right types, nothing else."""

    def to_body(self) -> dict[str, Any]:
        """The fields by name. Shallow: `asdict` copies every counter of a frame, for a second at 10,000."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Refused where a field is missing, unknown or of another type."""
        kinds = {f.name: _PLAIN[f.type] for f in fields(cls)}  # type: ignore[arg-type]
        if set(body) != set(kinds):
            raise Refused(f"The message's fields are not those of {_name(cls)}.")
        for name, kind in kinds.items():
            if not isinstance(body[name], kind) or isinstance(body[name], bool):
                raise Refused(f"The field {name} of {_name(cls)} has the wrong type.")
        try:
            return cls(**body)
        except ValueError as error:
            raise Refused(f"{_name(cls)} cannot be read: {error}.") from None


_PLAIN: dict[Any, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "dict[str, Any]": (dict,),
}
_PLAIN |= {"Operation": (str,), "Event": (str,)}


def _name(cls: type) -> str:
    return f"a {cls.__name__.lower()}"


@dataclass(frozen=True, slots=True)
class Order(_Message):
    """Panel to director: make this so.

    `payload` is, for APPLY, `{"table": document, "traffic": document}`: all that is desired, never a
    difference; for LOAD_MODULE, `{"module": name}`; for PROBE, `{"check": document, "targets": [target]}`;
    for CONFIRM nothing; for REPAIR, `{"places": [{"service": key, "backend": key or None}]}`; for ENFORCE,
    `{"enforce": bool}`: whether drift is put right without being asked. APPLY has that as well, and may have
    `"trial": {"within_s", "backends_percent", "connections_percent"}`: the director goes back by itself,
    unless a CONFIRM of the same revision comes in time, or where backends in service or open connections
    fall by more. For WITNESS, which has no run and no answer, `{"checkpoint": envelope}`.
    `epoch` rises when a director is enrolled anew or the panel is restored from a backup; (epoch, revision)
    never goes down. Times are Unix seconds."""

    operation: Operation
    run: str
    director: str
    cluster: str
    epoch: int
    revision: int
    operator: str
    issued_at: float
    expires_at: float
    payload: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "operation", Operation(self.operation))


@dataclass(frozen=True, slots=True)
class Report(_Message):
    """Director to panel.

    HELLO: `payload` is `{"public_key", "facts"}`, sent at start and every 30 s; `run` is empty.
    STARTED: the order was taken. FINISHED: `payload` is `{"outcome", "text", "remedy", "detail", "bug",
    "planned", "steps": [{"kind", "text", "command", "impact", "status", "error"}], "table": document of
    owned services, "owned": [key], "facts"}`; that of a PROBE has `"answers": [{"target", "up", "reason",
    "took_ms", "text"}]` instead of a table. TRAFFIC: what the director did by itself, `{"changes": [{"at",
    "target", "before", "standing", "weight", "cause"}], "more"}`; `run` is empty, and `more` were cut.
    DRIFT: all that somebody else changed, `{"objects": [{"service", "backend", "wanted", "actual",
    "right_at", "wrong_at", "fought"}], "healed": [the same], "more"}`, whenever it changes.
    WENT_BACK: the trial of `run` with this revision is over without a confirmation; as FINISHED, with
    `"cause"` and `"back"`, the revision in force again.
    `sequence` rises with every report of one director, for ever; older ones are ignored."""

    event: Event
    run: str
    director: str
    cluster: str
    epoch: int
    revision: int
    sequence: int
    at: float
    payload: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "event", Event(self.event))


@dataclass(frozen=True, slots=True)
class Frame(_Message):
    """Director to whoever looks: the kernel as it was at `at`.

    `payload` is `{"services": [...], "fingerprint", "wanted", "observed", "checks", "switches", "revision",
    "ordered", "epoch", "error"}`. `fingerprint` is that of what is ours in the kernel, `wanted` that of what
    should be there now; `observed` is the document of cluster.ipvs.traffic.observed; `checks`,
    `{"per_second", "late_share", "cpu_share", "trouble"}`, is how its health checks keep up, and a sentence
    where they do not; `switches`, `[{"name", "wanted", "held", "problem"}]`, are those below net.ipv4.vs
    that have another value than the newest order wants. `ordered` is the revision that the director
    steers by, `revision` the last one that was verified. The services are those of the table's document,
    so that they read back as a table; each has `"owned", "totals", "rates"` on top, and each of its
    backends `"active", "inactive", "persistent", "totals", "rates"`; totals and rates are
    `{"connections", "in_packets", "out_packets", "in_bytes", "out_bytes"}`."""

    director: str
    cluster: str
    sequence: int
    at: float
    period_s: float
    payload: dict[str, Any] = field(default_factory=dict)
