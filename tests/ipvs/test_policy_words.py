"""What a policy says can be read: whatever differs between two policies differs in their words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.ipvs.state import Backend, Forwarding, Tunnel
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import LoadRule, LoadSource, OnFailure, Policy
from cluster.ipvs.traffic.words import policy_changes, policy_words

SORRY = Backend("192.0.2.99", 80)
OF_KIND: dict[CheckKind, dict[str, Any]] = {
    CheckKind.TCP: {"interval_s": 9.0, "timeout_s": 9.0, "rise": 9, "fall": 9, "retry_s": 9.0, "port": 9}
    | {"address": "192.0.2.9", "through_service": True, "kind": CheckKind.PING},
    CheckKind.HTTPS: {"server_name": "a", "verify": True, "expiry_days": 9, "method": "HEAD", "path": "/9"}
    | {"host": "a", "statuses": "204", "contains": "a", "pattern": "a", "most_bytes": 9},
    CheckKind.UDP: {"payload": "a", "expects": "a"},
    CheckKind.DNS: {"query": "a", "record": "MX", "answer": "a"},
    CheckKind.SMTP: {"helo": "a"},
    CheckKind.SCRIPT: {"script": "a", "arguments": ("a", "b")},
}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind, changes in OF_KIND.items() for name, value in changes.items()],
)
def test_every_field_of_a_check_is_in_its_words(kind: CheckKind, name: str, value: Any) -> None:
    before, after = Policy(Check(kind)), Policy(replace(Check(kind), **{name: value}))
    assert [row[0] for row in policy_changes(before, after)] == ["Health check"]


@pytest.mark.parametrize(
    "change",
    [
        {"check": None},
        {"overrides": {SORRY.key: Check()}},
        {"on_failure": OnFailure.REMOVE},
        {"most_out_percent": 50},
        {"ramp_s": 9},
        {"flap_changes": 9},
        {"flap_window_s": 9},
        {"sorry": None},
        {"sorry": SORRY._replace(weight=9)},
        {"sorry": SORRY._replace(forwarding=Forwarding.DIRECT)},
        {"sorry": SORRY._replace(forwarding=Forwarding.TUNNEL, tunnel=Tunnel())},
        {"load": None},
        {"load": LoadRule(LoadSource.CONNECTIONS)},
        {"load": LoadRule(port=9)},
        {"asks_others": True},
    ],
)
def test_every_part_of_a_policy_is_in_its_words(change: dict[str, Any]) -> None:
    before = Policy(Check(), sorry=SORRY, load=LoadRule())
    assert len(policy_changes(before, replace(before, **change))) == 1
    assert policy_changes(before, before) == []


def test_words_are_plain() -> None:
    check = Check(CheckKind.HTTPS, path="/up", port=8443, verify=True, server_name="shop.example", fall=1)
    words = policy_words(Policy(check, sorry=SORRY))
    assert words["Health check"] == (
        "HTTPS port 8443, GET /up, status 200-299, server name shop.example, certificate verified, every 5 s,"
        " timeout 2 s, down after 1 failure, up after 2 successes"
    )
    assert words["Sorry server"] == "192.0.2.99:80, masquerade"
