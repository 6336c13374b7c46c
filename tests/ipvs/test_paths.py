"""Checks that go the clients' way: who gets a mark, and what the kernel has to hold for it."""

from __future__ import annotations

from cluster.ipvs.state import Backend, Forwarding, Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check
from cluster.ipvs.traffic.effective import effective
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.paths import check_marks, is_check_path
from cluster.ipvs.traffic.policy import Drain, Policy, Target, Traffic

DIRECT = Backend("10.0.0.1", 80, Forwarding.DIRECT, weight=5)
MASQUERADE = Backend("10.0.0.2", 80)
KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
SHOP = Service(KEY, backends=(DIRECT, MASQUERADE))
THROUGH = Traffic({KEY: Policy(Check(through_service=True))})


def paths(table: Table, traffic: Traffic) -> list[Service]:
    found = effective(table, traffic, Observed(), now=0.0).table
    return [service for service in found if is_check_path(service.key)]


def test_a_backend_that_holds_the_services_address_gets_a_service_of_its_own() -> None:
    (path,) = paths(Table((SHOP,)), THROUGH)
    (only,) = path.backends
    assert (only.address, only.port, only.forwarding, only.weight) == ("10.0.0.1", 80, Forwarding.DIRECT, 1)
    assert path.key.mark == check_marks(Table((SHOP,)), THROUGH)[KEY, DIRECT.key]


def test_without_such_a_check_nothing_is_added() -> None:
    assert paths(Table((SHOP,)), Traffic({KEY: Policy(Check())})) == []


def test_a_drained_backend_is_checked_on() -> None:
    drained = Traffic(THROUGH.policies, (Drain(1, (Target(KEY),), 0.0),))
    (path,) = paths(Table((SHOP,)), drained)
    assert path.backends[0].weight == 1


def test_marks_differ_and_stay_when_others_come() -> None:
    many = SHOP.with_backends(
        [Backend(f"10.1.{n // 250}.{n % 250}", 80, Forwarding.DIRECT) for n in range(3000)]
    )
    few = SHOP.with_backends(many.backends[:1000])
    marks, before = check_marks(Table((many,)), THROUGH), check_marks(Table((few,)), THROUGH)
    assert len(set(marks.values())) == 3000
    assert sum(marks[place] == mark for place, mark in before.items()) > 900
    assert all(
        is_check_path(ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, mark)) for mark in marks.values()
    )


def test_ipv6_has_marks_of_its_own_family() -> None:
    key = ServiceKey(Protocol.TCP, "2001:db8::1", 80)
    table = Table((Service(key, backends=(Backend("2001:db8::2", 80, Forwarding.DIRECT),)),))
    (path,) = paths(table, Traffic({key: Policy(Check(through_service=True))}))
    assert path.key.address == "::"
