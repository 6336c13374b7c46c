"""Nothing in the log can be altered unseen."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince

from cluster import audit
from cluster.audit import chain
from cluster.ipvs.formats.document import canonical_json
from cluster.models import AuditEntry, AuditHead, Backend, Cluster, VirtualService
from cluster.templatetags.ui import time_ago
from tests.panel.conftest import ANN

FORGED = {
    **dict.fromkeys(["actor", "role", "session", "address", "request_id", "action", "target"], "forged"),
    **dict.fromkeys(["object_kind", "object_id", "cluster", "cluster_uuid", "result", "reason"], "forged"),
    **dict.fromkeys(["before", "after"], {"weight": 7}),
    **dict.fromkeys(["previous_hash", "hash"], "f" * 64),
    "at": "2026-11-01T00:00:00+00:00",
    "sequence": 7,
    "format": 1,
}
UPGRADE = """
import hashlib, json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
before = "0" * 64
for sequence in (1, 2, 3):
    content = {
        "sequence": sequence, "at": f"2026-11-0{sequence}T10:00:00.5+00:00", "actor": "ann", "address": "",
        "request_id": "", "action": "service.edit", "target": "TCP 192.0.2.1:80", "cluster": "web",
        "cluster_uuid": "", "before": None, "after": {"weight": 1.5}, "result": "done", "reason": "",
        "previous_hash": before,
    }
    content["at"] = content["at"].replace(".5", ".500000")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    after = json.dumps(content["after"])
    hashed = hashlib.sha256(before.encode() + text.encode()).hexdigest()
    row = content | {"after": after, "at": content["at"][:-6].replace("T", " "), "hash": hashed}
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    database.execute(f"INSERT INTO cluster_auditentry ({names}) VALUES ({marks})", list(row.values()))
    before = hashed
database.execute("UPDATE cluster_audithead SET sequence = 3, hash = ?", [before])
database.commit()
"""


def _lines() -> list[chain.Line]:
    return list(chain.lines())


def _broken_at(lines: list[chain.Line]) -> int | None:
    broken = chain.first_broken(lines)
    return broken.sequence if broken else None


def test_an_honest_log_is_intact(backend: Backend) -> None:
    assert chain.verify() is None and len(_lines()) == 3


def test_every_column_is_forged_below() -> None:
    assert set(FORGED) == set(chain.COLUMNS)


@pytest.mark.parametrize("field", FORGED)
def test_a_changed_field_is_found(backend: Backend, field: str) -> None:
    lines = _lines()
    lines[1][field] = FORGED[field]
    assert _broken_at(lines) == 2


def test_a_gap_an_insertion_and_a_swap_are_found(backend: Backend) -> None:
    assert _broken_at(_lines()[1:]) == 1
    assert _broken_at([*_lines()[:1], *_lines()[2:]]) == 2
    swapped = _lines()
    swapped[0], swapped[1] = swapped[1], swapped[0]
    assert _broken_at(swapped) == 1
    assert _broken_at([*_lines(), _lines()[-1]]) == len(_lines()) + 1


def test_a_cut_off_end_and_a_tail_behind_the_head_are_found(backend: Backend) -> None:
    AuditHead.objects.update(sequence=99)
    broken = chain.verify()
    assert broken is not None and broken.sequence == 4
    AuditHead.objects.update(sequence=2, hash=_lines()[1]["hash"])
    broken = chain.verify()
    assert broken is not None and broken.sequence == 3


def _write_as_the_first_format_did(**more: Any) -> None:
    """An entry as it was written before there was a role, a session and an object."""
    head = AuditHead.objects.get()
    names = set(chain.COVERED[1]) - {"sequence", "at", "previous_hash", "before", "after"}
    entry = AuditEntry(
        **dict.fromkeys(names, "old"),
        sequence=head.sequence + 1,
        at=timezone.now(),
        after={"weight": 1},
        previous_hash=head.hash,
        **more,
    )
    content = {name: getattr(entry, name) for name in chain.COVERED[1]} | {"at": entry.at.isoformat()}
    entry.hash = hashlib.sha256(head.hash.encode() + canonical_json(content)).hexdigest()
    entry.save()
    AuditHead.objects.update(sequence=entry.sequence, hash=entry.hash)


def test_entries_of_the_first_format_stay_valid_and_the_chain_goes_on(web: Cluster) -> None:
    _write_as_the_first_format_did()
    audit.record("cluster.edit", web, by=ANN, cluster=web)
    assert [line["format"] for line in _lines()] == [2, 1, 2]
    assert chain.verify() is None


def test_what_the_first_format_did_not_cover_cannot_be_slipped_into_it(web: Cluster) -> None:
    _write_as_the_first_format_did(role="administrator")
    broken = chain.verify()
    assert broken is not None and broken.sequence == 2


def test_an_upgraded_log_goes_on_and_is_still_append_only(tmp_path: Path) -> None:
    """The migration makes the table anew on SQLite, triggers and all."""
    names = {name: value for name, value in os.environ.items() if not name.startswith("LVSADMIN_")}
    environment = names | {"LVSADMIN_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "lvsadmin.settings"}
    database = tmp_path / "panel.sqlite3"
    run = partial(subprocess.run, check=True, env=environment, cwd=settings.BASE_DIR, capture_output=True)
    run([sys.executable, "manage.py", "migrate", "cluster", "0004"])
    run([sys.executable, "-c", UPGRADE, str(database)])
    run([sys.executable, "manage.py", "migrate"])
    verify = [sys.executable, "manage.py", "audit_verify"]
    with pytest.raises(subprocess.CalledProcessError):
        run(verify)
    anew = run([*verify, "--begin-anew", "it is older than checkpoints are"]).stdout
    assert b"intact up to entry #4" in anew and b"1 of the database" in anew
    assert b"intact up to entry #4" in run(verify).stdout
    with closing(sqlite3.connect(database)) as opened:
        for statement in (
            "UPDATE cluster_auditentry SET role = 'x'",
            "DELETE FROM cluster_auditentry",
            "INSERT OR REPLACE INTO cluster_auditentry SELECT * FROM cluster_auditentry WHERE sequence = 2",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                opened.execute(statement)


def test_odd_values_come_back_as_they_were_hashed(web: Cluster) -> None:
    odd = {
        "a\0b": "\ud800 \0 \N{SNOWMAN}",
        "big": 1e22,
        "zero": -0.0,
        "small": 1e-9,
        "list": [1.0, None, True],
    }
    audit.record("test", "\0 \ud800", by=ANN, cluster=web, after=odd)
    assert chain.verify() is None


def test_an_entry_takes_three_statements_while_everybody_waits_for_the_head(web: Cluster) -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as caught:
        audit.record("test", web, by=ANN, cluster=web, before={"weight": 1}, after={"weight": 2})
    verbs = [query["sql"].split()[0] for query in caught.captured_queries]
    assert verbs == ["SELECT", "INSERT", "UPDATE"]


def test_many_entries_take_the_heads_lock_once_and_are_a_chain(web: Cluster) -> None:
    many = [audit.entry("test", f"object {number}", by=ANN, cluster=web) for number in range(3)]
    with transaction.atomic(), CaptureQueriesContext(connection) as caught:
        audit.record_all([*many, audit.entry("test", web, by=ANN, cluster=web, after={"big": 1e22})])
    verbs = [query["sql"].split()[0] for query in caught.captured_queries]
    assert verbs == ["SELECT", "INSERT", "UPDATE"]
    assert [line["target"] for line in _lines()] == ["web", "object 0", "object 1", "object 2", "web"]
    assert chain.verify() is None
    audit.record("test", "one more", by=ANN)
    assert chain.verify() is None and AuditHead.objects.get().sequence == 6
    audit.record_all([])
    assert AuditHead.objects.get().sequence == 6


def test_more_entries_than_one_statement_holds_are_a_chain(web: Cluster) -> None:
    audit.record_all([audit.entry("test", f"object {number}", by=ANN) for number in range(3000)])
    assert chain.verify() is None and AuditHead.objects.get().sequence == 3001


def test_of_many_entries_all_come_or_none(web: Cluster) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        audit.record_all([audit.entry("test", "one", by=ANN), audit.entry("test", "two", by=ANN)])
        raise ZeroDivisionError
    assert chain.verify() is None and AuditHead.objects.get().sequence == 1


def test_an_entry_says_role_session_and_object(ann: Client, backend: Backend) -> None:
    ann.post(reverse("backend-set-weight", args=[backend.pk]), {"weight": "4", "version": "1"})
    entry = AuditEntry.objects.first()
    assert entry is not None and (entry.role, entry.action) == ("administrator", "backend.set-weight")
    assert (entry.object_kind, entry.object_id) == ("backend", str(backend.pk))
    assert re.fullmatch(r"session [0-9a-f]{12}", entry.session)
    assert str(ann.session.session_key) not in str(chain.as_line(entry))


@pytest.mark.parametrize(
    "statement", ["UPDATE cluster_auditentry SET actor = 'x'", "DELETE FROM cluster_auditentry"]
)
def test_the_database_itself_refuses_to_alter_the_log(backend: Backend, statement: str) -> None:
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_entries_refuse_save_and_delete(backend: Backend) -> None:
    entry = AuditEntry.objects.get(sequence=1)
    with pytest.raises(TypeError, match="never changes"):
        entry.save()
    with pytest.raises(TypeError, match="never deleted"):
        entry.delete()


def test_the_page_filters_by_actor_action_and_object(ann: Client, service: VirtualService) -> None:
    url = reverse("audit-list")
    assert "service.add" in ann.get(url, {"q": "actor:ann action:service.add"}).content.decode()
    assert "No entry matches" in ann.get(url, {"q": "actor:otto"}).content.decode()
    page = ann.get(url, {"q": "192.168.50.10"}).content.decode()
    assert "TCP 192.168.50.10:80" in page and "cluster.create</td>" not in page


def test_the_page_shows_before_and_after(ann: Client, backend: Backend) -> None:
    ann.post(reverse("backend-set-weight", args=[backend.pk]), {"weight": "4", "version": "1"})
    entry = AuditEntry.objects.first()
    assert entry is not None
    page = ann.get(reverse("audit-detail", args=[entry.sequence])).content.decode()
    assert "<del>1</del>" in page and "<ins>4</ins>" in page


def test_a_long_log_is_paged_newest_first(ann: Client) -> None:
    for number in range(60):
        audit.record("test", f"object {number}", by=audit.PANEL)
    first = ann.get(reverse("audit-list")).content.decode()
    assert "object 59" in first and "object 9<" not in first and "?before=" in first
    older = ann.get(reverse("audit-list"), {"before": "11"}).content.decode()
    assert "object 9<" in older and "object 59" not in older


def test_what_somebody_wrote_is_text_in_the_list(ann: Client) -> None:
    odd = "<b>\"a\" & 'b'</b>"
    who, cluster = audit.Actor(name=f"{odd} 1"), Cluster.objects.create(name=f"{odd} 5", uuid=uuid4())
    audit.record(f"{odd} 2", f"{odd} 3", by=who, reason=f"{odd} 4", cluster=cluster)
    page = ann.get(reverse("audit-list")).content.decode()
    assert "<b>" not in page
    for number in range(1, 6):
        assert f"&lt;b&gt;&quot;a&quot; &amp; &#x27;b&#x27;&lt;/b&gt; {number}" in page


@pytest.mark.parametrize(
    "age",
    [
        *(timedelta(seconds=seconds) for seconds in (-5, 0, 59, 60, 3599, 3661, 90_000)),
        *(timedelta(days=days, seconds=1) for days in (6, 7, 13, 27, 28, 29, 31, 62, 364, 800)),
    ],
    ids=str,
)
def test_an_age_is_said_in_djangos_words(age: timedelta) -> None:
    now = datetime.now(UTC)
    assert f">{timesince(now - age, now)} ago</time>" in time_ago(now - age)


def test_an_operator_of_one_cluster_sees_its_entries_and_his_own(mallory: Client, backend: Backend) -> None:
    mallory.get(reverse("cluster-new"))
    page = mallory.get(reverse("audit-list")).content.decode()
    assert "access.refused" in page and "backend.add" not in page
