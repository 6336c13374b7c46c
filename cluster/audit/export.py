"""The log as a file, a piece at a time: CSV for people, JSON lines for whoever wants to check it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from cluster.audit.chain import BATCH, Line, Walked, encode
from cluster.audit.signed import Envelope, signing_key

CSV_COLUMNS = (
    *("sequence", "at", "actor", "role", "session", "address", "request_id", "action", "target"),
    *("object_kind", "object_id", "cluster", "cluster_uuid", "result", "reason", "before", "after", "hash"),
)
KIND = "audit-export"
VERSION = 1
_FORMULA_INSIDE = re.compile(r"""([;\t\r\n][\s"]*)(?=[=+\-@|%])""")


def as_csv(lines: Iterable[Line]) -> Iterator[str]:
    """A head and a row an entry. No cell is a formula for a program that would compute it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    for batch in _batches(lines):
        writer.writerows([_cell(line[name]) for name in CSV_COLUMNS] for line in batch)
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def as_json_lines(
    lines: Iterable[Line],
    *,
    by: str,
    at: datetime,
    query: str = "",
    after: Walked | None = None,
    checkpoints: Iterable[Envelope] = (),
) -> Iterator[str]:
    """An object a line: what this is, what was signed about the log, the entries with all that their hashes
    cover, and an end, signed, that says how many there were and the SHA-256 of all before it.

    `after` is the entry before the first one where the file has all that follows it, without a gap."""
    digest, count = hashlib.sha256(), 0

    def said(text: str) -> str:
        digest.update(text.encode())
        return text

    head: dict[str, Any] = {"kind": KIND, "version": VERSION, "query": query, "by": by, "at": at.isoformat()}
    if after is not None:
        head["after"] = {"sequence": after.sequence, "hash": after.hash}
    yield said(encode(head | {"key": signing_key().public}) + "\n")
    for envelope in checkpoints:
        yield said(encode({"kind": "checkpoint", "envelope": envelope}) + "\n")
    for batch in _batches(lines):
        count += len(batch)
        yield said("".join([encode(line) + "\n" for line in batch]))
    end = signing_key().sign(KIND, {"entries": count, "sha256": digest.hexdigest()})
    yield encode({"kind": "end", "envelope": end}) + "\n"


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    rest = iter(lines)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _cell(value: Any) -> Any:
    """Spreadsheets compute what begins with one of these, also after spaces; a quote makes it a text. Where a
    cell begins is theirs to say: one that separates by ; or tab finds more of them, and drops the quotes."""
    if value is None or isinstance(value, int):
        return value
    text = encode(value) if isinstance(value, dict) else value
    text = _FORMULA_INSIDE.sub(r"\1'", text)
    is_formula = text.lstrip()[:1] in ("=", "+", "-", "@", "|", "%") or text[:1] in ("\t", "\r", "\n")
    return f"'{text}" if text and is_formula else text
