"""`flowpose doctor`: report, tables and exit code, on a made-up machine with made-up backends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fake_tensorrt import installed
from fake_tensorrt.machine import Machine
from typer.testing import CliRunner

import flowpose
from flowpose import cli_doctor, doctoring
from flowpose.device import kernels
from flowpose.device.kernels import KernelCheck
from flowpose.errors import BackendError, DeviceError

RUNS = KernelCheck("onnxruntime", True, 0.0123, "1.20.0")
FAILS = KernelCheck(
    "openvino", False, None, "openvino: needs the package openvino. Fix: pip install openvino"
)
BUILDS = KernelCheck("tensorrt", None, None, "10.3.0; not run: --build builds and runs it")

IMPORTS = """
import sys
for name in ("torch", "onnx", "yaml"):
    sys.modules[name] = None
import flowpose.doctoring, flowpose.device.tegrastats
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

    def run(
        *arguments: str,
        kernels: tuple[KernelCheck, ...] = (RUNS, FAILS, BUILDS),
        line: str | None = None,
        without: tuple[str, ...] = (),
    ) -> Any:
        for path in without:
            (root / path).unlink()
        monkeypatch.setattr(doctoring, "check_all", lambda make: kernels)
        examined = doctoring.examine(root, line=lambda: line)
        monkeypatch.setattr(doctoring, "examine", lambda **options: examined)
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
        "12.3", "pip install openvino", "--build builds and runs it", "not run", "does not run",
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


SEEN = (
    "08-08-2026 21:00:39 RAM 620/7619MB (lfb 1x4MB) CPU [7%@729,off] EMC_FREQ 2%@2133 GR3D_FREQ 37%@306 "
    "CPU@39.5C tj@93.5C VDD_IN 5520mW/5400mW"
)
SYSFS = (
    "sys/class/devfreq/17000000.gpu/cur_freq",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone10/temp",
    "sys/class/hwmon/hwmon1/name",
)


def test_tegrastats_tells_what_the_kernel_hides(call) -> None:
    """As in a container: no clocks, sensors and power monitors in /sys."""
    found = json.loads(call("--json", line=SEEN, without=SYSFS).stdout)
    stats = found["device"]["stats"]
    assert (stats["gpu_load"], stats["gpu_mhz"], stats["emc_mhz"]) == (37, [306], 2133)
    assert stats["temperatures"] == {"cpu": 39.5, "tj": 93.5} and stats["cores"][0] == {"load": 7, "mhz": 729}
    assert stats["rails"]["VDD_IN"] == {"now_mw": 5520.0, "average_mw": 5400.0}
    told = {each["command"]: each["text"] for each in found["advice"]}
    assert "306 of 612 MHz" in told["sudo jetson_clocks"]
    assert "tj is at 94 C" in told["sudo jetson_clocks --fan"]


def test_the_terminal_shows_what_tegrastats_tells(call) -> None:
    shown = " ".join(call(line=SEEN, without=SYSFS).stdout.split())
    for text in ("GPU clock 306 MHz", "GPU load 37 % busy", "2133 MHz, 2 % busy", "tj 94 C", "VDD_IN 5.5 W"):
        assert text in shown, text


def test_the_kernels_own_numbers_go_first(call) -> None:
    shown = " ".join(call(line=SEEN).stdout.split())
    assert "GPU clock 306 of 612 MHz" in shown and "tj 50 C" in shown and "GPU load 37 % busy" in shown


def test_without_tegrastats_nothing_is_told_of_it(call) -> None:
    said = call("--json")
    assert json.loads(said.stdout)["device"]["stats"] is None


def test_a_line_that_cannot_be_read_is_an_error(call) -> None:
    with pytest.raises(DeviceError, match="GR3D_FREQ cannot be read"):
        call(line=SEEN.replace("37%@306", "busy"))


def test_another_machine_is_not_asked_for_tegrastats(
    grow, monkeypatch: pytest.MonkeyPatch, no_driver
) -> None:
    monkeypatch.setattr(doctoring, "check_all", lambda make: ())
    asked = AssertionError("must not be asked")

    def line() -> str:
        raise asked

    assert doctoring.examine(grow("pc"), line=line).device.stats is None


@pytest.mark.parametrize("build", [False, True])
def test_graphs_are_built_only_if_asked(
    build: bool, grow, monkeypatch: pytest.MonkeyPatch, no_driver
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(doctoring, "check_all", lambda make: made.append(make) or ())
    doctoring.examine(grow("pc"), build=build)
    assert (made[0] is not None) == build


def test_the_option_reaches_the_examination(call, monkeypatch: pytest.MonkeyPatch) -> None:
    call()
    examined, given = doctoring.examine(), list[Any]()
    monkeypatch.setattr(doctoring, "examine", lambda **options: given.append(options["build"]) or examined)
    app = typer.Typer()
    app.command()(cli_doctor.doctor)
    CliRunner().invoke(app, ["--build"])
    CliRunner().invoke(app, [])
    assert given == [True, False]


@pytest.mark.parametrize(
    ("fix", "told"), [("read {folder}/kernel.engine.log", doctoring.LOGGED), ("more memory", "more memory")]
)
def test_a_failed_build_names_no_log_that_will_not_stay(
    fix: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise BackendError("kernel.onnx", "no engine", got="2 MB", fix=fix.format(folder=tmp_path))

    monkeypatch.setattr(doctoring, "build_file", fail)
    with pytest.raises(BackendError, match=r"kernel\.onnx: no engine, got 2 MB") as error:
        doctoring.built("tensorrt", tmp_path, lambda text: None)
    assert error.value.fix == told


@pytest.fixture
def fake_gpu() -> Iterator[Machine]:
    with installed() as found:
        yield found


def checked(build: bool = True) -> KernelCheck:
    def make(name: str, folder: Path) -> Path:
        return doctoring.built(name, folder, lambda text: None)

    return kernels.check("tensorrt", make if build else None)


def test_a_backend_that_builds_really_runs(fake_gpu: Machine) -> None:
    found = checked()
    assert found.ok is True and found.text == "10.3.0" and found.seconds is not None
    assert fake_gpu.timed and fake_gpu.calls["cudaGraphLaunch"] > 0


def test_what_it_computes_is_looked_at(fake_gpu: Machine) -> None:
    fake_gpu.faults["zeros"] = ""
    found = checked()
    assert found.ok is False and found.text == "gave zeros"


def test_an_engine_that_cannot_be_built_is_told(fake_gpu: Machine) -> None:
    fake_gpu.faults["build"] = "Could not find any implementation"
    found = checked()
    assert found.ok is False and "Could not find any implementation" in found.text
    assert doctoring.LOGGED in found.text


@pytest.mark.parametrize("build", [False, True])
def test_a_library_without_its_gpu_says_so(fake_gpu: Machine, build: bool) -> None:
    fake_gpu.faults["cudaMemGetInfo"] = "cudaErrorNoDevice"
    found = checked(build)
    assert found.ok is False and "cudaErrorNoDevice" in found.text and not fake_gpu.timed


def test_without_the_option_nothing_is_built(fake_gpu: Machine) -> None:
    found = checked(build=False)
    assert found.ok is None and found.text == "10.3.0; not run: --build builds and runs it"
    assert not fake_gpu.timed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch-compile"])
def test_a_package_is_built_and_run_for_real(name: str) -> None:
    pytest.importorskip("torch")
    found = kernels.check(name, lambda name, folder: doctoring.built(name, folder, lambda text: None))
    assert found.ok is True, found.text


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
