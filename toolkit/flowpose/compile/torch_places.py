"""Which nodes of a graph keep 32 bits when the rest goes down to halves: those that compute with places.

Squares of distances in pixels pass the largest half, 65504, from 256 pixels on. On people-128 all in halves is 0.14
levels off in the mean (n = 2, both graphs, at most 8), and 0.37 against 0.40 in INT8, so nothing else needs them: not
the grid of a GridSample, whose 32 bits changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

LEARNED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where features begin: before the first of these a number is a grey level, a joint or a distance between joints."""


def places(nodes: Sequence[onnx.NodeProto], inputs: frozenset[str]) -> frozenset[str]:
    """Returns the first outputs of the nodes that take inputs and constants only, not through a layer.

    Args:
        nodes: in an order in which they run.
        inputs: names of the graph's inputs.
    """
    found, raw, features = set[str](), set(inputs), set[str]()
    for node in nodes:
        if features.intersection(node.input) or (node.op_type in LEARNED and raw.intersection(node.input)):
            features.update(node.output)
        elif raw.intersection(node.input):
            raw.update(node.output)
            found.add(node.output[0])
    return frozenset(found)
