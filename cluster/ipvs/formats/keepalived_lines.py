"""keepalived.conf as words: comments, quotes, conditions and included files, as lib/parser.c of keepalived
2.2.7 takes them apart. Definitions are in keepalived_definitions.py."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import lru_cache

from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.keepalived_definitions import Definitions
from cluster.ipvs.formats.reading import Draft, Unreadable, shown

# Answers the files that an include's name, which may have wildcards, stands for: their names and texts. It
# may raise Unreadable for one that is there and cannot be read.
Include = Callable[[str], list[tuple[str, str]]]

# keepalived reads into a buffer of this size and takes the rest for the next line.
LONGEST_LINE = 1023
MOST_NESTED_FILES = 16
MOST_FILES = 256
_MOST_ROUNDS = 20

_COMMENT = re.compile(r'"|\\[#!]|\\.|[#!]')
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([{}])|([^\s"{}]+)|(\S)')
_INCLUDE = re.compile(r"include[rmwba]?\s+(.*)")
_BLANKS = re.compile(r"[ \t]+")
_WILDCARDS = re.compile(r"[*?\[{]")
_NOT_PLAIN = re.compile(r"""["\\#!$@~]|[{}]\s*\S""")


class Brace(Enum):
    """A brace that opens or closes a block; one in quotes is an ordinary word."""

    OPEN = "{"
    CLOSE = "}"


# What a line says: words, and the brace after them, again and again. The last words may have no brace.
Said = Sequence[tuple[list[str], Brace | None]]
_BRACES = {brace.value: brace for brace in Brace}


class Lines:
    """The words of a text and of all that it includes, line by line. What cannot be read becomes a note."""

    def __init__(self, draft: Draft, include: Include | None, config_ids: frozenset[str] | None) -> None:
        self._draft, self._include, self._config_ids = draft, include, config_ids
        self._definitions = Definitions()
        # Where reading goes on: a file, or the further lines of a definition within it.
        self._open: list[tuple[str, bool, Iterator[tuple[int, str]]]] = []
        self._files = 0
        # Most lines of a large file are the same few: "}", "retry 2", "TCP_CHECK {".
        self._plainly_said = lru_cache(maxsize=1024)(_plainly_said)
        # Set while the words are taken, for those who look through them afterwards.
        self.may_have_conditions = False

    def said(self, text: str) -> Iterator[tuple[str, int, Said]]:
        """File, line number and words of each line that says something. Of a line with a condition that
        nobody can judge, the condition alone is answered. Equal lines share their words, for good."""
        self._open.append(("", True, enumerate(text.split("\n"), start=1)))
        while self._open:
            file, _, lines = self._open[-1]
            for at, line in lines:
                if (said := self._plainly_said(line)) is not None and not self._definitions.are_growing:
                    yield file, at, said
                    continue
                try:
                    if words := self._words(file, at, line.removesuffix("\r")):
                        yield file, at, _as_said(words)
                except Unreadable as why:
                    self._draft.refuse(at, why, file)
                if self._open[-1][2] is not lines:
                    break  # What the line stands for is read before those after it.
            else:
                self._open.pop()

    def _words(self, file: str, at: int, line: str) -> list[str | Brace]:
        self.may_have_conditions |= "@" in line
        if len(line) > LONGEST_LINE:
            raise Unreadable("The line is too long for keepalived.", f"It takes {LONGEST_LINE} letters.")
        line = uncommented(line)
        if self._definitions.goes_on(line):
            self._draft.mapped.add((file, at))
            return []
        if found := _INCLUDE.fullmatch(line):
            self._open_files(file, at, found[1])
            return []
        for _ in range(_MOST_ROUNDS):
            if line.startswith("@"):
                if self._config_ids is None:
                    return [_BLANKS.split(line, maxsplit=1)[0]]
                line = self._if_it_applies(line, self._config_ids)
            if not line or self._definitions.begins(line):
                self._draft.mapped.add((file, at))
                return []
            if line.startswith(("~SEQ", "~LST")):
                self._open.append((file, False, ((at, one) for one in self._definitions.repeated(line))))
                return []
            replaced, more = self._definitions.replaced(line)
            if more:
                self._open.append((file, False, ((at, one) for one in more)))
            if replaced == line:
                return words_of(line)
            line = uncommented(replaced)
        raise Unreadable("The line's definitions go round in a circle.", "Write out what they stand for.")

    def _if_it_applies(self, line: str, config_ids: frozenset[str]) -> str:
        """The line without its condition, empty where it is for another machine."""
        condition, rest = (*_BLANKS.split(line[1:], maxsplit=1), "")[:2]
        if (condition.removeprefix("^") in config_ids) == condition.startswith("^"):
            return ""
        if rest.startswith("include"):
            raise Unreadable("An include after a condition does not work in keepalived.", "Leave one out.")
        return rest

    def _open_files(self, file: str, at: int, name: str) -> None:
        name = name.strip(' \t"')
        if self._include is None:
            raise Unreadable(
                f"The file {shown(name)} is not here.",
                "Put its content in place of this line.",
                Level.LOST,
                may_hide=True,
            )
        if not name.startswith("/") and posixpath.dirname(file):
            name = posixpath.join(posixpath.dirname(file), name)
        found = self._include(name)
        if not found and not _WILDCARDS.search(name):
            text = f"There is no file {shown(name)}."
            raise Unreadable(text, "Correct its name.", Level.LOST, may_hide=True)
        if not found:
            text = f"No file matches {shown(name)}; there was nothing to read."
            self._draft.note(at, Level.MAPPED, text, file=file)
        being_read = [file for file, is_file, _ in self._open if is_file]
        self._files += len(found)
        for included, _ in found:
            if included in being_read:
                raise Unreadable(f"{shown(included)} includes itself.", "Take out one of the includes.")
        if len(being_read) > MOST_NESTED_FILES or self._files > MOST_FILES:
            most = f"{MOST_NESTED_FILES} deep and {MOST_FILES} in all"
            raise Unreadable("There are too many included files.", f"At most {most} are read.")
        self._draft.mapped.add((file, at))
        for included, text in reversed(found):
            self._open.append((included, True, enumerate(text.split("\n"), start=1)))


def uncommented(line: str) -> str:
    """The line without comment and surrounding blanks. A # or ! begins one anywhere outside of quotes."""
    if "#" not in line and "!" not in line:
        return line.strip(" \t")
    quoted, kept, begin = False, list[str](), 0
    for found in _COMMENT.finditer(line):
        mark = found[0]
        if mark == '"':
            quoted = not quoted
        elif not quoted and mark in ("\\#", "\\!"):
            kept.append(line[begin : found.start()])
            begin = found.start() + 1
        elif not quoted and mark in ("#", "!"):
            kept.append(line[begin : found.start()])
            return "".join(kept).strip(" \t")
    kept.append(line[begin:])
    return "".join(kept).strip(" \t")


def _plainly_said(line: str) -> Said | None:
    """What a line says that has nothing but words and a brace at its end; None for any other, which goes the
    long way: with comment, quote, condition, definition or include, and one that says nothing."""
    if len(line) > LONGEST_LINE or _NOT_PLAIN.search(line):
        return None
    line = line.rstrip()
    brace = _BRACES.get(line[-1:])
    words = (line[:-1] if brace else line).split()
    if words and words[0].startswith("include"):
        return None
    return ((words, brace),) if words or brace else None


def _as_said(words: Iterable[str | Brace]) -> Said:
    said: list[tuple[list[str], Brace | None]] = []
    begun: list[str] = []
    for word in words:
        if isinstance(word, Brace):
            said.append((begun, word))
            begun = []
        else:
            begun.append(word)
    return [*said, (begun, None)] if begun else said


def words_of(line: str) -> list[str | Brace]:
    """Words and braces of a line without its comment. In quotes, \\" is no end of the quote."""
    words: list[str | Brace] = []
    for found in _WORD.finditer(line):
        quoted, brace, plain, rest = found.groups()
        if brace is not None:
            words.append(Brace(brace))
        elif rest is not None:
            raise Unreadable("A quote is not closed.", "Close it in the same line.")
        else:
            words.append(plain if plain is not None else quoted)
    return words
