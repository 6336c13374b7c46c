"""Messages that are alike, recognised many at a time: where each value is, and a proof that it is there.

A kernel lays out the entries of a dump one like the other. The layout is learnt from an entry that was
read attribute by attribute; afterwards one mask over a whole datagram shows whether every header byte of
every message in it is the same again. Where one is not, nothing is guessed: the caller reads that
datagram attribute by attribute.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import Final, Self

from cluster.director.kernel import HalfRead
from cluster.director.kernel.codec import walk

# Path of an attribute, such as (STATS64, CONNECTIONS), to its value's offset in the message and length.
Places = dict[tuple[int, ...], tuple[int, int]]

_HEADER: Final = struct.Struct("=IHHIIBBH")
_SEQUENCE: Final = struct.Struct("=I")
_SEQUENCE_AT: Final = 8
_MOST_ROWS: Final = 16
# Length, type, flags; not the sequence number, and not the port, which is the socket's; then the command.
_HEADER_MASK: Final = b"\xff" * 8 + b"\0" * 8 + b"\xff" * 4


class Layout:
    """What all messages of one length and one sequence of attributes have in common."""

    def __init__(self, places: Places, mask: bytes, message: bytes) -> None:
        self.length = len(message)
        # Equal for two layouts that are the same.
        self.signature = mask, bytes(byte & kept for byte, kept in zip(message, mask, strict=True))
        self.places = places
        self._watched = int.from_bytes(mask, sys.byteorder)
        # Of so many messages in a row, as one number each: both masks and the headers; and all that was
        # watched of a row whose messages said the same, under what one of them said.
        self._sized: dict[int, tuple[int, int, int]] = {}
        self._rows: dict[tuple[int, int], tuple[int, int]] = {}

    @classmethod
    def of(cls, message: bytes, *, thing: int, nests: frozenset[int]) -> Self | None:
        """The layout of one message, header included, whose one attribute is of the kind `thing`; `nests`
        are the kinds in it that hold attributes in turn. None where the message has something that can't
        be relied on to be there once: another attribute beside, or one twice."""
        places: Places = {}
        mask = bytearray(_HEADER_MASK + b"\0" * (len(message) - _HEADER.size))
        try:
            ((kind, begin, end),) = walk(message, _HEADER.size, len(message))
            _keep(mask, begin)
            _place(message, (begin, end), (), nests, places, mask)
        except (HalfRead, ValueError):
            return None
        return cls(places, bytes(mask), message) if kind == thing and len(message) % 4 == 0 else None

    def watch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Of these values, each an offset and a length, `count` tells where a whole row says the same."""
        watched = bytearray(self.signature[0])
        for offset, length in spans:
            watched[offset : offset + length] = b"\xff" * length
        self._watched = int.from_bytes(watched, sys.byteorder)

    def count(self, data: bytes, sequence: int) -> tuple[int, int | None]:
        """How many messages of this layout and sequence number `data` begins with, up to a rest that is
        too short for one more; 0 where one of them is not alike. And what each of them says of the watched
        values, as a number to compare, if all say the same."""
        count, rest = divmod(len(data), self.length)
        if not count:
            return 0, None
        if rest:
            data = data[:-rest]
        # The one header field that each dump has anew is looked at apart.
        sequences = memoryview(data).cast("I")[_SEQUENCE_AT // 4 :: self.length // 4].tobytes()
        if sequences != _SEQUENCE.pack(sequence) * count:
            return 0, None
        watched, mask, headers = self._sized.get(count) or self._size(count)
        row = int.from_bytes(data, sys.byteorder) & watched
        first = int.from_bytes(data[: self.length], sys.byteorder) & self._watched
        known = self._rows.get((count, first))
        if known and row == known[0]:
            return count, known[1]
        if row & mask != headers:
            return 0, None
        if not known:
            alike = first.to_bytes(self.length, sys.byteorder) * count
            known = int.from_bytes(alike, sys.byteorder), first
            if len(self._rows) >= _MOST_ROWS:
                self._rows = {}
            self._rows[count, first] = known
        return count, known[1] if row == known[0] else None

    def _size(self, count: int) -> tuple[int, int, int]:
        if len(self._sized) >= _MOST_ROWS:
            self._sized = {}
        watched = self._watched.to_bytes(self.length, sys.byteorder)
        whole = [int.from_bytes(part * count, sys.byteorder) for part in (watched, *self.signature)]
        self._sized[count] = sized = whole[0], whole[1], whole[2]
        return sized


def _place(
    message: bytes,
    span: tuple[int, int],
    above: tuple[int, ...],
    nests: frozenset[int],
    places: Places,
    mask: bytearray,
) -> None:
    for kind, begin, end in walk(message, *span):
        _keep(mask, begin)
        path = (*above, kind)
        # Within a nest padding is there many times; of others the last counts, as in codec.attributes.
        if path in places and not above:
            raise ValueError("an attribute is there twice")
        places[path] = begin, end - begin
        if not above and kind in nests:
            _place(message, (begin, end), path, nests, places, mask)


def _keep(mask: bytearray, begin: int) -> None:
    mask[begin - 4 : begin] = b"\xff" * 4
