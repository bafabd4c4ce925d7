"""Where a frame's time goes: every step of a model's frame graphs, measured inside the backends, precisions in turns.

    python benchmarks/layers.py people-128 --json benchmarks/results/people-128-layers.json

In onnxruntime the INT8 graph is measured twice: as it is shipped, and in integer kernels (flowpose.export.integer).
Times of onnxruntime's steps are medians over the runs; OpenVINO keeps sums, so its times are means of the same runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
import openvino
from numpy.typing import NDArray

from flowpose.artifact import Artifact, open_artifact
from flowpose.bench.report import percentiles
from flowpose.export.integer import with_integer_kernels
from flowpose.runtime.goldens import read_goldens
from flowpose.runtime.machine import machine
from flowpose.runtime.timing import Timing, alternate
from flowpose.spec.find import find

Inputs = Mapping[str, NDArray[np.float32]]
WARMUP = 10
SHOWN = 0.02  # ms: shorter steps are in the sums alone
KINDS = {
    "convolutions": "Conv FusedConv QLinearConv Convolution GroupConvolution Deconvolution",
    "products with weights": "Gemm QGemm MatMulIntegerToFloat FullyConnected FullyConnectedCompressed",
    "products of activations": "MatMul FusedMatMul QLinearMatMul",
    "conversions": "QuantizeLinear DequantizeLinear Cast ReorderInput ReorderOutput Reorder Convert FakeQuantize",
    "moves": "Concat DepthToSpace Expand Gather Pad Reshape Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze"
    " VariadicSplit StridedSlice",
    "sampling": "GridSample Interpolate Resize Upsample",
    "norms and softmax": "LayerNormalization MVN RMS ReduceMean SkipLayerNormalization Softmax",
    "fused arithmetic, with attention": "Subgraph",
}
"""Kind -> operators of onnxruntime and OpenVINO; all others are arithmetic."""
OTHER = "arithmetic"


@dataclass(frozen=True)
class Step:
    """One step of a run: its name and operator in the backend, milliseconds."""

    name: str
    operator: str
    ms: float


class Profiled(Protocol):
    """An opened graph that measures its steps. `start` forgets the runs so far."""

    def run(self, inputs: Inputs) -> object: ...

    def start(self) -> None: ...

    def steps(self) -> list[Step]: ...


class OnnxRuntimeSteps:
    """A graph in onnxruntime, with a profile of all its runs."""

    def __init__(self, path: Path, threads: int) -> None:
        self._folder, self._skipped, self._runs = TemporaryDirectory(), 0, 0
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_profiling, options.profile_file_prefix = True, str(Path(self._folder.name) / "run")
        # Threads that still wait actively for the next run would take the cores from the graph whose turn it is.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Inputs) -> object:
        """Runs the graph once."""
        self._runs += 1
        return self._session.run(None, dict(inputs))

    def start(self) -> None:
        """Forgets the runs so far."""
        self._skipped = self._runs

    def steps(self) -> list[Step]:
        """Steps with the median of their times; the graph cannot be measured further."""
        events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        self._folder.cleanup()
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for event in events:
            name = str(event.get("name")).removesuffix("_kernel_time")
            if event.get("cat") == "Node" and name != event["name"]:
                found[name, event["args"]["op_name"]].append(event["dur"] / 1000)
        return [Step(*key, float(np.median(ms[self._skipped :]))) for key, ms in found.items()]


class OpenVinoSteps:
    """A graph in OpenVINO, which keeps a running mean of every step's time."""

    def __init__(self, path: Path, threads: int) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "PERF_COUNT": True,
        }  # fmt: skip
        self._request = openvino.Core().compile_model(str(path), "CPU", options).create_infer_request()
        self._runs, self._skipped, self._before = 0, 0, {}

    def run(self, inputs: Inputs) -> object:
        """Runs the graph once."""
        self._runs += 1
        return self._request.infer(dict(inputs), share_inputs=True)

    def start(self) -> None:
        """Forgets the runs so far."""
        self._skipped, self._before = self._runs, self._sums()

    def steps(self) -> list[Step]:
        """Steps with the mean of their times since `start`."""
        count = self._runs - self._skipped
        return [Step(*key, (ms - self._before.get(key, 0.0)) / count) for key, ms in self._sums().items()]

    def _sums(self) -> dict[tuple[str, str], float]:
        """Milliseconds of all runs so far."""
        return {
            (step.node_name, f"{step.node_type} {step.exec_type}"): self._runs
            * step.real_time.total_seconds()
            * 1e3
            for step in self._request.get_profiling_info()
            if step.status == openvino.ProfilingInfo.Status.EXECUTED
        }


BACKENDS: Mapping[str, type[OnnxRuntimeSteps] | type[OpenVinoSteps]] = {
    "onnxruntime": OnnxRuntimeSteps, "openvino": OpenVinoSteps,
}  # fmt: skip


def graphs(artifact: Artifact, backend: str, folder: Path) -> dict[str, Path]:
    """Label -> frame graph that the backend can run."""
    found = {
        graph.precision: artifact.file(graph.file)
        for graph in artifact.manifest.graphs
        if graph.name == "frame" and graph.precision in ("fp32", "int8")
    }
    if backend == "onnxruntime" and "int8" in found:
        found["int8, integer kernels"] = folder / "integer.onnx"
        onnx.save(with_integer_kernels(onnx.load(found["int8"])), found["int8, integer kernels"])
    return found


def inputs_of(artifact: Artifact) -> Inputs:
    """The first golden input of a model's frame graph."""
    goldens = read_goldens(artifact, "fp32")
    return {"context": goldens.context[0], "keypoints": goldens.keypoints[0]}


def measured(paths: Mapping[str, Path], backend: str, threads: int, n: int, inputs: Inputs) -> dict[str, Any]:
    """Label -> times of whole runs and of their steps; the graphs take turns."""
    opened: dict[str, Profiled] = {label: BACKENDS[backend](path, threads) for label, path in paths.items()}
    actions = {label: lambda graph=graph: graph.run(inputs) for label, graph in opened.items()}
    alternate(actions, rounds=WARMUP, warmup=0)
    for graph in opened.values():
        graph.start()
    timings = alternate(actions, rounds=n, warmup=0)
    return {label: report(timings[label], graph.steps()) for label, graph in opened.items()}


def report(timing: Timing, steps: Sequence[Step]) -> dict[str, Any]:
    """What one graph's time is made of: by kind, by operator, by part of the model, and its longest steps."""
    longest = sorted(steps, key=lambda step: -step.ms)
    return {
        "run": {
            name: value if value is None else round(value, 3) for name, value in percentiles(timing).items()
        },
        "steps": len(steps),
        "kinds": summed(steps, kind_of),
        "operators": summed(steps, lambda step: step.operator),
        "parts": summed(steps, lambda step: part_of(step.name)),
        "longest": [{**asdict(step), "ms": round(step.ms, 3)} for step in longest if step.ms >= SHOWN],
    }


def summed(steps: Sequence[Step], group: Any) -> dict[str, dict[str, float]]:
    """Group -> milliseconds and number of its steps, the slowest group first."""
    found: dict[str, list[float]] = defaultdict(list)
    for step in steps:
        found[group(step)].append(step.ms)
    slowest = sorted(found.items(), key=lambda item: -sum(item[1]))
    return {name: {"ms": round(sum(ms), 3), "steps": len(ms)} for name, ms in slowest}


def kind_of(step: Step) -> str:
    """The row of KINDS that a step's operator is in."""
    operator = step.operator.split(" ")[0]
    return next((kind for kind, members in KINDS.items() if operator in members.split()), OTHER)


def part_of(name: str) -> str:
    """The part of the model that a step's name begins with; blocks count as one."""
    first, _, rest = name.removeprefix("/").partition("/")
    return first.split(".")[0] if rest and first[0].islower() else "between parts"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model")
    parser.add_argument("--backend", action="append", choices=sorted(BACKENDS), help="default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n", type=int, default=200, help="measured runs of each graph")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    artifact, found = open_artifact(find("models", options.model)), {}
    with TemporaryDirectory() as folder:
        for backend in options.backend or sorted(BACKENDS):
            paths = graphs(artifact, backend, Path(folder))
            found[backend] = measured(paths, backend, options.threads, options.n, inputs_of(artifact))
    about = {"model": options.model, "key": artifact.manifest.key, "threads": options.threads, "n": options.n}
    text = json.dumps({**about, "machine": asdict(machine()), "backends": found}, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    sys.stdout.write("".join(f"{line}\n" for line in lines(found)))


def lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for the terminal of each graph."""
    for backend, rows in found.items():
        for label, row in rows.items():
            kinds = ", ".join(f"{kind} {each['ms']:.2f}" for kind, each in row["kinds"].items())
            yield f"{backend} {label}: p50 {row['run']['p50']:.2f} ms, n = {row['run']['n']}; {kinds}"


if __name__ == "__main__":
    main()
