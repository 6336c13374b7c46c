"""No text makes a reader fail, hang or lie about lines, and twice the text is twice the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.formats import kinds
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from tests.formats.mutation import mutated
from tests.formats.test_samples import FILES
from tests.ipvs.tables import few

every_kind = pytest.mark.parametrize("kind", kinds.FORMATS)
TEXTS = {kind: [path.read_text() for path in FILES if path.parent.name == kind] for kind in kinds.FORMATS}


def look(text: str, kind: str) -> None:
    """Read it; what comes out must make sense whatever went in."""
    read = kinds.parse(text, kind=kind)
    last = text.count("\n") + 1
    for note in read.notes:
        assert 1 <= note.line <= last and note.text.endswith((".", "!", "?")) and note.text.isprintable()
    assert len(list(read.by_line(text))) == last
    assert all(file == "" and 1 <= line <= last for file, line in read.mapped)
    keys = read.table.keys
    assert len(keys) == len(read.table) and keys >= read.sorry.keys()
    backends = {(service.key, backend.key) for service in read.table for backend in service.backends}
    assert backends >= read.checks.keys()
    again = kinds.parse(kinds.render(read.table, kind=kind).text, kind=kind)
    assert not again.errors, "what we write is never wrong"


@every_kind
@few
@given(text=st.text())
def test_any_text_is_read_or_named(kind: str, text: str) -> None:
    look(text, kind)
    kinds.guess(text)


@every_kind
@few
@given(data=st.data())
def test_files_with_mistakes_are_read_or_named(kind: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS[kind]))
    look(mutated(text, data.draw(st.integers(0, 2**32))), kind)


def _table(services: int) -> Table:
    backends = tuple(Backend(f"10.0.0.{number}", 80, weight=number) for number in range(1, 11))
    keys = (ServiceKey(Protocol.TCP, f"10.1.{at // 250}.{at % 250}", 80) for at in range(services))
    return Table(tuple(replace(Service(key, "wrr"), backends=backends) for key in keys))


def _calls(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, were called; unlike seconds, the same on every machine."""
    count = 0

    def counting(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@every_kind
def test_twice_the_table_is_twice_the_work(kind: str) -> None:
    small, large = (kinds.render(_table(count), kind=kind).text for count in (60, 120))
    kinds.parse(small, kind=kind)
    one, two = (_calls(lambda text=text: kinds.parse(text, kind=kind)) for text in (small, large))  # type: ignore[misc]
    assert two < 2.2 * one, f"{one} calls, then {two}"


ODD = [
    "{",
    "}",
    '"',
    "x {",
    "x ",
    "[",
    "- ",
    "a: [",
    '{"a":',
    "virtual=1\n",
    "    real=1 gate\n",
    "-A -f ",
    "$A=",
    "@a ",
]


@every_kind
@pytest.mark.parametrize("piece", ODD)
@pytest.mark.parametrize("end", ["", "\n"])
def test_twice_an_odd_text_is_at_most_twice_the_work(kind: str, piece: str, end: str) -> None:
    one, two = (
        _calls(lambda count=count: kinds.parse((piece + end) * count, kind=kind))  # type: ignore[misc]
        for count in (150, 300)
    )
    assert two < 2.3 * one + 2000, f"{one} calls, then {two}"
