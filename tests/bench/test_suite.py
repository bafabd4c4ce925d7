"""The benchmark suite itself: what it collects, what it stores, and that it skips what this machine is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from distribution import alone_environment

import flowpose
from flowpose.artifact import Artifact, open_artifact
from flowpose.spec.find import find, shipped

ROOT = Path(flowpose.__file__).parents[2]
pytestmark = pytest.mark.skipif(
    "people-128" not in shipped("models"), reason="people-128 is not in this checkout"
)


def suite(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "benchmarks", "-q", *arguments]
    env = {**alone_environment(), "PYTHONPATH": str(ROOT / "toolkit")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=120, check=False
    )
    assert done.returncode in (0, 5), done.stdout + done.stderr
    return done.stdout


def test_it_measures_every_form_that_the_target_runs() -> None:
    found = suite("--collect-only", "--target", "cpu")
    for form in ("int8-openvino", "fp32-openvino", "int8-onnxruntime", "fp32-onnxruntime"):
        for what in ("frame_graph", "source_graph", "session_frame", "stream_put_to_get", "one_picture"):
            assert f"test_{what}[{form}]" in found
        assert f"test_batch_of_people[{form}-8]" in found
    for what in ("cold_start[openvino]", "import_time", "array_to_the_graphs_input[body-25]"):
        assert f"test_{what}" in found


def test_a_target_that_is_not_this_machine_is_skipped_with_the_reason() -> None:
    found = suite("--target", "h100", "-rs", "-k", "import")
    assert "1 skipped" in found and "which is no h100" in found and "passed" not in found


def test_a_frame_is_timed_often_enough_for_a_tail(tmp_path: Path, tiny: Artifact) -> None:
    file = tmp_path / "bench.json"
    only = "(graph or session_frame or stream) and fp32-onnxruntime"
    suite("--target", "cpu", "--model", str(tiny.path), "-k", only, f"--benchmark-json={file}")
    found = {run["name"]: run["extra_info"] for run in json.loads(file.read_text("utf-8"))["benchmarks"]}
    for name in ("frame_graph", "session_frame", "stream_put_to_get"):
        info = found[f"test_{name}[fp32-onnxruntime]"]
        assert info["n"] == 1000 and info["p95"] <= info["p99"] <= info["p999"] <= info["high"]
    once = found["test_source_graph[fp32-onnxruntime]"]
    assert once["n"] == 200 and once["p99"] is not None and once["p999"] is None


def test_a_stored_run_holds_times_percentiles_machine_and_verdict(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    suite("--target", "cpu", "-k", "body-25", f"--benchmark-json={file}")
    data = json.loads(file.read_text("utf-8"))
    (run,) = data["benchmarks"]
    info = run["extra_info"]
    assert info["n"] == len(run["stats"]["data"]) == 2000
    assert info["p95"] <= info["p99"] <= info["p999"] <= info["high"] and info["format"] == "body-25"
    own = data["flowpose"]
    assert own["key"] == open_artifact(find("models", "people-128"), verify=False).manifest.key
    assert own["target"] == "cpu" and own["machine"]["cpu"] == info["cpu"] and own["observed"]["n"] >= 1
    assert own["verdict"]["kind"] in ("clean", "noisy", "throttled"), (
        "a measurement is never called predicted"
    )
