"""Whoever asked for it reads once a day what was done, and what was refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from cluster import audit, tasks
from cluster.audit.digest import MOST_LINES, digest, send_digest
from cluster.models import AuditEntry, AuditHead, Backend, Cluster
from lvsadmin import env
from tests.panel.conftest import ANN

TOMORROW = timezone.now() + timedelta(days=1)


@pytest.fixture(autouse=True)
def asked_for(settings: Any) -> None:
    settings.AUDIT_DIGEST_TO = ["bank@example.net"]


def test_a_day_is_told_once(backend: Backend) -> None:
    audit.record("access.refused", "POST /x", by=ANN, result="refused", reason="This needs a role.")
    assert send_digest(now=TOMORROW) and not send_digest(now=TOMORROW)
    (sent,) = mail.outbox
    assert sent.to == ["bank@example.net"]
    assert sent.subject.endswith(": 4 audit entries, 1 refused or failed")
    for said in ("#4 ann access.refused POST /x: This needs a role.", "1  backend.add", "4  ann"):
        assert said in sent.body
    entry = AuditEntry.objects.first()
    assert entry is not None and (entry.action, entry.actor) == ("audit.digest", "panel")


def test_a_quiet_day_says_so_and_other_days_are_left_out(backend: Backend) -> None:
    subject, text = digest("2026-01-01")
    assert subject == "LVS Admin 2026-01-01: 0 audit entries, 0 refused or failed"
    assert "Refused or failed\n  nothing" in text and "backend.add" not in text


def test_nobody_gets_what_nobody_asked_for(backend: Backend, settings: Any) -> None:
    settings.AUDIT_DIGEST_TO = []
    tasks.digest()
    assert mail.outbox == [] and not AuditEntry.objects.filter(action="audit.digest").exists()


def test_a_mail_server_that_is_away_is_tried_again(web: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as away:
        away.setattr("cluster.audit.digest.send_mail", refuse)
        with pytest.raises(ConnectionRefusedError):
            send_digest(now=TOMORROW)
    assert send_digest(now=TOMORROW)


def test_what_strangers_type_looks_like_no_line_of_ours(web: Cluster) -> None:
    audit.record("sign-in.refused", "x\nBy whom\n  1 nobody", by=ANN, result="refused")
    _, text = digest(f"{timezone.now():%Y-%m-%d}")
    assert "\n  1 nobody" not in text and "x\ufffdBy whom" in text


def test_a_bad_day_is_cut_and_a_broken_chain_comes_first(web: Cluster) -> None:
    for number in range(MOST_LINES + 5):
        audit.record("test", f"object {number}", by=ANN, result="refused")
    AuditHead.objects.update(broken="#7: It is missing.")
    _, text = digest(f"{timezone.now():%Y-%m-%d}")
    assert text.startswith("THE LOG IS NOT WHAT WAS WRITTEN, from entry #7")
    assert "… and older ones" in text and text.count("object ") == MOST_LINES


@pytest.mark.parametrize("odd", ["mail.example.net", "mail.example.net:", ":25", "x:99999", "x:y"])
def test_a_mail_server_without_a_port_is_an_error(monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    monkeypatch.setenv("LVSADMIN_MAIL_SERVER", odd)
    with pytest.raises(ImproperlyConfigured, match="HOST:PORT"):
        env.address("LVSADMIN_MAIL_SERVER")


def test_syslog_is_a_socket_or_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.log_server("LVSADMIN_AUDIT_SYSLOG") is None
    monkeypatch.setenv("LVSADMIN_AUDIT_SYSLOG", "/dev/log")
    assert env.log_server("LVSADMIN_AUDIT_SYSLOG") == "/dev/log"
    monkeypatch.setenv("LVSADMIN_AUDIT_SYSLOG", "[::1]:514")
    assert env.log_server("LVSADMIN_AUDIT_SYSLOG") == ("::1", 514)
