"""The script for lent GPUs: its parts alone, and all phases at micro sizes on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowpose.artifact import creating, open_artifact
from flowpose.errors import ArtifactError, IntegrityError
from flowpose.spec.reading import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("checks", "train", "packing", "evaluation", "latency", "engines")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    return script("gpu_parts")


def artifact(root: Path, number: int, scale: float = 1.0) -> Path:
    """A generator of one layer and its z*."""
    key, torch_seed = f"{number:064x}"[::-1], torch.Generator().manual_seed(number)
    path = root / "toy" / f"train-{key[:12]}"
    fields = {
        "kind": "model", "name": "toy", "key": key, "stage": {"name": "train"}, "card": {"licence": "none"},
        "image": {"height": 16, "width": 16}, "pose": {"format": "coco-wholebody-133", "joints": 133},
    }  # fmt: skip
    with creating(path, **fields) as draft:
        weights = {
            "layer.weight": scale * torch.randn(40, 30, generator=torch_seed),
            "noise": torch.randn(7, generator=torch_seed),
        }
        save_file(weights, draft / "generator.safetensors")
    return path


def test_artifacts_travel_in_parts_and_are_sealed_anew(tmp_path: Path, parts: ModuleType) -> None:
    made = [artifact(tmp_path / "there", number) for number in (1, 2)]
    (tmp_path / "back").mkdir()
    packing = parts.pack(made, tmp_path / "back", part=8192, parts=9)
    assert len(packing["parts"]) > 1 and not packing["left_out"]
    assert all(each["bytes"] <= 8192 for each in packing["parts"])
    (tmp_path / "back" / "results.json").write_text(json.dumps({"packing": packing}))
    found = parts.unpack(tmp_path / "back", tmp_path / "here")
    assert sorted(path.name for path in found) == sorted(path.name for path in made)
    for path in made:
        before, after = (open_artifact(tmp_path / root / "toy" / path.name) for root in ("there", "here"))
        assert after.manifest.key == before.manifest.key
        assert after.manifest.card == {"licence": "none", "weights": parts.NOTE}
        was, now = (load_file(each.file("generator.safetensors")) for each in (before, after))
        assert torch.equal(now["layer.weight"], was["layer.weight"].half().float())
        assert torch.equal(now["noise"], was["noise"]), "z* must not be rounded"
    assert parts.unpack(tmp_path / "back", tmp_path / "here") == found, "what is there is left alone"


def test_a_changed_part_is_refused(tmp_path: Path, parts: ModuleType) -> None:
    packing = parts.pack([artifact(tmp_path, 1)], tmp_path, part=8192)
    (tmp_path / "results.json").write_text(json.dumps({"packing": packing}))
    last = tmp_path / packing["parts"][-1]["file"]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"artifacts\.tar\.\d.*the part was changed"):
        parts.unpack(tmp_path, tmp_path / "here")


def test_what_does_not_fit_is_named_and_the_first_goes_first(tmp_path: Path, parts: ModuleType) -> None:
    made = [artifact(tmp_path, number) for number in (1, 2)]
    packing = parts.pack(made, tmp_path, part=28000, parts=1)
    assert packing["packed"] == [str(made[0])] and packing["left_out"] == [str(made[1])]


def test_weights_too_large_for_fp16_are_refused(tmp_path: Path, parts: ModuleType) -> None:
    with pytest.raises(ArtifactError, match=r"does not fit fp16, got layer\.weight"):
        parts.pack([artifact(tmp_path, 1, scale=1e6)], tmp_path)


def test_what_is_not_finite_never_passes() -> None:
    relative = script("gpu_checks").relative
    ref = torch.tensor([3.0, 4.0])
    assert relative(ref * 1.01, ref) == pytest.approx(0.01)
    assert relative(torch.tensor([3.0, float("nan")]), ref) is None
    assert relative(torch.full((2,), float("nan")), torch.full((2,), float("nan"))) is None
    assert relative(torch.ones(3), ref) is None and relative(ref, torch.zeros(2)) is None


def test_iterations_fill_the_shares_of_the_time() -> None:
    training = script("gpu_training")
    costs = {stage: {"iteration_s": 0.1} for stage in ("autoencoder", "train", "distill")}
    recipe = load_recipe("tiny")
    settings = [s for stage in costs for s in training.fitted(recipe, stage, costs, left=100.0)]
    plan = load_recipe("tiny", settings)
    spent = {stage: 0.1 * getattr(plan, stage).optim.iterations for stage in costs}
    assert sum(spent.values()) == pytest.approx(100.0, abs=0.5)
    assert spent["train"] / spent["distill"] == pytest.approx(
        training.SHARES["train"] / training.SHARES["distill"], rel=0.02
    )
    assert load_recipe("tiny", training.fitted(recipe, "train", costs, left=-5.0)).train.optim.iterations == 2


@pytest.mark.slow
def test_all_phases_run_and_leave_their_json(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--smoke", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "log.txt").read_text()
    results = json.loads((tmp_path / "results.json").read_text())
    assert not results["stopped"] and all(results[name]["finished"] for name in PHASES)
    assert results["checks"]["passed"], [row for row in results["checks"]["rows"] if not row["passed"]]
    stages = [each["stage"] for each in results["train"]["stages"]]
    assert stages == ["autoencoder", "train", "regressor", "distill", "finish"]
    names = [row["name"] for row in results["evaluation"]["rows"]]
    assert names == ["truth", "copy-source", "l1", "teacher-1", "teacher-16", "student-1", "student-2"]
    assert results["latency"]["weights"] == "trained"
    assert all(row["passed"] for row in results["latency"]["rows"])
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["artifacts.tar.0", "log.txt", "results.json", "sheet.png"]
