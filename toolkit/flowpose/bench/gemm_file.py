"""ONNX files of one product of matrices, written byte by byte: the device has no onnx package.

Field numbers are those of onnx.proto3; a test reads the files with onnx.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6  # TensorProto.DataType
TYPES: Mapping[str, int] = {"float32": FLOAT, "uint8": UINT8, "int8": INT8, "int32": INT32}
OPSET, IR_VERSION = 17, 8


def float_product(rows: int, inner: int, columns: int) -> bytes:
    """Returns a file of y f32[rows, columns] = x f32[rows, inner] times a constant."""
    weight = np.random.default_rng(0).normal(size=(inner, columns)).astype(np.float32)
    return _model(
        [_node("MatMul", ["x", "w"], "y")],
        {"w": weight},
        ("x", FLOAT, (rows, inner)),
        ("y", FLOAT, (rows, columns)),
    )


def code_product(rows: int, inner: int, columns: int) -> bytes:
    """Returns a file of y i32[rows, columns] = x u8[rows, inner] times constant INT8 codes: onnxruntime's own form."""
    return _model(
        [_node("MatMulInteger", ["x", "w"], "y")],
        {"w": _codes(inner, columns)},
        ("x", UINT8, (rows, inner)),
        ("y", INT32, (rows, columns)),
    )


def quantized_product(rows: int, inner: int, columns: int) -> bytes:
    """Returns a file of y f32[rows, columns] = Q/DQ of x f32[rows, inner] times dequantized INT8 codes."""
    nodes = [
        _node("QuantizeLinear", ["x", "step", "zero"], "codes"),
        _node("DequantizeLinear", ["codes", "step", "zero"], "rounded"),
        _node("DequantizeLinear", ["w", "step", "zero"], "weight"),
        _node("MatMul", ["rounded", "weight"], "y"),
    ]
    constants: dict[str, NDArray[np.generic]] = {
        "w": _codes(inner, columns), "step": np.array(0.02, np.float32), "zero": np.array(0, np.int8),
    }  # fmt: skip
    return _model(nodes, constants, ("x", FLOAT, (rows, inner)), ("y", FLOAT, (rows, columns)))


def _codes(inner: int, columns: int) -> NDArray[np.int8]:
    return np.random.default_rng(0).integers(-100, 100, (inner, columns)).astype(np.int8)


Value = tuple[str, int, Sequence[int]]
"""Name, type and shape of an input or output."""


def _model(
    nodes: Sequence[bytes], constants: Mapping[str, NDArray[np.generic]], given: Value, made: Value
) -> bytes:
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"product")
    graph += b"".join(_field(5, _tensor(name, values)) for name, values in constants.items())
    graph += _field(11, _value(*given)) + _field(12, _value(*made))
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, OPSET))


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    names = b"".join(_field(1, name.encode()) for name in inputs)
    return names + _field(2, output.encode()) + _field(3, output.encode()) + _field(4, operator.encode())


def _tensor(name: str, values: NDArray[np.generic]) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    return (
        dims + _number(2, TYPES[values.dtype.name]) + _field(8, name.encode()) + _field(9, values.tobytes())
    )


def _value(name: str, kind: int, shape: Sequence[int]) -> bytes:
    dims = b"".join(_field(1, _number(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, kind) + _field(2, dims)))


def _number(field: int, value: int) -> bytes:
    """Returns a whole number as a field of a message."""
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    """Returns a text, bytes or a message as a field of a message."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Returns a number in groups of seven bits, the lowest first, all but the last with the eighth bit set."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))
