"""Lets these tests draw the tables of tests/ipvs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "ipvs"))
