"""The host's way into a running lab: one unix socket, one JSON request per connection, JSON lines back."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# On top of the time a command may take: a busy machine with a slow guest still has to answer.
PATIENCE_S = 20.0


class LabError(RuntimeError):
    """A lab did not do what was asked; the message says what happened and what to do now."""


def knock(door: Path, request: dict[str, Any], timeout_s: float) -> Iterator[dict[str, Any]]:
    """Send the request and yield the events that answer it, as they come."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s + PATIENCE_S)
        try:
            connection.connect(str(door))
        except OSError as problem:
            raise LabError(
                f"No lab answers at {door} ({problem.strerror}). Start one with `up`."
            ) from problem
        connection.sendall(json.dumps(request).encode() + b"\n")
        try:
            with connection.makefile("rb") as lines:
                for line in lines:
                    event = json.loads(line)
                    if "error" in event:
                        raise LabError(event["error"])
                    yield event
        except TimeoutError as problem:
            raise LabError(
                f"The lab was silent for {timeout_s + PATIENCE_S:.0f} s; see its lab.log."
            ) from problem
        except ConnectionError as problem:
            raise LabError(f"The lab went away ({problem.strerror}); see its lab.log.") from problem


def ask(door: Path, request: dict[str, Any], timeout_s: float = 20.0) -> dict[str, Any]:
    """The one event that answers the request."""
    for event in knock(door, request, timeout_s):
        return event
    raise LabError(f"The lab did not answer {request['do']!r}; see its lab.log.")
