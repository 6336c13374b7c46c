"""The checks of other programs' files become policies that mean the same, or are named by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.ipvs.formats import kinds
from cluster.ipvs.formats.checks_to_policy import policies_of
from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import OnFailure, Policy, Traffic
from cluster.ipvs.traffic.rules import traffic_problems

SAMPLES = Path(__file__).parent / "samples"

SERVERS = """virtual_server 192.0.2.1 80 {{
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    delay_loop 6
    real_server 10.0.0.1 80 {{
        {first}
    }}
    real_server 10.0.0.2 80 {{
        {second}
    }}
}}
"""


def _policy(text: str, kind: str) -> tuple[Policy, list[str]]:
    parsed = kinds.parse(text, kind=kind)
    assert not parsed.errors
    policies, notes = policies_of(parsed, kind=kind)
    assert all(note.level is Level.LOST and note.line for note in notes)
    assert all(note.text.endswith(".") and note.remedy.endswith(".") for note in notes)
    return policies.get(next(iter(parsed.table)).key, Policy()), [str(note) for note in notes]


def _keepalived(first: str, second: str | None = None) -> tuple[Policy, list[str]]:
    return _policy(SERVERS.format(first=first, second=first if second is None else second), "keepalived")


@pytest.mark.parametrize(
    ("block", "check"),
    [
        (
            "TCP_CHECK {\n connect_port 8080\n connect_timeout 2\n retry 2\n delay_before_retry 4\n }",
            Check(CheckKind.TCP, 6, 2, 1, 3, 4, 8080),
        ),
        (
            "HTTP_GET {\n url {\n path /up\n status_code 200 301-302\n }\n virtualhost a.example\n }",
            Check(CheckKind.HTTP, 6, 5, 1, 2, 3, path="/up", statuses="200,301-302", host="a.example"),
        ),
        (
            "SSL_GET {\n enable_sni\n url {\n path /\n virtualhost a.example\n }\n }",
            Check(CheckKind.HTTPS, 6, 5, 1, 2, 3, host="a.example", server_name="a.example"),
        ),
        ("SMTP_CHECK {\n helo_name me.example\n }", Check(CheckKind.SMTP, 6, 5, 1, 2, 1, helo="me.example")),
        (
            "DNS_CHECK {\n type A\n name a.example\n }",
            Check(CheckKind.DNS, 6, 5, 1, 4, 0, query="a.example", record="A"),
        ),
        ("PING_CHECK {\n }", Check(CheckKind.PING, 6, 5, 1, 2, 1)),
    ],
)
def test_a_check_of_keepalived_is_one_of_ours(block: str, check: Check) -> None:
    assert _keepalived(block) == (Policy(check, on_failure=OnFailure.REMOVE), [])


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("MISC_CHECK {\n misc_path /etc/up.sh\n }", "line 7: lost: A check of the kind script is not taken."),
        ("FILE_CHECK {\n track_file f\n }", "A check of the kind file is not taken."),
        ("HTTP_GET {\n url {\n path /\n digest 0123456789abcdef0123456789abcdef\n }\n }", "says digest"),
        ("TCP_CHECK {\n connect_ip 192.0.2.99\n }", "says connect_ip"),
        ("TCP_CHECK {\n alpha\n }", "says alpha"),
        ("TCP_CHECK {\n connect_port http\n }", "says connect_port"),
        ("TCP_CHECK {\n }\n PING_CHECK {\n }", "It has several checks"),
        ("DNS_CHECK {\n }", "The check dns cannot be used here. Say which name to ask for."),
    ],
)
def test_what_has_no_equal_is_named_by_its_line(block: str, said: str) -> None:
    policy, notes = _keepalived(block)
    assert policy == Policy() and said in notes[0]


def test_a_backend_with_another_check_has_its_own_and_one_without_stays_without() -> None:
    policy, _ = _keepalived("PING_CHECK {\n }", "TCP_CHECK {\n }")
    assert policy.check and [check.kind for check in policy.overrides.values()] == ["tcp"]
    policy, _ = _keepalived("PING_CHECK {\n }", "")
    assert policy.check is None and [key.address for key in policy.overrides] == ["10.0.0.1"]


SECTION = """checktimeout=3
checkinterval=4
failurecount=2
virtual=192.0.2.1:80
        real=10.0.0.1:80 masq
        fallback={fallback} masq
        service=http
        scheduler=rr
        protocol=tcp
{more}
"""


def _ldirectord(more: str, fallback: str = "10.0.0.9:80") -> tuple[Policy, list[str]]:
    lines = "".join(f"        {line}\n" for line in more.splitlines())
    return _policy(SECTION.format(fallback=fallback, more=lines.rstrip("\n")), "ldirectord")


@pytest.mark.parametrize(
    ("more", "kind", "given"),
    [
        ("checktype=connect", CheckKind.TCP, {}),
        ("checktype=connect\ncheckport=8080", CheckKind.TCP, {"port": 8080}),
        ("checktype=ping", CheckKind.PING, {}),
        (
            'checktype=negotiate\nrequest="up.html"\nreceive="all well"\nvirtualhost=a.example',
            CheckKind.HTTP,
            {"path": "/up.html", "contains": "all well", "host": "a.example"},
        ),
    ],
)
def test_a_check_of_ldirectord_is_one_of_ours(more: str, kind: CheckKind, given: dict[str, Any]) -> None:
    policy, notes = _ldirectord(more)
    assert (policy.check, notes) == (Check(kind, 4, 3, 1, 2, **given), [])
    assert policy.sorry and policy.sorry.address == "10.0.0.9" and policy.on_failure is OnFailure.WEIGHT


def test_what_ldirectord_can_and_we_cannot_is_named_by_its_line() -> None:
    assert "says receive" in _ldirectord('request="/"\nreceive="up|ok"')[1][0]
    assert "says request" in _ldirectord('request="http://a.example/"')[1][0]
    assert "kind script" in _ldirectord("checktype=external\ncheckcommand=/bin/up")[1][0]
    policy, notes = _ldirectord("checktype=connect", fallback="127.0.0.1:80")
    assert policy.sorry is None and policy.check
    assert notes[0].startswith("line 6: lost: The sorry server 127.0.0.1:80 cannot be one here.")


@pytest.mark.parametrize(
    ("more", "section", "wanted"),
    [
        ("", "quiescent=no", OnFailure.REMOVE),
        ("", "quiescent=yes", OnFailure.WEIGHT),
        ("quiescent=no\n", "", OnFailure.REMOVE),
        ("quiescent=no\n", "quiescent=yes", OnFailure.WEIGHT),
        ("", "", OnFailure.WEIGHT),
    ],
)
def test_what_ldirectord_does_with_a_failed_server_is_kept(
    more: str, section: str, wanted: OnFailure
) -> None:
    lines = "".join(f"        {line}\n" for line in f"checktype=connect\n{section}".splitlines())
    text = more + SECTION.format(fallback="10.0.0.9:80", more=lines.rstrip("\n"))
    policy, notes = _policy(text, "ldirectord")
    assert (policy.on_failure, notes) == (wanted, []) and kinds.parse(text, kind="ldirectord").is_whole


INHIBIT = "inhibit_on_failure\n TCP_CHECK {\n }"


def test_what_keepalived_does_with_a_failed_server_is_kept() -> None:
    assert _keepalived(INHIBIT)[0].on_failure is OnFailure.WEIGHT
    assert _keepalived(INHIBIT.replace("failure", "failure no"))[0].on_failure is OnFailure.REMOVE
    text = SERVERS.format(first="TCP_CHECK {\n }", second=INHIBIT.replace("failure", "failure no"))
    everywhere = text.replace("delay_loop 6", "delay_loop 6\n    inhibit_on_failure")
    parsed = kinds.parse(everywhere, kind="keepalived")
    assert [stays for stays, _ in parsed.quiescent.values()] == [True, False]


def test_a_word_that_keepalived_does_not_look_at_is_named() -> None:
    text = SERVERS.format(first="TCP_CHECK {\n }", second="TCP_CHECK {\n }")
    parsed = kinds.parse(text.replace("delay_loop 6", "inhibit_on_failure no"), kind="keepalived")
    assert [str(note) for note in parsed.notes] == [
        "line 5: mapped: keepalived looks at no word after inhibit_on_failure here, so it is on."
        " Take the word out."
    ]
    policies, _ = policies_of(parsed, kind="keepalived")
    assert [policy.on_failure for policy in policies.values()] == [OnFailure.WEIGHT]


def test_what_is_said_of_some_backends_alone_is_named_by_its_line() -> None:
    policy, notes = _keepalived(INHIBIT, "TCP_CHECK {\n }")
    assert policy.on_failure is OnFailure.REMOVE
    assert notes == [
        "line 7: lost: It is said of some backends of a service alone, and here a service treats all of"
        " them alike. Choose what becomes of a backend that is down on the service's page."
    ]
    # Who has no check never fails, whatever is said.
    policy, notes = _keepalived(INHIBIT, "")
    assert (policy.on_failure, notes) == (OnFailure.WEIGHT, [])


def test_what_is_said_of_checks_that_are_lost_is_lost_with_them() -> None:
    policy, notes = _keepalived("inhibit_on_failure\n MISC_CHECK {\n misc_path /etc/up.sh\n }")
    assert policy == Policy() and "no check of them was taken" in " ".join(notes)
    policy, notes = _keepalived("inhibit_on_failure")
    assert (policy, notes) == (Policy(), [])


def test_other_formats_have_no_policies() -> None:
    parsed = kinds.parse(SERVERS.format(first="TCP_CHECK {\n }", second=""), kind="keepalived")
    assert policies_of(parsed, kind="ipvsadm") == ({}, ())


@pytest.mark.parametrize("kind", ["keepalived", "ldirectord"])
def test_no_sample_of_real_files_makes_it_fail(kind: str) -> None:
    samples = [path for path in SAMPLES.rglob("*") if path.is_file()]
    assert samples
    found = 0
    for path in samples:
        parsed = kinds.parse(path.read_text(errors="replace"), kind=kind)
        policies, notes = policies_of(parsed, kind=kind)
        found += len(policies) + len(notes)
        assert not traffic_problems(parsed.table, Traffic(policies)), path
    assert found
