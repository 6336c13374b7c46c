"""What YAML and JSON share: a table's document of which the lines are known, read piece by piece.

document.py says what is wrong with a document, but not where in a text. Here each service and each backend
is given to it alone, so that what is wrong has a line, and the rest is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from cluster.ipvs.formats.document import VERSION, from_document
from cluster.ipvs.formats.fidelity import Level, Parsed
from cluster.ipvs.formats.reading import Draft
from cluster.ipvs.state import Service

LineOf = Callable[[object], int]


def lines_of(text: str) -> Callable[[int], int]:
    """The number of the line in which a position of the text is. Only \\n ends a line, as everywhere here;
    YAML itself would count others too."""
    begins = [0, *accumulate(len(line) + 1 for line in text.split("\n"))][:-1]
    return lambda position: max(1, bisect_right(begins, position))


_REMEDY = "Correct it; docs/formats.md and the JSON Schema say what stands where."


def parsed(document: object, line_of: LineOf) -> Parsed:
    """The table of a document. `line_of` tells where a mapping or list of it begins in the text."""
    draft = Draft()
    if not isinstance(document, dict) or not isinstance(services := document.get("services"), list):
        text = "The text is not a table's document."
        draft.note(line_of(document), Level.ERROR, text, "Begin it with version and services.")
        return draft.finished()
    if why := _problem({**document, "services": []}):
        draft.note(line_of(document), Level.ERROR, why, _REMEDY)
        return draft.finished()
    for said in services:
        _read_service(draft, said, line_of)
    return draft.finished()


def _read_service(draft: Draft, said: object, line_of: LineOf) -> None:
    line = line_of(said)
    backends = said.get("backends") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(backends, list):
        why = _problem({"version": VERSION, "services": [said]}) or "It is not a service with its backends."
        draft.note(line, Level.ERROR, why, _REMEDY)
        return
    try:
        service = _service({**said, "backends": []})
    except ValueError as why:
        draft.note(line, Level.ERROR, _sentence(why), _REMEDY)
        return
    if service.key in draft.services:
        draft.note(line, Level.ERROR, f"{service.key} is there already.", "Take one of them out.")
        return
    draft.services[service.key] = service
    there = draft.backends[service.key] = {}
    draft.mapped.add(("", line))
    for backend in backends:
        at = line_of(backend)
        try:
            (found,) = _service({**said, "backends": [backend]}).backends
        except ValueError as why:
            draft.note(at, Level.ERROR, _sentence(why), _REMEDY)
            continue
        if found.key in there:
            draft.note(at, Level.ERROR, f"{found.key} is there already.", "Take one of them out.")
            continue
        there[found.key] = found
        draft.mapped.add(("", at))


def _sentence(why: ValueError) -> str:
    """What document.py says, without the place: each piece is the first of its own document, and the line
    tells more."""
    text = str(why).removeprefix("services[0].").removeprefix("backends[0].")
    return text[0].upper() + text[1:]


def _service(said: object) -> Service:
    (service,) = from_document({"version": VERSION, "services": [said]})
    return service


def _problem(document: dict[str, object]) -> str:
    try:
        from_document(document)
    except ValueError as why:
        return _sentence(why)
    return ""
