"""`flowpose serve` as it is called: what it is told, what is missing, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
from calling import Call, caller
from serve.running import CLIENT, SOON

from flowpose.runtime import Model
from flowpose.serve import serving
from flowpose.serve.settings import Limits, Place

Told = list[tuple[Place, Limits, Any]]


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 200)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found: Told = []
    monkeypatch.setattr(
        serving, "serve", lambda model, place, limits, *, target, say: found.append((place, limits, target))
    )
    return found


def test_it_listens_on_this_machine_and_nowhere_else(flowpose: Call, told: Told, tiny: Model) -> None:
    assert flowpose("serve", tiny.path).code == 0
    place, limits, target = told[0]
    assert place == Place("127.0.0.1", 8008) and asdict(limits) == asdict(Limits()) and target == "cpu"


def test_options_reach_the_server(
    flowpose: Call, told: Told, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWPOSE_TOKEN", "a-token-by-the-environment")
    options = (
        "--host",
        "0.0.0.0",
        "--port",
        0,
        "--name",
        "Me.Example",
        "--origin",
        "https://a.b",
        "--clients",
        3,
        "--idle",
        9,
    )
    assert flowpose("serve", tiny.path, *options, "--context-mb", 7).code == 0
    place, limits, _ = told[0]
    assert place == Place("0.0.0.0", 0, "a-token-by-the-environment", ("me.example",), ("https://a.b",))
    assert (limits.clients, limits.idle, limits.context_mb) == (3, 9, 7)


def test_a_bad_token_is_one_line_and_exit_code_1(flowpose: Call, told: Told, tiny: Model) -> None:
    said = flowpose("serve", tiny.path, "--token", "short")
    assert said.code == 1 and "--token: not a token" in said.err and not told


def test_without_its_packages_it_says_how_to_install_them(
    flowpose: Call, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("flowpose.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    said = flowpose("serve", tiny.path)
    assert (
        said.code == 1
        and "needs the package fastapi" in said.err
        and "pip install 'flowpose[serve]'" in said.err
    )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_ended(tiny: Model, end: signal.Signals) -> None:
    command = [sys.executable, "-m", "flowpose.cli", "serve", str(tiny.path), "--port", "0", "--threads", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "FLOWPOSE_TOKEN"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        found = re.search(r"page: (http://127\.0\.0\.1:\d+/)$", process.stderr.readline().strip())
        assert found is not None
        assert "<title>flowpose</title>" in CLIENT.get(found[1]).text
        process.send_signal(end)
        rest = process.stderr.read()
        assert process.wait(SOON) in (0, -end) and "Traceback" not in rest
