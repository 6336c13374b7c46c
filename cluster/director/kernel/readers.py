"""Services and backends out of a dump, many at a time; exactly what codec.py reads one at a time.

Both readers take a datagram as a whole where each message in it has a layout that is known, and are handed
its entries one by one where not. Values that were seen before are not built again: a table that is read
every two seconds costs little more than receiving it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, repeat, starmap
from operator import attrgetter
from socket import AF_INET, inet_ntoa
from typing import Any, ClassVar, Final, NamedTuple

from cluster.director.kernel import HalfRead, codec
from cluster.director.kernel.counted import Block, Columns
from cluster.director.kernel.layout import Layout
from cluster.director.kernel.shapes import (
    LENGTH,
    Shapes,
    Unusable,
    fitting,
    learn,
    place,
    remember,
    rows,
    totals,
)
from cluster.ipvs.state import Backend, Forwarding, Service, ServiceKey, Tunnel, TunnelKind
from cluster.ipvs.stats import BackendCounters, Counters

_ENTRY: Final = 20

# A backend's numbers beside its address, in the order of `_Settings`: kind and format.
_SETTINGS: Final = (
    (codec.D_PORT, "2s"),
    (codec.D_FORWARDING, "I"),
    (codec.D_WEIGHT, "i"),
    (codec.D_UPPER, "I"),
    (codec.D_LOWER, "I"),
    (codec.D_FAMILY, "H"),
    (codec.D_TUNNEL_KIND, "B"),
    (codec.D_TUNNEL_PORT, "2s"),
    (codec.D_TUNNEL_FLAGS, "H"),
)
# Those that differ within most services.
_OFTEN_OWN: Final = frozenset((codec.D_PORT, codec.D_WEIGHT))
_MANDATORY: Final = frozenset(kind for kind, _ in _SETTINGS[:5])
_COUNTED: Final = (codec.D_ACTIVE, codec.D_INACTIVE, codec.D_PERSISTENT)

_Said = tuple[int | None, bytes]


class _BackendShape:
    """How the messages of one layout are read as columns."""

    THING: ClassVar = codec.DEST
    STATISTICS: ClassVar = frozenset((codec.D_STATS, codec.D_STATS64))

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._words = layout.length // 4
        places = layout.places
        address = place(places, (codec.D_ADDRESS,), 16)
        settings = sorted(
            (place(places, (kind,), struct.calcsize(f"={format}")), kind, format)
            for kind, format in _SETTINGS
            if kind in _MANDATORY or (kind,) in places
        )
        self.kinds = tuple(kind for _, kind, _ in settings)
        self.addresses = rows(layout.length, [("4s", address)])
        self.whole_addresses = rows(layout.length, [("16s", address)])
        self.settings = rows(layout.length, [(format, at) for at, _, format in settings])
        # Most services have one way to their backends, and one prefix. What is left differs.
        layout.watch([(address + 4, 8), *((at, 4) for at, kind, _ in settings if kind not in _OFTEN_OWN)])
        self._own_words = [address // 4, address // 4 + 3]
        self._own_settings = [at // 4 for at, kind, _ in settings if kind in _OFTEN_OWN]
        self._settings_words = [*range(address // 4, address // 4 + 4), *(at // 4 for at, _, _ in settings)]
        self._counted_words: list[int | None] = [place(places, (kind,), 4) // 4 for kind in _COUNTED]
        for low, high in totals(places, codec.D_STATS64, codec.D_STATS):
            self._counted_words += [low, high]

    def settings_of(self, words: array[int], alike: int | None) -> _Said:
        """All that some messages say of their backends' settings: what is alike in all, and the rest column
        by column. Equal where the settings are."""
        own = self._settings_words if alike is None else self._own_words + self._own_settings
        return alike, b"".join([words[at :: self._words] for at in own])

    def settings_rows(self, data: bytes, said: _Said) -> list[tuple[Any, ...]]:
        """The settings of each message; of only one, where `settings_of` has said that all are alike."""
        alike, own = said
        column = 4 * (len(data) // self.layout.length)
        begins = range(len(self._own_words) * column, len(own), column)
        if alike is not None and all(
            own[at : at + column] == own[at : at + 4] * (column // 4) for at in begins
        ):
            data = data[: self.layout.length]
        return list(self.settings.iter_unpack(data))

    def counted_of(self, words: array[int], count: int) -> Columns:
        nothing = bytes(4 * count)
        return Columns(
            count,
            b"".join([nothing if at is None else words[at :: self._words] for at in self._counted_words]),
        )


class _AsRead(NamedTuple):
    """What the kernel said of a service when it was read last, and what was made of it."""

    header: Service
    said: tuple[_Said, ...]
    service: Service
    backends: list[Sequence[Backend]]


@dataclass(slots=True)
class Remembered:
    """What earlier dumps have taught. Many threads may share one: an entry that gets lost is only learnt
    again, and none is ever changed."""

    backend_shapes: Shapes[_BackendShape] = field(default_factory=dict)
    service_shapes: Shapes[_ServiceShape] = field(default_factory=dict)
    settings: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    headers: dict[bytes, Service] = field(default_factory=dict)
    services: dict[ServiceKey, _AsRead] = field(default_factory=dict)

    def forget_all_but(self, keys: Collection[ServiceKey]) -> None:
        """Forget services that are in the kernel no more."""
        if len(self.services) > len(keys):
            self.services = {key: kept for key, kept in list(self.services.items()) if key in keys}


_UNCOUNTED: Final = Columns(0, b"")


class BackendReader:
    """The backends of one service, from one dump; with `is_counting`, also what they have counted."""

    def __init__(self, header: Service, remembered: Remembered, *, is_counting: bool = True) -> None:
        self._header = header
        self._remembered = remembered
        self._is_counting = is_counting
        self._unknown: bytes | None = None
        self._datagrams = 0
        self._as_read: _AsRead | None = None
        # In the order of arrival: a whole datagram, or backends that were read one by one.
        self._whole: list[tuple[_BackendShape, bytes, _Said, Columns]] = []
        self._single: list[tuple[Backend, BackendCounters]] = []

    def take(self, data: bytes, sequence: int) -> int:
        """How many bytes of the datagram's begin were understood; the other entries come to `add`."""
        shape, count, alike = fitting(self._remembered.backend_shapes, data, sequence)
        if not shape:
            self._unknown = data
            return 0
        data = data[: count * shape.layout.length]
        words = array("I", data)  # twice as fast to take columns from as a memoryview
        counted = shape.counted_of(words, count) if self._is_counting else _UNCOUNTED
        self._datagrams += 1
        self._whole.append((shape, data, shape.settings_of(words, alike), counted))
        return len(data)

    def add(self, entry: bytes) -> None:
        """Take one entry of a datagram that has been walked through."""
        if self._unknown is not None:
            self._datagrams += 1
            learn(self._remembered.backend_shapes, _BackendShape, self._unknown)
            self._unknown = None
        self._single.append(codec.decode_backend(entry, service_family=self._header.key.family))

    @property
    def may_lack_some(self) -> bool:
        """Whether a backend can have been left out. The kernel goes on by position with the next datagram:
        where one that was listed is removed meanwhile, another one is never told. What says the same as a
        list that was whole lacks none."""
        return self._datagrams > 1 and self._known is None

    def lists_the_same(self, other: BackendReader) -> bool:
        """Whether two lists of one service have the same backends; their weights may have changed."""
        if not self._single and not other._single and self._said() == other._said():
            return True
        ours, theirs = self.service()[0].backends, other.service()[0].backends
        return list(map(_place_of, ours)) == list(map(_place_of, theirs))

    def remember(self) -> None:
        """Take what was listed for whole from now on."""
        if self._as_read:
            self._remembered.services[self._header.key] = self._as_read

    @cached_property
    def _known(self) -> _AsRead | None:
        """What is remembered and just the same, once the dump has ended."""
        known = self._remembered.services.get(self._header.key)
        if known and not self._single and known[:2] == (self._header, self._said()):
            return known
        return None

    def _said(self) -> tuple[_Said, ...]:
        return tuple(settings for _, _, settings, _ in self._whole)

    def service(self) -> tuple[Service, list[Block]]:
        """The service with its backends, once the dump has ended."""
        if known := self._known:
            service, lists = known.service, known.backends
        else:
            lists = [self._built(shape, data, said) for shape, data, said, _ in self._whole]
            found = [*lists, [backend for backend, _ in self._single]]
            _check_once(found)
            service = self._header.with_backends(chain.from_iterable(found))
            if not self._single:
                self._as_read = _AsRead(self._header, self._said(), service, lists)
        if not self._is_counting:
            return service, []
        blocks = [
            Block(backends, columns.row)
            for backends, (_, _, _, columns) in zip(lists, self._whole, strict=True)
        ]
        if self._single:
            single = [backend for backend, _ in self._single]
            blocks.append(Block(single, [counted for _, counted in self._single].__getitem__))
        return service, blocks

    def _built(self, shape: _BackendShape, data: bytes, said: _Said) -> Sequence[Backend]:
        """The backends of one datagram, a column at a time."""
        rows = shape.settings_rows(data, said)
        decoded = {row: self._decoded(shape.kinds, row) for row in set(rows)}
        columns: Sequence[Iterable[Any]]
        if len(decoded) == 1:
            columns = [repeat(value) for value in decoded[rows[0]]]
        else:
            columns = list(zip(*map(decoded.__getitem__, rows), strict=True))
        addresses: Iterable[str]
        if all(settings[-1] == AF_INET for settings in decoded.values()):
            addresses = starmap(inet_ntoa, shape.addresses.iter_unpack(data))
        else:
            whole = (address for (address,) in shape.whole_addresses.iter_unpack(data))
            addresses = map(_address, whole, columns[-1])
        # As Backend._make does, which is a function of Python's own; and a column that repeats has no end.
        return list(map(tuple.__new__, repeat(Backend), zip(addresses, *columns[:-1], strict=False)))

    def _decoded(self, kinds: tuple[int, ...], row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Port, forwarding, weight, upper, lower, tunnel and family of a message's settings."""
        key = kinds, self._header.key.family, row
        seen = self._remembered.settings.get(key)
        if seen is None:
            seen = _settings(dict(zip(kinds, row, strict=True)), self._header.key.family)
            remember(self._remembered.settings, key, seen)
        return seen


class ServiceReader:
    """The headers of all services, from one dump; with `is_counting`, also what they have counted."""

    def __init__(self, remembered: Remembered, *, is_counting: bool = True) -> None:
        self._remembered = remembered
        self._is_counting = is_counting
        self._unknown: bytes | None = None
        self.found: list[tuple[Service, Counters]] = []

    def take(self, data: bytes, sequence: int) -> int:
        """How many bytes of the datagram's begin were understood; the other entries come to `add`."""
        offset = self._take_alike(data, sequence)
        while offset + _ENTRY <= len(data):
            length = LENGTH.unpack_from(data, offset)[0]
            if length < _ENTRY:
                break  # No entry: the walk tells what it is.
            message = data[offset : offset + length]
            if not self._take_alike(message, sequence):
                self._unknown = message
                break
            offset += length
        return offset

    def _take_alike(self, data: bytes, sequence: int) -> int:
        """How many bytes the messages of one known layout have that the data begins with."""
        shape, count, _ = fitting(self._remembered.service_shapes, data, sequence)
        if not shape:
            return 0
        data = data[: count * shape.layout.length]
        headers = shape.headers(data, self._remembered.headers)
        counted = shape.counted(data) if self._is_counting else repeat(Counters(), count)
        self.found += zip(headers, counted, strict=True)
        return len(data)

    def add(self, entry: bytes) -> None:
        """Take one entry of a datagram that has been walked through."""
        if self._unknown is not None:
            learn(self._remembered.service_shapes, _ServiceShape, self._unknown)
            self._unknown = None
        self.found.append(codec.decode_service(entry))


class _ServiceShape:
    """How the messages of one layout are read: all before the counters is one piece."""

    THING: ClassVar = codec.SERVICE
    STATISTICS: ClassVar = frozenset((codec.S_STATS, codec.S_STATS64))

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        statistics = [places for path, places in layout.places.items() if path[0] in self.STATISTICS]
        self._end = min((offset for offset, _ in statistics), default=layout.length)
        if any(
            at > self._end for (kind, *_), (at, _) in layout.places.items() if kind not in self.STATISTICS
        ):
            raise Unusable
        self._totals = totals(layout.places, codec.S_STATS64, codec.S_STATS)
        (address, wide), (port, narrow) = (
            layout.places.get((kind,), (0, 0)) for kind in (codec.S_ADDRESS, codec.S_PORT)
        )
        # Where they are in what is said before the counters; a firewall mark has neither.
        self._places = (address - _ENTRY, port - _ENTRY) if (wide, narrow) == (16, 2) else None
        self._alike: dict[bytes, Service] = {}

    def headers(self, data: bytes, known: dict[bytes, Service]) -> Iterator[Service]:
        """The services of some messages of this layout; what is not known yet is added to it."""
        for begin in range(0, len(data), self.layout.length):
            said = data[begin + _ENTRY : begin + self._end]
            header = known.get(said)
            if header is None:
                header = self._header(data[begin : begin + self.layout.length], said)
                remember(known, said, header)
            yield header

    def counted(self, data: bytes) -> Iterator[Counters]:
        """What the same services have counted."""
        words, stride = array("I", data), self.layout.length // 4
        nothing = array("I", bytes(4 * (len(data) // self.layout.length)))
        halves = [nothing if at is None else words[at::stride] for pair in self._totals for at in pair]
        for row in zip(*halves, strict=True):
            yield Counters(*(low | high << 32 for low, high in zip(row[::2], row[1::2], strict=True)))

    def _header(self, message: bytes, said: bytes) -> Service:
        """Of services that differ in address and port alone, only the first is read the plain way."""
        if self._places is None:
            return codec.decode_service(message[_ENTRY:])[0]
        address, port = self._places
        rest = bytearray(said)
        rest[address : address + 16], rest[port : port + 2] = bytes(16), bytes(2)
        alike = self._alike.get(bytes(rest))
        if alike is None:
            alike, _ = codec.decode_service(message[_ENTRY:])
            remember(self._alike, bytes(rest), alike)
            return alike
        key = ServiceKey(
            alike.key.protocol,
            codec.decode_address(said[address : address + 16], codec.family_number(alike.key.family)),
            int.from_bytes(said[port : port + 2], "big"),
        )
        return Service(key, alike.scheduler, alike.flags, alike.persistence)


_address_of, _place_of = attrgetter("address"), attrgetter("address", "port")


def _settings(row: dict[int, Any], service_family: int) -> tuple[Any, ...]:
    """As codec.decode_backend reads them."""
    forwarding = Forwarding(row[codec.D_FORWARDING] & 7)
    tunnel = None
    if forwarding is Forwarding.TUNNEL:
        tunnel = Tunnel(
            TunnelKind(row.get(codec.D_TUNNEL_KIND, 0)),
            int.from_bytes(row.get(codec.D_TUNNEL_PORT, b""), "big"),
            row.get(codec.D_TUNNEL_FLAGS, 0),
        )
    port = int.from_bytes(row[codec.D_PORT], "big")
    family = row.get(codec.D_FAMILY, codec.family_number(service_family))
    numbers = row[codec.D_WEIGHT], row[codec.D_UPPER], row[codec.D_LOWER]
    return port, forwarding, *numbers, tunnel, family


def _address(data: bytes, family: int) -> str:
    try:
        return codec.decode_address(data, family)
    except (ValueError, OSError) as error:
        raise HalfRead(f"A backend of the kernel's answer cannot be read: {error!r}.") from error


def _check_once(lists: Sequence[Sequence[Backend]]) -> None:
    """HalfRead where two backends have one place. Their addresses alone mostly show that none have."""
    count = sum(map(len, lists))
    if len(set(map(_address_of, chain.from_iterable(lists)))) < count:
        places = set(map(_place_of, chain.from_iterable(lists)))
        if len(places) < count:
            raise HalfRead("A backend was listed twice, so its service changed while it was read.")
