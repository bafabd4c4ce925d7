"""The weights of a generator from the graphs it was exported to: training can start from a shipped model.

A shipped model holds its teacher as graphs, with weights of a byte (export/storage.py), and no checkpoint. Export
names every constant of a graph after the weight that it holds (`flowpose.export.files.named`); the few that are folded
into others are found by where they stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError

TURNED = ".T"
"""Ends the name of a weight that the graph holds transposed."""
PARTS = re.compile(r"^(?:pose/|step/|decode/)?(?:generator\.)?((?:flow|autoencoder|detail)\..+)$")
"""A weight's name, behind what any-step graphs put before the names of their parts."""
TEMPERATURE = re.compile(r"(source/)?(blocks\.\d+)/attention/Exp_output_0$")

Arrays = Mapping[str, NDArray[np.float32]]


def reference_weights(artifact: Artifact, name: str) -> dict[str, Tensor]:
    """Name -> weight of the generator behind a reference (`teacher`, `l1`) of a graph artifact.

    Raises:
        ArtifactError: there is no such reference, or its graphs were made before constants had names.
    """
    for reference in artifact.manifest.references:
        if reference.name == name:
            files = (artifact.file(reference.source), artifact.file(reference.frame))
            found = {key: value for file in files for key, value in graph_weights(file).items()}
            if not any(key.endswith("mlp.up.weight") for key in found):
                raise ArtifactError(
                    artifact.path, "its graphs do not name their weights", fix="export it again"
                )
            return found
    known = [each.name for each in artifact.manifest.references]
    raise ArtifactError(artifact.path, "no such reference", got=name, expected=known)


def graph_weights(file: Path) -> dict[str, Tensor]:
    """Name -> weight, as a generator names it, of an exported graph."""
    found: dict[str, Tensor] = {}
    for name, values in _widened(onnx.load(file)).items():
        part, temperature = PARTS.match(name), TEMPERATURE.search(name)
        if part:
            title = part.group(1)
            turned = title.endswith(TURNED)
            found[title.removesuffix(TURNED)] = torch.from_numpy(np.array(values.T if turned else values))
        elif temperature:
            branch = "source." if temperature.group(1) else ""
            found[f"flow.{branch}{temperature.group(2)}.attention.log_scale"] = torch.from_numpy(
                np.log(values)
            )
    return found


def _widened(model: onnx.ModelProto) -> Arrays:
    """Constant -> f32 values, codes and halves made wide again, under the constant's own name."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = {name.removesuffix(".codes") + ".scale" for name in held if name.endswith(".codes")}
    wide = {n: values for n, values in held.items() if values.dtype == np.float32 and n not in scales}
    for name, values in held.items():
        if name.endswith(".codes"):
            own = name.removesuffix(".codes")
            wide[own] = values.astype(np.float32) * held[f"{own}.scale"]
        elif name.endswith(".half"):
            wide[name.removesuffix(".half")] = values.astype(np.float32)
    return wide


@torch.no_grad()
def take_weights(module: nn.Module, found: Mapping[str, Tensor]) -> list[str]:
    """Sets the module's weights that `found` has in as many numbers; the names of those that it has not."""
    missing = []
    for name, weight in module.state_dict().items():
        if name in found and found[name].numel() == weight.numel():
            weight.copy_(found[name].reshape(weight.shape))
        else:
            missing.append(name)
    return missing
