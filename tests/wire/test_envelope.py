"""Nobody but the pinned sender is believed, and not one letter can be changed on the way."""

from __future__ import annotations

import base64
import json
import re
import stat
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import envelope as wire
from cluster.wire.envelope import Refused, SigningKey, fingerprint, unverified_body, verify
from cluster.wire.messages import Event, Frame, Operation, Order, Report

KEY = SigningKey(b"k" * 32)
ORDER = Order(Operation.APPLY, "run", "director1", "shop", 1, 7, "ann", 1.0, 2.0, {"table": {}})
REPORT = Report(Event.FINISHED, "run", "director1", "shop", 1, 7, 3, 1.5, {"outcome": "applied"})
FRAME = Frame("director1", "shop", 3, 1.5, 2.0, {"services": []})


@pytest.mark.parametrize(("kind", "message"), [("order", ORDER), ("report", REPORT), ("frame", FRAME)])
def test_a_genuine_message_arrives_as_it_was_sent(kind: str, message: Any) -> None:
    sent = json.loads(json.dumps(KEY.sign(kind, message.to_body())))
    assert type(message).from_body(verify(sent, kind, public=KEY.public)) == message


@pytest.mark.parametrize("name", [f.name for f in fields(Order)])
def test_each_changed_field_is_refused(name: str) -> None:
    sent = KEY.sign("order", ORDER.to_body())
    body = json.loads(sent["body"])
    body[name] = {"other": 1} if isinstance(body[name], dict) else f"{body[name]}0"
    with pytest.raises(Refused):
        verify(sent | {"body": json.dumps(body)}, "order", public=KEY.public)


@given(st.data())
def test_any_changed_letter_is_refused(data: st.DataObject) -> None:
    sent = KEY.sign("order", ORDER.to_body())
    part = data.draw(st.sampled_from(["body", "signature"]))
    place = data.draw(st.integers(0, len(sent[part]) - 1))
    letter = data.draw(st.characters().filter(lambda c: c != sent[part][place]))
    forged = sent | {part: sent[part][:place] + letter + sent[part][place + 1 :]}
    try:
        body = verify(forged, "order", public=KEY.public)
    except Refused:
        return
    # The last letter of base64 has spare bits: another spelling of the same signature is no forgery.
    assert part == "signature" and body == json.loads(sent["body"])


@pytest.mark.parametrize(("signed", "wanted"), [("report", "order"), ("order", "report"), ("order", "frame")])
def test_a_message_of_one_kind_is_not_taken_for_another(signed: str, wanted: str) -> None:
    with pytest.raises(Refused):
        verify(KEY.sign(signed, ORDER.to_body()), wanted, public=KEY.public)


def test_another_senders_key_is_refused() -> None:
    other = SigningKey(b"m" * 32)
    signed = other.sign("order", ORDER.to_body())
    with pytest.raises(Refused, match=re.escape(fingerprint(other.public))):
        verify(signed, "order", public=KEY.public)
    # Whatever key is named, it is the signature that counts.
    with pytest.raises(Refused, match="The signature is not that"):
        verify(signed | {"key": fingerprint(KEY.public)}, "order", public=KEY.public)


def test_what_a_stranger_names_as_its_key_is_not_repeated() -> None:
    with pytest.raises(Refused, match="another key") as caught:
        verify(KEY.sign("order", ORDER.to_body()) | {"key": "mallory was here"}, "order", public=KEY.public)
    assert "mallory" not in str(caught.value)


@pytest.mark.parametrize("version", ["2", 1, None])
def test_another_version_is_named_as_one(version: object) -> None:
    with pytest.raises(Refused, match="another version; this side knows version 1"):
        verify(KEY.sign("order", ORDER.to_body()) | {"version": version}, "order", public=KEY.public)


def test_a_message_that_is_too_large_is_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = KEY.sign("order", ORDER.to_body())
    monkeypatch.setattr(wire, "LARGEST_BODY", len(sent["body"]) - 1)
    for read in (lambda: verify(sent, "order", public=KEY.public), lambda: unverified_body(sent)):
        with pytest.raises(Refused):
            read()


@pytest.mark.parametrize(
    "nonsense", [None, 7, "x", [], {}, {"body": "{}"}, {"body": 1, "signature": "x"}, {"signature": "x"}]
)
def test_what_is_no_envelope_is_refused(nonsense: object) -> None:
    with pytest.raises(Refused):
        verify(nonsense, "order", public=KEY.public)


@pytest.mark.parametrize("text", ["[]", "7", "nonsense", "[" * 100_000])
def test_signed_nonsense_is_refused_too(text: str) -> None:
    signature = KEY._private.sign(wire._signed_bytes("order", text))
    sent = KEY.sign("order", {}) | {"body": text, "signature": base64.b64encode(signature).decode()}
    with pytest.raises(Refused, match="The signed text"):
        verify(sent, "order", public=KEY.public)


@pytest.mark.parametrize("public", ["", "abc", "é", base64.b64encode(b"short").decode()])
def test_a_pinned_key_that_is_none_believes_nobody(public: str) -> None:
    with pytest.raises(Refused):
        verify(KEY.sign("order", ORDER.to_body()), "order", public=public)


@pytest.mark.parametrize("name", [f.name for f in fields(Order)])
@pytest.mark.parametrize("change", ["missing", "wrong type", "true"])
def test_a_signed_order_with_a_wrong_field_is_refused(name: str, change: str) -> None:
    body = ORDER.to_body()
    if change == "missing":
        del body[name]
    else:
        body[name] = [] if change == "wrong type" else True
    with pytest.raises(Refused):
        Order.from_body(body)


def test_an_unknown_field_or_operation_is_refused() -> None:
    for changes in ({"shell": "rm"}, {"operation": "flush"}):
        with pytest.raises(Refused):
            Order.from_body(ORDER.to_body() | changes)


def test_a_key_is_made_once_with_nobody_else_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert SigningKey.load_or_create(path).public == SigningKey.load_or_create(path).public
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_a_fingerprint_is_what_two_people_compare_aloud() -> None:
    assert fingerprint(KEY.public).startswith("SHA256:") and len(fingerprint(KEY.public)) == 50
    assert fingerprint(KEY.public) != fingerprint(SigningKey(b"m" * 32).public)
