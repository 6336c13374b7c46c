"""A table on paper: nothing is lost, one fingerprint stands for one table, and nothing odd comes in."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.formats.document import (
    canonical_json,
    fingerprint,
    from_document,
    key_from_document,
    key_to_document,
    services_at_once,
    to_document,
)
from cluster.ipvs.state import ServiceKey, Table
from tests.ipvs.tables import few, keys, tables

SHOP: dict[str, Any] = {
    "version": 1,
    "services": [
        {
            "protocol": "tcp",
            "address": "192.0.2.1",
            "port": 80,
            "scheduler": "wrr",
            "flags": 8,
            "persistence": {"timeout_s": 60, "netmask": 0xFFFFFF00, "engine": ""},
            "backends": [
                {
                    "address": "192.0.2.2",
                    "port": 80,
                    "forwarding": "tunnel",
                    "weight": 3,
                    "upper": 9,
                    "lower": 5,
                    "tunnel": {"kind": "gue", "port": 6080, "flags": 1},
                },
                {"address": "192.0.2.3", "port": 80, "forwarding": "direct", "weight": 1},
            ],
        },
        {
            "protocol": "firewall-mark",
            "address": "::",
            "port": 0,
            "mark": 7,
            "scheduler": "rr",
            "persistence": {"timeout_s": 60, "netmask": 64, "engine": "sip"},
            "backends": [],
        },
    ],
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, part in inner for place in _places(part, (*path, name)))]


PLACES = _places(SHOP)[1:]


def _changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """SHOP with another value at one place."""
    document = copy.deepcopy(SHOP)
    spot: Any = document
    for name in path[:-1]:
        spot = spot[name]
    spot[path[-1]] = value
    return document


def _place(path: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdecimal() else part for part in path.split())


@few
@given(tables)
def test_a_table_survives_the_document(table: Table) -> None:
    assert from_document(json.loads(json.dumps(to_document(table)))) == table


@few
@given(tables)
def test_services_that_are_read_as_soon_as_they_end_make_the_same_table(table: Table) -> None:
    text = json.dumps(to_document(table))
    assert from_document(json.loads(text, object_hook=services_at_once)) == table


def test_a_spoiled_service_is_refused_as_soon_as_it_ends() -> None:
    text = json.dumps(SHOP).replace('"wrr"', "7")
    with pytest.raises(ValueError, match=r"scheduler is not a name"):
        json.loads(text, object_hook=services_at_once)


def test_a_service_that_was_read_twice_is_refused() -> None:
    twice = SHOP | {"services": SHOP["services"] * 2}
    read = json.loads(json.dumps(twice), object_hook=services_at_once)
    with pytest.raises(ValueError, match="which is there already"):
        from_document(read)


@few
@given(keys)
def test_a_key_survives_the_document(key: ServiceKey) -> None:
    assert key_from_document(json.loads(json.dumps(key_to_document(key)))) == key


@few
@given(tables, tables)
def test_fingerprints_are_equal_exactly_where_tables_are(one: Table, other: Table) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


@few
@given(tables)
def test_a_fingerprint_is_that_of_the_whole_canonical_document(table: Table) -> None:
    assert fingerprint(table) == hashlib.sha256(canonical_json(to_document(table))).hexdigest()


def _is_a_table_or_refused(document: Any) -> None:
    try:
        table = from_document(document)
    except ValueError as error:
        said = str(error)
        assert said.endswith(".") and len(said) < 300 and said.isprintable()
    else:
        assert from_document(to_document(table)) == table and len(table.by_key) == len(table)
        fingerprint(table)


@given(anything)
def test_any_json_is_a_table_or_refused_with_a_sentence(document: Any) -> None:
    _is_a_table_or_refused(document)


@given(st.sampled_from(PLACES), anything)
def test_a_table_with_anything_at_one_place_is_a_table_or_refused(path: tuple[Any, ...], value: Any) -> None:
    _is_a_table_or_refused(_changed(path, value))


def test_the_document_that_these_tests_spoil_is_good() -> None:
    assert from_document(SHOP) == from_document(to_document(from_document(SHOP)))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("version", 2, "version is not 1"),
        ("version", True, "version is not 1"),
        ("version", 1.0, "version is not 1"),
        ("services", None, "services is not a list"),
        ("services 1", 7, r"services\[1\] is not an object"),
        ("services 1", SHOP["services"][0], r"services\[1\] is TCP 192.0.2.1:80, which is there already"),
        ("services 0 protocol", "icmp6", r"services\[0\].protocol: “icmp6” is not one of"),
        ("services 0 protocol", "number-70000", r"protocol has a number above 65535"),
        ("services 0 protocol", None, r"protocol is not a name"),
        ("services 0 mark", 5, r"services\[0\].mark needs the protocol firewall-mark"),
        ("services 1 mark", 2**32, r"services\[1\].mark is not a whole number between 0 and 4294967295"),
        ("services 1 address", "192.0.2.1", r"services\[1\].mark needs"),
        ("services 0 address", "nowhere", r"services\[0\].address is not an IP address"),
        ("services 0 address", 3232235777, r"services\[0\].address is not an IP address"),
        ("services 0 address", "fe80::1%eth0", r"services\[0\].address is not an IP address"),
        ("services 0 port", 65536, r"services\[0\].port is not a whole number between 0 and 65535"),
        ("services 0 port", "80", r"services\[0\].port is not a whole number"),
        ("services 0 port", 80.0, r"services\[0\].port is not a whole number"),
        ("services 0 scheduler", "wrr\x00", r"services\[0\].scheduler is not a name"),
        ("services 0 scheduler", "\ud800", r"services\[0\].scheduler is not a name"),
        ("services 0 scheduler", "r" * 16, r"scheduler is not a name of at most 15 characters"),
        ("services 0 flags", -1, r"services\[0\].flags is not a whole number"),
        ("services 0 persistence", {}, r"services\[0\].persistence.timeout_s is not a whole number"),
        ("services 0 persistence", False, r"services\[0\].persistence is not an object"),
        ("services 0 persistence timeout_s", 10**30, r"persistence.timeout_s is not a whole number"),
        ("services 1 persistence netmask", 129, r"netmask is not a whole number between 1 and 128"),
        ("services 0 backends", {}, r"services\[0\].backends is not a list"),
        ("services 0 backends 1 address", "192.0.2.2", r"services\[0\].backends\[1\] is 192.0.2.2:80, which"),
        ("services 0 backends 0 weight", 2**31, r"services\[0\].backends\[0\].weight is not a whole number"),
        ("services 0 backends 0 weight", -1, r"backends\[0\].weight is not a whole number"),
        ("services 0 backends 0 weight", True, r"backends\[0\].weight is not a whole number"),
        ("services 0 backends 0 weight", float("nan"), r"backends\[0\].weight is not a whole number"),
        ("services 0 backends 0 weight", float("inf"), r"backends\[0\].weight is not a whole number"),
        ("services 0 backends 0 upper", 10**30, r"backends\[0\].upper is not a whole number"),
        ("services 0 backends 0 forwarding", "number-8", r"forwarding has a number above 7"),
        ("services 0 backends 0 tunnel", None, r"backends\[0\].tunnel must be there with"),
        ("services 0 backends 1 tunnel", {}, r"backends\[1\].tunnel must be there with"),
        ("services 0 backends 0 tunnel kind", "number-256", r"tunnel.kind has a number above 255"),
    ],
)
def test_what_no_kernel_could_hold_is_refused_by_its_place(path: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_document(_changed(_place(path), value))


def test_a_value_that_is_nested_very_deeply_is_not_repeated_in_the_sentence() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for path in PLACES:
        _is_a_table_or_refused(_changed(path, deep))
