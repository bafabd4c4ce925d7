"""The table that everything is compared in: whatever draws pictures, on the same pairs and motions, with intervals.

Needs no PyTorch; flowpose.evaluate gives it the generators of the host, flowpose.evaluate_command graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose import data
from flowpose.data import Pictures
from flowpose.errors import DataError, PoseError
from flowpose.metrics import (
    Interval,
    Judge,
    Scores,
    View,
    flicker,
    frechet_distance,
    intervals,
    kernel_distance,
    mean_interval,
    motion,
    person_mask,
    pose_accuracy,
    score,
    static_jitter,
    view_features,
    with_interval,
)
from flowpose.spec.judging import EvaluateSpec
from flowpose.spec.manifest import Measurement
from flowpose.spec.recipe import DataSpec, ImageSpec, Recipe

Images = NDArray[np.uint8]
Draw = Callable[[Images, NDArray[np.float32]], Images]
"""Sources u8[n, H, W, 3] and keypoints f32[n, 133, 3] -> pictures u8[n, H, W, 3]."""

UNITS = {"psnr": "dB", "masked_psnr": "dB", "jitter": "levels a pixel"}
JITTERED, PERTURBATIONS = 12, 8  # poses, and small changes of each
REFERENCE_VIEW = "_ref"  # in the names of the pictures that sequences start from


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs in memory, and what the judge sees in their truths."""

    split: str
    sources: Images
    truths: Images
    keypoints: NDArray[np.float32]
    views: tuple[View, ...]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True, eq=False)
class Motion:
    """A person u8[H, W, 3], and frames of it u8[t, H, W, 3] with keypoints f32[t, 133, 3]."""

    source: Images
    truths: Images
    keypoints: NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """A line of the table: who, and metric -> mean with its interval."""

    name: str
    metrics: Mapping[str, Interval]

    def plain(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {"name": self.name, "metrics": {name: asdict(found) for name, found in self.metrics.items()}}


@lru_cache(maxsize=1)
def judge() -> Judge:
    """The packaged judge, loaded once a process."""
    return Judge()


def pairs_of(pictures: Pictures, count: int, seed: int) -> Pairs:
    """`count` pairs of a split; the same for the same seed.

    Raises:
        PoseError: a picture to be made has too few joints for scores; it is named.
        DataError: more pairs are asked for than are published.
    """
    numbers = np.array(list(data.draw_pairs(pictures, count, seed)))
    _check_joints(pictures, numbers[:, 1].tolist())
    truths = pictures.images[numbers[:, 1]]
    return Pairs(
        split=pictures.split,
        sources=pictures.images[numbers[:, 0]],
        truths=truths,
        keypoints=pictures.keypoints[numbers[:, 1]],
        views=views_of(truths),
    )


def _check_joints(pictures: Pictures, targets: Sequence[int]) -> None:
    """Raises now, and with the picture's name, what its scores would raise when everything is drawn."""
    height, width = pictures.images.shape[1:3]
    for number in dict.fromkeys(targets):
        pose = pictures.keypoints[number]
        try:
            pose_accuracy(pose, pose)
            person_mask(pose, height, width)
        except PoseError as error:
            raise PoseError(
                f"{pictures.split}, {pictures.names[number]}: {error.where}", error.what, got=error.got,
                expected=error.expected, fix="flowpose data check, which lists all such pictures",
            ) from error  # fmt: skip


def validation(recipe: Recipe, roots: tuple[Path, ...]) -> Pairs:
    """The pairs that the recipe is judged on: the same for every stage and run."""
    return _validation(recipe.data, recipe.image, recipe.evaluate, roots)


@lru_cache(maxsize=2)
def _validation(source: DataSpec, size: ImageSpec, spec: EvaluateSpec, roots: tuple[Path, ...]) -> Pairs:
    return pairs_of(data.read(source, size, spec.split, roots), spec.pairs, spec.seed)


def choosing(recipe: Recipe, roots: tuple[Path, ...]) -> Pairs:
    """The pairs that settings are chosen on: those of `validation`, but never of test: then as many of val."""
    if recipe.evaluate.split != "test":
        return validation(recipe, roots)
    return _choosing(recipe.data, recipe.image, recipe.evaluate, roots)


@lru_cache(maxsize=1)
def _choosing(source: DataSpec, size: ImageSpec, spec: EvaluateSpec, roots: tuple[Path, ...]) -> Pairs:
    val = data.read(source, size, "val", roots)
    published = len(val.pairs) if val.pairs is not None else spec.pairs
    return pairs_of(val, min(spec.pairs, published), spec.seed)


def motions_of(pictures: Pictures, people: int, frames: int) -> tuple[Motion, ...]:
    """The first frames of the first people of a split of sequences.

    Raises:
        DataError: somebody has no reference view, or fewer than three frames.
    """
    found = []
    for person in np.unique(pictures.identities)[:people]:
        own = sorted(np.flatnonzero(pictures.identities == person), key=lambda i: pictures.names[i])
        views = [i for i in own if Path(pictures.names[i]).stem.endswith(REFERENCE_VIEW)]
        moving = [i for i in own if i not in views][:frames]
        if len(views) != 1 or len(moving) < 3:
            raise DataError(
                pictures.split, "not a sequence", got=f"{len(views)} {REFERENCE_VIEW} and {len(moving)} frames",
                expected=f"one picture named *{REFERENCE_VIEW} of each person, and three frames or more",
            )  # fmt: skip
        found.append(Motion(pictures.images[views[0]], pictures.images[moving], pictures.keypoints[moving]))
    return tuple(found)


def copy_source(sources: Images, keypoints: NDArray[np.float32]) -> Images:
    """The baseline that ignores the pose."""
    return sources


def views_of(made: Images) -> tuple[View, ...]:
    """What the judge sees in pictures."""
    return tuple(judge().view(picture) for picture in made)


def scores_of(made: Images, pairs: Pairs, views: Sequence[View] | None = None) -> tuple[Scores, ...]:
    """The scores of one picture a pair against the truths; `views` are those of the pictures, if known."""
    seen = views_of(made) if views is None else views
    rows = zip(made, pairs.truths, pairs.keypoints, seen, pairs.views, strict=True)
    return tuple(score(m, t, k, judge(), view=own, truth_view=true) for m, t, k, own, true in rows)


def distances(views: Sequence[View], pairs: Pairs) -> dict[str, Interval]:
    """`kid`, and `fd` where there are pictures enough: how far made and true pictures are apart as sets."""
    own = np.stack([view_features(view) for view in views])
    true = np.stack([view_features(view) for view in pairs.views])
    found = {"kid": with_interval(kernel_distance, own, true)} if len(own) > 1 else {}
    if len(own) > own.shape[1]:
        found["fd"] = with_interval(frechet_distance, own, true)
    return found


def jitter(draw: Draw, pairs: Pairs) -> Interval:
    """How much a still pose's picture moves when its joints are moved a little; n is in poses."""
    values: list[float] = []
    for source, pose in zip(pairs.sources[:JITTERED], pairs.keypoints[:JITTERED], strict=True):

        def render(poses: NDArray[np.float32], source: Images = source) -> Images:
            return draw(np.repeat(source[None], len(poses), axis=0), poses)

        values.append(static_jitter(render, pose[None], perturbations=PERTURBATIONS, seed=len(values)))
    return mean_interval(values)


def in_motion(draw: Draw, motions: Sequence[Motion]) -> dict[str, Interval]:
    """`motion` and `flicker` of sequences against their truths, 1 is as much; n is in people."""
    made = [draw(np.repeat(m.source[None], len(m.truths), axis=0), m.keypoints) for m in motions]
    ratios = {"motion": motion, "flicker": flicker}
    return {
        name: mean_interval([of(frames, m.truths) for frames, m in zip(made, motions, strict=True)])
        for name, of in ratios.items()
    }


def row(name: str, draw: Draw, pairs: Pairs, motions: Sequence[Motion] = ()) -> Row:
    """The line of something that draws."""
    made = draw(pairs.sources, pairs.keypoints)
    views = views_of(made)
    scores = intervals(scores_of(made, pairs, views))
    metrics = {**scores, **distances(views, pairs), "jitter": jitter(draw, pairs)}
    if motions:
        metrics |= in_motion(draw, motions)
    return Row(name, metrics)


def truth_row(pairs: Pairs) -> Row:
    """The line of the truth: what the judge gives at best. It draws nothing, so it has no jitter."""
    return Row("truth", intervals(scores_of(pairs.truths, pairs)))


def measurements(rows: Sequence[Row], set_name: str) -> tuple[Measurement, ...]:
    """The means as measurements on that set against the truth; `stage` holds the row's name."""
    return tuple(
        Measurement(
            metric=metric, value=found.value, unit=UNITS.get(metric, ""), n=found.n, set=set_name,
            against="truth", stage=each.name,
        )
        for each in rows
        for metric, found in each.metrics.items()
    )  # fmt: skip
