"""The one door to all formats: each is recognised from what it writes itself, and from what people write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.formats import kinds
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from tests.formats.test_samples import FILES
from tests.ipvs.tables import few, tables

TABLE = Table((Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), backends=(Backend("10.0.0.1", 80),)),))


@pytest.mark.parametrize("kind", kinds.FORMATS)
def test_a_table_goes_through_every_door_and_comes_back(kind: str) -> None:
    text = kinds.render(TABLE, kind=kind).text
    assert kinds.guess(text) == kind and kinds.parse(text, kind=kind).table == TABLE


@few
@given(tables, st.sampled_from(sorted(kinds.FORMATS)))
def test_what_is_written_is_recognised(table: Table, kind: str) -> None:
    written = kinds.render(table, kind=kind)
    assert kinds.guess(written.text) == kind or not kinds.parse(written.text, kind=kind).table.services


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# saved\n\n-A -t 192.0.2.1:80\n", "ipvsadm"),
        ("#!/bin/sh\nset -e\nipvsadm -C\n", "ipvsadm"),
        ("  sudo /sbin/ipvsadm --add-service -f 1\n", "ipvsadm"),
        ("! Configuration File\n\nglobal_defs {\n}\n", "keepalived"),
        ("@main virtual_server 192.0.2.1 80 {\n", "keepalived"),
        ("$WEB=192.0.2.1\n", "keepalived"),
        ("include conf.d/*.conf\n", "keepalived"),
        ("checktimeout = 3\n", "ldirectord"),
        ("virtual6=[2001:db8::1]:80\n", "ldirectord"),
        ("\n\n {\n", "json"),
        ("---\nversion: 1\n", "yaml"),
        ("services: []\nversion: 1\n", "yaml"),
        ("", None),
        ("hello world\n", None),
        ("#\n" * 5000, None),
    ],
)
def test_the_first_telling_line_decides(text: str, kind: str | None) -> None:
    assert kinds.guess(text) == kind


@pytest.mark.parametrize("sample", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_samples_of_the_field_are_recognised(sample: Path) -> None:
    assert kinds.guess(sample.read_text()) == sample.parent.name
