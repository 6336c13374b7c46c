"""Trying a check: answers come back, and neither kernel, journal nor other orders notice."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from cluster.director.apply import take
from cluster.director.health import Tried, Watched
from cluster.director.health.child import CheckingProcess
from cluster.director.lock import locked
from cluster.director.probing import LONGEST_TRY_S, MOST_TARGETS, probe
from cluster.ipvs.formats.document import key_to_document, to_document
from cluster.ipvs.state import Backend, Forwarding, Protocol, Service, ServiceKey
from cluster.ipvs.traffic import document
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.paths import is_check_path
from cluster.ipvs.traffic.policy import Policy, Target, Traffic
from cluster.wire.messages import Operation
from cluster.wire.payloads import Finished
from tests.director.stage import ScriptedChecker, Stage, backend, service, table

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)


class OneIsDown(ScriptedChecker):
    """10.0.0.2 does not answer; what it was asked is kept."""

    asked: list[Watched]

    def try_now(self, backends: Any) -> list[Tried]:
        self.asked = list(backends)
        return [
            Tried(False, "connection refused", 0.4)
            if one.backend.address == "10.0.0.2"
            else Tried(True, "HTTP status 200", 1.5, "hello\0")
            for one in backends
        ]


class Silent(ScriptedChecker):
    def try_now(self, backends: Any) -> list[Tried]:
        return []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, checker=OneIsDown())


def _targets(*last: int) -> list[dict[str, Any]]:
    return [document.target_to_document(Target(KEY, f"10.0.0.{one}", 80)) for one in last]


def _probe(stage: Stage, check: object, targets: object, **changes: Any) -> dict[str, Any]:
    payload = {"check": check, "targets": targets}
    fields = {"operation": Operation.PROBE, "payload": payload, "revision": 0, "epoch": 0} | changes
    take(stage.order(table(), **fields), stage.director())
    answer: dict[str, Any] = stage.sent[-1]["payload"]
    return answer


def test_each_target_is_answered_in_its_order(stage: Stage) -> None:
    answer = _probe(stage, {"kind": "http", "path": "/up"}, _targets(2, 1))
    said = Finished.from_payload(answer)
    assert said.text == "By director1's try 1 of 2 backends are up." and said.outcome == "applied"
    assert [(one.target, one.up, one.reason) for one in said.answers] == [
        ("10.0.0.2:80 of TCP 192.0.2.1:80", False, "connection refused"),
        ("10.0.0.1:80 of TCP 192.0.2.1:80", True, "HTTP status 200"),
    ]
    assert said.answers[1].text == "hello\N{REPLACEMENT CHARACTER}" and said.table is None
    assert isinstance(stage.checker, OneIsDown)
    assert {one.check for one in stage.checker.asked} == {Check(CheckKind.HTTP, path="/up")}


def test_a_try_neither_waits_for_an_apply_nor_needs_a_revision(stage: Stage) -> None:
    stage.apply(table(service(1, backend(1))), epoch=3, revision=9)
    before = stage.kernel.read().table
    with locked(stage.state_dir / "lock", within_s=0.1):
        assert _probe(stage, {}, _targets(1))["outcome"] == "applied"
    assert stage.kernel.read().table == before


def test_an_expired_try_is_not_done(stage: Stage) -> None:
    answer = _probe(stage, {}, _targets(1), issued_at=stage.now - 9000, expires_at=stage.now - 8000)
    assert answer["outcome"] == "unknown" and "expired" in answer["detail"]


@pytest.mark.parametrize(
    ("check", "targets", "sentence"),
    [
        ({"kind": "http", "pattern": "("}, _targets(1), "no regular expression"),
        ({"kind": "telepathy"}, _targets(1), "is not one of"),
        ([], _targets(1), "not an object"),
        ({}, [], "no list of 1 to 200"),
        ({}, None, "no list of 1 to 200"),
        ({}, _targets(*range(MOST_TARGETS + 1)), "no list of 1 to 200"),
        ({}, [{"address": "10.0.0.1", "port": 80}], "names no backend of a service"),
        ({}, [{"service": key_to_document(KEY)}], "names no backend of a service"),
        ({}, ["10.0.0.1"], "not an object"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(
    check: object, targets: object, sentence: str, stage: Stage
) -> None:
    answer = _probe(stage, check, targets)
    assert answer["outcome"] == "refused" and sentence in answer["text"] and "answers" not in answer


def test_without_a_checker_it_says_so(tmp_path: Path) -> None:
    answer = _probe(Stage(tmp_path, checker=Silent()), {}, _targets(1))
    assert answer["outcome"] == "failed" and "gave no answer" in answer["text"]


def test_a_long_timeout_does_not_hold_up_the_orders_behind(stage: Stage) -> None:
    answer = _probe(stage, {"timeout_s": 300.0}, _targets(1))
    assert isinstance(stage.checker, OneIsDown)
    assert [one.check and one.check.timeout_s for one in stage.checker.asked] == [LONGEST_TRY_S]
    assert "10 s, less than the check's 300 s" in answer["text"]


def test_a_try_through_the_service_needs_the_way_that_an_apply_makes(stage: Stage) -> None:
    check = Check(through_service=True)
    said, targets = document.check_to_document(check), _targets(1)
    answer = _probe(stage, said, targets)
    assert [one["up"] for one in answer["answers"]] == [False]
    assert "before the policy is applied" in answer["answers"][0]["reason"]
    wanted = table(Service(KEY, "rr", backends=(Backend("10.0.0.1", 80, Forwarding.DIRECT),)))
    traffic = document.to_document(Traffic({KEY: Policy(check)}))
    stage.apply(wanted, payload={"table": to_document(wanted), "traffic": traffic})
    assert [one["up"] for one in _probe(stage, said, targets)["answers"]] == [True]
    assert isinstance(stage.checker, OneIsDown)
    path = ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, stage.checker.asked[0].mark)
    assert is_check_path(path)


def test_the_real_checks_answer_a_try(tmp_path: Path) -> None:
    checks = CheckingProcess(scripts=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as there, socket.create_server(("127.0.0.1", 0)) as gone:
        ports = [one.getsockname()[1] for one in (there, gone)]
        gone.close()
        targets = [document.target_to_document(Target(KEY, "127.0.0.1", port)) for port in ports]
        try:
            answer = probe({"check": {}, "targets": targets}, checks, None, director="director1")
        finally:
            checks.stop()
    assert [one["up"] for one in answer.tried or ()] == [True, False]
    assert answer.text == "By director1's try 1 of 2 backends are up."
