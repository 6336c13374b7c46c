"""Fill an empty panel's database with a log of many entries whose chain is right, and somebody to read it.

`python -m bench.audit_rows COUNT` prints what a browser of that somebody sends: `{"session": ...}`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import django

ACTORS = [f"operator{number:02d}" for number in range(48)] + ["panel", "director lb1"]
ACTIONS = ["service.edit", "backend.set-weight", "backend.edit", "sign-in", "sign-out", "cluster.apply"]
ACTIONS += ["run.applied", "traffic.down", "traffic.usual", "drain.begin", "drain.undrain", "access.refused"]
CLUSTERS = [(f"cluster{number:02d}", f"00000000-0000-4000-8000-{number:012d}") for number in range(20)]
BEGIN = datetime(2025, 11, 1, tzinfo=UTC)
A_YEAR = timedelta(days=365)
AT_ONCE = 20_000
PASSWORD = "correct horse battery"


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.admin_settings")
    django.setup()
    count = int(sys.argv[1])
    last = _fill(count)
    _sign(count, last)
    print(json.dumps({"session": _session()}))
    return 0


def lines(count: int) -> Iterator[dict[str, Any]]:
    """The entries, oldest first, spread over a year."""
    from cluster.audit.chain import FIRST_HASH, FORMAT, chained_hash

    before, step = FIRST_HASH, A_YEAR / count
    for number in range(1, count + 1):
        # Multiples of a prime: every value of each, in no order that an index could have been made for.
        mixed = number * 7919
        action, (cluster, uuid) = ACTIONS[mixed % 12], CLUSTERS[mixed // 12 % 20]
        backend = mixed // 240 % 5000
        changes = action.startswith("backend")
        line = {
            "sequence": number,
            "at": (BEGIN + step * number).isoformat(),
            "actor": ACTORS[mixed // 7 % 50],
            "address": "192.0.2.7",
            "request_id": f"{mixed // 3:016x}",
            "action": action,
            "target": f"192.0.2.{backend % 250}:80 of TCP 198.51.100.{backend // 250}:443",
            "cluster": cluster,
            "cluster_uuid": uuid,
            "before": {"weight": mixed % 9} if changes else None,
            "after": {"weight": mixed % 7, "port": 80} if changes else None,
            "result": "refused" if action == "access.refused" else "done",
            "reason": "",
            "previous_hash": before,
            "format": FORMAT,
            "role": "operator",
            "session": f"session {mixed % 997:012x}",
            "object_kind": "backend",
            "object_id": str(backend),
        }
        before = line["hash"] = chained_hash(line)
        yield line


def _fill(count: int) -> str:
    """The hash of the last entry. The indexes are made afterwards, at once."""
    from django.db import connection

    from cluster.models import AuditEntry, AuditHead

    with connection.schema_editor() as editor:
        for index in AuditEntry._meta.indexes:
            editor.remove_index(AuditEntry, index)
    rest, last = lines(count), ""
    began = time.monotonic()
    while batch := list(islice(rest, AT_ONCE)):
        (_copy if connection.vendor == "postgresql" else _insert)(batch)
        last = batch[-1]["hash"]
    print(f"{count} entries in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    with connection.schema_editor() as editor:
        for index in AuditEntry._meta.indexes:
            editor.add_index(AuditEntry, index)
    AuditHead.objects.update(sequence=count, hash=last)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    print(f"with indexes in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return last


def _copy(batch: list[dict[str, Any]]) -> None:
    from django.db import connection

    # No value of ours has a tab, a line feed or a backslash.
    text = "\n".join(
        "\t".join(
            "\\N" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)
            for value in line.values()
        )
        for line in batch
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY cluster_auditentry ({', '.join(batch[0])}) FROM STDIN") as copy,
    ):
        copy.write(text + "\n")


def _insert(batch: list[dict[str, Any]]) -> None:
    from django.db import connection, transaction

    marks = ", ".join(["%s"] * len(batch[0]))
    rows = [
        [
            json.dumps(value)
            if isinstance(value, dict)
            else value[:-6].replace("T", " ")
            if name == "at"
            else value
            for name, value in line.items()
        ]
        for line in batch
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO cluster_auditentry ({', '.join(batch[0])}) VALUES ({marks})", rows)


def _sign(sequence: int, hashed: str) -> None:
    """The page looks at a checkpoint; the sweep would take hours to have signed all of this."""
    from django.utils import timezone

    from cluster.audit import signed
    from cluster.models import AuditCheckpoint

    now = timezone.now()
    envelope = signed.sign(sequence, hashed, now)
    AuditCheckpoint.objects.create(sequence=sequence, key=envelope["key"], at=now, envelope=envelope)


def _session() -> str:
    from django.contrib.auth.models import User
    from django.test import Client

    from cluster.models import Role, RoleBinding

    user = User.objects.create_superuser("ann", password=PASSWORD)
    RoleBinding.objects.create(user=user, role=Role.ADMINISTRATOR)
    client = Client()
    client.force_login(user)
    session = client.session
    session["signed_in_at"] = session["used_at"] = int(time.time())
    session.save()
    return str(session.session_key)


if __name__ == "__main__":
    sys.exit(main())
