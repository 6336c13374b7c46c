"""What the readers of services and of backends share: shapes that are found, learnt and measured."""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Protocol, TypeVar

from cluster.director.kernel import codec
from cluster.director.kernel.layout import Layout

LENGTH: Final = struct.Struct("=I")
_MOST_REMEMBERED: Final = 20_000
_MOST_SHAPES: Final = 8


class Unusable(Exception):
    """A layout that the fast way is not made for; the plain way reads it, or says what is wrong."""


class HasLayout(Protocol):
    """`THING` is the kind of attribute that an entry is, `STATISTICS` those in it that hold others."""

    THING: ClassVar[int]
    STATISTICS: ClassVar[frozenset[int]]
    layout: Layout

    def __init__(self, layout: Layout) -> None: ...


Shape = TypeVar("Shape", bound=HasLayout)
# By the length of their messages.
Shapes = dict[int, tuple[Shape, ...]]


def fitting(shapes: Shapes[Shape], data: bytes, sequence: int) -> tuple[Shape | None, int, int | None]:
    """The known shape of the messages that `data` begins with, how many of them there are, and what all
    of them say alike of the values that the layout watches."""
    for shape in shapes.get(LENGTH.unpack_from(data)[0], ()):
        count, alike = shape.layout.count(data, sequence)
        if count:
            return shape, count, alike
    return None, 0, None


def learn(shapes: Shapes[Shape], kind: type[Shape], data: bytes) -> None:
    """Learn the shape of the first message of a datagram that has been walked through, if it has one.
    The same length can have several: `rr` and `wlc` differ in a header alone."""
    message = data[: LENGTH.unpack_from(data)[0]]
    layout = Layout.of(message, thing=kind.THING, nests=kind.STATISTICS)
    known: tuple[Shape, ...] = shapes.get(len(message), ())
    if layout and all(shape.layout.signature != layout.signature for shape in known):
        with contextlib.suppress(Unusable):
            shapes[len(message)] = (kind(layout), *known)[:_MOST_SHAPES]


def place(places: dict[tuple[int, ...], tuple[int, int]], path: tuple[int, ...], length: int) -> int:
    """The offset of the value that is there and so long."""
    offset, found = places.get(path, (0, 0))
    if found != length:
        raise Unusable
    return offset


def totals(
    places: dict[tuple[int, ...], tuple[int, int]], *nests: int
) -> list[tuple[int | None, int | None]]:
    """The words, low and high, of each counter; of the first nest that has something in it."""
    nest = next((nest for nest in nests if places.get((nest,), (0, 0))[1]), None)
    found: list[tuple[int | None, int | None]] = []
    for kind in codec.COUNTERS:
        if nest is None or (nest, kind) not in places:
            found.append((None, None))
            continue
        offset, length = places[nest, kind]
        if length not in (4, 8):
            raise Unusable
        pair = offset // 4, offset // 4 + 1
        low, high = pair if sys.byteorder == "little" else pair[::-1]
        found.append((low, high) if length == 8 else (offset // 4, None))
    return found


def rows(length: int, fields: Iterable[tuple[str, int]]) -> struct.Struct:
    """A message's fields, each a format and an offset, and nothing of what is between them."""
    format, at = "=", 0
    for one, offset in fields:
        if offset < at:
            raise Unusable
        format += f"{offset - at}x{one}"
        at = offset + struct.calcsize(f"={one}")
    return struct.Struct(f"{format}{length - at}x")


def remember(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) >= _MOST_REMEMBERED:
        kept.clear()
    kept[key] = value
