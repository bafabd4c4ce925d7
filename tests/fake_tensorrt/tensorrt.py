"""A fake `tensorrt`: an engine is a line that says where it was built, and the ONNX graph, which onnxruntime runs.

Methods and parameters bear the names of the real bindings; tests/runtime/test_tensorrt_names.py compares them.
"""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from fake_tensorrt.machine import MACHINE

MAGIC = b"fake engine "
PRODUCTS = {"Conv": "CaskConvolution", "MatMul": "gemm", "Gemm": "gemm"}


class Numbered(enum.Enum):
    """As pybind11's enumerations: no integers, but with a number."""

    def __int__(self) -> int:
        return int(self.value)


class DataType(Numbered):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8 = range(6)
    INT64 = 8


class TensorIOMode(Numbered):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(Numbered):
    DEVICE, HOST = range(2)


class MemoryPoolType(Numbered):
    WORKSPACE = 0


class ProfilingVerbosity(Numbered):
    LAYER_NAMES_ONLY, NONE, DETAILED = range(3)


class LayerInformationFormat(Numbered):
    ONELINE, JSON = range(2)


class BuilderFlag(Numbered):
    TF32 = 6


class NetworkDefinitionCreationFlag(Numbered):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


TYPES = {
    TensorProto.FLOAT: (DataType.FLOAT, np.float32), TensorProto.UINT8: (DataType.UINT8, np.uint8),
    TensorProto.INT64: (DataType.INT64, np.int64), TensorProto.FLOAT16: (DataType.HALF, np.float16),
}  # fmt: skip


class ILogger:
    class Severity(Numbered):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        self.made = True

    def log(self, severity, msg) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self.made = True

    def phase_start(self, phase_name, parent_phase, num_steps) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name, step) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name) -> None:
        raise NotImplementedError


class IHostMemory(bytes):
    """Serialized things."""

    @property
    def nbytes(self) -> int:
        return len(self)


def said(logger: Any, text: str) -> None:
    logger.log(ILogger.Severity.ERROR, text)


def started(logger: Any) -> None:
    """Raises what pybind11 makes of a null pointer."""
    assert logger.made, "the base class's __init__ was not called"
    if "library" in MACHINE.faults:
        said(logger, MACHINE.faults["library"])
        raise TypeError("pybind11::init(): factory function returned nullptr")


class Runtime:
    def __init__(self, logger) -> None:
        started(logger)
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        head, _, graph = bytes(serialized_engine).partition(b"\n")
        if not head.startswith(MAGIC):
            said(self.logger, "magicTag == expected failed: Magic tag does not match")
            return None
        about = json.loads(head[len(MAGIC) :])
        if about["version"] != MACHINE.version:
            said(
                self.logger,
                f"the engine plan file is not compatible with this version, built by {about['version']}",
            )
        elif about["sm"] != list(MACHINE.sm):
            said(self.logger, "the engine plan file is generated on an incompatible device")
        elif about["size"] != len(graph):
            said(self.logger, "Serialization assertion size <= mRemainingSize failed: truncated")
        else:
            return ICudaEngine(self.logger, about["details"], onnx.load_from_string(graph))
        return None


class ICudaEngine:
    def __init__(self, logger: Any, details: bool, model: onnx.ModelProto) -> None:
        self.logger, self.details, self.model = logger, details, model
        sides = {TensorIOMode.INPUT: model.graph.input, TensorIOMode.OUTPUT: model.graph.output}
        self.tensors = {
            each.name: (mode, each.type.tensor_type) for mode, side in sides.items() for each in side
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        return self.tensors[name][0]

    def get_tensor_dtype(self, name):
        return TYPES[self.tensors[name][1].elem_type][0]

    def get_tensor_shape(self, name):
        return [axis.dim_value or -1 for axis in self.tensors[name][1].shape.dim]

    def get_tensor_location(self, name):
        return TensorLocation.DEVICE

    def create_execution_context(self):
        if "context" in MACHINE.faults:
            said(self.logger, MACHINE.faults["context"])
            return None
        return IExecutionContext(self)

    def create_engine_inspector(self):
        return EngineInspector(self)


class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine

    def get_engine_information(self, format) -> str:
        assert format is LayerInformationFormat.JSON
        nodes = self.engine.model.graph.node
        if not self.engine.details:
            return json.dumps({"Layers": [node.name or node.output[0] for node in nodes], "Bindings": []})
        makers = {name: node.op_type for node in nodes for name in node.output}
        return json.dumps({"Layers": [self.layer(node, makers) for node in nodes]})

    @staticmethod
    def layer(node: onnx.NodeProto, makers: dict[str, str]) -> dict[str, Any]:
        kind = {"QuantizeLinear": "Reformat", "DequantizeLinear": "Reformat"}.get(node.op_type, "kgen")
        short = makers.get(node.input[0]) == "DequantizeLinear" if node.input else False
        tactic = "sm80_xmma_gemm_i8i8_i8i32_f32" if short else "sm80_xmma_gemm_f16f16_f16f32"
        product = node.op_type in PRODUCTS
        return {
            "Name": node.output[0], "LayerType": PRODUCTS.get(node.op_type, kind),
            "TacticName": tactic if product else "", "Inputs": [{"Format/Datatype": "Int8" if short else "Half"}],
        }  # fmt: skip


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine, self.addresses = engine, dict[str, int]()
        data = engine.model.SerializeToString()
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def set_tensor_address(self, name, memory) -> bool:
        assert type(memory) is int
        self.addresses[name] = memory
        return name in self.engine.tensors and "address" not in MACHINE.faults

    def execute_async_v3(self, stream_handle) -> bool:
        assert type(stream_handle) is int and stream_handle != 0, "the default stream waits for others"
        queue, recording = MACHINE.queues[stream_handle], MACHINE.queues[stream_handle].recorded is not None
        if "enqueue" in MACHINE.faults or ("recording" in MACHINE.faults and recording):
            said(self.engine.logger, "Cask (Cask convolution execution)")
            return False
        if set(self.addresses) != set(self.engine.tensors):
            said(self.engine.logger, "Neither address or allocator is set for all tensors")
            return False
        if recording and "empty" in MACHINE.faults:
            return True
        queue.put((lambda: None) if recording and "stale" in MACHINE.faults else self.compute)
        return True

    def compute(self) -> None:
        inputs = {each.name: self.array(each.name) for each in self.session.get_inputs()}
        names = [each.name for each in self.session.get_outputs()]
        for name, value in zip(names, self.session.run(names, inputs), strict=True):
            self.array(name)[...] = 0 if "zeros" in MACHINE.faults else value

    def array(self, name: str) -> Any:
        """The memory of a tensor as the GPU sees it."""
        dtype = np.dtype(TYPES[self.engine.tensors[name][1].elem_type][1])
        shape = self.engine.get_tensor_shape(name)
        memory = MACHINE.bytes_at(self.addresses[name], int(np.prod(shape)) * dtype.itemsize, gpu=True)
        assert memory is not None, f"no memory of the GPU at the address of {name}"
        return memory.view(dtype).reshape(shape)


class ITimingCache:
    def __init__(self, head: str, kernels: set[str]) -> None:
        self.head, self.kernels = head, kernels

    def combine(self, input_cache, ignore_mismatch) -> bool:
        if self.head != input_cache.head and not ignore_mismatch:
            return False
        self.kernels |= input_cache.kernels
        return True

    def serialize(self) -> IHostMemory:
        return IHostMemory(json.dumps([self.head, sorted(self.kernels)]).encode())


class IBuilderConfig:
    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.flags, self.pools = {BuilderFlag.TF32}, dict[MemoryPoolType, int]()
        self.builder_optimization_level, self.profiling_verbosity = 3, ProfilingVerbosity.LAYER_NAMES_ONLY
        self.progress_monitor: Any = None
        self.cache = self.create_timing_cache(b"")
        MACHINE.configs.append(self)

    def clear_flag(self, flag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool, pool_size) -> None:
        self.pools[pool] = pool_size

    def create_timing_cache(self, serialized_timing_cache):
        here = f"{MACHINE.version} {MACHINE.sm} {MACHINE.sms}"
        if not serialized_timing_cache:
            return ITimingCache(here, set())
        try:
            head, kernels = json.loads(bytes(serialized_timing_cache))
        except ValueError:
            said(self.logger, "the timing cache is corrupt")
            return None
        if head != here:
            said(self.logger, f"the timing cache is of {head}")
        return ITimingCache(head, set(kernels))

    def set_timing_cache(self, cache, ignore_mismatch) -> bool:
        self.cache = cache
        return "cache" not in MACHINE.faults

    def get_timing_cache(self):
        return self.cache


class INetworkDefinition:
    def __init__(self, strongly_typed: bool) -> None:
        self.strongly_typed, self.model = strongly_typed, onnx.ModelProto()


class ParserError:
    def __init__(self, node: int, name: str, operator: str, text: str) -> None:
        self.fields = node, name, operator, text

    def node(self) -> int:
        return self.fields[0]

    def node_name(self) -> str:
        return self.fields[1]

    def node_operator(self) -> str:
        return self.fields[2]

    def desc(self) -> str:
        return self.fields[3]


class OnnxParser:
    def __init__(self, network, logger) -> None:
        self.network, self.logger, self.problems = network, logger, list[ParserError]()

    def parse_from_file(self, model) -> bool:
        if not Path(model).is_file():
            said(self.logger, f"Could not open file {model}")
            return False
        self.network.model = onnx.load(model)
        self.problems = [
            ParserError(i, node.name, node.op_type, "No importer registered for op")
            for i, node in enumerate(self.network.model.graph.node)
            if node.domain not in ("", "ai.onnx")
        ]
        return not self.problems

    @property
    def num_errors(self) -> int:
        return len(self.problems)

    def get_error(self, index):
        return self.problems[index]


class Builder:
    def __init__(self, logger) -> None:
        started(logger)
        self.logger = logger

    def create_network(self, flags=0):
        flag = getattr(NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return INetworkDefinition(flag is None or bool(flags & 1 << int(flag)))

    def create_builder_config(self):
        return IBuilderConfig(self.logger)

    def build_serialized_network(self, network, config):
        assert network.strongly_typed, "a weakly typed network"
        for severity in (ILogger.Severity.INFO, ILogger.Severity.VERBOSE):
            self.logger.log(severity, "building")
        if "build" in MACHINE.faults:
            said(self.logger, MACHINE.faults["build"])
            return None
        if not self.timed(network.model.graph.node, config):
            return None
        graph = network.model.SerializeToString()
        details = config.profiling_verbosity is ProfilingVerbosity.DETAILED
        about = {"version": MACHINE.version, "sm": MACHINE.sm, "size": len(graph), "details": details}
        return IHostMemory(MAGIC + json.dumps(about).encode() + b"\n" + graph)

    def timed(self, nodes: Any, config: IBuilderConfig) -> bool:
        """Times every kernel that the cache does not know; False when the monitor gives up."""
        monitor, phase = config.progress_monitor, "Computing profile costs"
        monitor.phase_start("Building Engine", None, 1)
        monitor.phase_start(phase, "Building Engine", len(nodes))
        goes_on = True
        for step, node in enumerate(nodes):
            MACHINE.during_build()
            kernel = f"{node.op_type} {node.output[0]}"
            MACHINE.timed += [] if kernel in config.cache.kernels else [kernel]
            config.cache.kernels.add(kernel)
            goes_on = monitor.step_complete(phase, step)
            if not goes_on:
                break
        monitor.phase_finish(phase)
        monitor.phase_finish("Building Engine")
        return goes_on
