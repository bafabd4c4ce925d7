"""Two stored runs compared: ratios that are known, what is told as the same, and what is not compared."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import flowpose

MACHINE = {"cpu": "EPYC", "cores": 2, "arch": "x86_64", "versions": {"numpy": "2.1"}}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(flowpose.__file__).parents[2] / "benchmarks" / "compare.py"
    spec = importlib.util.spec_from_file_location("compare", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare"] = module
    spec.loader.exec_module(module)
    return module


def drawn(ms: float, n: int = 200, seed: int = 0) -> np.ndarray:
    return ms * np.random.default_rng(seed).lognormal(0, 0.05, n)


def stored(path: Path, times: Mapping[str, np.ndarray], key: str | None = "k1", **machine: Any) -> Path:
    """A file as `make bench` writes it; without a key as it did before."""
    runs = [{"fullname": name, "stats": {"data": (ms / 1e3).tolist()}} for name, ms in times.items()]
    own = {"machine": {**MACHINE, **machine}, "verdict": {"kind": "clean"}} | ({"key": key} if key else {})
    path.write_text(json.dumps({"benchmarks": runs, "flowpose": own}))
    return path


def run(script: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = script.main([str(each) for each in arguments])
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.5, "slower"), (0.7, "faster"), (1.0, "same"), (1.03, "same"), (1.2, "slower")]
)
def test_a_known_factor_is_found_and_judged(script: ModuleType, factor: float, verdict: str) -> None:
    found = script.compared("frame", drawn(10), drawn(10 * factor, seed=1), 0.05)
    assert found.verdict == verdict and found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(factor, rel=0.02) and found.n == (200, 200)


def test_equal_runs_are_seldom_told_apart(script: ModuleType) -> None:
    """Without a margin a 95 % interval leaves 1 out of one in twenty pairs; the margin hides those."""
    pairs = [(drawn(10, 100, 2 * i), drawn(10, 100, 2 * i + 1)) for i in range(40)]
    strict = [script.compared("x", old, new, 0.0).verdict for old, new in pairs]
    assert sum(each != "same" for each in strict) <= 6
    assert {script.compared("x", old, new, 0.05).verdict for old, new in pairs} == {"same"}


def test_neighbours_that_move_together_make_the_interval_wider(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    slow_drift = 10 + np.repeat(rng.normal(0, 1, 20), 10)  # blocks of ten that share what disturbs them
    shuffled = rng.permutation(slow_drift)
    width = {
        name: np.ptp(np.quantile(script.medians(values, np.random.default_rng(1)), [0.025, 0.975]))
        for name, values in (("drift", slow_drift), ("shuffled", shuffled))
    }
    assert width["drift"] > 1.5 * width["shuffled"]


def test_the_table_the_status_and_what_is_in_one_run_only(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old = stored(tmp_path / "old.json", {"frame": drawn(10), "gone": drawn(3)})
    new = stored(tmp_path / "new.json", {"frame": drawn(15), "fresh": drawn(2)}, versions={"numpy": "2.2"})
    status, out, _ = run(script, capsys, old, new)
    assert status == 1 and "slower" in out and "1.500" in out
    assert "only in the old run: gone" in out and "only in the new run: fresh" in out
    assert "numpy: 2.1 and 2.2" in out and "verdict of the old run: clean" in out
    status, out, _ = run(script, capsys, new, old, "--json")
    assert status == 0 and json.loads(out)["rows"][0]["verdict"] == "faster"
    status, out, _ = run(script, capsys, old, new, "--margin", 0.6)
    assert status == 0 and "same" in out


@pytest.mark.parametrize("other", [{"cpu": "Xeon"}, {"cores": 8}, {"arch": "aarch64"}])
def test_runs_of_two_machines_are_refused_without_force(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, other: dict
) -> None:
    old, new = (stored(tmp_path / name, {"frame": drawn(10)}, **m) for name, m in (("a", {}), ("b", other)))
    status, out, err = run(script, capsys, old, new)
    assert status == 2 and out == "" and "error: two machines" in err and str(*other.values()) in err
    assert run(script, capsys, old, new, "--force")[0] == 0


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("k1", "k1"), None),
        (("k1", "k2"), "\ntwo models: keys k1 and k2\n"),
        (("k1", None), "\nperhaps two models: keys k1 and not stored\n"),
    ],
)
def test_two_models_are_told(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: tuple, told: str | None
) -> None:
    old, new = (stored(tmp_path / f"{i}.json", {"frame": drawn(10)}, key) for i, key in enumerate(keys))
    status, out, _ = run(script, capsys, old, new)
    assert status == 0 and (told in out if told else "models" not in out)


def test_documents_of_flowpose_bench_are_taken_too(script: ModuleType, tmp_path: Path) -> None:
    stages = [{"label": "int8", "stage": "frame", "ms": [10.0, 11.0, 12.0]}]
    models = {label: {"key": "k1"} for label in ("int8", "fp32")}
    document = {
        "schema_version": 1,
        "machine": MACHINE,
        "verdict": {"kind": "noisy"},
        "stages": stages,
        "models": models,
    }
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(document))
    found = script.read_run(file)
    assert found.times["int8 frame"].tolist() == [10, 11, 12] and found.verdict == "noisy"
    assert found.keys == {"k1"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        ("{}", "neither of `make bench` nor of `flowpose bench --raw --json`"),
        ('{"schema_version": 1, "machine": {}, "verdict": {"kind": "clean"}, "stages": [{"label": "a", "stage": "b"}]}',
         "holds no samples"),
    ],
)  # fmt: skip
def test_files_that_say_nothing(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "bad.json").write_text(text)
    status, _, err = run(script, capsys, tmp_path / "bad.json", tmp_path / "bad.json")
    assert status == 2 and told in err
    old, new = (stored(tmp_path / name, {name: drawn(10)}) for name in ("a", "b"))
    assert "no benchmark in common" in run(script, capsys, old, new)[2]
