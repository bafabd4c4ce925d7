"""A package of machine code from an ONNX graph, by torch.export and AOTInductor: loads without tracing anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch._export.error import ExportError
from torch._export.verifier import SpecViolationError
from torch._inductor import aoti_compile_and_package
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler
from torch.export import ExportedProgram

from flowpose.compile.torch_graph import TorchGraph, Value, torch_module
from flowpose.compile.torch_quantized import Rendering
from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.torch_ports import ABOUT, CPU, CUDA, About, Port, exact_products

if TYPE_CHECKING:
    from flowpose.compile.building import Options

COMPILER = "apt-get install g++ (or name another compiler in the environment variable CXX)"
HALVES: Mapping[tuple[str, str], torch.dtype] = MappingProxyType({(CUDA, "int8"): torch.float16})
"""(device, precision) -> what the graph's fp32 becomes, where it does not stay: what INT8 leaves is fp16 on a GPU, as
in TensorRT's engines. An fp16 graph says itself what is computed in halves."""
FAULTS = (RuntimeError, SpecViolationError, ExportError)
"""What torch raises where a graph cannot be rendered, exported or compiled, or where memory runs out."""


def build(
    graph: Path, out: Path, precision: str, options: Options, say: Callable[[str], None] = lambda text: None
) -> None:
    """Builds for the backend `torch-compile`: on the GPU if torch sees one, else on the CPU; see `build_package`."""
    device = CUDA if torch.cuda.is_available() else CPU
    say(f"{out.name}: AOTInductor for {device}; a minute or two")
    dtype = HALVES.get((device, precision), torch.float32)
    build_package(graph, out, device=device, dtype=dtype, threads=options.threads)


def build_package(
    graph: Path,
    out: Path,
    *,
    device: str = CPU,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
    rendering: Rendering = "plain",
) -> Path:
    """Returns `out`, the package of a graph.

    Args:
        graph: a source or frame graph.
        out: ends in .pt2.
        device: cpu or cuda, which must be here.
        dtype: what fp32 becomes, see `torch_module`.
        threads: CPU threads of a run; the loops are made for that number.
        rendering: what Q and DQ become.

    Raises:
        BackendError: the graph cannot be rendered, exported or compiled.
        MissingDependency: there is no C++ compiler.
    """
    _need_compiler()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with exact_products() if device == CUDA else nullcontext():
            module = torch_module(graph, dtype, rendering=rendering).to(device)
            _package(module, out, device, threads)
    except FAULTS as error:
        raise BackendError(graph, f"AOTInductor cannot compile the graph ({reason(error)})") from error
    return out


def _package(module: TorchGraph, out: Path, device: str, threads: int) -> None:
    about = About(ports_of(module.inputs), ports_of(module.outputs), device, threads, torch.__version__)
    settings: dict[str, Any] = {
        "aot_inductor.metadata": {ABOUT: about.text()},
        "cpp.threads": threads,
        "freezing": device == CPU,
    }
    # Deprecations of torch inside torch are no business of whoever compiles a graph.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aoti_compile_and_package(exported(module, device), package_path=str(out), inductor_configs=settings)


def reason(error: Exception) -> str:
    """Returns the line of a torch error that says what is wrong: a compiler's last, else the first.

    An error without a text is named by its type.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if isinstance(error, CppCompileError | InductorError) else lines[0]


def exported(module: TorchGraph, device: str = CPU) -> ExportedProgram:
    """Returns the graph as torch.export sees it, for zeros of its inputs' sizes on the device."""
    example = tuple(torch.zeros(each.shape, dtype=each.dtype, device=device) for each in module.inputs)
    return torch.export.export(module, example, strict=False)


def ports_of(values: tuple[Value, ...]) -> tuple[Port, ...]:
    """Returns the inputs or outputs of a graph, as a built file keeps them."""
    return tuple(Port(each.name, str(each.dtype).removeprefix("torch."), each.shape) for each in values)


def _need_compiler() -> None:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise MissingDependency("torch-compile", "needs a C++ compiler to build", fix=COMPILER) from error
