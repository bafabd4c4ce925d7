"""The command line called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from flowpose import cli


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int) -> Call:
    """Runs `flowpose ARGUMENTS` on a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(columns))

    def call(*arguments: object) -> Said:
        monkeypatch.setattr("sys.argv", ["flowpose", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return Said(int(end.value.code or 0), out, err)

    return call
