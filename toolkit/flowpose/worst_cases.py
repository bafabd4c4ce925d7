"""The pairs that an engine draws worst, what is wrong with them, and in which form it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from flowpose.comparison import Images, Pairs, scores_of
from flowpose.evaluate_command import drawer
from flowpose.metrics import Scores
from flowpose.report import draw_pose, sheet
from flowpose.report.run_record import Worst
from flowpose.runtime import Model

SHOWN = 6  # pairs
NEAR = 0.8  # a form whose picture is this near to as bad has the fault already
FAR = 1.0  # standard deviations from the mean that are worth a word
FAULTS: tuple[tuple[str, int, str], ...] = (
    ("pck", -1, "joints are not where they were asked"),
    ("identity", -1, "another person"),
    ("ssim", -1, "another outline"),
    ("spectrum_top", -1, "blurred"),
    ("spectrum_top", 1, "too much fine detail"),
)
"""Score, the side that is bad, and what that means."""


def worst_cases(
    models: Mapping[str, Model], own: str, others: Sequence[str], pairs: Pairs
) -> tuple[tuple[Worst, ...], Images]:
    """Returns the pairs with the highest own-LPIPS, worst first, and their sheet source | pose | truth | forms.

    Args:
        models: row -> model.
        own: the engine's row.
        others: rows that it is compared with, in the order in which they were made; those without a model are left out.
        pairs: to choose from.
    """
    made = drawer(models[own])(pairs.sources, pairs.keypoints)
    scores = scores_of(made, pairs)
    order = np.argsort([-each.own_lpips for each in scores], kind="stable")[:SHOWN]
    some = _chosen(pairs, order)
    drawn = {row: drawer(models[row])(some.sources, some.keypoints) for row in others if row in models}
    drawn.pop(own, None)
    beside = {row: scores_of(pictures, some) for row, pictures in drawn.items()}
    found = tuple(
        _case(int(pair), scores, {row: each[at].own_lpips for row, each in beside.items()}, own)
        for at, pair in enumerate(order)
    )
    return found, _sheet(some, {**drawn, own: made[order]})


def _chosen(pairs: Pairs, order: NDArray[np.intp]) -> Pairs:
    return Pairs(
        split=pairs.split, sources=pairs.sources[order], truths=pairs.truths[order],
        keypoints=pairs.keypoints[order], views=tuple(pairs.views[at] for at in order),
    )  # fmt: skip


def _case(pair: int, scores: Sequence[Scores], beside: Mapping[str, float], own: str) -> Worst:
    found = {name: float(value) for name, value in asdict(scores[pair]).items() if np.isfinite(value)}
    kept = {row: float(value) for row, value in beside.items() if np.isfinite(value)}
    faults = _faults(scores[pair], scores)
    why = "; ".join([*faults, _begins(found["own_lpips"], kept, own)])
    return Worst(pair=pair, scores=found, beside=kept, why=why)


def _faults(own: Scores, scores: Sequence[Scores]) -> list[str]:
    """What lies far from the mean of the set, farthest first, two at most."""
    found = []
    for name, side, text in FAULTS:
        values = np.array([getattr(each, name) for each in scores])
        value, mean, deviation = getattr(own, name), float(np.nanmean(values)), float(np.nanstd(values))
        far = side * (value - mean) / deviation if deviation > 0 else 0.0
        if far > FAR:
            found.append((far, f"{text} ({name} {value:.2f}, mean {mean:.2f})"))
    return [text for _, text in sorted(found, reverse=True)[:2]]


def _begins(value: float, beside: Mapping[str, float], own: str) -> str:
    """The first form whose picture of the pair is nearly as bad."""
    first = next((row for row, other in beside.items() if other >= NEAR * value), own)
    return (
        f"as bad with {first} already ({beside[first]:.2f})" if first != own else f"so bad with {own} alone"
    )


def _sheet(pairs: Pairs, drawn: Mapping[str, Images]) -> Images:
    height, width = pairs.truths.shape[1:3]
    poses = [draw_pose(pose, height, width) for pose in pairs.keypoints]
    columns = [pairs.sources, poses, pairs.truths, *drawn.values()]
    return sheet(list(zip(*columns, strict=True)), ("source", "pose", "truth", *drawn))
