"""The same contract without a kernel: keeps a table and refuses as Linux 6.1 was measured to refuse.

A stand-in for rehearsals and tests. Its counters stay zero, because nothing is ever counted.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address

from cluster.director.kernel import Answer, KernelError, KernelRefused, codec, do_in_stages
from cluster.director.kernel.rehearse import load
from cluster.director.kernel.settings_memory import INTERFACES, SettingsInMemory
from cluster.ipvs.connections import Connection, ConnectionCounts
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.settings import Settings, SyncDaemon, SyncRole, Timeouts
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
from cluster.ipvs.stats import BackendCounters, Counters, Reading

SCHEDULERS = frozenset(
    ["none", "rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq"]
)
ENGINES = frozenset({"sip"})


class Killed(BaseException):
    """Stands for kill -9 in tests: nothing catches it."""


@dataclass
class Faults:
    """What a test makes go wrong: `refuse` maps the n-th write (from 1) to an errno; `kill_at` ends the
    program before that write; `silent` is raised by every call until it is taken away."""

    refuse: Mapping[int, int] = field(default_factory=dict)
    kill_at: int | None = None
    silent: KernelError | None = None


class MemoryKernel:
    """A table in memory. `writes` counts the steps that it was given."""

    def __init__(
        self,
        table: Table | None = None,
        *,
        schedulers: frozenset[str] = SCHEDULERS,
        interfaces: Mapping[str, int] = INTERFACES,
    ) -> None:
        self._lock = threading.Lock()
        self._settings = SettingsInMemory(interfaces)
        self._headers: dict[ServiceKey, Service] = {}
        self._backends: dict[ServiceKey, dict[BackendKey, Backend]] = {}
        self.schedulers = schedulers
        self.faults = Faults()
        self.writes = 0
        for service in table or ():
            self._headers[service.key] = service.header
            self._backends[service.key] = {backend.key: backend for backend in service.backends}

    @property
    def stand_in(self) -> bool:
        return True

    def version(self) -> str:
        """Empty: there is no IPVS here whose version could be told."""
        self._answer_or_raise()
        return ""

    def read(self) -> Reading:
        self._answer_or_raise()
        with self._lock:
            table = self._table(self._headers)
        return Reading(
            table,
            {service.key: Counters() for service in table},
            {
                (service.key, backend.key): BackendCounters()
                for service in table
                for backend in service.backends
            },
        )

    def read_services(self, keys: Iterable[ServiceKey]) -> Table:
        self._answer_or_raise()
        with self._lock:
            return self._table(key for key in set(map(_as_found, keys)) if key in self._headers)

    def do(self, steps: Sequence[Step]) -> list[Answer]:
        self._answer_or_raise()
        with self._lock:
            return do_in_stages(steps, lambda turn: [self._take(step) for step in turn])

    def rehearse(self, table: Table) -> list[Answer]:
        self._answer_or_raise()
        return load(MemoryKernel(schedulers=self.schedulers), table)

    def read_settings(self) -> Settings:
        self._answer_or_raise()
        with self._lock:
            return self._settings.read()

    def set_timeouts(self, timeouts: Timeouts) -> None:
        self._answer_or_raise()
        with self._lock:
            self._settings.set_timeouts(timeouts)

    def start_daemon(self, daemon: SyncDaemon) -> None:
        self._answer_or_raise()
        with self._lock:
            is_mixed = any(
                _family_of(backend) != key.family
                for key, backends in self._backends.items()
                for backend in backends.values()
            )
            self._settings.start_daemon(daemon, is_mixed=is_mixed)

    def stop_daemon(self, role: SyncRole) -> None:
        self._answer_or_raise()
        with self._lock:
            self._settings.stop_daemon(role)

    def zero(self, key: ServiceKey | None = None) -> None:
        """There is nothing to zero, but an absent service is still refused."""
        self._answer_or_raise()
        with self._lock:
            if key is not None and _as_found(key) not in self._headers:
                raise KernelRefused(errno.ESRCH)

    def connections(
        self, *, service: ServiceKey | None = None, backend: BackendKey | None = None
    ) -> Iterator[Connection]:
        """None: nothing is ever balanced here."""
        self._answer_or_raise()
        return iter(())

    def count_connections(self) -> ConnectionCounts:
        self._answer_or_raise()
        return ConnectionCounts()

    def _answer_or_raise(self) -> None:
        if self.faults.silent is not None:
            raise self.faults.silent

    def _table(self, keys: Iterable[ServiceKey]) -> Table:
        return Table(tuple(self._headers[key].with_backends(self._backends[key].values()) for key in keys))

    def _take(self, step: Step) -> int:
        self.writes += 1
        if self.faults.kill_at is not None and self.writes >= self.faults.kill_at:
            self.writes -= 1
            raise Killed
        if code := self.faults.refuse.get(self.writes, 0):
            return code
        try:
            codec.encode_step(step)
        except (struct.error, ValueError, OSError):
            # No message can hold it, so the real kernel would never see it.
            return errno.EINVAL
        if step.backend is None:
            return self._take_service(step.operation, step.service)
        return self._take_backend(step.operation, _as_found(step.service.key), step.backend)

    def _take_service(self, operation: Operation, service: Service) -> int:
        key = _as_found(service.key)
        exists = key in self._headers
        if operation is Operation.REMOVE_SERVICE:
            if not exists:
                return errno.ESRCH
            del self._headers[key], self._backends[key]
            return 0
        held = service.persistence
        if len(service.scheduler) > 15 or (held and len(held.engine) > 16):
            return errno.EINVAL
        if operation is Operation.ADD_SERVICE and exists:
            return errno.EEXIST
        if operation is Operation.SET_SERVICE and not exists:
            return errno.ESRCH
        if service.scheduler not in self.schedulers or (held and held.engine and held.engine not in ENGINES):
            return errno.ENOENT
        if held and key.family == 6 and not 1 <= held.netmask <= 128:
            return errno.EINVAL
        self._headers[key] = replace(service.header, key=key)
        self._backends.setdefault(key, {})
        return 0

    def _take_backend(self, operation: Operation, key: ServiceKey, backend: Backend) -> int:
        if key not in self._headers:
            return errno.ESRCH
        backends = self._backends[key]
        there = backend.key in backends
        if operation is Operation.REMOVE_BACKEND:
            if not there:
                return errno.ENOENT
            del backends[backend.key]
            return 0
        backend = _as_kept(backend)
        if _family_of(backend) != key.family and (
            backend.forwarding is not Forwarding.TUNNEL or self._settings.has_daemons
        ):
            return errno.EINVAL
        if code := _why_not(backend):
            return code
        if operation is Operation.SET_BACKEND and not there:
            return errno.ENOENT
        if operation is Operation.ADD_BACKEND and there:
            return errno.EEXIST
        if operation is Operation.ADD_BACKEND and not _is_unicast(backend.address):
            return errno.EINVAL
        backends[backend.key] = backend
        return 0


def _as_found(key: ServiceKey) -> ServiceKey:
    """The kernel takes mark 0 for no mark, and then looks for an address that was not given."""
    if key.protocol is Protocol.FIREWALL_MARK and key.mark == 0:
        return ServiceKey(Protocol.TCP, key.address, 0)
    return key


def _as_kept(backend: Backend) -> Backend:
    """The kernel keeps three bits of the method, and a tunnel only where there is one."""
    forwarding = Forwarding(backend.forwarding & 7)
    tunnel = (backend.tunnel or Tunnel()) if forwarding is Forwarding.TUNNEL else None
    return backend._replace(forwarding=forwarding, tunnel=tunnel)


def _family_of(backend: Backend) -> int:
    return 6 if ":" in backend.address else 4


def _why_not(backend: Backend) -> int:
    if backend.weight < 0 or backend.lower > backend.upper:
        return errno.ERANGE
    if backend.tunnel and backend.tunnel.kind is TunnelKind.GUE and backend.tunnel.port == 0:
        return errno.EINVAL
    return 0


def _is_unicast(text: str) -> bool:
    """As the kernel sees it: an IPv4 address in the clothes of IPv6 is not."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return not (address.is_multicast or address.is_unspecified or text == "255.255.255.255")
    return not (
        address.is_multicast
        or address.is_unspecified
        or address.is_link_local
        or address.ipv4_mapped is not None
    )
