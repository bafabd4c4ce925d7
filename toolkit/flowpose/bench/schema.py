"""Writes the JSON Schema of `flowpose bench --json`: `python -m flowpose.bench.schema` writes schema.json anew."""

from __future__ import annotations

import json
from pathlib import Path

from flowpose.bench.document import BenchDocument

SCHEMA = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Returns the JSON Schema of the document, as schema.json holds it."""
    return json.dumps(BenchDocument.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
