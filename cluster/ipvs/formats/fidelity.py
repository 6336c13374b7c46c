"""What became of each line of a text that was read: mapped, lost or wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.ipvs.settings import Settings
from cluster.ipvs.state import Backend, BackendKey, ServiceKey, Table


class Level(StrEnum):
    """`mapped`: it is in the table, and there is something to know about it. `lost`: the text says
    something that a table cannot hold. `error`: the line is not understood or contradicts another."""

    MAPPED = "mapped"
    LOST = "lost"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Note:
    """One remark about one line. `text` says what happened, `remedy` what to do now; `file` is the name of
    an included file, empty for the text itself. `may_hide` is whether a service or backend may have stood
    there that is not in the table now."""

    line: int
    level: Level
    text: str
    remedy: str = ""
    file: str = ""
    may_hide: bool = False

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.file else f"line {self.line}"
        return f"{place}: {self.level}: {self.text} {self.remedy}".rstrip()


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a file asks for a backend's health: `kind` as the panel would say it (tcp, http, https, smtp, dns,
    udp, ping, file, script, bfd) or the protocol's own name, such as imap; `parameters` in the file's own
    names, times in seconds. `retries` are further attempts before a backend counts as down."""

    kind: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    interval_s: float | None = None
    timeout_s: float | None = None
    retries: int | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text that was written from a table, with a note for each service and backend that the format has no
    words for. Such a one is left out whole: what is written means what the table means."""

    text: str
    notes: tuple[Note, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the text says all that the table says."""
        return not self.notes


@dataclass(frozen=True)
class Parsed:
    """What was read: the table of all that was understood, and a report by line.

    `mapped` holds the places, as (file, line), whose content is in the table, in `checks`, `quiescent` or
    `settings`. A backend that stands in only while all others are down is in `sorry`, not in the table: it
    depends on health. `quiescent` is whether a backend that fails stays in the table with weight 0, and the
    line that says so; only where one does. `settings` are the timeouts and daemons that the text names, None
    where it names none; a timeout of 0 there stays as it is."""

    table: Table = field(default_factory=Table)
    notes: tuple[Note, ...] = ()
    mapped: frozenset[tuple[str, int]] = frozenset()
    checks: Mapping[tuple[ServiceKey, BackendKey], tuple[HealthCheck, ...]] = field(default_factory=dict)
    sorry: Mapping[ServiceKey, Backend] = field(default_factory=dict)
    settings: Settings | None = None
    # The line that names it, by service.
    sorry_lines: Mapping[ServiceKey, int] = field(default_factory=dict)
    quiescent: Mapping[tuple[ServiceKey, BackendKey], tuple[bool, int]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the table, the checks and the settings say all that the text said."""
        return all(note.level is Level.MAPPED for note in self.notes)

    @property
    def errors(self) -> tuple[Note, ...]:
        """The lines that somebody must mend."""
        return tuple(note for note in self.notes if note.level is Level.ERROR)

    @property
    def gaps(self) -> tuple[Note, ...]:
        """The lines for which the table may miss a service or backend: no ground to remove one."""
        return tuple(note for note in self.notes if note.may_hide)

    def by_line(self, text: str, *, file: str = "") -> Iterator[tuple[int, str, Level | None, list[Note]]]:
        """Each line of `text` with its number, the worst that is known of it, and its notes. The level is
        None for lines that say nothing, such as comments."""
        found: dict[int, list[Note]] = {}
        for note in self.notes:
            if note.file == file:
                found.setdefault(note.line, []).append(note)
        for number, line in enumerate(text.split("\n"), start=1):
            notes = found.get(number, [])
            levels = {note.level for note in notes}
            if (file, number) in self.mapped:
                levels.add(Level.MAPPED)
            worst = next((lvl for lvl in (Level.ERROR, Level.LOST, Level.MAPPED) if lvl in levels), None)
            yield number, line, worst, notes
