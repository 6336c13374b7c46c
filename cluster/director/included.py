"""The files that a keepalived.conf on this machine includes, found and read as glob(3) finds them there."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.keepalived_lines import MOST_FILES
from cluster.ipvs.formats.reading import Unreadable, shown

_WILDCARD = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_REMEDY = "Correct the include, or put the content in place of it."


class Included:
    """Answers an include's name, relative to `folder`, with names and texts; at most `most` characters in
    all. Unreadable for what is there and cannot be read, and for a folder that is not there."""

    def __init__(self, folder: Path, *, most: int) -> None:
        self._folder, self._left = folder, most

    def __call__(self, name: str) -> list[tuple[str, str]]:
        found = [path for pattern in _without_braces(name) for path in self._matches(pattern)]
        # One more than is read, by which the reader sees that there are too many.
        return [(path, self._text(path)) for path in found[: MOST_FILES + 1]]

    def _matches(self, pattern: str) -> list[str]:
        wild = _WILDCARD.search(pattern)
        if "\\" in pattern or "\0" in pattern:
            raise _lost(pattern, "its name has a mark that is not understood here")
        if wild is None:
            return [pattern] if os.path.lexists(self._folder / pattern) else []
        folder = self._folder / os.path.dirname(pattern[: wild.start()])
        try:
            # glob() finds nothing in a folder that it may not read, and says nothing.
            os.scandir(folder).close()
        except OSError as error:
            raise _lost(str(folder), error.strerror) from error
        # Its [^a] means a or ^.
        matches = sorted(glob.glob(pattern.replace("[^", "[!"), root_dir=self._folder))
        return [path for path in matches if not os.path.isdir(self._folder / path)]

    def _text(self, name: str) -> str:
        path = self._folder / name
        try:
            # To open a pipe would wait for whoever writes into it.
            if not path.is_file():
                raise _lost(name, "no such file" if not path.exists() else "it is no file")
            with path.open(encoding="utf-8") as file:
                text = file.read(self._left + 1)
        except OSError as error:
            raise _lost(name, error.strerror) from error
        except UnicodeDecodeError:
            raise _lost(name, "it is not text in UTF-8") from None
        if len(text) > self._left:
            raise Unreadable("The included files are too long.", "Include less.", may_hide=True)
        self._left -= len(text)
        return text


def _lost(name: str, why: str | None) -> Unreadable:
    return Unreadable(f"{shown(name)} cannot be read: {why}.", _REMEDY, Level.LOST, may_hide=True)


def _without_braces(name: str) -> list[str]:
    """Each name that one with {a,b} stands for."""
    waiting, done = [name], dict[str, None]()
    while waiting:
        pattern = waiting.pop(0)
        if braces := _BRACES.search(pattern):
            before, after = pattern[: braces.start()], pattern[braces.end() :]
            waiting[:0] = [before + choice + after for choice in braces[1].split(",")]
        else:
            done[pattern] = None
        if len(waiting) + len(done) > MOST_FILES:
            raise Unreadable(f"{shown(name)} stands for too many names.", "Include less.", may_hide=True)
    return list(done)
