"""Definitions of keepalived.conf: $NAME=value, with several lines too, ~SEQ and ~LST, as keepalived 2.2.7
puts them in. Work is bounded: a text can name itself in circles."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.reading import Unreadable, shown

LONGEST_LINE = 1023
MOST_REPLACEMENTS = 50_000
_MOST_IN_A_LINE = 100
_MOST_VALUES = 100_000

_BEGIN = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_USE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*)(?=[ \t,)]|$))")
_AT_RUN_TIME = re.compile(r"\$\{?_(?:PWD|INSTANCE|RANDOM|HASH|BANG)\b")
_SEQUENCE = re.compile(r"~SEQ(x?)[ \t]*\([ \t]*([A-Za-z_]\w*)[ \t]*,([^)]*)\)[ \t]*(.*)")
_LIST = re.compile(r"~LST[ \t]*\([ \t]*(\{[^{}]*\}|[A-Za-z_]\w*)[ \t]*,([^)]*)\)[ \t]*(.*)")
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})")
_SET = re.compile(r"[ \t]*(?:\{([^{}]*)\}|([^,{}]*))[ \t]*(?:,|$)")


class Definitions:
    """What the names stand for at this point of the text."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self._growing: list[str] | None = None
        self._replacements = 0

    @property
    def are_growing(self) -> bool:
        """Whether the next line belongs to a definition that was begun before."""
        return self._growing is not None

    def goes_on(self, line: str) -> bool:
        """Whether the line belongs to a definition that was begun before; then it is taken into it."""
        if self._growing is None:
            return False
        if text := line.removesuffix("\\").rstrip(" \t"):
            self._growing.append(text)
        if not line.endswith("\\"):
            self._growing = None
        return True

    def begins(self, line: str) -> bool:
        """Whether the line defines a name; then it is remembered."""
        found = _BEGIN.fullmatch(line) if line.startswith("$") else None
        if found is None:
            return False
        name, value = found.groups()
        if value.endswith("\\"):
            first = value[:-1].rstrip(" \t")
            self._growing = self._values[name] = [first] if first else []
        else:
            self._values[name] = [value]
        return True

    def replaced(self, line: str) -> tuple[str, list[str]]:
        """The line with its names replaced, and the lines that follow from a definition of several lines.
        An unknown name stays as it is, as in keepalived."""
        if "$" not in line:
            return line, []
        if _AT_RUN_TIME.search(line):
            raise Unreadable(
                "The line has a value that only a running keepalived knows.",
                "Write it out.",
                Level.LOST,
                may_hide=True,
            )
        at, more, count = 0, list[str](), 0
        while found := _USE.search(line, at):
            name = found[1] or found[2]
            value = self._values.get(name)
            if value is None or (len(value) != 1 and found.end() != len(line)):
                at = found.start() + 1
                continue
            count += 1
            self._replacements += 1
            if count > _MOST_IN_A_LINE or self._replacements > MOST_REPLACEMENTS:
                raise Unreadable(f"${name} goes round in a circle, or too far.", "Write out its value.")
            first = value[0] if value else ""
            line = line[: found.start()] + first + line[found.end() :]
            if len(line) > LONGEST_LINE:
                raise Unreadable(f"The line is too long with the value of ${name}.", "Write out its value.")
            more = value[1:] + more
            at = found.start()
        self._replacements += len(more)
        return line, more

    def repeated(self, line: str) -> Iterator[str]:
        """What stands after ~SEQ(…) or ~LST(…), once for each of its values, which are defined meanwhile."""
        sequence = _SEQUENCE.fullmatch(line)
        if sequence is not None:
            is_hex, name, numbers, rest = sequence.groups()
            counted = _counted(self.replaced(numbers)[0])
            values = ((format(number, "x") if is_hex else str(number),) for number in counted)
            return self._for_each((name,), values, rest)
        listed = _LIST.fullmatch(line)
        if listed is None:
            raise Unreadable(f"{shown(line)} is no ~SEQ or ~LST.", "Write out its lines.")
        names = tuple(name.strip() for name in listed[1].strip("{}").split(","))
        sets = (
            tuple(value.strip() for value in (found[1] or found[2] or "").split(","))
            for found in _SET.finditer(listed[2])
            if found[0]
        )
        return self._for_each(names, sets, listed[3])

    def _for_each(
        self, names: tuple[str, ...], values: Iterator[tuple[str, ...]], rest: str
    ) -> Iterator[str]:
        for one in values:
            self._replacements += 1
            if self._replacements > MOST_REPLACEMENTS:
                return
            for at, name in enumerate(names):
                self._values[name] = [one[at] if at < len(one) else ""]
            yield rest


def _counted(text: str) -> range:
    given = [part.strip() for part in text.split(",")]
    if not all(_NUMBER.fullmatch(part) for part in given) or not 1 <= len(given) <= 3:
        raise Unreadable("The numbers of the ~SEQ are wrong.", "Give start, step and end.")
    numbers = [int(part, 16 if "x" in part.lower() else 10) for part in given]
    if len(numbers) == 1:
        start, step, end = (1, 1, numbers[0]) if numbers[0] > 0 else (-1, -1, numbers[0])
    elif len(numbers) == 2:
        start, end = numbers
        step = 1 if start <= end else -1
    else:
        start, step, end = numbers
    found = range(start, end + (1 if step > 0 else -1), step) if step else range(0)
    if not found or len(found) > _MOST_VALUES:
        raise Unreadable("The ~SEQ never ends, or is far too long.", "Correct start, step and end.")
    return found
