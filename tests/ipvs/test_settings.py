"""Settings of a director as values: what is wrong with them, and what survives a message."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.ipvs.settings import (
    DEFAULT_TIMEOUTS,
    Settings,
    SyncDaemon,
    SyncRole,
    Timeouts,
    daemon_problems,
    from_document,
    timeouts_problems,
    to_document,
)

MASTER = SyncDaemon(SyncRole.MASTER, "eth0")


@pytest.mark.parametrize("seconds", [0, 1, 900, 2_147_483])
def test_timeouts_within_bounds_have_no_problem(seconds: int) -> None:
    assert list(timeouts_problems(Timeouts(seconds, seconds, seconds))) == []


@pytest.mark.parametrize("seconds", [-1, 2_147_484])
@pytest.mark.parametrize("field", ["tcp_s", "tcp_fin_s", "udp_s"])
def test_a_timeout_out_of_bounds_is_named(field: str, seconds: int) -> None:
    (problem,) = timeouts_problems(replace(DEFAULT_TIMEOUTS, **{field: seconds}))
    assert problem.field == field and problem.text.endswith(".")


@pytest.mark.parametrize(
    "daemon",
    [
        MASTER,
        replace(MASTER, sync_id=255, group="224.0.0.81", port=65535, ttl=255, max_length=65487),
        replace(MASTER, group="ff02::81", interface="x" * 15),
    ],
)
def test_a_daemon_within_bounds_has_no_problem(daemon: SyncDaemon) -> None:
    assert list(daemon_problems(daemon)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interface", ""),
        ("interface", "x" * 16),
        ("interface", "ä" * 8),
        ("sync_id", -1),
        ("sync_id", 256),
        ("group", "10.0.0.1"),
        ("group", "fd00::1"),
        ("group", "nowhere"),
        ("port", -1),
        ("port", 65536),
        ("ttl", 256),
        ("max_length", 65488),
    ],
)
def test_a_daemon_out_of_bounds_is_named(field: str, value: object) -> None:
    (problem,) = daemon_problems(replace(MASTER, **{field: value}))
    assert problem.field == field and problem.text.endswith(".")


def test_settings_survive_a_message() -> None:
    backup = SyncDaemon(SyncRole.BACKUP, "eth1", 9, "ff02::81", 8848, 5, 1452)
    settings = Settings(Timeouts(1, 2, 3), (MASTER, backup), connection_table_size=4096)
    assert from_document(json.loads(json.dumps(to_document(settings)))) == settings


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {"timeouts": 5, "daemons": {}},
        {"timeouts": {"tcp_s": "900"}, "daemons": [None, 7, {"role": []}], "connection_table_size": -1},
        {"daemons": [{"interface": {}, "port": 2**70, "role": "king"}]},
    ],
)
def test_a_message_of_another_shape_is_no_error(said: object) -> None:
    settings = from_document(said)
    assert settings.timeouts == Timeouts() and len(settings.daemons) <= 2
