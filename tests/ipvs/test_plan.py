"""The plan: it ends in the wanted table, in an order that hurts nobody, and leaves others alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.director.kernel.memory import MemoryKernel
from cluster.ipvs.plan import Operation, plan, quiesced
from cluster.ipvs.state import Backend, Forwarding, Protocol, Service, ServiceKey, Table
from tests.ipvs.tables import few, tables

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)


@few
@given(tables, tables)
def test_the_kernel_ends_in_the_wanted_table(actual: Table, wanted: Table) -> None:
    kernel = MemoryKernel(actual)
    answers = kernel.do(plan(actual, wanted, owned=actual.keys).steps)
    assert [answer for answer in answers if answer.errno] == []
    assert kernel.read().table == wanted


@few
@given(tables, tables, st.randoms(use_true_random=False))
def test_no_step_touches_a_service_of_somebody_else(actual: Table, wanted: Table, dice) -> None:  # type: ignore[no-untyped-def]
    owned = frozenset(key for key in sorted(actual.keys) if dice.random() < 0.5)
    made = plan(actual, wanted, owned=owned)
    foreign = actual.keys - owned
    assert foreign.isdisjoint(step.service.key for step in made.steps)
    kernel = MemoryKernel(actual)
    kernel.do(made.steps)
    assert kernel.read().table.only(foreign) == actual.only(foreign)
    assert set(made.conflicts) == {
        key for key in foreign & wanted.keys if actual.by_key[key] != wanted.by_key[key]
    }
    assert set(made.foreign) == foreign - wanted.keys
    assert set(made.adopted) == {
        key for key in foreign & wanted.keys if actual.by_key[key] == wanted.by_key[key]
    }
    # A virtual address that moves to a place where somebody else is must not be lost on the way.
    to_remove = (actual.keys & owned) - wanted.keys
    removed = {step.service.key for step in made.steps if step.operation is Operation.REMOVE_SERVICE}
    assert (set(), to_remove) == (removed, set(made.kept)) if made.conflicts else removed == to_remove


@few
@given(tables, tables)
def test_adding_comes_before_removing_and_setting_is_never_removing(actual: Table, wanted: Table) -> None:
    steps = plan(actual, wanted, owned=actual.keys).steps
    rank = {Operation.ADD_BACKEND: 1, Operation.SET_BACKEND: 2, Operation.REMOVE_BACKEND: 3}
    for key in {step.service.key for step in steps}:
        own = [step for step in steps if step.service.key == key]
        ranks = [rank.get(step.operation, 0) for step in own]
        assert ranks == sorted(ranks)
        places = [step.backend.key for step in own if step.backend]
        assert len(places) == len(set(places))
    is_removal = [step.operation is Operation.REMOVE_SERVICE for step in steps]
    assert is_removal == sorted(is_removal)


@few
@given(tables, tables)
def test_stopping_anywhere_and_planning_again_ends_in_the_same_table(actual: Table, wanted: Table) -> None:
    steps = plan(actual, wanted, owned=actual.keys).steps
    for stop in range(len(steps)):
        kernel = MemoryKernel(actual)
        kernel.do(steps[:stop])
        halfway = kernel.read().table
        kernel.do(plan(halfway, wanted, owned=actual.keys | wanted.keys).steps)
        assert kernel.read().table == wanted


@few
@given(tables)
def test_nothing_is_planned_where_nothing_differs(table: Table) -> None:
    assert plan(table, table, owned=frozenset()).is_empty


def shown(before: Service | None, after: Service | None) -> list[str]:
    def as_table(service: Service | None) -> Table:
        return Table((service,) if service else ())

    return [str(step) for step in plan(as_table(before), as_table(after), owned=frozenset({KEY})).steps]


ONE = Backend("10.0.0.1", 80)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, Service(KEY), "Add service TCP 192.0.2.1:80, scheduler rr."),
        (Service(KEY), None, "Remove service TCP 192.0.2.1:80 with its backends."),
        (Service(KEY), Service(KEY, "wlc"), "scheduler rr → wlc"),
        (Service(KEY), Service(KEY, backends=(ONE,)), "Add backend 10.0.0.1:80 to TCP 192.0.2.1:80"),
        (
            Service(KEY, backends=(ONE,)),
            Service(KEY, backends=(Backend("10.0.0.1", 80, Forwarding.DIRECT, 3),)),
            "forwarding masquerade → direct, weight 1 → 3",
        ),
        (Service(KEY, backends=(ONE,)), Service(KEY), "Remove backend 10.0.0.1:80 from TCP 192.0.2.1:80"),
    ],
)
def test_a_step_says_what_it_does(before: Service | None, after: Service | None, words: str) -> None:
    (said,) = shown(before, after)
    assert words in said and said.endswith(".")


@few
@given(tables, tables)
def test_half_way_nothing_is_removed_and_what_goes_has_weight_0(actual: Table, wanted: Table) -> None:
    owned = actual.keys
    half = quiesced(actual, wanted, owned=owned)
    kernel = MemoryKernel(actual)
    first = plan(actual, half, owned=owned).steps
    assert not {step.kind for step in first} & {"remove"}
    kernel.do(first)
    rest = plan(kernel.read().table, wanted, owned=owned).steps
    for step in rest:
        assert step.kind == "remove"
        if step.backend is not None:
            assert step.backend.weight == 0
    kernel.do(rest)
    assert kernel.read().table == wanted


def test_half_way_leaves_services_of_others_out() -> None:
    foreign = Service(KEY, backends=(Backend("10.0.0.1", 80),))
    assert quiesced(Table((foreign,)), Table(), owned=frozenset()) == Table()
