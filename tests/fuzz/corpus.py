"""Writes the samples as what `readers.py` begins with: a letter that chooses the format, then the text."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.ipvs.formats import kinds
from tests.formats.test_samples import FILES

for path in FILES:
    chosen = sorted(kinds.FORMATS).index(path.parent.name)
    (Path(sys.argv[1]) / f"{path.parent.name}-{path.name}").write_bytes(bytes([chosen]) + path.read_bytes())
