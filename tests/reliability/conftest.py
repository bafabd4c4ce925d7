"""The scripts that try faults by the hundred are in benchmarks/; these tests run the same code a few times."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
