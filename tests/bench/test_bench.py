"""The arithmetic of measurements, on models and on actions whose times are known."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
from rich.console import Console
from tiny_graphs import NumpyBackend, pictures, standing

from flowpose.artifact import Artifact
from flowpose.bench import (
    ColdStart,
    Report,
    cold_start,
    cold_starts,
    cold_table,
    machine,
    measure,
    ratios,
    table,
    to_json,
)
from flowpose.bench.records import Latency
from flowpose.bench.report import percentiles
from flowpose.errors import BackendError, FlowposeError
from flowpose.runtime.loading import assemble
from flowpose.runtime.model import Model
from flowpose.runtime.timing import Timing, alternate


@pytest.fixture
def model(tiny: Artifact) -> Model:
    return assemble(tiny, NumpyBackend(), "numpy", "fp32", 1)


@pytest.fixture
def report(model: Model, tiny: Artifact) -> Report:
    other = assemble(tiny, NumpyBackend(), "numpy", "int8", 1)
    poses = [standing(y) for y in (1.0, 2.0, 3.0)]
    slow = {"frame": lambda: time.sleep(0.002)}
    models = {"fp32": model, "int8": other}
    return measure(models, pictures()[0], poses, n=8, warmup=2, others={"teacher": slow})


def test_percentiles() -> None:
    summary = Timing(tuple(float(i) for i in range(1, 101))).summary()
    assert summary["n"] == 100 and summary["mean"] == 50.5 and summary["fps"] == pytest.approx(1000 / 50.5)
    assert [summary[p] for p in ("p50", "p90", "p95", "p99")] == pytest.approx([50.5, 90.1, 95.05, 99.01])


@pytest.mark.parametrize(
    ("n", "told"), [(5, []), (10, ["p90"]), (20, ["p90", "p95"]), (100, ["p90", "p95", "p99"])]
)
def test_a_stage_tells_the_percentiles_that_a_latency_tells(n: int, told: list[str]) -> None:
    timing = Timing(tuple(float(i) for i in range(1, n + 1)))
    found, latency = percentiles(timing), Latency.of(timing.ms)
    assert [p for p in ("p90", "p95", "p99") if found[p] is not None] == told
    assert all(found[p] == getattr(latency, p) for p in ("n", "mean", "p50", "p90", "p95", "p99"))
    assert found["fps"] == pytest.approx(2000 / (n + 1))


def test_actions_take_turns_and_change_their_order() -> None:
    calls: list[str] = []
    actions = {label: lambda label=label: calls.append(label) for label in "abc"}
    found = alternate(actions, rounds=2, warmup=1)
    assert "".join(calls) == "abc" + "abc" + "cba"
    assert [len(timing.ms) for timing in found.values()] == [2, 2, 2]
    calls.clear()
    found = alternate(actions, rounds=2, warmup=0, settle=1)
    assert "".join(calls) == "aabbcc" + "ccbbaa"
    assert [len(timing.ms) for timing in found.values()] == [2, 2, 2], "what settles is not timed"


def test_every_stage_of_every_model_is_measured(report: Report) -> None:
    stages = [(s.label, s.stage) for s in report.stages]
    models = [(label, s) for s in ("source", "frame", "session", "infer") for label in ("fp32", "int8")]
    assert set(stages) == {*models, ("teacher", "frame")} and len(stages) == 9
    assert all(len(s.timing.ms) == 8 for s in report.stages)
    assert report.timing("teacher", "frame").percentile(50) >= 2
    with pytest.raises(KeyError):
        report.timing("teacher", "source")


def test_ratios(report: Report) -> None:
    found = ratios(report)
    assert set(found) == {f"{a}/{b}" for a in report.models for b in report.models if a != b} | {
        f"{a}/{b}" for m in report.models for a, b in ((m, "teacher"), ("teacher", m))
    }
    assert found["fp32/int8"]["p50"] * found["int8/fp32"]["p50"] == pytest.approx(1)
    assert found["teacher/int8"]["p50"] > 1


def test_json_and_table(report: Report) -> None:
    data = json.loads(to_json(report))
    assert data["machine"]["cpu"] and data["machine"]["versions"]["flowpose"] and data["peak_memory_mb"] > 1
    assert data["models"]["int8"]["precision"] == "int8" and data["models"]["int8"]["threads"] == 1
    assert {"p50", "p90", "p95", "p99", "fps", "n", "mean"} <= set(data["stages"][0])
    assert set(data["ratios"]["frame"]["fp32/int8"]) == {"p50"}, "eight samples have no 95th percentile"
    assert set(data["ratios"]) == {"source", "frame", "session", "infer"}
    assert len(json.loads(to_json(report, raw=True))["stages"][0]["ms"]) == 8
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table(report))
    text = console.export_text()
    assert "teacher" in text and "p99" in text and machine().cpu[:20] in text


def test_infer_encodes_every_time_and_session_never(model: Model) -> None:
    runs = model._source
    measure({"m": model}, pictures()[0], [standing()], n=3, warmup=1, stages=("session",))
    assert runs.runs == 1
    measure({"m": model}, pictures()[0], [standing()], n=3, warmup=1, stages=("infer",))
    assert runs.runs == 1 + 4


@pytest.mark.parametrize(
    "wrong", [{"poses": []}, {"n": 0}, {"stages": ("decode",)}], ids=["no poses", "no runs", "no such stage"]
)
def test_what_cannot_be_measured(model: Model, wrong: dict) -> None:
    options = {"poses": [standing()], "n": 1, "stages": ("frame",), **wrong}
    with pytest.raises(FlowposeError, match=r"nothing to measure|unknown stage"):
        measure({"m": model}, pictures()[0], options.pop("poses"), **options)


def test_a_cold_start_is_measured_in_its_own_process(tiny: Artifact) -> None:
    found = cold_start(tiny.path, backend="onnxruntime", precision="fp32", threads=1)
    assert min(found.import_s, found.load_s, found.first_infer_s) > 0
    assert 10 < found.peak_memory_mb < 2000
    assert found.import_s < found.load_s


def test_cold_starts_are_told_by_their_medians_and_the_slowest() -> None:
    runs = [ColdStart(0.1 * i, 1.0 * i, 2.0 * i, 40.0 + i) for i in (3, 1, 2)]
    about = {"backend": "onnxruntime", "precision": "int8", "threads": 2}
    found = cold_starts(runs, "int8", **about)
    assert (found.n, found.load_s, found.peak_memory_mb) == (3, 2.0, 42.0)
    assert found.runs["load_s"] == (3.0, 1.0, 2.0) and found.p95 == {}, "three runs have no 95th percentile"
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(cold_table(found))
    text = console.export_text()
    assert "peak memory" in text and "2.00" in text and "slowest" in text and "6.00" in text
    many = cold_starts([ColdStart(0.1, 1.0 + i, 2.0, 40.0) for i in range(21)], "int8", **about)
    assert many.p95["load_s"] == pytest.approx(20.0)
    assert "slowest" not in cold_table(cold_starts(runs[:1], "int8", **about)).columns[0]._cells


def test_a_failed_cold_start_says_why() -> None:
    with pytest.raises(BackendError, match="no-such-model"):
        cold_start("no-such-model")


def test_the_machine_is_named() -> None:
    found = machine()
    assert found.cpu and found.cores >= 1 and found.arch and found.memory_mb > 0
    assert np.all([found.versions[tool] for tool in ("numpy", "python", "onnxruntime")])
