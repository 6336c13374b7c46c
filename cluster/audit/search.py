"""The words of a search in the log: `actor:ann -action:sign-in created:2026-11-01..2026-11-05 "web shop"`.

The same qualifier twice means either; different ones must all hold; a minus in front means not. What stands
without a qualifier is looked for in the object's text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_

from django.db.models import Q, QuerySet
from django.utils import timezone

from cluster.models import AuditEntry, AuditHead, Cluster

LONGEST = 400
# Who may have set a clock back: entries this far out of turn are still found by their time.
OUT_OF_TURN = timedelta(hours=1)
QUALIFIERS = (
    *("actor", "action", "object", "cluster", "result", "created"),
    *("request", "session", "role", "address", "reason"),
)
# Whoever may see more clusters than this has their entries all over the log.
MOST_SHARES = 50
# An index leads to one value of these; not to several, to a beginning, or to what something is not.
_INDEXED = ("request", "object", "actor", "action", "cluster", "result")
_COLUMNS = {"request": "request_id"}
_OBJECT = re.compile(r"([a-z]{1,16})/([0-9a-f-]{1,40})")
_WORD = re.compile(r'(?P<not>-?)(?:(?P<name>[A-Za-z_]+):)?(?:"(?P<quoted>[^"]*)"|(?P<plain>[^\s"]*))(?=\s|$)')
_AGO = re.compile(r"([1-9][0-9]{0,3})([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_TIMES = (
    ("%Y-%m-%d", timedelta(days=1)),
    ("%Y-%m-%dT%H:%M", timedelta(minutes=1)),
    ("%Y-%m-%dT%H:%M:%S", timedelta(seconds=1)),
)
_HOW_TO_SAY_TIMES = "Write 2026-11-01, 2026-11-01T14:30 (UTC), A..B, >=A, or 24h for the last 24 hours."


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a search; `name` is empty for a word without a qualifier."""

    name: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        value = f'"{self.value}"' if re.search(r"[\s:]", self.value) or not self.value else self.value
        return f"{'-' if self.negated else ''}{f'{self.name}:' if self.name else ''}{value}"


@dataclass(frozen=True, slots=True)
class Search:
    """What was understood, and in sentences what was not. `since` and `until` are the ends of the time asked
    for, the second one excluded."""

    terms: tuple[Term, ...] = ()
    problems: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))

    def said(self, name: str) -> str:
        """The value of a qualifier that stands once and without a minus, for a form."""
        found = [term for term in self.terms if term.name == name]
        return found[0].value if len(found) == 1 and not found[0].negated else ""

    def with_terms(self, names: Iterable[str], terms: Iterable[Term]) -> str:
        """The text of the same search with other words for these qualifiers."""
        kept = [term for term in self.terms if term.name not in names]
        return " ".join(map(str, [*kept, *terms]))


def parse(text: str, *, now: datetime | None = None) -> Search:
    """Read a search; what cannot be understood is a problem in words, never an exception."""
    text = text.replace("\0", "").strip()
    if len(text) > LONGEST:
        return Search(problems=(f"This search has {len(text)} characters; at most {LONGEST} can be read.",))
    terms, problems, place = [], [], 0
    while place < len(text):
        found = _WORD.match(text, place)
        if found is None:
            rest = text[place:].split(maxsplit=1)[0]
            problems.append(f"“{rest[:40]}” has a quote that does not end, or that begins inside a word.")
            break
        place = found.end() + len(text[found.end() :]) - len(text[found.end() :].lstrip())
        name, value = (found["name"] or "").lower(), found["quoted"] or found["plain"] or ""
        if name and name not in QUALIFIERS:
            known = ", ".join(QUALIFIERS)
            problems.append(
                f"“{name}:” is no qualifier. Known are {known}; put a word with a colon in quotes."
            )
        elif not value:
            problems.append(f"“{found[0]}” says nothing to look for.")
        elif name == "created" and found["not"]:
            problems.append("A minus before “created:” is not understood. Say the time that you want.")
        else:
            terms.append(Term(name, value, bool(found["not"])))
    times = [term.value for term in terms if term.name == "created"]
    since, until = None, None
    if len(times) > 1:
        problems.append("“created:” stands twice. Say one range, as in created:2026-11-01..2026-11-05.")
    elif times:
        try:
            since, until = _range(times[0], now or timezone.now())
        except (ValueError, OverflowError) as error:
            problems.append(f"“created:{times[0][:60]}” is no time: {error}. {_HOW_TO_SAY_TIMES}")
    return Search(tuple(terms), tuple(problems), since, until)


@dataclass(frozen=True, slots=True)
class Found:
    """The entries that a search asks for, all of them from `first` on and before `end`; `shares` are parts
    that make them up, which may overlap. `is_indexed`: the database comes to each of them, share by share,
    without walking over others."""

    entries: QuerySet[AuditEntry]
    first: int
    end: int
    is_indexed: bool
    shares: list[QuerySet[AuditEntry]]


def find(
    entries: QuerySet[AuditEntry], search: Search, head: AuditHead, *, shares: Sequence[Q] = ()
) -> Found:
    """Narrow what somebody may see, all of it or what `shares` make up, to what is asked for.

    Sequence numbers rise with the time, and paging goes by them: so the ends of a time are looked up first,
    and what lies outside is never walked over."""
    first, end = head.sealed_sequence + 1, head.sequence + 1
    if search.since:
        first = max(first, _last_before(search.since - OUT_OF_TURN) + 1)
        entries = entries.filter(at__gte=search.since)
    if search.until:
        end = min(end, _first_since(search.until + OUT_OF_TURN) or end)
        entries = entries.filter(at__lt=search.until)
    if search.since or search.until:
        entries = entries.filter(sequence__gte=first, sequence__lt=end)
    is_bare = all(term.name == "created" for term in search.terms)
    entries = _narrowed(entries, search)
    if not shares:
        return Found(entries, first, end, is_bare or _is_indexed(search), [entries])
    if len(shares) > MOST_SHARES:
        return Found(entries, first, end, False, [entries])
    return Found(entries, first, end, is_bare, [entries.filter(share) for share in shares])


def _is_indexed(search: Search) -> bool:
    """Whether the database comes to what is asked for by looking at little else."""
    for name in _INDEXED:
        found = [term.value for term in search.terms if term.name == name and not term.negated]
        if len(found) != 1 or found[0].endswith("*"):
            continue
        if name == "object" and not _OBJECT.fullmatch(found[0]):
            continue
        # One that is gone is looked for by its name, which has no index.
        if name == "cluster" and not Cluster.objects.filter(name=found[0]).exists():
            continue
        return True
    return False


def _narrowed(entries: QuerySet[AuditEntry], search: Search) -> QuerySet[AuditEntry]:
    for name in ("", *QUALIFIERS):
        if name == "created":
            continue
        wanted = [_condition(name, t.value) for t in search.terms if t.name == name and not t.negated]
        if name in ("", "reason"):
            entries = entries.filter(*wanted)
        elif wanted:
            entries = entries.filter(reduce(or_, wanted))
        for term in search.terms:
            if term.name == name and term.negated:
                entries = entries.exclude(_condition(name, term.value))
    return entries


def _last_before(moment: datetime) -> int:
    found = AuditEntry.objects.filter(at__lt=moment).order_by("-at", "-sequence")
    return found.values_list("sequence", flat=True).first() or 0


def _first_since(moment: datetime) -> int | None:
    found = AuditEntry.objects.filter(at__gte=moment).order_by("at", "sequence")
    return found.values_list("sequence", flat=True).first()


def _condition(name: str, value: str) -> Q:
    if name == "object" and (exact := _OBJECT.fullmatch(value)):
        return Q(object_kind=exact[1], object_id=exact[2])
    if name in ("", "object"):
        return Q(target__icontains=value)
    if name == "reason":
        return Q(reason__icontains=value)
    if name == "session":
        return Q(session__in=[value, f"session {value}", f"token {value}"])
    if name == "cluster":
        # By its id: it may have had another name. One that is gone is known by its name alone.
        known = Cluster.objects.filter(name=value).first()
        return Q(cluster_uuid=str(known.uuid)) if known else Q(cluster=value)
    column = _COLUMNS.get(name, name)
    return Q(**{f"{column}__startswith": value[:-1]} if value.endswith("*") else {column: value})


def _range(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The first moment, and the one after the last."""
    if ".." in text:
        first, _, last = text.partition("..")
        since = _moment(first)[0] if first.strip("*") else None
        until = _moment(last)[1] if last.strip("*") else None
        if since and until and since >= until:
            raise ValueError("the range ends before it begins")
        return since, until
    for sign, ends in _COMPARED.items():
        if text.startswith(sign):
            return ends(*_moment(text[len(sign) :]))
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNITS[ago[2]], None
    return _moment(text)


_COMPARED: dict[str, Callable[[datetime, datetime], tuple[datetime | None, datetime | None]]] = {
    ">=": lambda first, after: (first, None),
    "<=": lambda first, after: (None, after),
    ">": lambda first, after: (after, None),
    "<": lambda first, after: (None, first),
}


def _moment(text: str) -> tuple[datetime, datetime]:
    """The begin and the end of the day, minute or second that a text names, in UTC."""
    for form, lasts in _TIMES:
        try:
            begin = datetime.strptime(text.removesuffix("Z"), form).replace(tzinfo=UTC)
        except ValueError:
            continue
        if not 1970 <= begin.year <= 9000:
            raise ValueError(f"the year {begin.year} is out of bounds")
        return begin, begin + lasts
    raise ValueError(f"“{text[:40]}” cannot be read" if text else "one end is missing")
