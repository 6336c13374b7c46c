"""Datagrams by a system call that Python lacks: what was sent arrives, once, whole and in its order."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from cluster.director.kernel.mailbox import LARGEST_DATAGRAM, Mailbox

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    there, here = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 50_000))
    with there, here:
        yield there, here


@pytest.fixture
def mailbox(pair: Pair) -> Iterator[Mailbox]:
    opened = Mailbox(pair[1].fileno())
    yield opened
    opened.close()


def test_all_that_is_there_comes_in_its_order(pair: Pair, mailbox: Mailbox) -> None:
    said = [os.urandom(length) for length in (1, 20, 400, 32_400, 3, 7, 9)]
    for data in said:
        pair[0].send(data)
    received = []
    calls = 0
    while len(received) < len(said):
        received += mailbox.receive()
        calls += 1
    assert received == said
    assert calls == 2


def test_what_was_received_stays_as_it_was(pair: Pair, mailbox: Mailbox) -> None:
    pair[0].send(b"first")
    (first,) = mailbox.receive()
    pair[0].send(b"later")
    assert (first, mailbox.receive()) == (b"first", [b"later"])


@pytest.mark.parametrize("length", [LARGEST_DATAGRAM, LARGEST_DATAGRAM + 1, LARGEST_DATAGRAM + 1000])
def test_a_cut_datagram_is_told_from_one_that_just_fits(pair: Pair, mailbox: Mailbox, length: int) -> None:
    pair[0].send(b"a" * length)
    pair[0].send(b"next")
    cut, following = mailbox.receive()
    assert len(cut) == min(length, LARGEST_DATAGRAM + 1)
    assert set(cut) == {ord("a")} and following == b"next"


def test_silence_ends_with_the_sockets_own_deadline(mailbox: Mailbox) -> None:
    with pytest.raises(BlockingIOError):
        mailbox.receive()


def test_an_error_of_the_socket_is_pythons_own(pair: Pair, mailbox: Mailbox) -> None:
    pair[1].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        mailbox.receive()


def test_a_peer_that_says_nothing_is_no_end(pair: Pair, mailbox: Mailbox) -> None:
    pair[0].send(b"")
    assert mailbox.receive() == [b""]


def test_two_at_a_time_do_not_share_their_memory(pair: Pair, mailbox: Mailbox) -> None:
    other = Mailbox(pair[1].fileno())
    try:
        pair[0].send(b"for one")
        one = mailbox.receive()
        pair[0].send(b"for two")
        assert (one, other.receive()) == ([b"for one"], [b"for two"])
        assert mailbox._room is not other._room
    finally:
        other.close()


def test_the_memory_of_a_closed_one_is_used_again(pair: Pair) -> None:
    first = Mailbox(pair[1].fileno())
    first.close()
    second = Mailbox(pair[1].fileno())
    assert second._room is first._room
    second.close()


def test_a_fork_has_memory_of_its_own(pair: Pair, mailbox: Mailbox) -> None:
    pair[0].send(b"before")
    mailbox.receive()
    child = os.fork()
    if not child:
        try:
            pair[0].send(b"within")
            mailbox.receive()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert mailbox._room.memory[:6] == b"before"
