"""An engine of TensorRT from an ONNX graph, built on the machine that runs it.

The network is strongly typed: the graph says in which precision each layer is computed (fp32, fp16, or INT8 by its
scales), and the builder only chooses kernels. 10.3 to 11 take that, and 11 takes nothing else.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flowpose.compile.building import Options, Say, timing_cache_name
from flowpose.compile.tensorrt_cache import keep_timing_cache, use_timing_cache, write_whole
from flowpose.compile.tensorrt_memory import free_memory, workspace
from flowpose.compile.tensorrt_progress import Display, Monitor, showing
from flowpose.errors import BackendError
from flowpose.progress import EVERY
from flowpose.runtime.cuda import gpu
from flowpose.runtime.tensorrt import TensorRt
from flowpose.runtime.tensorrt_library import Log, trt, version


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an engine is built.

    Attributes:
        workspace_mb: memory of the GPU that kernels may use while they run, MB; None takes what board and free memory
            bear (`tensorrt_memory`).
        optimization_level: 0 to 5; more tries more kernels and takes longer.
        tf32: whether float32 products may be rounded to 10 bits of mantissa. Left out the graph is computed as it
            stands; it does not matter to fp16 and int8.
        details: whether the engine can be asked what it consists of (`Executed`); names of layers add some kilobytes.
        timing_cache: file of measured kernels, read and written; None measures all anew. `timing_cache_name` names it.
        log: file that takes every message of TensorRT with its time; None keeps the last errors only.
    """

    workspace_mb: int | None = None
    optimization_level: int = 3
    tf32: bool = False
    details: bool = True
    timing_cache: Path | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Built:
    """An engine that was built: its file, the time that it took, the workspace it had, and the file's size."""

    engine: Path
    seconds: float
    workspace_mb: int
    size_mb: float


class BuildLog(Log):
    """Takes TensorRT's messages and writes each to a file, a line with its time."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.path, self._lock = path, threading.Lock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = None if path is None else path.open("w", encoding="utf-8", buffering=1)

    def log(self, severity: Any, msg: str) -> None:
        """Takes a message; called by TensorRT from any thread, after `close` too."""
        super().log(severity, msg)
        now = datetime.now().isoformat(timespec="milliseconds")
        with self._lock:
            if self._file is not None:
                self._file.write(f"{now} {severity.name:<14} {msg}\n")

    def close(self) -> None:
        """Ends the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def where(self) -> str:
        """Returns where to read on, for an error's text."""
        return f"read {self.path}" if self.path is not None else "build with Plan(log=FILE) and read it"


def build(graph: Path, out: Path, precision: str, options: Options, say: Say) -> None:
    """Writes the engine of a graph, as `building.Build` describes; the precision is in the graph.

    The timing cache of this machine is in the options' folder, and the log bears the engine's name.

    Raises:
        BackendError: see `build_engine`.
    """
    plan = Plan(
        workspace_mb=options.workspace_mb,
        optimization_level=options.level,
        timing_cache=options.cache / timing_cache_name(TensorRt()),
        log=options.logs / f"{out.name}.log",
    )
    build_engine(graph, out, plan, say)


def build_engine(graph: Path, out: Path, plan: Plan = Plan(), say: Say = lambda text: None) -> Built:
    """Returns the engine of an ONNX graph, written to `out`, all of it or nothing.

    Shows how far it is on stderr. Ctrl-C makes the builder give up at its next step, and leaves nothing behind.

    Args:
        graph: ONNX file with fixed shapes; inputs and outputs are uint8 or float32.
        out: the engine's file.
        plan: how it is built.
        say: is told of the workspace and of a timing cache that does not fit, a line each.

    Raises:
        BackendError: TensorRT is too old, there is no GPU or not enough memory, or TensorRT refuses the graph; the
            text has its reasons.
        KeyboardInterrupt: the user gave up.
    """
    version()
    machine = gpu()
    room = workspace(plan.workspace_mb, machine, free_memory())
    say(f"{graph.name} for {machine.name}, {machine.sms} multiprocessors: workspace {room} MB")
    begun = time.monotonic()
    with closing(BuildLog(plan.log)) as log:
        with showing(f"building {out.name}") as display:
            data = _built(graph, plan, room, log, display, say)
        write_whole(out, data)
    seconds = time.monotonic() - begun
    return Built(out, seconds, room, out.stat().st_size / 2**20)


def _built(graph: Path, plan: Plan, room: int, log: BuildLog, display: Display, say: Say) -> Any:
    """The engine as TensorRT serializes it."""
    builder = _builder(graph, log)
    network, parser = _network(builder, graph, log)
    config, monitor = _config(builder, plan, room), Monitor(display)
    config.progress_monitor = monitor
    if plan.timing_cache is not None:
        use_timing_cache(config, plan.timing_cache, log, say)
    data = _interruptible(builder, network, config, monitor, display)
    del parser  # it owns the weights, and had to stay until here
    if data is None:
        what = f"TensorRT {trt.__version__} builds no engine ({log.errors()})"
        raise BackendError(graph, what, fix=log.where())
    if plan.timing_cache is not None:
        keep_timing_cache(config, plan.timing_cache)
    return data


def _builder(graph: Path, log: BuildLog) -> Any:
    try:
        return trt.Builder(log)
    except TypeError as error:  # what pybind11 makes of a null pointer
        raise BackendError(graph, f"TensorRT does not start ({log.errors()})", fix=log.where()) from error


def _network(builder: Any, graph: Path, log: BuildLog) -> tuple[Any, Any]:
    """The network of a graph, and its parser, which owns the weights."""
    network = builder.create_network(_strongly_typed())
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        problems = [_problem(parser.get_error(i)) for i in range(parser.num_errors)]
        what = "\n  ".join(
            [f"TensorRT {trt.__version__} does not take the graph", *(problems or [log.errors()])]
        )
        halve = (
            "flowpose halve MODEL on a workstation, if it keeps weights in a byte (flowpose inspect tells)"
        )
        raise BackendError(graph, what, fix=f"{halve}; {log.where()}")
    return network, parser


def _strongly_typed() -> int:
    """Flags of a network whose precision is the graph's. The flag's number is 1 in 10.3 and 0 in 11.4, which has no
    other networks; a release that drops the name needs no flag.
    """
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _problem(error: Any) -> str:
    name = error.node_name() or f"node {error.node()}"
    return f"{name} ({error.node_operator()}): {error.desc()}"


def _config(builder: Any, plan: Plan, room: int) -> Any:
    config = builder.create_builder_config()
    config.builder_optimization_level = plan.optimization_level
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, room << 20)
    if plan.details:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not plan.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default
    return config


def _interruptible(builder: Any, network: Any, config: Any, monitor: Monitor, display: Display) -> Any:
    """What the builder makes, None when it failed. It works in a thread of its own: this one hears Ctrl-C."""
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build_serialized_network, network, config)
        try:
            while not wait([building], timeout=EVERY).done:
                display.beat()
        except KeyboardInterrupt:
            monitor.cancel()
            raise  # once the builder has given up
    return building.result()
