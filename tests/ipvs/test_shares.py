"""What a dry run promises of new connections, and where it says that it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.ipvs.rules import SCHEDULERS
from cluster.ipvs.state import Backend, Persistence, Protocol, Service, ServiceKey
from cluster.ipvs.traffic.shares import expected_shares

BACKENDS = tuple(Backend(f"10.0.0.{at}", 80, weight=weight) for at, weight in enumerate((1, 3, 0)))
SHOP = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "wrr", backends=BACKENDS)


@pytest.mark.parametrize(
    ("scheduler", "shares"),
    [
        ("wrr", [0.25, 0.75, 0]),
        ("wlc", [0.25, 0.75, 0]),
        ("sh", [0.25, 0.75, 0]),
        ("rr", [0.5, 0.5, 0]),
        ("lc", [0.5, 0.5, 0]),
        ("dh", [1 / 3, 1 / 3, 0]),
        ("fo", [0, 1, 0]),
        ("ovf", []),
        ("twos", []),
        ("lblc", []),
        ("none", []),
    ],
)
def test_the_share_is_the_schedulers(scheduler: str, shares: list[float]) -> None:
    said = expected_shares(replace(SHOP, scheduler=scheduler))
    assert list(said.of.values()) == pytest.approx(shares)
    assert said.remark or scheduler == "wrr"


def test_a_scheduler_that_ignores_weights_is_said_to() -> None:
    assert "does not look at weights" in expected_shares(replace(SHOP, scheduler="rr")).remark


def test_nobody_serves_where_all_weights_are_0() -> None:
    said = expected_shares(SHOP.with_backends(one._replace(weight=0) for one in BACKENDS))
    assert set(said.of.values()) == {0} and "refused" in said.remark
    assert expected_shares(SHOP.with_backends(())).of == {}


def test_failover_with_two_first_ones_promises_nothing() -> None:
    twice = SHOP.with_backends(one._replace(weight=9) for one in BACKENDS)
    assert expected_shares(replace(twice, scheduler="fo")).of == {}


def test_persistence_is_mentioned() -> None:
    held = replace(SHOP, persistence=Persistence(300, 0xFFFFFFFF))
    assert "persistence" in expected_shares(held).remark


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_of_the_kernel_is_known(scheduler: str) -> None:
    assert "nobody can say" not in expected_shares(replace(SHOP, scheduler=scheduler)).remark
