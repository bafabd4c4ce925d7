"""`flowpose doctor`: report, tables and exit code, on a made-up machine with made-up backends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import flowpose
from flowpose import cli_doctor
from flowpose.device import doctor
from flowpose.device.kernels import KernelCheck

RUNS = KernelCheck("onnxruntime", True, 0.0123, "1.20.0")
FAILS = KernelCheck(
    "openvino", False, None, "openvino: needs the package openvino. Fix: pip install openvino"
)
BUILDS = KernelCheck("tensorrt", None, None, "10.3.0; builds at compile")

IMPORTS = """
import sys
for name in ("torch", "onnx", "yaml"):
    sys.modules[name] = None
import flowpose.device.doctor, flowpose.device.tegrastats
from flowpose.device.facts import device
device()
"""
FACTS = """
import sys
import flowpose.device.facts, flowpose.device.advice, flowpose.device.tegrastats
print(sorted(name for name in sys.modules if name.split(".")[0] == "numpy" or name.startswith("flowpose.runtime")))
"""


@pytest.fixture
def call(grow, monkeypatch: pytest.MonkeyPatch, no_driver):
    """Runs the command on an Orin Nano with such backends."""
    app = typer.Typer()
    app.command()(cli_doctor.doctor)
    monkeypatch.setenv("COLUMNS", "100")
    root = grow("orin-nano")

    def run(*arguments: str, kernels: tuple[KernelCheck, ...] = (RUNS, FAILS, BUILDS)) -> Any:
        monkeypatch.setattr(doctor, "check_all", lambda: kernels)
        examined = doctor.examine(root)
        monkeypatch.setattr(doctor, "examine", lambda: examined)
        return CliRunner().invoke(app, list(arguments))

    return run


def test_json_holds_everything(call) -> None:
    said = call("--json")
    found = json.loads(said.stdout)
    assert said.exit_code == 0 and found["runs"] is True
    assert found["device"]["module"] == "p3767-0005" and found["device"]["power_mode"] == {
        "id": 0,
        "name": "15W",
    }
    assert found["versions"]["flowpose"] == flowpose.__version__
    assert found["kernels"][0] == {"backend": "onnxruntime", "ok": True, "seconds": 0.0123, "text": "1.20.0"}
    assert [each["ok"] for each in found["kernels"]] == [True, False, None]
    assert found["advice"][0]["command"] == "sudo nvpmodel -m 2"
    assert found["python"]["version"].startswith("3.")


def test_the_terminal_shows_machine_backends_and_advice(call) -> None:
    said = call()
    shown = " ".join(said.stdout.split())
    assert said.exit_code == 0
    for text in (
        "p3767-0005", "0 15W", "306 of 612 MHz", "SMs switched on 8", "JetPack 6.2", "VDD_IN 5.5 W", "onnxruntime",
        "12.3", "pip install openvino", "builds at compile", "not run", "does not run",
    ):  # fmt: skip
        assert text in shown, text
    assert "    sudo nvpmodel -m 2\n" in said.stdout  # on a line of its own, to be copied
    assert "GPU memory" not in shown and "next: flowpose run" in said.stderr


def test_a_command_is_not_broken_into_lines(call) -> None:
    line = next(each for each in call().stdout.splitlines() if "swapfile" in each)
    assert len(line) > 100 and line.endswith("sudo swapon /swapfile")


@pytest.mark.parametrize("kernels", [(FAILS,), (FAILS, BUILDS), ()])
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_backend_that_runs_is_exit_code_1(call, kernels, arguments: tuple[str, ...]) -> None:
    said = call(*arguments, kernels=kernels)
    assert said.exit_code == 1 and "p3767-0005" in said.stdout


def test_nothing_to_advise_is_said() -> None:
    assert [line.plain for line in cli_doctor.advice_lines(())] == ["Nothing to advise."]


def test_brackets_in_texts_are_shown(call) -> None:
    text = "needs [cuda]. Fix: pip install 'flowpose[tensorrt]'"
    said = call(kernels=(RUNS, KernelCheck("tensorrt", False, None, text)))
    assert "'flowpose[tensorrt]'" in " ".join(said.stdout.split())


def clean(program: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(Path(flowpose.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_needs_no_torch_onnx_or_yaml() -> None:
    assert clean(IMPORTS) == ""


def test_facts_load_neither_numpy_nor_the_runtime() -> None:
    assert clean(FACTS) == "[]"
