"""A Q/DQ frame graph as onnxruntime's CPU kernels want it: integers from layer to layer, channels last.

onnxruntime runs a quantized convolution in 8 bits only where its result is quantized too, and a rectified one only
where codes begin at zero. Graphs in TensorRT's style quantize inputs and weights, with signed codes around zero, so
their convolutions run in floating point there, with every conversion on top. Here the kernels are written down:

    linear layers           MatMulIntegerToFloat   the same integers
    convolution + ReLU      QLinearConv            the same integers, in codes that begin at zero
    ... + skip + ReLU       QLinearConv, QLinearAdd: the sum's terms are rounded to 8 bits, which Q/DQ does not do
    other convolutions      MatMulIntegerToFloat over the pixels of their windows: the same integers
    products of activations MatMulIntegerToFloat   the same integers

A value beyond the calibrated range is clipped later than in the Q/DQ graph: unsigned codes reach twice as far. A sum
with a skip beyond it can be wrong, see `_sum`. OpenVINO and TensorRT cannot read these graphs, so they stand beside the
Q/DQ graph, whose weights they can share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from flowpose.export.graph_view import DQ, GraphView, Q
from flowpose.export.integer_layers import (
    DOMAIN,
    Codes,
    Layer,
    Rewriting,
    attributes,
    doubles,
    signed,
    turned_from,
)  # fmt: skip

REACH = 127  # steps of the calibrated range: codes of the Q/DQ graph are signed
MIDDLE = 128  # the unsigned code of zero where a tensor has both signs
TILE = 16  # columns that onnxruntime's AVX-512 and AVX2 products compute at once, however few there are
SHARED_FROM = 1024  # bytes of a constant that is worth a reference to another file
NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
SHUFFLED = (0, 1, 3, 5, 2, 4)  # how PyTorch's pixel_unshuffle by n turns [1, C, h, n, w, n]


def with_integer_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The frame graph of a Q/DQ model in onnxruntime's integer kernels.

    Args:
        model: with linear layers as `with_convolutions` leaves them; it is not changed.

    Raises:
        ArtifactError: its shapes are not fixed.
        ParityError: it has no quantized layer.
    """
    work = Rewriting(model)
    for node in work.view.nodes:
        rule = RULES.get(node.op_type)
        if rule is None or not rule(work, node):
            work.nodes.append(node)
    return work.finished(model)


def with_weights_of(model: onnx.ModelProto, beside: Path) -> onnx.ModelProto:
    """The same model with constants that stand in another file as references into it.

    Args:
        model: to be saved in the same folder.
        beside: the Q/DQ graph that it was made of; must not be written again afterwards.
    """
    stored, found = beside.read_bytes(), onnx.ModelProto()
    found.CopyFrom(model)
    for tensor in found.graph.initializer:
        values = tensor.raw_data
        at = stored.find(values) if len(values) >= SHARED_FROM else -1
        if at >= 0:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", beside.name), ("offset", str(at)), ("length", str(len(values)))):
                tensor.external_data.add(key=key, value=value)
    return found


def _token_layer(work: Rewriting, node: onnx.NodeProto) -> bool:
    """A linear layer, at the last node of those that `with_convolutions` makes of one."""
    view, output = work.view, node.output[0]
    layer = work.layers.get(turned_from(view, node.input[0], NHWC) or "")
    rows = view.producer.get(turned_from(view, layer.source, NCHW) or "") if layer else None
    if layer is None or rows is None or rows.op_type != "Reshape" or layer.values.shape[2:] != (1, 1):
        return False
    before, after = view.tensor(rows.input[0]).shape, view.tensor(output).shape
    if (len(before), before[:-1]) != (3, after[:-1]):
        return False
    codes = _token_codes(work, rows.input[0], layer.step)
    flat = work.constant(f"{output}.weight", layer.values.reshape(layer.values.shape[:2]))
    turned = work.add("Transpose", [flat], f"{output}.turned", perm=[1, 0])
    work.product(codes, turned, layer, output)
    return True


def _token_codes(work: Rewriting, tokens: str, step: float) -> Codes:
    """Codes of tokens; those of rectified ones begin at zero, which rectifies them."""
    maker = work.view.producer.get(tokens)
    rectified = maker is not None and maker.op_type == "Relu"
    source = maker.input[0] if maker is not None and rectified else tokens
    key = (tokens, step)
    if key not in work.coded:
        work.coded[key] = Codes(f"{tokens}.codes{len(work.coded)}", step, 0 if rectified else MIDDLE)
        work.quantized(source, work.coded[key])
    return work.coded[key]


def _picture_codes(work: Rewriting, source: str, step: float) -> Codes:
    """Codes of a layer's source, made of its numbers where no integer kernel makes them."""
    if (source, step) not in work.coded:
        name = f"{source}.codes{len(work.coded)}"
        maker = work.view.producer.get(source)
        before = work.coded.get((maker.input[0], step)) if maker and doubles(work.view, maker) else None
        if before is not None and maker is not None:
            _doubled(work, before, work.view.tensor(maker.input[0]).shape, name)
        else:
            before = Codes(f"{name}.first", step, 0 if _rectified(work.view, source) else MIDDLE)
            _turned(work, source, before, name)
        work.coded[source, step] = Codes(name, step, before.zero)
    return work.coded[source, step]


def _rectified(view: GraphView, name: str) -> bool:
    node = view.producer.get(name)
    while node is not None and node.op_type == "Resize":
        node = view.producer.get(node.input[0])
    return node is not None and node.op_type == "Relu"


def _doubled(work: Rewriting, codes: Codes, shape: Sequence[int], output: str) -> None:
    """Every pixel twice across and down: onnxruntime's Resize of [1, H, W, C] takes seven times as long."""
    _, channels, height, width = shape
    lines = work.sizes(f"{output}.lines", 1, height, 2 * width * channels)
    wide = work.add("Concat", [codes.name] * 2, f"{output}.wide", axis=3)
    row = work.add("Reshape", [wide, lines], f"{output}.row")
    high = work.add("Concat", [row] * 2, f"{output}.high", axis=2)
    work.add("Reshape", [high, work.sizes(f"{output}.shape", 1, 2 * height, 2 * width, channels)], output)


def _turned(work: Rewriting, source: str, codes: Codes, output: str) -> None:
    """Codes with channels last; those of pixel_unshuffle by SpaceToDepth, which takes a fraction of the time.

    It turns numbers, not codes: for codes onnxruntime 1.23, the last for Python 3.10, has no SpaceToDepth.
    """
    whole, block = _whole(work.view, source)
    if whole:
        work.shuffled[source] = work.view.tensor(whole).shape[1]
        source = work.add("SpaceToDepth", [whole], f"{output}.shuffled", blocksize=block)
    work.add("Transpose", [work.quantized(source, codes)], output, perm=list(NHWC))


def _whole(view: GraphView, name: str) -> tuple[str, int]:
    """What a tensor is the pixel_unshuffle of, and by how much; nothing and 1 where it is not."""
    last = view.producer.get(name)
    cut = (
        turned_from(view, last.input[0], SHUFFLED) if last is not None and last.op_type == "Reshape" else None
    )
    first = view.producer.get(cut) if cut is not None else None
    if cut is None or first is None or first.op_type != "Reshape":
        return "", 1
    down, right = view.tensor(cut).shape[3::2]
    return (str(first.input[0]), down) if down == right else ("", 1)


def _kernel(work: Rewriting, layer: Layer) -> tuple[str, NDArray[np.int8]]:
    """A layer's weight with input channels in the order of its source's codes."""
    if layer.source not in work.shuffled:
        return layer.weight, layer.values
    channels, (outputs, inputs, *window) = work.shuffled[layer.source], layer.values.shape
    cut = layer.values.reshape(outputs, channels, inputs // channels, *window).swapaxes(1, 2)
    values = np.ascontiguousarray(cut).reshape(layer.values.shape)
    return work.constant(f"{layer.output}.weight", values), values


def _rectifier(work: Rewriting, node: onnx.NodeProto) -> bool:
    """ReLU behind a layer, or behind the sum of a layer and codes, where layers read it in one step."""
    output, steps = node.output[0], work.readers.get(node.output[0], set())
    if len(steps) != 1:
        return False
    result = Codes(f"{output}.codes", next(iter(steps)), 0)
    before = work.view.producer.get(node.input[0])
    if before is None or not (_alone(work, node.input[0]) and _made(work, before, result)):
        return False
    work.coded[output, result.step] = result
    numbers = work.add(DQ, [result.name, *work.scale(result)], f"{output}.numbers")
    work.channels_first(numbers, output)
    return True


def _alone(work: Rewriting, name: str) -> bool:
    return len(work.view.consumers.get(name, [])) == 1


def _made(work: Rewriting, node: onnx.NodeProto, result: Codes) -> bool:
    """Whether integer kernels make the result of a node: a layer, or the sum of a layer and a rectified picture."""
    layer = work.layers.get(node.output[0])
    if layer is not None:
        _integer_convolution(work, layer, result)
        return True
    for name, other in (node.input, node.input[::-1]) if node.op_type == "Add" else ():
        layer = work.layers.get(name)
        skips = [codes for (t, _), codes in work.coded.items() if t == other and codes.zero == 0]
        if layer is not None and skips and _alone(work, name):
            _sum(work, layer, skips[0], result)
            return True
    return False


def _sum(work: Rewriting, layer: Layer, skip: Codes, result: Codes) -> None:
    """ReLU of a layer plus a skip, all in codes.

    The layer's own codes need no calibration: below the skip's largest calibrated value, negated, ReLU gives zero
    whatever the skip is, and above the result's largest value the sum is clipped.

    A skip's codes go on to twice its calibrated range. There a layer below that range, negated, is clipped too early: a
    skip of 200 steps and a layer of -180 give 73 and not 20. In 8 frames each of people-128 and people-256 the largest
    skip had 128 steps and no sum was wrong so. Codes down to -255 steps would be coarser for all: frames of people-128
    and people-256 would be 0.3 and 0.8 dB farther from the Q/DQ graph's (24 frames each, mean 40.0 and 38.5 dB now).
    """
    low, high = REACH * skip.step, REACH * result.step
    step = (low + high) / 255
    added = Codes(f"{layer.output}.codes", step, round(low / step))
    _integer_convolution(work, layer, added)
    terms = [x for codes in (skip, added) for x in (codes.name, *work.scale(codes))]
    work.add("QLinearAdd", [*terms, *work.scale(result)], result.name, DOMAIN)


def _integer_convolution(work: Rewriting, layer: Layer, result: Codes) -> None:
    """A layer from codes to codes; where the result's begin at zero, it is rectified too."""
    source = _picture_codes(work, layer.source, layer.step)
    weight, _ = _kernel(work, layer)
    at, scales = layer.output, source.step * layer.steps.astype(np.float64)
    bias = np.clip(np.rint(layer.bias / scales), -(2**31), 2**31 - 1).astype(np.int32)
    inputs = [
        source.name, *work.scale(source), weight, work.constant(f"{at}.steps", layer.steps),
        work.constant(f"{at}.zeros", np.zeros(len(layer.steps), np.int8)), *work.scale(result),
        work.constant(f"{at}.terms", bias),
    ]  # fmt: skip
    work.add(
        "QLinearConv", inputs, result.name, DOMAIN, channels_last=1, kernel_shape=layer.values.shape[2:],
        strides=layer.strides, pads=layer.pads,
    )  # fmt: skip


def _convolution(work: Rewriting, node: onnx.NodeProto) -> bool:
    """A layer whose result is wanted in floating point: a product over the pixels of its windows.

    A few columns side by side share a window where the layer has few outputs, which a product would compute in vain.
    """
    layer = work.layers.get(node.output[0])
    if layer is None:
        return False
    source, (_, values) = _picture_codes(work, layer.source, layer.step), _kernel(work, layer)
    _, outputs, height, width = work.view.tensor(layer.output).shape
    times = next(n for n in range(max(TILE // outputs, 1), 0, -1) if width % n == 0)
    windows = _windows(work, layer, source, (height, width // times), times)
    weight = work.constant(f"{layer.output}.windows", _spread(values, layer.strides[1], times))
    made = work.product(replace(source, name=windows), weight, layer, f"{layer.output}.all", times)
    work.channels_first(made, layer.output)
    return True


def _windows(work: Rewriting, layer: Layer, source: Codes, size: tuple[int, int], times: int) -> str:
    """Codes u8[1, H, W / times, C']: all pixels that a product computes `times` columns of."""
    at, pixels, (rows, columns) = layer.output, source.name, layer.values.shape[2:]
    (down, across), (top, left, bottom, right) = layer.strides, layer.pads
    _, zero = work.scale(source)
    if any(layer.pads):
        pads = work.sizes(f"{at}.pads", 0, top, left, 0, 0, bottom, right, 0)
        pixels = work.add("Pad", [pixels, pads, zero], f"{at}.padded")
    wide = (times - 1) * across + columns
    pixels = _side_by_side(work, pixels, 2, wide, times * across, size[1], f"{at}.across")
    return _side_by_side(work, pixels, 1, rows, down, size[0], f"{at}.down")


def _side_by_side(
    work: Rewriting, pixels: str, axis: int, count: int, stride: int, length: int, output: str
) -> str:
    """`count` neighbours along an axis as channels, at every stride."""
    if (count, stride) == (1, 1):
        return pixels
    axes, strides = work.sizes(f"{output}.axis", axis), work.sizes(f"{output}.stride", stride)
    parts = []
    for i in range(count):
        name = f"{output}.{i}"
        ends = work.sizes(f"{name}.start", i), work.sizes(f"{name}.end", i + stride * (length - 1) + 1)
        parts.append(work.add("Slice", [pixels, *ends, axes, strides], name))
    return work.add("Concat", parts, output, axis=3)


def _spread(values: NDArray[np.int8], across: int, times: int) -> NDArray[np.int8]:
    """Weights i8[kh * wide * C, times * O] for `times` columns, of weights i8[O, C, kh, kw] for one."""
    outputs, channels, rows, columns = values.shape
    found = np.zeros((rows, (times - 1) * across + columns, channels, times, outputs), np.int8)
    for i in range(times):
        for column in range(columns):
            found[:, i * across + column, :, i] = values[..., column].transpose(2, 1, 0)
    return found.reshape(-1, times * outputs)


def _activations_product(work: Rewriting, node: onnx.NodeProto) -> bool:
    """A product of two activations that are both quantized; one that is turned behind its codes is turned as codes."""
    found = [_coded_term(work.view, name) for name in node.input]
    if not all(found):
        return False
    codes, steps, zeros = [], [], []
    for i, (term, zero) in enumerate(zip(found, (np.uint8(MIDDLE), np.int8(0)), strict=True)):
        assert term is not None  # asked above
        (source, step, order), name = term, f"{node.output[0]}.term{i}"
        steps.append(work.constant(f"{name}.step", np.float32(step)))
        zeros.append(work.constant(f"{name}.zero", zero))
        made = work.add(Q, [source, steps[-1], zeros[-1]], name)
        codes.append(work.add("Transpose", [made], f"{name}.turned", perm=order) if order else made)
    work.add("MatMulIntegerToFloat", [*codes, *steps, *zeros], node.output[0], DOMAIN)
    return True


def _coded_term(view: GraphView, name: str) -> tuple[str, float, list[int]] | None:
    """What a term of a product is quantized from, its step, and how its codes are turned; None where it has none."""
    last, order = view.producer.get(name), list[int]()
    node = last
    if last is not None and last.op_type == "Transpose":
        node, order = view.producer.get(last.input[0]), list(attributes(last)["perm"])
    quantize = view.producer.get(node.input[0]) if node is not None and node.op_type == DQ else None
    if quantize is None or not signed(view, quantize) or quantize.op_type != Q:
        return None
    return quantize.input[0], float(view.constant(quantize.input[1])[0]), order


Rule = Callable[[Rewriting, onnx.NodeProto], bool]
RULES: Mapping[str, Rule] = MappingProxyType(
    {"Reshape": _token_layer, "Relu": _rectifier, "Conv": _convolution, "MatMul": _activations_product}
)
"""Operator -> what writes down its kernels and says whether it did."""
