"""A table's document as YAML text: the plain part of YAML, without anchors, aliases and tags.

The value is made here from PyYAML's events, which construct nothing. Plain words are what JSON has: whole
numbers, true, false and null; all others are text, so that no `on` and no `12:30` becomes something else.
docs/decisions/0014-yaml-in-the-thinking-room.md says why PyYAML may be imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from cluster.ipvs.formats.document import to_document
from cluster.ipvs.formats.fidelity import Level, Note, Parsed, Rendered
from cluster.ipvs.formats.reading import shown
from cluster.ipvs.formats.written_documents import lines_of, parsed
from cluster.ipvs.state import Table

# A backend's tunnel is in a mapping in a list in a mapping in a list in a mapping.
DEEPEST = 10

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def parse(text: str) -> Parsed:
    """The table of this document. Never raises: what is wrong has a note with its line."""
    reader, line_at = _Reader(), lines_of(text)
    try:
        value = reader.read(text)
    except _Refused as refused:
        return _note(line_at(refused.position), refused.text, refused.remedy)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = shown(str(error.problem or error.context))
        line = line_at(mark.index if mark else 0)
        return _note(line, f"The text is not YAML: {what}.", "Correct it here or before.")
    except yaml.reader.ReaderError as error:
        return _note(
            line_at(error.position), "The text has a letter that YAML does not allow.", "Take it out."
        )
    except (yaml.YAMLError, ValueError) as error:
        return _note(1, f"The text is not YAML: {shown(str(error))}.", "Correct it.")
    return parsed(value, lambda part: line_at(reader.begins.get(id(part), 0)))


def render(table: Table) -> Rendered:
    """The document in blocks, its names in the order of the JSON document. Nothing is lost."""
    text = yaml.dump(
        to_document(table), Dumper=_DUMPER, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return Rendered(text)


class _Refused(Exception):
    def __init__(self, position: int, text: str, remedy: str) -> None:
        super().__init__(text)
        self.position, self.text, self.remedy = position, text, remedy


class _Reader:
    """Makes a value of mappings, lists and scalars; `begins` tells by id() where its parts begin."""

    def __init__(self) -> None:
        self.begins: dict[int, int] = {}

    def read(self, text: str) -> object:
        """The value of the one document; _Refused or a YAMLError for all else."""
        events = _checked(yaml.parse(text, Loader=_LOADER))
        value = self._value(events)
        for _ in events:
            pass  # Whatever follows the value is refused there.
        return value

    def _value(self, events: Iterator[yaml.Event], event: yaml.Event | None = None) -> object:
        event = event or next(events, None)
        if event is None:
            return None
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        made: dict[str, object] | list[object]
        if isinstance(event, yaml.MappingStartEvent):
            made = self._mapping(events)
        else:
            made = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                made.append(self._value(events, item))
        self.begins[id(made)] = _begin(event)
        return made

    def _mapping(self, events: Iterator[yaml.Event]) -> dict[str, object]:
        made: dict[str, object] = {}
        while not isinstance(name := next(events), yaml.MappingEndEvent):
            if not isinstance(name, yaml.ScalarEvent):
                raise _Refused(
                    _begin(name), "A name is a list or a mapping.", "Write a word before the colon."
                )
            if name.value in made:
                text = f"{shown(name.value)} stands twice in the same mapping."
                raise _Refused(_begin(name), text, "Take one of them out.")
            made[name.value] = self._value(events)
        return made


def _checked(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    """The events of the one document's value; _Refused for what a table's document never needs."""
    depth = documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Refused(_begin(event), "The text has a second document.", "Give one file for each.")
        if not isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            continue
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(
                _begin(event), "Aliases such as *name are not read.", "Write out what it stands for."
            )
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise _Refused(_begin(event), "Anchors such as &name are not read.", "Take it out.")
        if getattr(event, "tag", None) is not None:
            raise _Refused(_begin(event), "Tags such as !!int are not read.", "Take it out.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise _Refused(_begin(event), "The text is nested too deeply to be a table.", "Check its blanks.")
        yield event


def _scalar(event: yaml.ScalarEvent) -> object:
    if event.style:
        return event.value
    if event.value in _WORDS:
        return _WORDS[event.value]
    return int(event.value) if _NUMBER.fullmatch(event.value) else event.value


def _begin(event: Any) -> int:
    return int(event.start_mark.index)


def _note(line: int, text: str, remedy: str) -> Parsed:
    return Parsed(notes=(Note(line, Level.ERROR, text, remedy),))
