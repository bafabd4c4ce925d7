"""Where data sets that are given by name are looked for."""

from __future__ import annotations

from pathlib import Path

DEFAULT_ROOTS = (Path("data"), Path("../shared/data"))
