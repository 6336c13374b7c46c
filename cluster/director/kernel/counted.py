"""What very many backends have counted, kept as it came and read where somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.ipvs.state import Backend, BackendKey, ServiceKey
from cluster.ipvs.stats import BackendCounters, Counters


@dataclass(frozen=True, slots=True)
class Columns:
    """One column of 32-bit words after the other, each with a word for each backend: active, inactive,
    persistent, then the low and the high word of each of the totals."""

    count: int
    words: bytes

    def row(self, number: int) -> BackendCounters:
        """What the backend in this place has counted."""
        found = memoryview(self.words).cast("I")[number :: self.count].tolist()
        active, inactive, persistent, *halves = found
        totals = (low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True))
        return BackendCounters(Counters(*totals), active, inactive, persistent)


@dataclass(frozen=True, slots=True)
class Block:
    """Backends of one service in the order in which the kernel told them, and what each has counted."""

    backends: Sequence[Backend]
    row: Callable[[int], BackendCounters]


class CountedBackends(Mapping[tuple[ServiceKey, BackendKey], BackendCounters]):
    """A mapping as any other. A hundred thousand backends are 5 MB here and 30 MB in a dict."""

    def __init__(self, blocks: Mapping[ServiceKey, Sequence[Block]]) -> None:
        self._blocks = blocks
        # The places in the service that was asked for last: readers go service by service.
        self._latest: tuple[ServiceKey, dict[BackendKey, tuple[Block, int]]] | None = None

    def __getitem__(self, key: tuple[ServiceKey, BackendKey]) -> BackendCounters:
        service, backend = key
        latest = self._latest
        if latest is None or latest[0] != service:
            latest = self._latest = service, self._places(service)
        block, row = latest[1][backend]
        return block.row(row)

    def __iter__(self) -> Iterator[tuple[ServiceKey, BackendKey]]:
        for service, blocks in self._blocks.items():
            for block in blocks:
                for backend in block.backends:
                    yield service, backend.key

    def __len__(self) -> int:
        return sum(len(block.backends) for blocks in self._blocks.values() for block in blocks)

    def _places(self, service: ServiceKey) -> dict[BackendKey, tuple[Block, int]]:
        return {
            backend.key: (block, row)
            for block in self._blocks[service]
            for row, backend in enumerate(block.backends)
        }
