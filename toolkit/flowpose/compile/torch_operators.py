"""What each ONNX operator is in PyTorch: one function an operator, and one literal table of them.

What ONNX allows and no graph of flowpose's uses is refused by name rather than guessed at.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from flowpose.compile.torch_node import Node, Operands, Operator, Values


def _each(function: Callable[..., Tensor], numbers: tuple[int, ...] = ()) -> Operator:
    """The operator that a function of its operands alone is, element by element."""
    return Operator(lambda node, x: function(*x), numbers=frozenset(numbers))


def _divided(node: Node, x: Operands) -> Tensor:
    whole = not x[0].is_floating_point()
    return torch.div(x[0], x[1], rounding_mode="trunc" if whole else None)


def _clipped(node: Node, x: Operands) -> Tensor:
    low, high = (node.numbers(i)[0] if node.holds(i) else None for i in (1, 2))
    return torch.clamp(x[0], low, high)


def _cast(node: Node, x: Operands) -> Tensor:
    """Conversion as C++ does it; a graph clips before it casts to uint8."""
    return x[0].to(node.made[0])  # type: ignore[no-any-return]


def _constant(node: Node, x: Operands) -> Tensor:
    value: Tensor = node.attributes["value"]
    return value


def _reshaped(node: Node, x: Operands) -> Tensor:
    sizes = node.ints(1)
    if not node.attributes.get("allowzero", 0):
        sizes = [x[0].shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x[0].reshape(sizes)  # type: ignore[no-any-return]


def _flattened(node: Node, x: Operands) -> Tensor:
    axis = node.attributes.get("axis", 1)
    axis += x[0].dim() if axis < 0 else 0
    return x[0].reshape(prod(x[0].shape[:axis]), -1)  # type: ignore[no-any-return]


def _transposed(node: Node, x: Operands) -> Tensor:
    order = node.attributes.get("perm", range(x[0].dim())[::-1])
    return x[0].permute(*order)  # type: ignore[no-any-return]


def _squeezed(node: Node, x: Operands) -> Tensor:
    if not node.holds(1):
        return x[0].squeeze()  # type: ignore[no-any-return]
    return x[0].squeeze(tuple(node.ints(1)))  # type: ignore[no-any-return]


def _unsqueezed(node: Node, x: Operands) -> Tensor:
    axes = node.ints(1)
    rank = x[0].dim() + len(axes)
    found: Tensor = x[0]
    for axis in sorted(axis % rank for axis in axes):
        found = found.unsqueeze(axis)
    return found


def _expanded(node: Node, x: Operands) -> Tensor:
    shape = torch.broadcast_shapes(x[0].shape, tuple(node.ints(1)))  # type: ignore[no-untyped-call]
    return x[0].expand(shape)  # type: ignore[no-any-return]


def _concatenated(node: Node, x: Operands) -> Tensor:
    return torch.cat(list(x), node.attributes["axis"])


def _split(node: Node, x: Operands) -> tuple[Tensor, ...]:
    axis, parts = node.attributes.get("axis", 0), len(node.made)
    if node.holds(1):
        sizes = node.ints(1)
    else:
        full = -(-x[0].shape[axis] // parts)  # the last part may be smaller
        sizes = [full] * (parts - 1) + [x[0].shape[axis] - full * (parts - 1)]
    return torch.split(x[0], sizes, axis)


def _sliced(node: Node, x: Operands) -> Tensor:
    starts, ends = node.ints(1), node.ints(2)
    axes = node.ints(3) if node.holds(3) else list(range(len(starts)))
    steps = node.ints(4) if node.holds(4) else [1] * len(starts)
    if min(steps) < 1:
        raise node.fault("walks backwards", got=f"steps {steps}", expected="steps of 1 or more")
    places = [slice(None)] * x[0].dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x[0].shape[axis]
        low, high = (min(max(edge + size if edge < 0 else edge, 0), size) for edge in (start, end))
        places[axis] = slice(low, high, step)
    return x[0][tuple(places)]  # type: ignore[no-any-return]


def _gathered(node: Node, x: Operands) -> Tensor:
    """Rows by constant numbers, counted from the front; a view where it is one number."""
    axis, rows = node.attributes.get("axis", 0), node.constants[1]
    if rows.ndim == 0:
        return x[0].select(axis, int(rows))  # type: ignore[no-any-return]
    if int(rows.min()) < 0:
        raise node.fault("counts from the back", got=int(rows.min()), expected="0 or more")
    taken = torch.index_select(x[0], axis, x[1].reshape(-1))
    return taken if rows.ndim == 1 else taken.unflatten(axis, rows.shape)  # type: ignore[no-untyped-call]


def _padded(node: Node, x: Operands) -> Tensor:
    pads, rank = node.ints(1), x[0].dim()
    pairs = [pads[i + side] for i in reversed(range(rank)) for side in (0, rank)]
    while pairs and pairs[-2:] == [0, 0]:
        pairs = pairs[:-2]
    if node.attributes.get("mode", b"constant") == b"edge":
        return F.pad(x[0], pairs, mode="replicate")
    return F.pad(x[0], pairs, value=node.numbers(2)[0] if node.holds(2) else 0.0)


def _tiled(node: Node, x: Operands) -> Tensor:
    return x[0].repeat(node.ints(1))  # type: ignore[no-any-return]


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def run(node: Node, x: Operands) -> Tensor:
        axes = node.ints(1) if node.holds(1) else node.attributes.get("axes", range(x[0].dim()))
        return function(x[0], dim=tuple(axes), keepdim=bool(node.attributes.get("keepdims", 1)))

    return Operator(run, {"axes": None, "keepdims": None, "noop_with_empty_axes": (0,)}, frozenset((1,)))


def _convolved(node: Node, x: Operands) -> Tensor:
    strides, dilations = (node.attributes.get(each, 1) for each in ("strides", "dilations"))
    rank = x[0].dim() - 2
    pads = list(node.attributes.get("pads", [0] * (2 * rank)))
    begin, end = pads[:rank], pads[rank:]
    run = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    if begin != end:
        given = F.pad(x[0], [n for pair in zip(begin[::-1], end[::-1], strict=True) for n in pair])
        begin = [0] * rank
    else:
        given = x[0]
    group = node.attributes.get("group", 1)
    return run(given, x[1], x[2] if len(x) > 2 else None, strides, begin, dilations, group)


def _pooled(node: Node, x: Operands) -> Tensor:
    pads = list(node.attributes.get("pads", [0] * 4))
    if pads[:2] != pads[2:]:
        raise node.fault("pads two sides differently", got=pads, expected="the same on both")
    strides = node.attributes.get("strides", [1, 1])
    counted = bool(node.attributes.get("count_include_pad", 0))
    return F.avg_pool2d(x[0], node.attributes["kernel_shape"], strides, pads[:2], count_include_pad=counted)


def _gemm(node: Node, x: Operands) -> Tensor:
    left = x[0].t() if node.attributes.get("transA", 0) else x[0]
    right = x[1] if node.attributes.get("transB", 0) else x[1].t()
    return F.linear(left, right, x[2] if len(x) > 2 else None)


def _layer_normed(node: Node, x: Operands) -> Tensor:
    shape = x[0].shape[node.attributes.get("axis", -1) :]
    return F.layer_norm(x[0], shape, x[1], x[2] if len(x) > 2 else None, node.attributes.get("epsilon", 1e-5))


def _softmaxed(node: Node, x: Operands) -> Tensor:
    return torch.softmax(x[0], node.attributes.get("axis", -1))


def _to_space(node: Node, x: Operands) -> Tensor:
    block = node.attributes["blocksize"]
    if node.attributes.get("mode", b"DCR") == b"CRD":
        return F.pixel_shuffle(x[0], block)
    n, channels, height, width = x[0].shape
    cells = x[0].reshape(n, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return cells.reshape(n, channels // block**2, height * block, width * block)  # type: ignore[no-any-return]


def _to_depth(node: Node, x: Operands) -> Tensor:
    block = node.attributes["blocksize"]
    n, channels, height, width = x[0].shape
    cells = x[0].reshape(n, channels, height // block, block, width // block, block)
    found: Tensor = cells.permute(0, 3, 5, 1, 2, 4)
    return found.reshape(n, channels * block**2, height // block, width // block)


RESIZES: Mapping[tuple[object, object], str] = MappingProxyType(
    {(b"nearest", b"asymmetric"): "nearest", (b"linear", b"half_pixel"): "bilinear"}
)
"""(mode, how coordinates are told) -> F.interpolate's mode that places its samples so."""


def _resized(node: Node, x: Operands) -> Tensor:
    mode, told = (node.attributes.get(each) for each in ("mode", "coordinate_transformation_mode"))
    floor = node.attributes.get("nearest_mode", b"round_prefer_floor")
    if (mode, told) not in RESIZES or (mode == b"nearest" and floor != b"floor"):
        wanted = "nearest by asymmetric floor, or linear by half_pixel"
        raise node.fault("resizes in another way", got=f"{mode!r}, {told!r}, {floor!r}", expected=wanted)
    before = list(x[0].shape)
    sizes = node.ints(3) if node.holds(3) else None
    if sizes is None:
        exact = [size * scale for size, scale in zip(before, node.numbers(2), strict=True)]
        sizes = [round(each) for each in exact]
        if sizes != exact:
            raise node.fault("scales to parts of a pixel", got=exact, expected="whole sizes")
    if len(sizes) != 4 or sizes[:2] != before[:2]:
        raise node.fault(
            "resizes other axes", got=f"{before} to {sizes}", expected="height and width of NCHW"
        )
    kind = RESIZES[mode, told]
    return F.interpolate(x[0], sizes[2:], mode=kind, align_corners=None if kind == "nearest" else False)


GRIDS = MappingProxyType({b"bilinear": "bilinear", b"linear": "bilinear", b"nearest": "nearest"})


def _sampled(node: Node, x: Operands) -> Tensor:
    mode = GRIDS[node.attributes.get("mode", b"linear")]
    border = node.attributes.get("padding_mode", b"zeros").decode()
    return F.grid_sample(x[0], x[1], mode, border, bool(node.attributes.get("align_corners", 0)))


_CONV: Mapping[str, Values] = {
    "auto_pad": (b"NOTSET",), "dilations": None, "group": None, "kernel_shape": None, "pads": None, "strides": None,
}  # fmt: skip
_RESIZE: Mapping[str, Values] = {
    "antialias": (0,), "coordinate_transformation_mode": None, "cubic_coeff_a": None, "exclude_outside": (0,),
    "extrapolation_value": None, "keep_aspect_ratio_policy": (b"stretch",), "mode": None, "nearest_mode": None,
}  # fmt: skip
_GRID: Mapping[str, Values] = {
    "align_corners": None, "mode": tuple(GRIDS), "padding_mode": (b"zeros", b"border", b"reflection"),
}  # fmt: skip
_POOL: Mapping[str, Values] = {
    "auto_pad": (b"NOTSET",), "ceil_mode": (0,), "count_include_pad": None, "dilations": ([1, 1],),
    "kernel_shape": None, "pads": None, "strides": None,
}  # fmt: skip
_GEMM: Mapping[str, Values] = {
    "alpha": (1.0,), "beta": (1.0,), "transA": None, "transB": None,
}  # fmt: skip

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Abs": _each(torch.abs),
        "Add": _each(operator.add, (0, 1)),
        "And": _each(torch.logical_and),
        "AveragePool": Operator(_pooled, _POOL),
        "Cast": Operator(_cast, {"to": None, "saturate": (1,)}),
        "Clip": Operator(_clipped, static=frozenset((1, 2))),
        "Concat": Operator(_concatenated, {"axis": None}),
        "Constant": Operator(_constant, {"value": None}),
        "Conv": Operator(_convolved, _CONV),
        "Cos": _each(torch.cos),
        "DepthToSpace": Operator(_to_space, {"blocksize": None, "mode": (b"CRD", b"DCR")}),
        "Div": Operator(_divided, numbers=frozenset((1,))),
        "Equal": _each(torch.eq, (1,)),
        "Erf": _each(torch.erf),
        "Exp": _each(torch.exp),
        "Expand": Operator(_expanded, static=frozenset((1,))),
        "Flatten": Operator(_flattened, {"axis": None}),
        "Floor": _each(torch.floor),
        "Gather": Operator(_gathered, {"axis": None}, needs=frozenset((1,))),
        "Gemm": Operator(_gemm, _GEMM),
        "Greater": _each(torch.gt, (1,)),
        "GridSample": Operator(_sampled, _GRID),
        "Identity": _each(lambda x: x),
        "LayerNormalization": Operator(_layer_normed, {"axis": None, "epsilon": None, "stash_type": (1,)}),
        "Less": _each(torch.lt, (1,)),
        "MatMul": _each(torch.matmul),
        "Max": _each(torch.maximum),
        "Min": _each(torch.minimum),
        "Mul": _each(operator.mul, (0, 1)),
        "Neg": _each(torch.neg),
        "Not": _each(torch.logical_not),
        "Or": _each(torch.logical_or),
        "Pad": Operator(_padded, {"mode": (b"constant", b"edge")}, frozenset((1, 2))),
        "Pow": _each(torch.pow, (1,)),
        "ReduceMax": _reduced(torch.amax),
        "ReduceMean": _reduced(torch.mean),
        "ReduceMin": _reduced(torch.amin),
        "ReduceSum": _reduced(torch.sum),
        "Relu": _each(torch.relu),
        "Reshape": Operator(_reshaped, {"allowzero": None}, frozenset((1,))),
        "Resize": Operator(_resized, _RESIZE, frozenset((1, 2, 3))),
        "Round": _each(torch.round),
        "Sigmoid": _each(torch.sigmoid),
        "Sin": _each(torch.sin),
        "Slice": Operator(_sliced, static=frozenset((1, 2, 3, 4))),
        "Softmax": Operator(_softmaxed, {"axis": None}),
        "SpaceToDepth": Operator(_to_depth, {"blocksize": None}),
        "Split": Operator(_split, {"axis": None, "num_outputs": None}, frozenset((1,))),
        "Sqrt": _each(torch.sqrt),
        "Squeeze": Operator(_squeezed, static=frozenset((1,))),
        "Sub": _each(operator.sub, (0, 1)),
        "Tanh": _each(torch.tanh),
        "Tile": Operator(_tiled, static=frozenset((1,))),
        "Transpose": Operator(_transposed, {"perm": None}),
        "Unsqueeze": Operator(_unsqueezed, static=frozenset((1,))),
        "Where": _each(torch.where),
    }
)
"""ONNX operator -> what it is in PyTorch, of opsets 17 to 20; QuantizeLinear and DequantizeLinear have renderings."""
