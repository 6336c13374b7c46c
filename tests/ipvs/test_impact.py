"""What an operator is told about open connections before a step is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.ipvs.impact import at_stake, impact
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import (
    Backend,
    BackendKey,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
)
from cluster.ipvs.stats import BackendCounters, Reading

WEB = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "wrr")
DNS = Service(ServiceKey(Protocol.UDP, "192.0.2.1", 53), "rr")
ONE, TWO = Backend("10.0.0.1", 80, weight=3), Backend("10.0.0.2", 80)
COUNTED = {
    WEB.key: {
        ONE.key: BackendCounters(active=412, inactive=30, persistent=7),
        TWO.key: BackendCounters(active=1),
    },
    DNS.key: {ONE.key: BackendCounters(inactive=9)},
}
STICKY = replace(WEB, persistence=Persistence(60, 0xFFFFFFFF))


def told(operation: Operation, service: Service = WEB, backend: Backend | None = None, **changes: str) -> str:
    before = ONE if operation is Operation.SET_BACKEND else None
    return impact(Step(operation, service, backend, before), COUNTED, changes)


@pytest.mark.parametrize(
    ("sysctls", "sentence"),
    [
        ({}, "Cuts 412 established connections."),
        (
            {"expire_nodest_conn": "0"},
            "Cuts 412 established connections; clients hang until they give up (expire_nodest_conn is 0).",
        ),
        (
            {"expire_nodest_conn": "1"},
            "Cuts 412 established connections; clients get a reset at their next packet"
            " (expire_nodest_conn is 1).",
        ),
    ],
)
def test_removing_a_backend_says_how_many_it_cuts_and_what_clients_see(
    sysctls: dict[str, str], sentence: str
) -> None:
    assert told(Operation.REMOVE_BACKEND, backend=ONE, **sysctls) == sentence


def test_removing_a_service_sums_over_its_backends() -> None:
    assert told(Operation.REMOVE_SERVICE) == "Cuts 413 established connections."


def test_flows_of_udp_are_counted_though_the_kernel_calls_them_inactive() -> None:
    assert told(Operation.REMOVE_BACKEND, DNS, ONE) == "Cuts 9 flows."


def test_one_is_not_plural_and_none_is_said_as_well() -> None:
    assert told(Operation.REMOVE_BACKEND, backend=TWO) == "Cuts 1 established connection."
    other = TWO._replace(port=81)
    assert told(Operation.REMOVE_BACKEND, backend=other) == "No established connections now."


def test_weight_0_stops_new_connections_and_cuts_none() -> None:
    quiet = ONE._replace(weight=0)
    assert told(Operation.SET_BACKEND, backend=quiet) == "New connections stop; 442 open ones may go on."
    alone = Step(Operation.SET_BACKEND, WEB, quiet, ONE)
    assert impact(alone, {}, {}) == "New connections stop; none is open now."


@pytest.mark.parametrize(("value", "warns"), [(None, True), ("0", True), ("1", False)])
def test_persistence_that_outlives_weight_0_is_said_unless_the_sysctl_ends_it(
    value: str | None, warns: bool
) -> None:
    sysctls = {} if value is None else {"expire_quiescent_template": value}
    sentence = told(Operation.SET_BACKEND, STICKY, ONE._replace(weight=0), **sysctls)
    assert ("7 clients bound by persistence may open new ones" in sentence) is warns


@pytest.mark.parametrize(("scheduler", "warns"), [("wlc", True), ("wrr", False)])
def test_a_backend_that_is_behind_is_flooded_by_schedulers_that_count(scheduler: str, warns: bool) -> None:
    service = replace(WEB, scheduler=scheduler)
    for sentence in (
        told(Operation.ADD_BACKEND, service, Backend("10.0.0.3", 80)),
        told(Operation.SET_BACKEND, service, ONE._replace(weight=9)),
    ):
        assert ("nearly all new connections" in sentence) is warns


def test_another_way_of_forwarding_is_for_new_connections() -> None:
    sentence = told(Operation.SET_BACKEND, backend=ONE._replace(forwarding=Forwarding.DIRECT))
    assert sentence == "Open connections keep the old way; new ones take the new one."


def test_another_tunnel_is_for_open_connections_too() -> None:
    before = ONE._replace(forwarding=Forwarding.TUNNEL, tunnel=Tunnel())
    after = before._replace(tunnel=Tunnel(TunnelKind.GUE, 6080))
    step = Step(Operation.SET_BACKEND, WEB, after, before)
    assert impact(step, {}, {}) == (
        "Open connections take the new tunnel at once, and hang where the backend does not."
    )


def test_a_mark_may_stand_for_udp_whose_flows_are_counted_as_inactive() -> None:
    marked = Service(ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 7))
    counted = {marked.key: {ONE.key: BackendCounters(active=12, inactive=500)}}
    for step in (Step(Operation.REMOVE_SERVICE, marked), Step(Operation.REMOVE_BACKEND, marked, ONE)):
        assert impact(step, counted, {}) == "Cuts 512 connections."
        assert impact(step, {}, {}) == "No connections now."


def test_connections_that_nobody_has_counted_are_not_called_none() -> None:
    for step in (Step(Operation.REMOVE_SERVICE, WEB), Step(Operation.REMOVE_BACKEND, WEB, ONE)):
        assert impact(step, None, {}) == "How many connections it cuts is not known now."
    assert impact(Step(Operation.ADD_BACKEND, WEB, ONE), None, {}) == ""


def test_what_nobody_notices_is_not_spoken_of() -> None:
    assert told(Operation.ADD_SERVICE) == told(Operation.SET_SERVICE) == ""
    assert told(Operation.SET_BACKEND, backend=ONE._replace(upper=900)) == ""


def test_only_what_the_steps_touch_is_looked_at() -> None:
    class Asked(dict[tuple[ServiceKey, BackendKey], BackendCounters]):
        def __getitem__(self, key: tuple[ServiceKey, BackendKey]) -> BackendCounters:
            assert key[0] == WEB.key
            return BackendCounters(active=3)

    table = Table((WEB.with_backends([ONE, TWO]), DNS.with_backends([ONE])))
    found = at_stake(Reading(table, {}, Asked()), [Step(Operation.REMOVE_BACKEND, WEB, ONE)])
    assert found == {WEB.key: {ONE.key: BackendCounters(active=3), TWO.key: BackendCounters(active=3)}}
