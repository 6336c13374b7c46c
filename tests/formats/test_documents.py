"""A table as JSON and YAML: the same document in both, mistakes with their lines, and a published schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cluster.ipvs.formats import json_document, yaml_document
from cluster.ipvs.formats.document import from_document, to_document
from cluster.ipvs.formats.fidelity import Parsed, Rendered
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from tests.ipvs.tables import few, tables

SCHEMA = json.loads(Path("static/schema/table-1.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

Parse = Callable[[str], Parsed]
Render = Callable[[Table], Rendered]
both = pytest.mark.parametrize(
    ("parse", "render"),
    [(json_document.parse, json_document.render), (yaml_document.parse, yaml_document.render)],
    ids=["json", "yaml"],
)
TABLE = Table(
    (Service(ServiceKey(Protocol.TCP, "2001:db8::1", 80), "none", backends=(Backend("10.0.0.1", 80),)),)
)


@both
@few
@given(table=tables)
def test_any_table_survives(parse: Parse, render: Render, table: Table) -> None:
    read = parse(render(table).text)
    assert read.table == table and read.notes == ()


def test_yaml_is_written_in_blocks_in_the_order_of_the_document() -> None:
    assert (
        yaml_document.render(TABLE).text
        == """\
version: 1
services:
- protocol: tcp
  address: 2001:db8::1
  port: 80
  scheduler: none
  backends:
  - address: 10.0.0.1
    port: 80
    forwarding: masquerade
    weight: 1
"""
    )


@few
@given(tables)
def test_both_say_the_same_document(table: Table) -> None:
    as_yaml = yaml.safe_load(yaml_document.render(table).text)
    assert as_yaml == json.loads(json_document.render(table).text) == to_document(table)


@pytest.mark.parametrize("word", ["12:30", "on", "0x10", "1_000", "010", "1e3", "2026-01-01", "=", "1.5"])
def test_a_plain_word_of_yaml_never_turns_into_something_else(word: str) -> None:
    text = yaml_document.render(TABLE).text.replace("scheduler: none", f"scheduler: {word}")
    assert [service.scheduler for service in yaml_document.parse(text).table] == [word]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("version: 1\nservices: &all []\n", 2, "Anchors"),
        ("version: 1\nservices: *all\n", 2, "Aliases"),
        ("version: !!int 1\nservices: []\n", 1, "Tags"),
        ("version: 1\nservices: !!python/object/apply:os.system [x]\n", 2, "Tags"),
        ("version: 1\nservices: []\nversion: 1\n", 3, "stands twice"),
        ("? [a]\n: 1\n", 1, "a list or a mapping"),
        ("version: 1\nservices: []\n---\nversion: 1\n", 3, "second document"),
        ("version: 1\nservices: [\n", 3, "not YAML"),
        ("version: 1\n\tservices: []\n", 2, "not YAML"),
        ("a:\n " + "[" * 20 + "\n", 2, "nested too deeply"),
        ("a: " + "[" * 5000 + "\n", 1, "nest"),
        ("version: 1\nservices: \x01\n", 2, "does not allow"),
        ("", 1, "not a table"),
        ("- 1\n", 1, "not a table"),
        ("hello\n", 1, "not a table"),
        ("version: 2\nservices: []\n", 1, "version"),
        ("version: 1\nservices:\n- 7\n", 1, ""),
    ],
)
def test_yaml_that_is_no_table_is_refused_with_its_line(text: str, line: int, says: str) -> None:
    (note,) = yaml_document.parse(text).errors
    assert note.line == line and says in note.text
    assert note.text.endswith(".") and note.remedy.endswith(".")


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_a_billion_laughs_stop_at_the_first() -> None:
    assert "Anchors" in yaml_document.parse(LAUGHS).errors[0].text


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('{"version": 1,\n "services": [\n', 3, "not JSON"),
        ('{"version": 1, "services": [], "version": 1}', 1, "stands twice"),
        ('{"version": NaN}', 1, "not JSON"),
        ("[" * 100_000, 1, "nested too deeply"),
        ("null", 1, "not a table"),
        ("[1]", 1, "not a table"),
        ('{"version": 1}', 1, "not a table"),
        ('\n{"version": 3, "services": []}', 2, "version"),
        ('{"version": 1, "services": [1e999]}', 1, ""),
    ],
)
def test_json_that_is_no_table_is_refused_with_its_line(text: str, line: int, says: str) -> None:
    (note,) = json_document.parse(text).errors
    assert note.line == line and says in note.text
    assert note.text.endswith(".") and note.remedy.endswith(".")


@both
def test_a_bad_service_and_a_bad_backend_have_their_lines_and_the_rest_is_read(
    parse: Parse, render: Render
) -> None:
    good = Backend("10.0.0.1", 80)
    keys = [ServiceKey(Protocol.TCP, f"192.0.2.{number}", 80) for number in (1, 2, 3)]
    table = Table(tuple(Service(key, backends=(good, Backend("10.0.0.2", 80))) for key in keys))
    text = render(table).text.replace("192.0.2.2", "nowhere").replace("10.0.0.2", "neither", 1)
    read = parse(text)
    lines = text.split("\n")
    assert [service.key for service in read.table] == [keys[0], keys[2]]
    assert [len(service.backends) for service in read.table] == [1, 2]
    first, second = (note.line for note in read.errors)
    assert "neither" in "".join(lines[first - 1 : first + 1])
    assert "nowhere" in "".join(lines[second - 1 : second + 2])


@both
def test_the_same_service_or_backend_twice_is_named(parse: Parse, render: Render) -> None:
    document = to_document(TABLE)
    (service,) = document["services"]
    service["backends"] *= 2
    document["services"] *= 2
    read = parse(json.dumps(document))
    assert len(read.errors) >= 1 and all(
        "already" in note.text or "twice" in note.text for note in read.errors
    )


# -- the schema


def test_the_schema_is_one_and_explains_every_name() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    def names(part: Any) -> list[dict[str, Any]]:
        if not isinstance(part, dict):
            return []
        own = list(part["properties"].values()) if isinstance(part.get("properties"), dict) else []
        # What narrows a name elsewhere says nothing new of it.
        inside = (value for name, value in part.items() if name not in ("if", "then", "else"))
        return own + [found for value in inside for found in names(value)]

    for said in names(SCHEMA):
        target = SCHEMA["$defs"][said["$ref"].rpartition("/")[2]] if "$ref" in said else {}
        assert (said | target)["title"] and (target | said).get("description"), said


@few
@given(tables)
def test_every_table_fits_the_schema(table: Table) -> None:
    assert list(VALIDATOR.iter_errors(to_document(table))) == []


_values = st.sampled_from(
    [None, [], {}, "", "x", True, False, -1, 0, 1, 2, 7, 80, 128, 129, 65535, 65536, 2**31 - 1, 2**31]
    + [2**32 - 1, 2**32, 2**40, 1.0, 0.0, 1.5, -0.0, 1e99, "80", "1", "0", " 1", "1.0"]
    + ["tcp", "TCP", "Tcp", "firewall-mark", "firewall_mark", "number-0", "number-7", "number-07", "number-6"]
    + ["number-255", "number-256", "number-65535", "number-65536", "number-99999", "number-", "number-2"]
    + ["tunnel", "Tunnel", "direct", "masquerade", "number-3", "number-8", "ipip", "gue", "number-1", "rr"]
    + [
        "x" * 15,
        "x" * 16,
        "a b",
        "é",
        "\x7f",
        "٣",
        "10.0.0.1",
        " 10.0.0.1 ",
        "0.0.0.0",
        "::",
        "0:0::0",
        "fd00::1",
    ]
    + ["fd00::1%eth0", "10.0.0.256", "shop.example", "0" * 46, f"fd00::1{' ' * 50}", f"fd00::1{' ' * 70}"]
    + [{"kind": "ipip", "port": 0, "flags": 0}, {"timeout_s": 1, "netmask": 24, "engine": ""}]
)
_names = st.sampled_from(["mark", "flags", "persistence", "tunnel", "upper", "lower", "colour", "Port", ""])


def _places(part: Any) -> list[tuple[Any, Any]]:
    """Each object or list with each name or index in it."""
    found: list[tuple[Any, Any]] = []
    for name in part if isinstance(part, dict) else range(len(part)):
        found.append((part, name))
        if isinstance(part[name], dict | list):
            found += _places(part[name])
    return found


@st.composite
def _mutated(draw: st.DrawFn) -> Any:
    """A table's document with up to three things taken out, added, or put in the place of another."""
    document = json.loads(json.dumps(to_document(draw(tables))))
    for _ in range(draw(st.integers(1, 3))):
        if not (places := _places(document)):
            break
        part, name = draw(st.sampled_from(places))
        match draw(st.integers(0, 3)):
            case 0:
                del part[name]
            case 1 if isinstance(part, dict):
                # A copy: what is changed here must not be changed in the next example.
                part[draw(_names)] = json.loads(json.dumps(draw(_values)))
            case 2:
                other, its_name = draw(st.sampled_from(places))
                part[name] = json.loads(json.dumps(other[its_name]))
            case _:
                part[name] = json.loads(json.dumps(draw(_values)))
    return document


# What a schema cannot say: an address's grammar, what must not stand twice, and 1.0, which is 1 to a schema.
_BEYOND_A_SCHEMA = re.compile(r"\.address is not an IP address\.$|, which is there already\.$")


def _has_a_whole_float(part: Any) -> bool:
    if isinstance(part, dict | list):
        return any(_has_a_whole_float(one) for one in (part.values() if isinstance(part, dict) else part))
    return isinstance(part, float) and part.is_integer()


@settings(max_examples=400, deadline=None)
@given(_mutated())
def test_schema_and_reader_take_and_refuse_the_same_documents(document: Any) -> None:
    try:
        from_document(document)
        why = ""
    except ValueError as error:
        why = str(error)
    refused = [error.message for error in VALIDATOR.iter_errors(document)]
    assert not (refused and not why), f"only the schema refuses: {refused}"
    if why and not refused:
        assert _BEYOND_A_SCHEMA.search(why) or _has_a_whole_float(document), f"only the reader refuses: {why}"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda service: service.update(address="10.0.0.256"), "not an IP address"),
        (lambda service: service.update(backends=service["backends"] * 2), "there already"),
        (lambda service: service.update(port=80.0), "not a whole number"),
    ],
)
def test_what_a_schema_cannot_say_is_refused_by_the_reader_alone(
    change: Callable[[dict[str, Any]], object], says: str
) -> None:
    document = to_document(TABLE)
    change(document["services"][0])
    assert not list(VALIDATOR.iter_errors(document))
    with pytest.raises(ValueError, match=says):
        from_document(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(colour="blue"),
        lambda document: document["services"][0].update(note="for the shop", persistence=None),
        lambda document: document["services"][0]["backends"][0].update(rack=[7], tunnel=None),
    ],
)
def test_unknown_names_are_passed_over_by_both(change: Callable[[dict[str, Any]], object]) -> None:
    document = to_document(TABLE)
    change(document)
    assert not list(VALIDATOR.iter_errors(document))
    assert from_document(document) == TABLE


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("version"),
        lambda document: document.update(version=2),
        lambda document: document.update(services=7),
        lambda document: document["services"].append({}),
        lambda document: document["services"].append("x"),
        *(
            (lambda document, name=name: document["services"][0].pop(name))
            for name in ("protocol", "address", "port", "scheduler", "backends")
        ),
        lambda document: document["services"][0].update(protocol="icmpish"),
        lambda document: document["services"][0].update(protocol="TCP"),
        lambda document: document["services"][0].update(protocol="number-65536"),
        lambda document: document["services"][0].update(port="80"),
        lambda document: document["services"][0].update(mark=7),
        lambda document: document["services"][0].update(scheduler="round robin"),
        lambda document: document["services"][0].update(
            persistence={"timeout_s": 300, "netmask": 4294967295, "engine": ""}
        ),
        lambda document: document["services"][0]["backends"][0].update(weight="1"),
        lambda document: document["services"][0]["backends"][0].update(forwarding="tunnel"),
        lambda document: document["services"][0]["backends"][0].update(forwarding="number-8"),
        lambda document: document["services"][0]["backends"][0].update(
            tunnel={"kind": "ipip", "port": 0, "flags": 0}
        ),
        lambda document: document["services"][0].update(port=[]),
        lambda document: document["services"][0].update(persistence={"timeout_s": 1}),
        lambda document: document["services"][0].update(backends=[{"address": "10.0.0.1"}]),
        *(
            (lambda document, name=name: document["services"][0]["backends"][0].pop(name))
            for name in ("address", "port", "forwarding", "weight")
        ),
        lambda document: document["services"][0]["backends"][0].update(forwarding="teleport"),
        lambda document: document["services"][0]["backends"][0].update(
            tunnel={"kind": "vxlan", "port": 0, "flags": 0}
        ),
    ],
)
def test_a_broken_document_is_refused_by_both(change: Callable[[dict[str, Any]], object]) -> None:
    document = to_document(TABLE)
    change(document)
    assert list(VALIDATOR.iter_errors(document))
    with pytest.raises(ValueError):
        from_document(document)
    assert json_document.parse(json.dumps(document)).errors
