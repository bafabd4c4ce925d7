"""Would a frame graph of several frames draw more of them a second on a CPU? CPU time a frame, one thread, in turns.

    python benchmarks/session_batch_axis.py people-128 --json benchmarks/results/people-128-batch-axis.json

The recipe's student, untrained, in fp32 (what it costs is known from its shapes), exported as it ships and with an axis
of 1, 2, 4 and 8 frames in front of every input and output. Needs the packages of `train`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpose.export.files import exported, save
from flowpose.export.modules import OneStep, Source
from flowpose.export.untrained import JOINTS, _student
from flowpose.model.pictures import to_levels
from flowpose.runtime.backend import open_backend
from flowpose.runtime.machine import machine
from flowpose.spec.reading import load_recipe
from flowpose.spec.recipe import Recipe

BATCHES = (1, 2, 4, 8)
SHIPPED = "as shipped"


class Frames(OneStep):
    """context f32[B, ...], keypoints f32[B, 133, 3] -> frame u8[B, H, W, 3]: `OneStep` for several at once."""

    def forward(self, context: Tensor, keypoints: Tensor) -> Tensor:
        flow, (layers, sources) = self.generator.flow, self.generator.split(context)
        pose, where = flow.pose_tokens(keypoints, layers)
        noise = self.noise.expand(len(keypoints), -1, -1, -1)
        latents = noise + flow.velocity(noise, self.modulation, layers, pose)
        return to_levels(self.generator.shown(latents, where, sources)).to(torch.uint8)


@torch.no_grad()
def write_graphs(recipe: Recipe, folder: Path) -> dict[str, dict[str, Tensor]]:
    """Name of each graph, a file NAME.onnx in the folder -> an input for it."""
    torch.manual_seed(0)
    student = _student(recipe)
    height, width = recipe.image.height, recipe.image.width
    context = Source(student)(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8))
    keypoints = torch.rand(JOINTS, 3) * torch.tensor([width, height, 1.0])
    inputs = {SHIPPED: {"context": context, "keypoints": keypoints}}
    for count in BATCHES:
        inputs[str(count)] = {
            name: torch.stack([value] * count) for name, value in inputs[SHIPPED].items()
        }  # fmt: skip
    for name, example in inputs.items():
        module = OneStep(student) if name == SHIPPED else Frames(student)
        save(exported(module, example, ["frame"], recipe.export.opset), folder / f"{name}.onnx", "untrained")
    return inputs


def cpu_times(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU time of each action, ms, in turns; an untimed one goes before each timed one."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    order: Sequence[str] = list(actions)
    for _ in range(rounds):
        for name in order:
            actions[name]()
            begun = time.process_time()
            actions[name]()
            found[name].append((time.process_time() - begun) * 1000)
        order = order[::-1]
    return found


def compared(
    backend: str, folder: Path, inputs: Mapping[str, Mapping[str, Tensor]], rounds: int
) -> list[dict[str, Any]]:
    actions: dict[str, Callable[[], object]] = {}
    for name, example in inputs.items():
        graph = open_backend(backend).open(folder / f"{name}.onnx", 1)
        actions[name] = partial(graph.run, {key: value.numpy() for key, value in example.items()})
    rows = []
    for name, ms in cpu_times(actions, rounds).items():
        each = np.array(ms) / (1 if name == SHIPPED else int(name))
        points = {f"p{share}": float(np.percentile(each, share)) for share in (25, 50, 75)}
        rows.append({"backend": backend, "frames": name, "n": len(ms), "cpu_ms_a_frame": points})
        sys.stdout.write(f"{backend:12} {name:10} {points['p50']:6.2f} ms a frame\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--backends", nargs="+", default=["openvino", "onnxruntime"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as place:
        inputs = write_graphs(load_recipe(asked.recipe), Path(place))
        rows = [row for each in asked.backends for row in compared(each, Path(place), inputs, asked.rounds)]
    if asked.json:
        report = {"recipe": asked.recipe, "precision": "fp32", "threads": 1, "machine": asdict(machine())}
        asked.json.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
