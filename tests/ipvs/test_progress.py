"""Whether a drain is over, and when it can be at the latest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.ipvs.settings import Timeouts
from cluster.ipvs.state import Persistence, Protocol, Service, ServiceKey
from cluster.ipvs.stats import BackendCounters
from cluster.ipvs.traffic.policy import Drain, Target
from cluster.ipvs.traffic.progress import is_drained, latest_end

NOW = 1_000_000.0
SHOP = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80))
HELD = Service(SHOP.key, persistence=Persistence(360, 0xFFFFFFFF))
DNS = Service(ServiceKey(Protocol.UDP, "192.0.2.1", 53))
MARKED = Service(ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 7))
TIMEOUTS = Timeouts(900, 120, 300)
HOLD = Drain(1, (Target(address="10.0.0.1"),), NOW - 60)
DEADLINE = Drain(1, (Target(address="10.0.0.1"),), NOW - 60, cut_at=NOW + 600)


@pytest.mark.parametrize(
    ("service", "counted", "templates_hold", "drained"),
    [
        (SHOP, BackendCounters(), True, True),
        (SHOP, BackendCounters(active=1), True, False),
        # What is closing needs no server any more.
        (SHOP, BackendCounters(inactive=5), True, True),
        # The kernel has no word for an established UDP client.
        (DNS, BackendCounters(inactive=1), True, False),
        (DNS, BackendCounters(), True, True),
        (MARKED, BackendCounters(inactive=1), True, False),
        # A template brings its client back, unless the sysctl says otherwise.
        (HELD, BackendCounters(persistent=1), True, False),
        (HELD, BackendCounters(persistent=1), False, True),
    ],
)
def test_a_backend_is_drained_when_nobody_is_there_and_nobody_comes_back(
    service: Service, counted: BackendCounters, templates_hold: bool, drained: bool
) -> None:
    assert is_drained(service, counted, templates_hold=templates_hold) is drained


def test_where_nobody_is_connected_the_end_is_now() -> None:
    end = latest_end(SHOP, BackendCounters(inactive=3), DEADLINE, TIMEOUTS, templates_hold=True, now=NOW)
    assert (end.at, end.certain) == (NOW, True)


def test_a_deadline_is_the_latest_end_whatever_clients_do() -> None:
    end = latest_end(SHOP, BackendCounters(active=9), DEADLINE, TIMEOUTS, templates_hold=True, now=NOW)
    assert (end.at, end.certain) == (NOW + 600, True)


def test_what_is_cut_by_force_is_cut_now() -> None:
    forced = replace(DEADLINE, cut_at=0.0)
    end = latest_end(SHOP, BackendCounters(active=9), forced, TIMEOUTS, templates_hold=True, now=NOW)
    assert (end.at, end.certain) == (NOW, True)


def test_without_a_deadline_a_silent_client_is_forgotten_after_the_directors_timeout() -> None:
    end = latest_end(SHOP, BackendCounters(active=9), HOLD, TIMEOUTS, templates_hold=True, now=NOW)
    assert (end.at, end.certain) == (NOW + 900, False)
    assert "900 silent seconds" in end.cause and "stays longer" in end.cause


def test_udp_is_judged_by_its_own_timeout() -> None:
    end = latest_end(DNS, BackendCounters(inactive=9), HOLD, TIMEOUTS, templates_hold=True, now=NOW)
    assert end.at == NOW + 300


def test_persistence_lasts_after_the_last_connection() -> None:
    alone = BackendCounters(persistent=4)
    end = latest_end(HELD, alone, HOLD, TIMEOUTS, templates_hold=True, now=NOW)
    assert end.at == NOW + 360 and "360 s after its last connection" in end.cause
    talking = BackendCounters(active=1, persistent=4)
    # The template waits for its connections, and looks once a minute.
    assert latest_end(HELD, talking, HOLD, TIMEOUTS, templates_hold=True, now=NOW).at == NOW + 960
    assert latest_end(HELD, talking, HOLD, TIMEOUTS, templates_hold=False, now=NOW).at == NOW + 900


def test_without_the_directors_timeouts_only_a_deadline_is_known() -> None:
    counted = BackendCounters(active=1)
    assert latest_end(SHOP, counted, HOLD, None, templates_hold=True, now=NOW).at is None
    assert latest_end(SHOP, counted, DEADLINE, None, templates_hold=True, now=NOW).at == NOW + 600
