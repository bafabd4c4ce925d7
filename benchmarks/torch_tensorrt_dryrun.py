"""Would Torch-TensorRT take a model whole? Its dry run on both graphs, without a GPU, TensorRT or a CUDA torch.

    python benchmarks/torch_tensorrt_dryrun.py people-128 --wheel torch_tensorrt-2.14.0-*.whl \
        --json benchmarks/results/people-128-dryrun.json

The wheel's Python files are unpacked and imported beside whatever torch is here; a stand-in takes the place of
TensorRT, and what torch is asked about a GPU is answered as a Hopper would. It tells that a converter claims each
operator and how many engines there would be, not that an engine builds. It uses names that torch_tensorrt does not
document, so it is bound to the version that it was written with: 2.14.0.

`--plant` puts torch.special.i0, which has no converter, behind the inputs: it must be found.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from modelopt.torch.quantization import tensor_quant  # before TensorRT's stand-in is seen
from torch import Tensor, nn

from flowpose.artifact import open_artifact
from flowpose.compile.torch_graph import TorchGraph, torch_module
from flowpose.compile.torch_quantized import Rendering
from flowpose.spec.find import find

FORMS: Mapping[str, tuple[str, str, Rendering]] = {
    "source fp16": ("source", "fp32", "plain"),
    "frame fp16": ("frame", "fp32", "plain"),
    "frame int8 + fp16": ("frame", "int8", "tensorrt"),
}
"""Label -> graph, its precision in the artifact, and what Q and DQ become. All else is computed in halves."""

HOPPER = SimpleNamespace(total_memory=80 << 30, major=9, minor=0, multi_processor_count=132)
ANSWERS: Mapping[str, Callable[..., Any]] = {
    "current_device": lambda: 0,
    "device_count": lambda: 1,
    "empty_cache": lambda: None,
    "get_device_capability": lambda *device: (HOPPER.major, HOPPER.minor),
    "get_device_name": lambda *device: "stand-in",
    "get_device_properties": lambda *device: HOPPER,
    "mem_get_info": lambda *device: (HOPPER.total_memory, HOPPER.total_memory),
    "synchronize": lambda *device: None,
}
"""Function of torch.cuda -> its answer here."""


@dataclass(frozen=True)
class Finding:
    """What the dry run says of a graph.

    Attributes:
        graph: row of FORMS.
        edges: whether the graph has bytes at its inputs and outputs, or levels in f32.
        supported, total: operators that a converter claims, and all of them, after Torch-TensorRT's own lowering.
        engines: how many there would be.
        unsupported: operator -> how often.
    """

    graph: str
    edges: bool
    supported: int
    total: int
    engines: int
    unsupported: dict[str, int]


class _Deep(type):
    """Classes that have every attribute: another such class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _Deep(name, (), {})
        setattr(cls, name, found)
        return found

    def __call__(cls, *args: object, **settings: object) -> Any:
        return type.__call__(cls)


class _TensorRt(ModuleType):
    """TensorRT's stand-in: any name in it is a class that does nothing."""

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.__version__, self.__file__, self.__path__ = "11.1.0", "stand-in", []
        self.__spec__ = ModuleSpec("tensorrt", None)
        self.tensorrt = self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tensorrt_rtx":
            raise AttributeError(name)
        found = _Deep(name, (), {})
        setattr(self, name, found)
        return found


def planted(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs behind an operator that Torch-TensorRT has no converter for; a hook before the graph."""
    return tuple(each + 0 * torch.special.i0(each.float()).to(each.dtype) for each in given)


def rounded(inputs: Tensor, amax: Tensor, *bits: object, **settings: object) -> Tensor:
    """What ModelOpt's CUDA kernel computes: Torch-TensorRT runs it on constant weights before it leaves it in place."""
    step = amax / 127
    return torch.clamp(torch.round(inputs / step), -128, 127) * step


def stand_in(wheel: Path, folder: Path) -> Any:
    """Returns torch_tensorrt's compiler module, imported from the wheel's Python files with stand-ins around it."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder, [name for name in packed.namelist() if name.endswith(".py")])
    sys.path.insert(0, str(folder))
    sys.modules["tensorrt"] = _TensorRt()
    listed = ModuleType("dllist")  # lists the loaded libraries, for NCCL
    listed.dllist = list  # type: ignore[attr-defined]
    sys.modules["dllist"] = listed
    tensor_quant.fake_quant_impl = rounded
    for name, answer in ANSWERS.items():
        setattr(torch.cuda, name, answer)
    torch._C._CudaDeviceProperties = _Deep("Properties", (), {})  # type: ignore[attr-defined, misc]
    there, torch.cuda.is_available = torch.cuda.is_available, lambda: True
    compiler = import_module("torch_tensorrt.dynamo._compiler")
    torch.cuda.is_available = there  # torch itself must not look for a GPU
    compiler.to_torch_device = lambda device: torch.device("cpu")  # type: ignore[attr-defined]
    return compiler


def tried(compiler: Any, label: str, module: TorchGraph, *, edges: bool) -> Finding:
    """Returns what the dry run says of a module."""
    example = tuple(torch.zeros(each.shape, dtype=each.dtype) for each in module.inputs)
    seen: list[Any] = []
    compiler.dryrun_stats_display = lambda tracker, enabled: seen.append(tracker)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, example, strict=False)
        compiler.compile(program, arg_inputs=example, dryrun=True, min_block_size=1)
    found = seen[-1]
    return Finding(
        graph=label,
        edges=edges,
        supported=found.supported_ops_in_graph,
        total=found.total_ops_in_graph,
        engines=found.tensorrt_graph_count,
        unsupported={str(name): count for name, count in found.unsupported_ops.items()},
    )


def findings(compiler: Any, model: str, *, plant: bool) -> list[Finding]:
    """Returns a finding for each of FORMS, with and without bytes at the edges."""
    artifact, found = open_artifact(find("models", model)), []
    for label, (name, precision, rendering) in FORMS.items():
        file = next(
            each.file
            for each in artifact.manifest.graphs
            if (each.name, each.precision, each.backend) == (name, precision, None)
        )
        for edges in (False, True):
            graph = torch_module(artifact.file(file), torch.float16, rendering=rendering, edges=edges)
            if plant:
                graph.register_forward_pre_hook(planted)
            found.append(tried(compiler, label, graph, edges=edges))
            sys.stdout.write(json.dumps(asdict(found[-1])) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="people-128")
    parser.add_argument("--wheel", type=Path, required=True, help="torch_tensorrt's wheel, not installed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plant", action="store_true", help="plant an operator without a converter")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = findings(stand_in(asked.wheel, Path(folder)), asked.model, plant=asked.plant)
    if asked.json is not None:
        versions = {"torch": torch.__version__, "torch_tensorrt": asked.wheel.name.split("-")[1]}
        report = {
            "model": asked.model,
            "key": open_artifact(find("models", asked.model), verify=False).manifest.key,
            "planted": asked.plant,
            **versions,
            "graphs": [asdict(each) for each in found],
        }
        asked.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
