"""Files as the field has them, awkward ones too: what is read of each is written down beside it.

A change of a reader shows here as a change of a `.says` file; `python -m tests.formats.test_samples` writes
them anew, for people to look at.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cluster.ipvs.formats import ipvsadm, kinds
from cluster.ipvs.formats.fidelity import Parsed

SAMPLES = Path(__file__).parent / "samples"
FILES = sorted(path for path in SAMPLES.glob("*/*") if path.suffix != ".says")


def said_of(sample: Path) -> str:
    """The table as ipvsadm's lines, every note, and the checks and sorry servers in short."""
    read = kinds.parse(sample.read_text(), kind=sample.parent.name)
    lines = ipvsadm.save(read.table)
    # What is wrong with a document is said by document.py, and tested there; here its line counts.
    is_document = sample.parent.name in ("json", "yaml")
    lines += [
        f"note: line {note.line}: {note.level}" if is_document else f"note: {note}" for note in read.notes
    ]
    lines += [f"sorry: {key} -> {backend.key}" for key, backend in read.sorry.items()]
    failing = Counter(read.quiescent.values())
    lines += [
        f"failing: {count} backends {'stay with weight 0' if stays else 'are taken out'}, line {line}"
        for (stays, line), count in failing.items()
    ]
    return "".join(f"{line}\n" for line in lines + _checks(read))


def _checks(read: Parsed) -> list[str]:
    """Each check once, with how many backends have it."""
    counted = Counter(
        f"{check.kind} every {check.interval_s} s, timeout {check.timeout_s} s, {check.retries} retries "
        f"{dict(check.parameters)}, line {check.line}"
        for checks in read.checks.values()
        for check in checks
    )
    return [f"check of {count} backends: {text}" for text, count in counted.items()]


@pytest.mark.parametrize("sample", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_is_read_as_it_was_looked_at(sample: Path) -> None:
    assert said_of(sample) == sample.with_name(f"{sample.name}.says").read_text()


def test_every_format_has_its_samples() -> None:
    assert {path.parent.name for path in FILES} == set(kinds.FORMATS)
    assert min(Counter(path.parent.name for path in FILES).values()) >= 6


if __name__ == "__main__":
    for path in FILES:
        path.with_name(f"{path.name}.says").write_text(said_of(path))
