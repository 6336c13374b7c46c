"""The kernel's connection table as values: who talks to which backend, and how many there are of each kind.

A busy director has millions of connections. Nothing here holds them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.ipvs.state import BackendKey, ServiceKey


@dataclass(frozen=True, slots=True)
class Connection:
    """One entry of the table. `service` is where the client sent to: for a service with a firewall mark or
    with port 0 it names the very address and port, not the service.

    A template has client port 0: it holds a persistent client (or its whole network) to a backend and is
    no connection itself. That of a firewall mark names the mark. `engine` and `engine_data` are of a
    persistence engine, such as `sip` and a call's id."""

    client: str
    client_port: int
    service: ServiceKey
    backend: BackendKey
    state: str
    expires_s: int
    engine: str = ""
    engine_data: str = ""

    @property
    def is_template(self) -> bool:
        return self.client_port == 0


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """How many entries there are of each service, backend and state, as of `Connection`. `malformed` rows
    were not understood and are in no other number. Not whole where it took too long: then all numbers are
    too low."""

    by_state: Mapping[tuple[ServiceKey, BackendKey, str], int] = field(default_factory=dict)
    malformed: int = 0
    is_whole: bool = True

    @property
    def total(self) -> int:
        return sum(self.by_state.values())
