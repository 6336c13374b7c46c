"""A table on paper: nothing is lost, and one fingerprint stands for one table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from cluster.ipvs.formats.document import (
    fingerprint,
    from_document,
    key_from_document,
    key_to_document,
    to_document,
)
from cluster.ipvs.state import ServiceKey, Table
from tests.ipvs.tables import few, keys, tables


@few
@given(tables)
def test_a_table_survives_the_document(table: Table) -> None:
    assert from_document(json.loads(json.dumps(to_document(table)))) == table


@few
@given(keys)
def test_a_key_survives_the_document(key: ServiceKey) -> None:
    assert key_from_document(json.loads(json.dumps(key_to_document(key)))) == key


@few
@given(tables, tables)
def test_fingerprints_are_equal_exactly_where_tables_are(one: Table, other: Table) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"version": 2, "services": []},
        {"version": 1},
        {"version": 1, "services": [{}]},
        {"version": 1, "services": 7},
        {"version": 1, "services": [{"protocol": "tcp", "address": "nowhere", "port": 1, "scheduler": "rr"}]},
    ],
)
def test_anything_else_is_refused_with_a_sentence(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        from_document(document)
