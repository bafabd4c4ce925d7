"""Progress where there is no terminal: lines, seldom, with the time left."""

from __future__ import annotations

import pytest

from flowpose import progress
from flowpose.progress import tracking


def test_the_last_item_is_always_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with tracking("teacher", 100) as advance:
        for done in range(1, 101):
            advance(done, "loss 0.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "teacher 100/100  loss 0.5  0.0 min left\n"


def test_a_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(float(second) for second in range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with tracking("teacher", 1000) as advance:
        for done in range(1, 10):
            advance(done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["3/1000", "6/1000", "9/1000"]
    assert lines[-1].endswith(f"{991 * 4 / 60:.1f} min left")


def test_the_time_left_counts_from_where_a_run_was_resumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 60.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with tracking("teacher", 100, start=40) as advance:
        advance(60)
    assert capsys.readouterr().err.endswith("2.0 min left\n"), "20 items in a minute, 40 to go"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with tracking("teacher", 3) as advance:
        advance(3, "loss 0.5")
    err = capsys.readouterr().err
    assert "teacher" in err and "3/3" in err and "loss 0.5" in err
