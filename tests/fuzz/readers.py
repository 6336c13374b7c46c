"""Looks for texts that make a reader fail, guided by coverage, for as long as somebody lets it: `make fuzz`.

It begins with the samples, and keeps what it finds in .fuzz. A text that fails becomes a test.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["cluster.ipvs.formats"]):
    from cluster.ipvs.formats import kinds
    from tests.formats.test_fuzz import look


def one(given: bytes) -> None:
    """The first letter chooses the format, the rest is the text."""
    names = sorted(kinds.FORMATS)
    if given:
        look(given[1:].decode(errors="replace"), names[given[0] % len(names)])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
