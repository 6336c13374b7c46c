"""keepalived.conf as nested blocks: each keyword with its words and what stands in its braces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.ipvs.formats.keepalived_lines import Brace, Said
from cluster.ipvs.formats.reading import Draft, Unreadable, shown

# A url block of a check of a server of a service is four deep; nothing of LVS is deeper.
DEEPEST = 16


@dataclass(slots=True)
class Block:
    """A keyword with its values, and the blocks inside of its braces; None where it has no braces."""

    words: list[str]
    file: str
    line: int
    inside: list[Block] | None = None

    @property
    def name(self) -> str:
        return self.words[0]

    @property
    def value(self) -> str:
        """All that follows the keyword."""
        return " ".join(self.words[1:])

    def word(self, at: int = 1) -> str:
        """One of the values; Unreadable where it is missing."""
        if len(self.words) <= at:
            raise Unreadable(f"{self.name} has no value.", "Give it one, or take it out.")
        return self.words[at]


def blocks(lines: Iterable[tuple[str, int, Said]], draft: Draft) -> list[Block]:
    """The outermost blocks. A brace too many or too few becomes a note."""
    tree = _Tree(draft)
    for file, line, said in lines:
        for words, brace in said:
            if words:
                tree.add(words, file, line)
            if brace is Brace.OPEN:
                tree.open(file, line)
            elif brace is Brace.CLOSE:
                tree.close(file, line)
    return tree.finished()


class _Tree:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._outermost: list[Block] = []
        self._heads: list[Block] = []
        self._last: Block | None = None
        self._too_deep = Block(["{"], "", 0, [])

    def add(self, words: list[str], file: str, line: int) -> None:
        if len(self._heads) <= DEEPEST:
            self._last = Block(words, file, line)
            self._level().append(self._last)

    def open(self, file: str, line: int) -> None:
        if len(self._heads) > DEEPEST:
            self._heads.append(self._too_deep)
            return
        if self._last is None or self._last.inside is not None:
            why = Unreadable("The “{” belongs to no keyword.", "Take it out with its “}”.")
            self._draft.refuse(line, why, file)
            self._last = Block(["{"], file, line)
        self._last.inside = []
        if len(self._heads) == DEEPEST:
            why = Unreadable("The blocks are nested too deeply.", "Close the blocks before.")
            self._draft.refuse(line, why, file)
        # What is deeper is dropped, so that no depth of text becomes a depth of objects.
        self._heads.append(self._last if len(self._heads) < DEEPEST else self._too_deep)
        self._last = None

    def close(self, file: str, line: int) -> None:
        if not self._heads:
            why = Unreadable("The “}” closes nothing.", "Take it out, or open its block before.")
            self._draft.refuse(line, why, file)
        else:
            self._heads.pop()
        self._last = None

    def finished(self) -> list[Block]:
        for head in self._heads[:1]:
            why = Unreadable(f"The block {shown(head.name)} is not closed.", "Add the missing “}”.")
            self._draft.refuse(head.line, why, head.file)
        return self._outermost

    def _level(self) -> list[Block]:
        if not self._heads:
            return self._outermost
        inside = self._heads[-1].inside
        assert inside is not None
        return inside
