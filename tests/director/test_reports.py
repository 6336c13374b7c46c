"""Reports and frames: in order, none lost while the broker is away, none that pretends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import redis

from cluster.director import reports as reports_module
from cluster.director import watch as watch_module
from cluster.director.apply import take
from cluster.director.journal import Sequence
from cluster.director.kernel import KernelUnavailable
from cluster.director.kernel.memory import Faults, MemoryKernel
from cluster.director.readings import counted_service
from cluster.director.watch import LEAST_BACKEND_BYTES, Watch
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.state import Backend, BackendKey, Forwarding, Tunnel
from cluster.ipvs.stats import BackendCounters, Counters, Reading
from cluster.wire.envelope import verify
from cluster.wire.messages import Frame
from tests.director.stage import Stage, backend, service, table

SHOP = table(service(1, backend(1)))
FOREIGN = service(9, backend(9))


class Broker:
    """Redis as the loop sees it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.frames: list[dict[str, Any]] = []

    def put(self, key: str, text: str) -> None:
        if self.stage.is_broker_away:
            raise redis.ConnectionError("refused")
        assert key == "live:director1"
        self.frames.append(verify(json.loads(text), "frame", public=self.stage.key.public))

    def ask(self, keys: Iterable[str]) -> list[bytes | str | None]:
        raise AssertionError("nobody is to be asked where no policy asks others")


@pytest.fixture
def broker(stage: Stage) -> Broker:
    return Broker(stage)


def watch(stage: Stage, broker: Broker) -> Watch:
    sequence = Sequence(stage.state_dir, clock=lambda: stage.now)
    return Watch(
        stage.director(),
        key=stage.key,
        sequence=sequence,
        put=broker.put,
        ask=broker.ask,
        monotonic=lambda: stage.now,
    )


def test_reports_wait_on_the_disk_and_come_in_order(stage: Stage, broker: Broker) -> None:
    stage.is_broker_away = True
    take(stage.order(SHOP, run="a"), stage.director())
    take(stage.order(SHOP, run="b"), stage.director())
    assert stage.sent == []
    stage.is_broker_away = False
    watch(stage, broker).round()
    assert [(r["event"], r["run"]) for r in stage.sent] == [
        ("started", "a"),
        ("finished", "a"),
        ("started", "b"),
        ("finished", "b"),
        ("hello", ""),
    ]
    numbers = [report["sequence"] for report in stage.sent]
    assert numbers == sorted(set(numbers))


def test_the_disk_holds_only_so_many_reports(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "LARGEST_SPOOL", 3)
    stage.is_broker_away = True
    director = stage.director()
    for number in range(4):
        take(stage.order(SHOP, run=str(number)), director)
    assert director.reporter.waiting() == 3
    stage.is_broker_away = False
    assert director.reporter.flush()
    assert stage.sent[-1]["run"] == "3"


def test_a_corrupt_spooled_report_does_not_stop_those_behind_it(stage: Stage) -> None:
    stage.is_broker_away = True
    director = stage.director()
    take(stage.order(SHOP), director)
    first = sorted((stage.state_dir / "spool").glob("*.json"))[0]
    first.write_text("{")
    stage.is_broker_away = False
    assert director.reporter.flush()
    assert [report["event"] for report in stage.sent] == ["finished"]


def test_the_loop_says_hello_at_start_and_every_thirty_seconds(stage: Stage, broker: Broker) -> None:
    loop = watch(stage, broker)
    for _ in range(17):
        loop.round()
        stage.now += 2
    hellos = [report for report in stage.sent if report["event"] == "hello"]
    assert len(hellos) == 2
    assert hellos[0]["payload"]["public_key"] == stage.key.public
    assert hellos[0]["payload"]["facts"]["stand_in"] is True


def test_the_loop_lives_on_without_redis_and_keeps_nothing_back(stage: Stage, broker: Broker) -> None:
    loop = watch(stage, broker)
    stage.is_broker_away = True
    for _ in range(50):
        loop.round()
    assert stage.director().reporter.waiting() == 0
    stage.is_broker_away = False
    loop.round()
    assert len(broker.frames) == 1 and stage.sent[-1]["event"] == "hello"


def test_a_frame_shows_all_services_and_marks_ours(stage: Stage, broker: Broker) -> None:
    stage.kernel = MemoryKernel(table(FOREIGN))
    stage.apply(SHOP, revision=3)
    watch(stage, broker).round()
    frame = Frame.from_body(broker.frames[0])
    owned = {one["address"]: one["owned"] for one in frame.payload["services"]}
    assert owned == {"192.0.2.1": True, "192.0.2.9": False}
    assert frame.payload["fingerprint"] == fingerprint(SHOP)
    assert (frame.payload["revision"], frame.payload["epoch"], frame.payload["error"]) == (3, 1, "")
    assert frame.payload["ordered"] == 3


def test_a_frame_names_the_revision_that_the_director_steers_by(stage: Stage, broker: Broker) -> None:
    stage.apply(SHOP, revision=3)
    journal = stage.director().journal
    record = journal.read()
    assert record is not None
    # As where the kernel refuses a part of revision 4: the rest of it holds, and its drains and checks.
    journal.write(replace(record, ordered=replace(record.ordered, revision=4)))
    watch(stage, broker).round()
    payload = broker.frames[-1]["payload"]
    assert (payload["revision"], payload["ordered"]) == (3, 4)


def test_an_outside_edit_of_ours_changes_the_fingerprint_and_a_foreign_one_does_not(
    stage: Stage, broker: Broker
) -> None:
    stage.apply(SHOP)
    stage.kernel = MemoryKernel(table(*SHOP.services, FOREIGN))
    watch(stage, broker).round()
    stage.kernel = MemoryKernel(table(service(1, backend(1, weight=9))))
    watch(stage, broker).round()
    assert broker.frames[0]["payload"]["fingerprint"] == fingerprint(SHOP)
    assert broker.frames[1]["payload"]["fingerprint"] != fingerprint(SHOP)


def test_rates_are_the_growth_between_two_readings(stage: Stage, broker: Broker) -> None:
    key = SHOP.services[0].key
    readings = [
        Reading(
            SHOP,
            {key: Counters(connections=10 * n)},
            {(key, BackendKey("10.0.0.1", 80)): BackendCounters(Counters(in_bytes=1000 * n), active=n)},
        )
        for n in (1, 3)
    ]

    class Counting(MemoryKernel):
        def read(self) -> Reading:
            return readings.pop(0)

    stage.kernel = Counting()
    loop = watch(stage, broker)
    loop.round()
    stage.now += 2
    loop.round()
    first, second = (frame["payload"]["services"][0] for frame in broker.frames)
    assert first["rates"]["connections"] == 0
    assert second["rates"]["connections"] == 10
    assert second["backends"][0]["rates"]["in_bytes"] == 1000
    assert second["backends"][0]["active"] == 3


def test_a_table_too_large_to_show_live_is_said_to_be_one_and_never_written_out(
    stage: Stage, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.apply(SHOP, revision=3)
    monkeypatch.setattr(watch_module, "LARGEST_BODY", LEAST_BACKEND_BYTES - 1)
    monkeypatch.setattr(watch_module, "counted_service", lambda *_, **__: pytest.fail("written out"))
    loop = watch(stage, broker)
    loop.round()
    loop.round()
    payload = broker.frames[1]["payload"]
    assert payload["error"] == "The table has 1 services, too many to show live."
    assert payload["fingerprint"] == fingerprint(SHOP)
    assert (payload["revision"], payload["epoch"], payload["services"]) == (3, 1, [])


def test_a_frame_that_turns_out_too_large_says_the_same(
    stage: Stage, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.apply(SHOP)
    monkeypatch.setattr(watch_module, "LARGEST_BODY", LEAST_BACKEND_BYTES)
    watch(stage, broker).round()
    payload = broker.frames[0]["payload"]
    assert payload["error"].endswith("too many to show live.") and payload["services"] == []
    assert payload["fingerprint"] == fingerprint(SHOP)


@pytest.mark.parametrize("forwarding", Forwarding)
def test_no_backend_is_shorter_in_a_frame_than_is_reckoned_with(forwarding: Forwarding) -> None:
    tunnel = Tunnel() if forwarding is Forwarding.TUNNEL else None
    shortest = service(1, Backend("::", 0, forwarding, tunnel=tunnel))
    out = counted_service(shortest, Reading(table(shortest)), owned=frozenset())["backends"]
    assert len(json.dumps(out, separators=(",", ":"))) - len("[]") >= LEAST_BACKEND_BYTES


def test_a_kernel_error_is_published_as_one_and_never_as_an_empty_table(stage: Stage, broker: Broker) -> None:
    stage.kernel.faults = Faults(silent=KernelUnavailable("The kernel has no IPVS."))
    watch(stage, broker).round()
    payload = broker.frames[0]["payload"]
    assert payload["error"] == "The kernel has no IPVS." and payload["services"] == []


def test_the_stand_in_counts_nothing(stage: Stage, broker: Broker) -> None:
    stage.apply(SHOP)
    loop = watch(stage, broker)
    loop.round()
    stage.now += 2
    loop.round()
    assert set(broker.frames[-1]["payload"]["services"][0]["totals"].values()) == {0}
