"""The fast way and the plain one are the same: byte for byte out, value for value in, odd layouts too."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.director.kernel import HalfRead, KernelError, codec
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.encoder import Encoder
from cluster.director.kernel.readers import BackendReader, Remembered, ServiceReader
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import (
    Backend,
    BackendKey,
    Forwarding,
    Protocol,
    Service,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
)
from cluster.ipvs.stats import BackendCounters
from tests.ipvs.tables import few, services, tables
from tests.kernel import messages
from tests.kernel.messages import Said, done, entry_message, nest, say

WEB = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "rr")
WEB6 = replace(WEB, key=WEB.key._replace(address="2001:db8::1"))
FIRST = 2  # the number of the first question after that for the family

words, longs = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
addresses |= st.just(bytes(10) + b"\xff\xff\x01\x02\x03\x04") | st.just(bytes(16))
_operations = [Operation.ADD_BACKEND, Operation.SET_BACKEND, Operation.REMOVE_BACKEND]


@few
@given(st.lists(services(), max_size=4), st.data())
def test_every_message_is_the_codecs_own(several: list[Service], data: st.DataObject) -> None:
    headers = [(one, one.header) for one in several]
    steps = [Step(operation, header) for _, header in headers for operation in list(Operation)[:3]]
    steps += [
        Step(operation, header, backend)
        for one, header in headers
        for operation in _operations
        for backend in one.backends
    ]
    steps = data.draw(st.just(steps) | st.permutations(steps))
    found = list(Encoder(28, 1).messages(steps, 7))
    for number, (step, message) in enumerate(zip(steps, found, strict=True), start=7):
        command, payload = codec.encode_step(step)
        header = struct.pack("=IHHIIBBH", 20 + len(payload), 28, 1, number, 0, command, codec.VERSION, 0)
        assert message == header + payload


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": 2**31},
        {"port": 65536},
        {"port": -1},
        {"upper": -1},
        {"lower": 2**32},
        {"address": "10.0.0.256"},
        {"address": "a:b"},
        {"tunnel": Tunnel(TunnelKind.GUE, 65536)},
        {"tunnel": Tunnel(TunnelKind(256))},
    ],
    ids=str,
)
def test_a_value_that_no_field_holds_is_refused_by_both(wrong: dict[str, object]) -> None:
    good = Backend("10.0.0.1", 80, Forwarding.TUNNEL, tunnel=Tunnel())
    step = Step(Operation.ADD_BACKEND, WEB, good)
    bad = replace(step, backend=good._replace(**wrong))  # type: ignore[arg-type]
    with pytest.raises((ValueError, OSError, struct.error)):
        codec.encode_step(bad)
    first, refused, second = Encoder(28, 1).messages([step, bad, step], 1)
    assert first and second and not refused
    # The refused one took no number.
    assert (first[8], second[8]) == (1, 2)


def test_no_backend_goes_to_the_service_before_its_own() -> None:
    nowhere = replace(WEB, key=WEB.key._replace(address="192.0.2.256"))
    backends = [Backend("10.0.0.1", port) for port in (80, 81)]
    steps = [
        Step(Operation.ADD_BACKEND, one, backend) for one in (WEB, nowhere, WEB6) for backend in backends
    ]
    assert [bool(message) for message in Encoder(28, 1).messages(steps, 1)] == [True] * 2 + [False] * 2 + [
        True
    ] * 2


@st.composite
def forms(draw: st.DrawFn) -> dict[str, object]:
    """How a kernel of some version writes its backends: which attributes there are, and in which order."""
    return {
        "without": draw(
            st.sets(
                st.sampled_from(
                    [
                        codec.D_FAMILY,
                        codec.D_TUNNEL_KIND,
                        codec.D_TUNNEL_PORT,
                        codec.D_TUNNEL_FLAGS,
                        codec.D_STATS64,
                    ]
                )
            )
        ),
        "old statistics": draw(st.sampled_from([None, "full", "empty", "few"])),
        "unknown": draw(st.sampled_from([None, b"", b"x", b"abc", b"12345678"])),
        "turned": draw(st.booleans()),
    }


@st.composite
def entries(draw: st.DrawFn, form: dict[str, object]) -> bytes:
    four = st.builds(struct.Struct("=I").pack, words)
    address = draw(addresses)
    values = dict(messages.backend_attributes(address=address))
    values[codec.D_PORT] = struct.pack("!H", draw(st.integers(0, 65535)))
    values[codec.D_FORWARDING] = draw(
        st.sampled_from([bytes([n, 0, draw(st.integers(0, 9)), 0]) for n in range(9)])
    )
    values[codec.D_TUNNEL_KIND] = bytes([draw(st.integers(0, 255))])
    values[codec.D_TUNNEL_PORT] = draw(st.binary(min_size=2, max_size=2))
    values[codec.D_TUNNEL_FLAGS] = draw(st.binary(min_size=2, max_size=2))
    for kind in (
        *(codec.D_WEIGHT, codec.D_UPPER, codec.D_LOWER),
        *(codec.D_ACTIVE, codec.D_INACTIVE, codec.D_PERSISTENT),
    ):
        values[kind] = draw(four)
    values[codec.D_STATS64 | codec.NESTED] = messages.statistics([draw(longs) for _ in range(5)])
    ordered = [(kind, value) for kind, value in values.items() if kind & 0x3FFF not in form["without"]]  # type: ignore[operator]
    old = {"full": 5, "few": 2, "empty": 0}.get(str(form["old statistics"]))
    if old is not None:
        said = messages.statistics([draw(words) for _ in range(old)], bits=32)
        ordered.append((codec.D_STATS | codec.NESTED, said))
    if form["unknown"] is not None:
        ordered.insert(3, (99, form["unknown"]))  # type: ignore[arg-type]
    return nest(codec.DEST, reversed(ordered) if form["turned"] else ordered)


@st.composite
def dumps(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """An entry or two that teach a layout, then datagrams of some entries each, of one form or of two."""
    known = draw(forms())
    kinds = [known, draw(forms())] if draw(st.booleans()) else [known]
    teaching = [entry_message(draw(entries(known)), FIRST)]
    datagrams = [
        b"".join(
            entry_message(draw(entries(draw(st.sampled_from(kinds)))), FIRST)
            for _ in range(draw(st.integers(1, 4)))
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    return teaching, datagrams


Found = dict[BackendKey, tuple[object, BackendCounters]]


def plainly(header: Service) -> Found:
    found: Found = {}
    with Conversation(0.1) as talk:
        for entry in talk.dump(codec.GET_DEST, b""):
            backend, counted = codec.decode_backend(entry, service_family=header.key.family)
            if backend.key in found:
                raise HalfRead("twice")
            found[backend.key] = backend, counted
    return found


def fast(header: Service, remembered: Remembered) -> Found:
    reader = BackendReader(header, remembered)
    with Conversation(0.1) as talk:
        for entry in talk.dump(codec.GET_DEST, b"", reader.take):
            reader.add(entry)
    service, blocks = reader.service()
    reader.remember()
    found: Found = {
        backend.key: (backend, block.row(row))
        for block in blocks
        for row, backend in enumerate(block.backends)
    }
    assert {backend.key: backend for backend in service.backends} == {
        key: one for key, (one, _) in found.items()
    }
    assert service.header == header
    return found


def outcome(read: object, *arguments: object) -> object:
    try:
        return read(*arguments)  # type: ignore[operator]
    except KernelError as error:
        return type(error)


@few
@given(dumps(), st.sampled_from([WEB, WEB6]))
def test_any_layout_is_read_the_same(dump: tuple[list[bytes], list[bytes]], header: Service) -> None:
    teaching, datagrams = dump
    remembered = Remembered()
    with pytest.MonkeyPatch.context() as patch:
        for said in (teaching, datagrams, datagrams, teaching):
            say(patch, lambda _, __, sequence, said=said: [*said, done(sequence)])  # type: ignore[misc]
            assert outcome(fast, header, remembered) == outcome(plainly, header)


@few
@given(dumps(), st.data())
def test_any_damage_is_seen_by_both(dump: tuple[list[bytes], list[bytes]], data: st.DataObject) -> None:
    teaching, datagrams = dump
    whole = b"".join(datagrams) or teaching[0]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(whole)) | st.just(len(whole))) :]
    remembered = Remembered()
    with pytest.MonkeyPatch.context() as patch:
        for said in (teaching, [whole], [bytes(damaged)], [whole]):
            say(patch, lambda _, __, sequence, said=said: [*said, done(sequence)])  # type: ignore[misc]
            assert outcome(fast, WEB, remembered) == outcome(plainly, WEB)


@pytest.mark.parametrize("length", range(0, 400, 4))
def test_no_byte_may_differ_unseen(length: int) -> None:
    """Every byte of a message, changed in one or in all of a row that is known: both ways read it alike."""
    row = [entry_message(messages.backend(address=bytes([10, 0, 0, n]), counted=3), FIRST) for n in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        for place, where in product(range(length, min(length + 4, len(row[0]))), ([0], [1], [2], [0, 1, 2])):
            other = [bytearray(message) for message in row]
            for number in where:
                other[number][place] ^= 0x41
            remembered = Remembered()
            for said in map(b"".join, (row, row, other, row)):
                say(patch, lambda _, __, sequence, said=said: [said, done(sequence)])  # type: ignore[misc]
                assert outcome(fast, WEB, remembered) == outcome(plainly, WEB), (place, where)


def test_a_known_layout_is_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests would pass where nothing was ever taken by the fast way."""
    remembered = Remembered()
    said = b"".join(entry_message(messages.backend(address=bytes([10, 0, 0, n])), FIRST) for n in range(60))
    say(monkeypatch, lambda _, __, sequence: [said, done(sequence)])
    fast(WEB, remembered)
    assert BackendReader(WEB, remembered).take(said, FIRST) == len(said)
    headers = b"".join(
        entry_message(messages.service(last=n, scheduler=[b"rr\0", b"wlc\0"][n % 2]), FIRST) for n in range(9)
    )
    for _ in range(3):
        read_services(monkeypatch, [headers], remembered)
    assert ServiceReader(remembered).take(headers, FIRST) == len(headers)


def test_what_did_not_change_is_the_same_object(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = Remembered()
    seen = []
    for counted, weight in ((0, 1), (1, 1), (2, 1), (3, 2)):
        said = entry_message(messages.backend(counted=counted, weight=weight), FIRST)
        say(monkeypatch, lambda _, __, sequence, said=said: [said, done(sequence)])  # type: ignore[misc]
        ((backend, now),) = fast(WEB, remembered).values()
        assert now.active == now.totals.out_bytes == counted
        assert backend == Backend("10.0.0.1", 80, weight=weight)
        seen.append(backend)
    assert seen[1] is seen[2] is not seen[3]


def read_services(patch: pytest.MonkeyPatch, said: list[Said], remembered: Remembered) -> object:
    say(patch, lambda _, __, sequence: [*said, done(sequence)])
    reader = ServiceReader(remembered)
    with Conversation(0.1) as talk:
        for entry in talk.dump(codec.GET_SERVICE, b"", reader.take):
            reader.add(entry)
    return reader.found


def read_services_plainly() -> object:
    with Conversation(0.1) as talk:
        return [codec.decode_service(entry) for entry in talk.dump(codec.GET_SERVICE, b"")]


@few
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from([b"rr\0", b"lc\0", b"wlc\0", b"rr"]), words),
        min_size=1,
        max_size=5,
    ),
    st.data(),
)
def test_services_are_read_the_same(chosen: list[tuple[int, bytes, int]], data: st.DataObject) -> None:
    whole = b"".join(
        entry_message(messages.service(last=last, scheduler=scheduler, counted=counted), FIRST)
        for last, scheduler, counted in chosen
    )
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 2))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    remembered = Remembered()
    with pytest.MonkeyPatch.context() as patch:
        for said in (whole, whole, bytes(damaged), whole):
            fast_way = outcome(read_services, patch, [said], remembered)
            say(patch, lambda _, __, sequence, said=said: [said, done(sequence)])  # type: ignore[misc]
            assert fast_way == outcome(read_services_plainly)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 19])
def test_a_message_that_is_shorter_than_its_own_header_is_refused_by_both(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    whole = entry_message(messages.service(last=1), FIRST)
    short = length.to_bytes(4, sys.byteorder) + whole[4:]
    remembered = Remembered()
    assert read_services(monkeypatch, [whole], remembered)
    assert outcome(read_services, monkeypatch, [short], remembered) is HalfRead
    say(monkeypatch, lambda _, __, sequence: [short, done(sequence)])
    assert outcome(read_services_plainly) is HalfRead


@few
@given(tables, st.randoms(use_true_random=False))
def test_every_kind_of_service_is_read_the_same(table: Table, random: Random) -> None:
    """Those that differ in address and port alone, of either family, and all the others."""
    wanted = [service.header for service in table]
    wanted += [
        replace(one, key=one.key._replace(port=port))
        for one in wanted
        if one.key.port
        for port in (1, 0x1F90)
    ]
    random.shuffle(wanted)
    entries = [codec.encode_step(Step(Operation.ADD_SERVICE, one))[1] for one in wanted]
    remembered = Remembered()
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            said: list[Said] = [entry_message(entry, FIRST) for entry in entries]
            assert read_services(patch, said, remembered) == [codec.decode_service(one) for one in entries]
            remembered.headers.clear()


def test_of_alike_services_one_is_read_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = Remembered()
    for number in (1, 2):
        said: list[Said] = [entry_message(messages.service(last=number), FIRST)]
        read_services(monkeypatch, said, remembered)
    monkeypatch.setattr(codec, "decode_service", lambda _: pytest.fail("read the plain way"))
    said = [entry_message(messages.service(last=last), FIRST) for last in range(3, 9)]
    found = read_services(monkeypatch, said, remembered)
    assert [service.key.address for service, _ in found] == [f"192.0.2.{last}" for last in range(3, 9)]


def test_without_counters_the_service_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = Remembered()
    said = entry_message(messages.backend(counted=5), FIRST)
    say(monkeypatch, lambda _, __, sequence: [said, done(sequence)])
    for is_counting in (True, False, False):
        reader = BackendReader(WEB, remembered, is_counting=is_counting)
        with Conversation(0.1) as talk:
            for entry in talk.dump(codec.GET_DEST, b"", reader.take):
                reader.add(entry)
        service, blocks = reader.service()
        assert service == WEB.with_backends([Backend("10.0.0.1", 80)])
        assert bool(blocks) == is_counting
