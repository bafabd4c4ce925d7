"""A program with one TensorRT engine in it from an ONNX graph, by torch.export and Torch-TensorRT."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flowpose.compile.building import timing_cache_name
from flowpose.compile.torch_graph import TorchGraph, torch_module
from flowpose.compile.torch_package import FAULTS, exported, ports_of
from flowpose.compile.torch_quantized import Rendering, quantize_op
from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.torch_ports import ABOUT, CUDA, About
from flowpose.runtime.torch_tensorrt import TorchTensorRt, library

if TYPE_CHECKING:
    from flowpose.compile.building import Options

FORMS: dict[str, tuple[torch.dtype, Rendering]] = {
    "fp32": (torch.float32, "plain"),
    "fp16": (torch.float32, "plain"),  # the graph says itself what is computed in halves
    "int8": (torch.float16, "tensorrt"),
}
"""Precision of a graph -> what its fp32 becomes, and what Q and DQ become."""


def build(
    graph: Path, out: Path, precision: str, options: Options, say: Callable[[str], None] = lambda text: None
) -> None:
    """Builds for the backend `torch-tensorrt`; see `build_program`.

    Raises:
        BackendError: a precision that is not in FORMS, or the graph cannot be built.
    """
    if precision not in FORMS:
        raise BackendError(graph, "a precision that is not built", got=precision, expected=" or ".join(FORMS))
    dtype, rendering = FORMS[precision]
    say(f"{out.name}: Torch-TensorRT {library.__version__}; minutes")
    settings: dict[str, Any] = {
        "optimization_level": options.level,
        "timing_cache_path": str(options.cache / timing_cache_name(TorchTensorRt())),
    }
    if options.workspace_mb is not None:
        settings["workspace_size"] = options.workspace_mb << 20
    build_program(graph, out, dtype=dtype, rendering=rendering, settings=settings)


def build_program(
    graph: Path,
    out: Path,
    *,
    dtype: torch.dtype = torch.float16,
    rendering: Rendering = "plain",
    settings: dict[str, Any] | None = None,
) -> Path:
    """Returns `out`, the program of a graph: strongly typed, all of it in one engine.

    Pictures are levels in f32 at the engine's edges: no converter of Torch-TensorRT 2.14 makes bytes.

    Args:
        graph: a source or frame graph.
        out: the file.
        dtype: what fp32 becomes, see `torch_module`.
        rendering: what Q and DQ become.
        settings: of `torch_tensorrt.dynamo.compile`; never `enabled_precisions`, for the graph says what is computed
            in what.

    Raises:
        BackendError: the graph cannot be rendered, or Torch-TensorRT does not take it whole.
        MissingDependency: the rendering is `tensorrt` and ModelOpt or its CUDA kernels are not there.
    """
    if rendering == "tensorrt":
        _need_kernels()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        edges = torch_module(graph)
        about = About(ports_of(edges.inputs), ports_of(edges.outputs), CUDA, 0, torch.__version__)
        module = torch_module(graph, dtype, rendering=rendering, edges=False).to(CUDA)
        _write(module, about, out, settings or {})
    except FAULTS as error:
        raise BackendError(graph, f"Torch-TensorRT cannot build the graph ({error})") from error
    return out


def _write(module: TorchGraph, about: About, out: Path, settings: dict[str, Any]) -> None:
    """Compiles a module that is on the GPU, and saves it with what it says of itself."""
    example = tuple(torch.zeros(each.shape, dtype=each.dtype, device=CUDA) for each in module.inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of torch inside torch_tensorrt
        compiled = library.dynamo.compile(
            exported(module, CUDA), arg_inputs=example, min_block_size=1, require_full_compilation=True,
            **settings,
        )  # fmt: skip
        library.save(
            compiled, str(out), output_format="exported_program", arg_inputs=example,
            extra_files={ABOUT: about.text()},
        )  # fmt: skip


def _need_kernels() -> None:
    """Torch-TensorRT computes what depends on constants alone, and that runs ModelOpt's kernel on quantized weights."""
    quantize_op()
    extensions = import_module("modelopt.torch.quantization.extensions")
    if extensions.get_cuda_ext() is None:
        what = "INT8 needs ModelOpt's CUDA kernels, which are compiled on this machine"
        raise MissingDependency(
            "torch-tensorrt", what, fix="install the CUDA toolkit (nvcc) and pip install ninja"
        )
