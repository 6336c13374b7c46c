"""Whatever the kernel says, or does not say: a typed error, and never half a table taken for a whole one."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

import pytest

from cluster.director.kernel import (
    HalfRead,
    KernelError,
    KernelRefused,
    KernelUnavailable,
    NoAnswer,
    NotPermitted,
    codec,
)
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.netlink import READ_ATTEMPTS, NetlinkKernel
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from tests.kernel import messages
from tests.kernel.messages import DONE, OVERRUN, PORT, Said, backend, done, entry_message, error, message, say

WEB = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "rr")
ONE = Backend("10.0.0.1", 80)
GOOD = [backend(address=bytes([10, 0, 0, last])) for last in (1, 2, 3)]


def whole(command: int, payload: bytes, sequence: int) -> list[Said]:
    """What a kernel with one service of three backends says."""
    if command == codec.GET_SERVICE and payload:
        return [entry_message(messages.service(), sequence)]
    entries = [messages.service()] if command == codec.GET_SERVICE else GOOD
    return [b"".join(entry_message(entry, sequence) for entry in entries), done(sequence)]


def read_backends(monkeypatch: pytest.MonkeyPatch, *said: Said, knows: bool) -> NetlinkKernel:
    """A kernel whose next list of backends is what `said` says, each time; `knows` where it has read a
    good one before, so that whole datagrams are recognised."""
    kernel = NetlinkKernel(deadline_s=0.1)
    if knows:
        say(monkeypatch, whole)
        assert len(kernel.read().table.services[0].backends) == 3

    def script(command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        if command != codec.GET_DEST:
            return whole(command, payload, sequence)
        return [one if isinstance(one, OSError) else renumbered(one, sequence) for one in said]

    say(monkeypatch, script)
    return kernel


# In a reading the family is asked for with number 1, the services with 2, the backends with 3, and once more
# with 4 where the list came in several datagrams.
N = 3


def renumbered(data: bytes, sequence: int) -> bytes:
    """The datagram as the answer to another question than the third."""
    return (
        data
        if sequence == N
        else data.replace(struct.pack("=II", N, PORT), struct.pack("=II", sequence, PORT))
    )


LIST = b"".join(entry_message(entry, N) for entry in GOOD)
ODD = entry_message(messages.nest(codec.DEST, [(40, b"odd"), *messages.backend_attributes()]), N)


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def short(length: int) -> bytes:
    """An entry whose first inner attribute claims to be so long."""
    return patched(LIST, 24, struct.pack("=H", length))


HALF = {
    "the datagram did not fit": [LIST * 1000, done(N)],
    "the socket ran over": [OSError(errno.ENOBUFS, "no buffer"), LIST, done(N)],
    "the table changed, said in the first entry": [patched(LIST, 6, struct.pack("=H", 0x12)), done(N)],
    "the table changed, said in the last entry": [
        LIST + entry_message(GOOD[0], N, flags=messages.MULTI | messages.INTERRUPTED),
        done(N),
    ],
    "the table changed, said at the end": [
        LIST,
        message(bytes(4), N, kind=DONE, flags=messages.MULTI | messages.INTERRUPTED),
    ],
    "a message is cut": [LIST[:-8], done(N)],
    "a header is cut": [LIST + LIST[:10], done(N)],
    "a message is shorter than its header": [LIST + patched(LIST[:16], 0, struct.pack("=I", 15)), done(N)],
    "an overrun": [LIST, message(b"", N, kind=OVERRUN), done(N)],
    "another number in all entries": [b"".join(entry_message(entry, N + 1) for entry in GOOD), done(N)],
    "another number in one entry": [LIST + entry_message(GOOD[0], N - 1), done(N)],
    "another number at the end": [LIST, done(N + 1)],
    "another kind of message": [LIST + message(GOOD[0], N, kind=messages.FAMILY_NUMBER + 1), done(N)],
    "an end without its errno": [LIST, message(b"", N, kind=DONE)],
    "an empty datagram": [LIST, b"", done(N)],
    "a backend twice": [LIST + LIST, done(N)],
    "a backend twice, in two datagrams": [LIST, LIST, done(N)],
    "a backend twice, once in an odd form": [LIST, ODD, done(N)],
    "an entry of nothing": [LIST + entry_message(b"", N), done(N)],
    "an entry without its header": [LIST + message(b"", N), done(N)],
    **{f"an attribute of length {length}": [short(length), done(N)] for length in range(4)},
    "an attribute that goes on behind its entry": [short(0x7FFF), done(N)],
}


@pytest.mark.parametrize("knows", [False, True], ids=["the first time", "once the layout is known"])
@pytest.mark.parametrize("said", HALF.values(), ids=HALF.keys())
def test_half_a_list_is_never_a_table(monkeypatch: pytest.MonkeyPatch, said: list[Said], knows: bool) -> None:
    kernel = read_backends(monkeypatch, *said, knows=knows)
    with pytest.raises(HalfRead):
        kernel.read()
    with pytest.raises(HalfRead):
        read_backends(monkeypatch, *said, knows=knows).read_services([WEB.key])


@pytest.mark.parametrize("knows", [False, True], ids=["the first time", "once the layout is known"])
@pytest.mark.parametrize("place", range(13))
@pytest.mark.parametrize("wrong", ["missing", "empty", "too long"])
def test_a_value_that_is_not_as_long_as_it_must_be_is_no_value(
    monkeypatch: pytest.MonkeyPatch, place: int, wrong: str, knows: bool
) -> None:
    attributes = messages.backend_attributes()
    kind, value = attributes[place]
    if wrong == "missing":
        del attributes[place]
    else:
        attributes[place] = kind, b"" if wrong == "empty" else value + b"\0"
    said = LIST + entry_message(messages.nest(codec.DEST, attributes), N)
    kernel = read_backends(monkeypatch, said, done(N), knows=knows)
    optional = kind in (codec.D_TUNNEL_KIND, codec.D_TUNNEL_PORT, codec.D_TUNNEL_FLAGS, codec.D_FAMILY)
    with pytest.raises(HalfRead) as caught:
        kernel.read()
    # Kernels that lack an optional one are read; here only the address that was told before is in the way.
    assert ("twice" in str(caught.value)) == (optional and (wrong == "missing" or kind != codec.D_FAMILY))


@pytest.mark.parametrize("knows", [False, True], ids=["the first time", "once the layout is known"])
def test_odd_entries_among_known_ones_are_read(monkeypatch: pytest.MonkeyPatch, knows: bool) -> None:
    odd = messages.nest(codec.DEST, [(40, b"odd"), *messages.backend_attributes(port=81, counted=7)])
    kernel = read_backends(monkeypatch, LIST, entry_message(odd, N), done(N), knows=knows)
    reading = kernel.read()
    assert [one.port for one in reading.table.services[0].backends] == [80, 81, 80, 80]
    assert reading.backends[WEB.key, Backend("10.0.0.1", 81).key].active == 7


@pytest.mark.parametrize("knows", [False, True], ids=["the first time", "once the layout is known"])
def test_a_list_may_end_in_the_datagram_of_its_last_entries(
    monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    kernel = read_backends(monkeypatch, LIST + done(N), knows=knows)
    assert len(kernel.read().table.services[0].backends) == 3


@pytest.mark.parametrize("end", [[], [OSError(errno.EAGAIN, "silence")]], ids=["nothing", "EAGAIN"])
def test_a_list_without_an_end_is_no_answer(monkeypatch: pytest.MonkeyPatch, end: list[OSError]) -> None:
    silent = [BlockingIOError(error.errno, error.strerror) for error in end]
    kernel = read_backends(monkeypatch, LIST, *silent, knows=True)
    with pytest.raises(NoAnswer):
        kernel.read()


@pytest.mark.parametrize("said", [error(N, errno.EBUSY), done(N, errno.EBUSY), LIST + done(N, errno.EBUSY)])
def test_a_list_that_the_kernel_refuses_says_the_errno(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    with pytest.raises(KernelRefused) as caught:
        read_backends(monkeypatch, said, knows=True).read()
    assert caught.value.errno == errno.EBUSY


def test_a_list_that_may_not_be_read_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotPermitted):
        read_backends(monkeypatch, error(N, errno.EPERM), knows=True).read()


def test_a_socket_that_breaks_is_an_error_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="could not be received"):
        read_backends(monkeypatch, OSError(errno.EIO, "broken"), knows=True).read()


def test_a_table_that_settles_is_read_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [0]

    def script(command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        if command != codec.GET_SERVICE:
            return whole(command, payload, sequence)
        lists[0] += 1
        seen = messages.service(scheduler=b"rr\0" if lists[0] % 2 or lists[0] > 4 else b"lc\0")
        return [entry_message(seen, sequence), done(sequence)]

    say(monkeypatch, script)
    assert NetlinkKernel().read().table.services[0].scheduler == "rr"
    assert lists[0] == 6


def test_a_table_that_never_settles_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [0]

    def script(command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        if command != codec.GET_SERVICE:
            return whole(command, payload, sequence)
        lists[0] += 1
        return [entry_message(messages.service(last=lists[0]), sequence), done(sequence)]

    say(monkeypatch, script)
    with pytest.raises(HalfRead, match="changed while it was read"):
        NetlinkKernel().read()
    assert lists[0] == 2 * READ_ATTEMPTS


class Lists:
    """A kernel with one service, whose backends are listed two a datagram: `told` is what each list tells,
    the last one for ever."""

    def __init__(self, *told: str) -> None:
        self._told = list(told)
        self.lists = 0

    def __call__(self, command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        if command != codec.GET_DEST:
            return whole(command, payload, sequence)
        told = self._told[min(self.lists, len(self._told) - 1)]
        self.lists += 1
        entries = [entry_message(backend(address=bytes([10, 0, 0, int(last)])), sequence) for last in told]
        return [b"".join(entries[begin : begin + 2]) for begin in range(0, len(entries), 2)] + [
            done(sequence)
        ]


def addresses(table: Table) -> str:
    return "".join(one.address[-1] for one in table.services[0].backends)


@pytest.mark.parametrize("alone", [True, False], ids=["the service alone", "the whole table"])
def test_a_backend_that_is_passed_over_is_not_missed(monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    # 1 is removed after the first two were told: the kernel goes on behind the second place, which 3 has now.
    lists = Lists("124", "234")
    say(monkeypatch, lists)
    kernel = NetlinkKernel(deadline_s=0.1)
    assert addresses(kernel.read_services([WEB.key]) if alone else kernel.read().table) == "234"
    assert lists.lists == 4


def test_a_list_that_never_settles_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, lists := Lists(*["124", "234"] * READ_ATTEMPTS))
    with pytest.raises(HalfRead, match=r"192\.0\.2\.1:80 changed while"):
        NetlinkKernel().read()
    assert lists.lists == 2 * READ_ATTEMPTS


def test_a_list_is_listed_again_only_where_it_can_lack_some(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, lists := Lists("12"))
    NetlinkKernel().read()
    assert lists.lists == 1, "one datagram is of one moment"
    say(monkeypatch, lists := Lists("123"))
    kernel = NetlinkKernel()
    # Of the first reading the layout is learnt, of the second what the service says.
    for expected in (2, 4, 5, 6):
        assert addresses(kernel.read().table) == "123" and lists.lists == expected
    say(monkeypatch, lists := Lists("1234"))
    assert addresses(kernel.read().table) == "1234" and lists.lists == 2


def test_a_service_that_comes_while_a_table_is_read_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [0]

    def script(command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        if command != codec.GET_SERVICE:
            return whole(command, payload, sequence)
        lists[0] += 1
        there = [messages.service(last=last) for last in range(1, 2 + (lists[0] > 1))]
        return [b"".join(entry_message(one, sequence) for one in there), done(sequence)]

    say(monkeypatch, script)
    assert len(NetlinkKernel().read().table) == 2


def test_a_service_that_is_listed_twice_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        return [entry_message(messages.service(counted=n), sequence) for n in (1, 2)] + [done(sequence)]

    say(monkeypatch, script)
    with pytest.raises(HalfRead, match="twice"):
        NetlinkKernel().read()


def test_a_service_that_goes_between_two_questions_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [0]

    def script(command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        if command != codec.GET_SERVICE:
            return [done(sequence)]
        questions[0] += 1
        if questions[0] == 1:
            return whole(command, payload, sequence)
        return [error(sequence, errno.ESRCH)]

    say(monkeypatch, script)
    assert NetlinkKernel().read_services([WEB.key]) == Table()


def test_many_services_are_read_with_one_list_of_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(command: int, payload: bytes, sequence: int) -> Iterable[Said]:
        if command != codec.GET_SERVICE:
            return [done(sequence)]
        assert not payload, "no service was asked for alone"
        there = [messages.service(last=last) for last in range(100)]
        return [b"".join(entry_message(one, sequence) for one in there), done(sequence)]

    scripted = say(monkeypatch, script)
    keys = {ServiceKey(Protocol.TCP, f"192.0.2.{last}", 80) for last in range(80, 120)}
    there = {key for key in keys if int(key.address.rsplit(".")[-1]) < 100}
    assert NetlinkKernel().read_services(keys).keys == there
    assert sum(command == codec.GET_DEST for command, _, _ in scripted.sent) == len(there)


def test_no_ipvs_is_told_from_an_unknown_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = say(monkeypatch, whole)
    monkeypatch.setattr(scripted, "send", lambda data: scripted._waiting.append(error(1, errno.ENOENT)))
    with pytest.raises(KernelUnavailable):
        NetlinkKernel().version()


@pytest.mark.parametrize("body", [b"", bytes(4), bytes(4) + codec.attribute(9, bytes(4))])
def test_an_answer_without_the_version_is_half_an_answer(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    say(monkeypatch, lambda _, __, sequence: [message(body, sequence)])
    with pytest.raises(HalfRead):
        NetlinkKernel().version()


STEPS = [Step(Operation.ADD_BACKEND, WEB, Backend("10.0.0.1", port)) for port in range(80, 84)]


def told(monkeypatch: pytest.MonkeyPatch, *said: Said) -> list[int]:
    """The errnos of four steps, numbered 2 to 5, where the kernel says this to the last of them."""
    say(monkeypatch, lambda _, __, sequence: list(said) if sequence == 5 else [])
    with Conversation(0.1) as talk:
        return talk.tell(STEPS)


def test_refusals_find_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, error(2, errno.EEXIST) + error(4, errno.ERANGE), error(5, 0)) == [17, 0, 34, 0]


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ([], NoAnswer),
        ([error(2, errno.EEXIST)], NoAnswer),
        ([error(1, 0), error(5, 0)], HalfRead),
        ([error(6, 0), error(5, 0)], HalfRead),
        ([entry_message(GOOD[0], 5), error(5, 0)], HalfRead),
        ([message(b"", 5, kind=messages.ERROR)], HalfRead),
        ([OSError(errno.ENOBUFS, "no buffer"), error(5, 0)], HalfRead),
        ([error(5, 0).ljust(1 << 17, b"\0")], HalfRead),
        ([error(5, errno.EPERM)], NotPermitted),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_steps_without_a_clear_answer_are_never_called_done(
    monkeypatch: pytest.MonkeyPatch, said: list[Said], raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        told(monkeypatch, *said)


def test_only_the_last_of_a_batch_asks_for_an_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[int] = []
    scripted = say(
        monkeypatch, lambda _, __, sequence: [error(sequence, 0)] if scripted.sent[-1][1] & 4 else []
    )
    many = [Step(Operation.ADD_BACKEND, WEB, Backend("10.0.0.1", port)) for port in range(5000)]
    with Conversation(0.1) as talk:
        assert talk.tell(many) == [0] * 5000
    flags = [flag for _, flag, _ in scripted.sent]
    assert len(flags) == 5000 and flags[-1] == 5 and flags.count(5) == 4


def test_a_refusal_by_us_does_not_shift_those_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [error(3, errno.EEXIST), error(4, 0)]
    say(monkeypatch, lambda _, __, sequence: said if sequence == 4 else [])
    wrong = Step(Operation.ADD_BACKEND, WEB, Backend("10.0.0.1", 65536))
    with Conversation(0.1) as talk:
        assert talk.tell([wrong, STEPS[0], wrong, *STEPS[1:3]]) == [22, 0, 22, 17, 0]


def test_no_batch_is_larger_than_the_kernel_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    scripted = say(monkeypatch, lambda _, __, number: [error(number, 0)] if scripted.sent[-1][1] & 4 else [])
    send = scripted.send
    monkeypatch.setattr(scripted, "send", lambda data: sizes.append(len(data)) or send(data))
    long = [Step(Operation.ADD_SERVICE, Service(WEB.key, "x" * 1000)) for _ in range(900)]
    with Conversation(0.1) as talk:
        assert talk.tell(long) == [0] * 900
    assert max(sizes) <= 192 * 1024 and len(sizes) > 5


def test_a_kernel_that_does_not_say_its_number_is_not_asked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = say(monkeypatch, whole)
    monkeypatch.setattr(
        scripted, "send", lambda data: scripted._waiting.append(message(bytes(4), 1, kind=16)) or len(data)
    )
    with pytest.raises(HalfRead, match="lacks the number"):
        NetlinkKernel().version()
