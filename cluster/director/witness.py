"""Checkpoints of the panel's audit log, kept here so that nobody can rewrite the log alone.

The director cannot judge them: it does not know the key that signs them. It keeps what the panel sent, and
says which is the newest."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from cluster.director.journal import JournalError, write_durably
from cluster.wire.envelope import Refused, unverified_body

log = logging.getLogger(__name__)

# Five minutes each: three days and a half, some 500 KB.
MOST_KEPT = 1000
LARGEST = 2000


def keep(state_dir: Path, checkpoint: object) -> None:
    """Add a checkpoint to the others, on the disk. One that is none, or that a full disk refuses, is logged:
    the next one comes in minutes."""
    text = json.dumps(checkpoint)
    if _said(checkpoint) is None or len(text) > LARGEST:
        log.warning("checkpoint dropped length=%d", len(text))
        return
    kept = _lines(state_dir)
    if text not in kept:
        try:
            write_durably(
                _path(state_dir), "".join(f"{line}\n" for line in [*kept, text][-MOST_KEPT:]).encode()
            )
        except JournalError as error:
            log.error("checkpoint not kept reason=%s", error)


def newest(state_dir: Path) -> dict[str, Any]:
    """`{"sequence", "hash"}` of the checkpoint that came last; a zero and nothing before the first."""
    said = [found for line in _lines(state_dir)[-1:] if (found := _said(json.loads(line)))]
    return said[0] if said else {"sequence": 0, "hash": ""}


def kept(state_dir: Path) -> list[str]:
    """All of them, a JSON text each, as `manage.py audit_verify --checkpoints` reads them."""
    return _lines(state_dir)


def _path(state_dir: Path) -> Path:
    return state_dir / "witness.jsonl"


def _lines(state_dir: Path) -> list[str]:
    try:
        return _path(state_dir).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _said(checkpoint: object) -> dict[str, Any] | None:
    try:
        body = unverified_body(checkpoint)
    except Refused:
        return None
    sequence, text = body.get("sequence"), body.get("hash")
    if type(sequence) is not int or not isinstance(text, str) or len(text) != 64:
        return None
    return {"sequence": sequence, "hash": text}
