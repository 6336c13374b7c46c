"""What two tables say differently: nothing is passed over, and each object can be taken back alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.compare import Said, compare, each, without
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import Policy
from tests.ipvs.tables import few, tables

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
POLICIES = [Policy(ramp_s=9), Policy(Check()), Policy(Check(CheckKind.PING), asks_others=True)]


@st.composite
def said(draw: st.DrawFn) -> Said:
    table = draw(tables)
    policies = {service.key: draw(st.none() | st.sampled_from(POLICIES)) for service in table}
    switches = draw(
        st.dictionaries(st.sampled_from(["expire_nodest_conn", "conn_reuse_mode"]), st.sampled_from("01"))
    )
    return Said(table, {key: policy for key, policy in policies.items() if policy}, switches)


@few
@given(said(), said())
def test_what_differs_has_a_line_and_what_does_not_has_none(before: Said, after: Said) -> None:
    assert compare(before, before) == []
    found = compare(before, after)
    assert bool(found) == (before != after)
    assert all(one.rows for one in found)
    assert len({one.id for one in found}) == len(found)


@few
@given(said(), said())
def test_each_backend_that_is_another_one_has_a_line_of_its_own(before: Said, after: Said) -> None:
    old, new = (
        {(service.key, one.key): one for service in side.table for one in service.backends}
        for side in (before, after)
    )
    found = each(before, after)
    named = [(one.service, one.backend) for one in found if one.noun == "backend"]
    assert sorted(named) == sorted(place for place in {*old, *new} if old.get(place) != new.get(place))
    assert all(one.rows for one in found)
    others = [one.id for one in found if one.noun != "backend"]
    assert others == [one.id for one in compare(before, after) if one.noun != "backend"]


@few
@given(said(), said())
def test_who_takes_back_everything_one_by_one_is_where_it_began(before: Said, after: Said) -> None:
    while found := compare(before, after):
        one = found[-1]
        back = without(one, before=before, after=after)
        assert one.id not in {other.id for other in compare(before, back)}
        assert len(compare(before, back)) < len(found)
        after = back
    assert after == before


def _said(*backends: Backend, scheduler: str = "rr", policy: Policy | None = None) -> Said:
    table = Table((Service(KEY, scheduler, backends=backends),))
    return Said(table, {KEY: policy} if policy else {}, {})


def test_one_object_goes_back_and_the_others_stay() -> None:
    one, two = Backend("10.0.0.1", 80), Backend("10.0.0.2", 80)
    before, after = _said(one, two), _said(Backend("10.0.0.1", 80, weight=7), scheduler="wrr")
    found = {one.id: one for one in compare(before, after)}
    assert list(found) == [
        "service TCP 192.0.2.1:80",
        "backend 10.0.0.1:80 of TCP 192.0.2.1:80",
        "backend 10.0.0.2:80 of TCP 192.0.2.1:80",
    ]
    assert found["backend 10.0.0.1:80 of TCP 192.0.2.1:80"].rows == (("weight", "1", "7"),)
    back = without(found["backend 10.0.0.2:80 of TCP 192.0.2.1:80"], before=before, after=after)
    assert back == _said(Backend("10.0.0.1", 80, weight=7), two, scheduler="wrr")
    back = without(found["service TCP 192.0.2.1:80"], before=before, after=after)
    assert back == _said(Backend("10.0.0.1", 80, weight=7))


def test_a_service_that_was_removed_comes_back_with_backends_and_policy() -> None:
    before = _said(Backend("10.0.0.1", 80), policy=Policy(ramp_s=9))
    after = Said(Table(), {}, {})
    gone = compare(before, after)[0]
    assert (gone.kind, gone.noun) == ("remove", "service")
    assert without(gone, before=before, after=after) == before
