"""The real kernel, over a raw generic netlink socket of Python's own: nothing else is needed for it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from cluster.director.kernel import (
    Answer,
    HalfRead,
    KernelRefused,
    codec,
    connection_file,
    do_in_stages,
    settings_calls,
)
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.counted import Block, CountedBackends
from cluster.director.kernel.readers import BackendReader, Remembered, ServiceReader
from cluster.director.kernel.rehearse import by_sibling, in_new_namespace, load
from cluster.ipvs.connections import Connection, ConnectionCounts
from cluster.ipvs.plan import Step
from cluster.ipvs.settings import Settings, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.state import BackendKey, Service, ServiceKey, Table
from cluster.ipvs.stats import Counters, Reading

DEADLINE_S: Final = 10.0
READ_ATTEMPTS: Final = 4
# Of more, all headers are listed: a question for each would cost more than those that nobody asked for.
_MOST_ASKED_SINGLY: Final = 16

_Read = TypeVar("_Read")


class NetlinkKernel:
    """The IPVS of the network namespace that the calling thread is in.

    A socket lives for one attempt: nothing left over from an earlier one can be taken for an answer, and
    the family's number is looked up anew in case the module was loaded again. `rehearsal_socket` is where a
    sibling rehearses; without one, this process makes namespaces itself."""

    def __init__(self, *, deadline_s: float = DEADLINE_S, rehearsal_socket: str = "") -> None:
        self._deadline_s = deadline_s
        self._rehearsal_socket = rehearsal_socket
        self._remembered = Remembered()

    @property
    def stand_in(self) -> bool:
        return False

    def version(self) -> str:
        with Conversation(self._deadline_s) as talk:
            return codec.decode_version(talk.ask(codec.GET_INFO, b""))

    def read(self) -> Reading:
        return self._until_whole(lambda talk: _read_all(talk, self._remembered))

    def read_services(self, keys: Iterable[ServiceKey]) -> Table:
        wanted = frozenset(keys)
        if len(wanted) > _MOST_ASKED_SINGLY:
            return self._until_whole(lambda talk: _read_all(talk, self._remembered, wanted)).table
        return self._until_whole(lambda talk: _read_some(talk, self._remembered, sorted(wanted)))

    def do(self, steps: Sequence[Step]) -> list[Answer]:
        if not steps:
            return []
        with Conversation(self._deadline_s) as talk:
            return do_in_stages(steps, talk.tell)

    def rehearse(self, table: Table) -> list[Answer]:
        if self._rehearsal_socket:
            return by_sibling(self._rehearsal_socket, table)
        return in_new_namespace(lambda: load(NetlinkKernel(deadline_s=self._deadline_s), table))

    def read_settings(self) -> Settings:
        return settings_calls.read_settings(self._deadline_s)

    def set_timeouts(self, timeouts: Timeouts) -> None:
        settings_calls.set_timeouts(self._deadline_s, timeouts)

    def start_daemon(self, daemon: SyncDaemon) -> None:
        settings_calls.start_daemon(self._deadline_s, daemon)

    def stop_daemon(self, role: SyncRole) -> None:
        settings_calls.stop_daemon(self._deadline_s, role)

    def zero(self, key: ServiceKey | None = None) -> None:
        settings_calls.zero(self._deadline_s, key)

    def connections(
        self, *, service: ServiceKey | None = None, backend: BackendKey | None = None
    ) -> Iterator[Connection]:
        return connection_file.connections(self._deadline_s, service, backend)

    def count_connections(self) -> ConnectionCounts:
        return connection_file.count_connections(self._deadline_s)

    def _until_whole(self, read: Callable[[Conversation], _Read]) -> _Read:
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                with Conversation(self._deadline_s) as talk:
                    return read(talk)
            except HalfRead:
                if attempt == READ_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")


def _read_all(
    talk: Conversation, remembered: Remembered, wanted: frozenset[ServiceKey] | None = None
) -> Reading:
    """Everything, or of everything those that are wanted, and then without what backends have counted."""
    is_counting = wanted is None
    headers = _read_headers(talk, remembered, wanted, is_counting=is_counting)
    read = [_read_backends(talk, header, remembered, is_counting) for header, _ in headers.values()]
    # The dump of a service that has just gone is an empty list, not an error, and dumps go by position:
    # only a second look tells that no service came or went.
    again = _read_headers(talk, remembered, wanted, is_counting=False)
    if {key: header for key, (header, _) in again.items()} != {key: h for key, (h, _) in headers.items()}:
        raise HalfRead("The table changed while it was read.")
    if is_counting:
        remembered.forget_all_but(headers)
    return Reading(
        Table(tuple(service for service, _ in read)),
        {key: counted for key, (_, counted) in headers.items()},
        CountedBackends({service.key: blocks for service, blocks in read}),
    )


def _read_headers(
    talk: Conversation, remembered: Remembered, wanted: frozenset[ServiceKey] | None, *, is_counting: bool
) -> dict[ServiceKey, tuple[Service, Counters]]:
    reader = ServiceReader(remembered, is_counting=is_counting)
    for entry in talk.dump(codec.GET_SERVICE, b"", reader.take):
        reader.add(entry)
    found = {header.key: (header, counters) for header, counters in reader.found}
    if len(found) < len(reader.found):
        raise HalfRead("A service was listed twice, so the table changed while it was read.")
    return found if wanted is None else {key: one for key, one in found.items() if key in wanted}


def _read_backends(
    talk: Conversation, header: Service, remembered: Remembered, is_counting: bool
) -> tuple[Service, list[Block]]:
    reader = _list_backends(talk, header, remembered, is_counting)
    if reader.may_lack_some:
        again = _list_backends(talk, header, remembered, is_counting=False)
        if not again.lists_the_same(reader):
            raise HalfRead(f"The backends of {header.key} changed while they were listed.")
    found = reader.service()
    reader.remember()
    return found


def _list_backends(
    talk: Conversation, header: Service, remembered: Remembered, is_counting: bool
) -> BackendReader:
    reader = BackendReader(header, remembered, is_counting=is_counting)
    for entry in talk.dump(codec.GET_DEST, codec.encode_key(header.key), reader.take):
        reader.add(entry)
    return reader


def _read_some(talk: Conversation, remembered: Remembered, keys: Iterable[ServiceKey]) -> Table:
    found = (_read_one(talk, remembered, key) for key in keys)
    return Table(tuple(service for service in found if service is not None))


def _read_one(talk: Conversation, remembered: Remembered, key: ServiceKey) -> Service | None:
    try:
        header, _ = codec.decode_service(talk.ask(codec.GET_SERVICE, codec.encode_key(key)))
        service, _ = _read_backends(talk, header, remembered, is_counting=False)
        if not service.backends:
            # No backends, or gone between the two questions?
            talk.ask(codec.GET_SERVICE, codec.encode_key(key))
    except KernelRefused as refusal:
        if refusal.errno != errno.ESRCH:
            raise
        return None
    return service
