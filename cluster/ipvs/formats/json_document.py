"""A table's document as JSON text, with the lines of what is wrong. docs/decisions/0014 is about YAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from json import JSONDecodeError, JSONDecoder
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, NoReturn

from cluster.ipvs.formats.document import from_document, to_document
from cluster.ipvs.formats.fidelity import Level, Note, Parsed, Rendered
from cluster.ipvs.formats.reading import shown
from cluster.ipvs.formats.written_documents import lines_of, parsed
from cluster.ipvs.state import Table

_REMEDY = "Correct it, or export the table anew."


def parse(text: str) -> Parsed:
    """The table of this document. Never raises: what is wrong has a note with its line."""
    try:
        value = _decoder().decode(text)
    except JSONDecodeError as error:
        return _refused(error.lineno, f"The text is not JSON: {error.msg}.")
    except RecursionError:
        return _refused(1, "The text is nested too deeply to be a table.")
    except ValueError as error:
        return _refused(1, str(error))
    try:
        # The usual case, at the speed of C. Lines are looked for only where something is wrong.
        return Parsed(from_document(value))
    except ValueError:
        pass
    try:
        return parsed(*_with_lines(text))
    except RecursionError:
        return parsed(value, lambda _: 1)


def render(table: Table) -> Rendered:
    """The document, indented. Nothing is lost."""
    return Rendered(json.dumps(to_document(table), indent=2, ensure_ascii=False) + "\n")


def _decoder() -> JSONDecoder:
    return JSONDecoder(object_pairs_hook=_once_each, parse_constant=_no_constant)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = sorted(name for name, _ in pairs)
        name = next(one for one, after in pairwise(names) if one == after)
        raise ValueError(f"{shown(name)} stands twice in the same object.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")


def _with_lines(text: str) -> tuple[object, Callable[[object], int]]:
    """The value once more, and where its objects and lists begin."""
    line_at = lines_of(text)
    begins: dict[int, int] = {}
    decoder: Any = _decoder()

    def noted(read: Callable[..., tuple[Any, int]]) -> Callable[..., tuple[Any, int]]:
        def reading(at: tuple[str, int], *rest: Any) -> tuple[Any, int]:
            value, end = read(at, *rest)
            begins[id(value)] = at[1]
            return value, end

        return reading

    decoder.parse_object, decoder.parse_array = noted(decoder.parse_object), noted(decoder.parse_array)
    decoder.scan_once = py_make_scanner(decoder)
    value = decoder.decode(text)
    return value, lambda part: line_at(begins.get(id(part), 1) - 1)


def _refused(line: int, text: str) -> Parsed:
    return Parsed(notes=(Note(line, Level.ERROR, text, _REMEDY),))
