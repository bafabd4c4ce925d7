r"""What a stream can do against jitter at run time: smooth the poses, or blend each picture with the one before.

    python benchmarks/session_jitter.py people-128 --data ../shared/data/people \
        --json benchmarks/results/people-128-jitter.json

The shipped students see no frame but their own, so both stand outside the graph. `smooth` is the One-Euro filter on the
poses (flowpose.pose_motion), with min_cutoff 1.5 Hz and beta 2 where no others stand behind it (the default beta is 8).
`blend` keeps a part of the picture before where the joints moved little, `fade` where the pixel itself changed little.
All run as in a live stream, frame after frame at 15 Hz, the set's own rate.

jitter is flowpose.metrics.static_jitter, of a stream whose pose stands still but for a detector's noise (0.5 pixels at
128 rows). flicker and motion are ratios to the truth over whole sequences, 1 is as much; own-LPIPS, Laplacian
(sharpness) and PSNR compare every fifth of their frames with the truth. `noisy` sequences have that noise on every
joint, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import flowpose
from flowpose.comparison import Motion, judge, motions_of
from flowpose.data.folder import read_folder
from flowpose.metrics import (
    flicker,
    laplacian_ratio,
    mean_interval,
    motion,
    own_lpips,
    psnr,
    static_jitter,
)
from flowpose.pose import Pose
from flowpose.pose_motion import Smoother
from flowpose.runtime.machine import machine
from flowpose.runtime.model import Model

RATE, NOISE, PERTURBATIONS, EVERY = 15.0, 0.5, 32, 5
Frames = NDArray[np.uint8]
Keypoints = NDArray[np.float32]
Filter = Callable[[Frames, Keypoints], Frames]
"""(a new picture, its keypoints) -> the picture shown; remembers those before."""


class Blend:
    """Keeps a share of the picture before, the more the less the joints moved: none from `pixels` (of 128 rows) on."""

    def __init__(self, pixels: float, least: float) -> None:
        self.pixels, self.least = pixels, least
        self.shown: NDArray[np.float32] | None = None
        self.before: Keypoints | None = None

    def __call__(self, picture: Frames, keypoints: Keypoints) -> Frames:
        new = picture.astype(np.float32)
        if self.shown is not None and self.before is not None:
            both = (keypoints[:, 2] > 0) & (self.before[:, 2] > 0)
            moved = np.hypot(*(keypoints - self.before)[both, :2].T).mean() * 128 / len(picture)
            share = np.clip(moved / self.pixels, self.least, 1)
            new = share * new + (1 - share) * self.shown
        self.shown, self.before = new, keypoints
        return np.round(new).astype(np.uint8)


class Fade:
    """Keeps a share of every pixel's value before, the more the less it changed: none from `levels` on."""

    def __init__(self, levels: float, least: float) -> None:
        self.levels, self.least = levels, least
        self.shown: NDArray[np.float32] | None = None

    def __call__(self, picture: Frames, keypoints: Keypoints) -> Frames:
        new = picture.astype(np.float32)
        if self.shown is not None:
            change = np.abs(new - self.shown).max(axis=2, keepdims=True)
            share = np.clip(change / self.levels, self.least, 1)
            new = share * new + (1 - share) * self.shown
        self.shown = new
        return np.round(new).astype(np.uint8)


def as_it_is(picture: Frames, keypoints: Keypoints) -> Frames:
    return picture


SLOW, FAST, FASTER = (
    {"min_cutoff": hertz, "beta": beta} for hertz, beta in ((1.5, 2.0), (1.5, 8.0), (3.0, 8.0))
)
WAYS: Mapping[str, tuple[Mapping[str, float] | None, Callable[[], Filter]]] = {
    "nothing": (None, lambda: as_it_is),
    "smooth": (SLOW, lambda: as_it_is),
    "smooth 1.5/8": (FAST, lambda: as_it_is),
    "smooth 3/8": (FASTER, lambda: as_it_is),
    "blend 0.5": (None, lambda: Blend(0.5, 0.3)),
    "blend 1": (None, lambda: Blend(1.0, 0.3)),
    "blend 2": (None, lambda: Blend(2.0, 0.3)),
    "fade 8": (None, lambda: Fade(8, 0.3)),
    "fade 16": (None, lambda: Fade(16, 0.3)),
    "smooth, blend 1": (SLOW, lambda: Blend(1.0, 0.3)),
    "smooth, fade 8": (SLOW, lambda: Fade(8, 0.3)),
}
"""Name -> settings of the poses' smoothing, if any, and what is done to pictures."""


class Person:
    """A session that draws a pose once, however many ways ask for it, and what the judge sees in the truths."""

    def __init__(self, model: Model, given: Motion) -> None:
        self.size, self._session = model.size, model.session(given.source)
        self._drawn: dict[bytes, Frames] = {}
        self.views = [judge().view(truth) for truth in given.truths[EVERY::EVERY]]

    def draw(self, pose: Pose) -> Frames:
        key = pose.array().tobytes()
        if key not in self._drawn:
            self._drawn[key] = self._session.infer(pose)
        return self._drawn[key]


class Way:
    """A stream: poses are smoothed or not, drawn, and the pictures filtered."""

    def __init__(self, person: Person, name: str) -> None:
        settings, filtered = WAYS[name]
        self.smoother = None if settings is None else Smoother(**settings)
        self.person, self.filter = person, filtered()
        self.number = 0

    def __call__(self, keypoints: Keypoints) -> Frames:
        pose = Pose("coco-wholebody-133", keypoints[:, :2], keypoints[:, 2], self.person.size)
        if self.smoother is not None:
            pose = self.smoother(pose, self.number / RATE)
        self.number += 1
        return self.filter(self.person.draw(pose), pose.array())


def noisy(keypoints: Keypoints, rows: int, seed: int) -> Keypoints:
    """The keypoints [t, 133, 3] as a detector would find them."""
    shift = np.random.default_rng(seed).normal(0, NOISE * rows / 128, (*keypoints.shape[:2], 2))
    moved = keypoints.copy()
    moved[..., :2] += (shift * (keypoints[..., 2:] > 0)).astype(np.float32)
    return moved


def still(person: Person, name: str, keypoints: Keypoints, seed: int) -> float:
    """static_jitter of a stream: the first pose is the still one, those after it are moved."""
    way = Way(person, name)

    def render(poses: Keypoints) -> Frames:
        return np.stack([way(pose) for pose in poses])

    return static_jitter(render, keypoints[None], pixels=NOISE, perturbations=PERTURBATIONS, seed=seed)


def sequence(person: Person, name: str, keypoints: Keypoints, truths: Frames) -> dict[str, float]:
    way = Way(person, name)
    made = np.stack([way(pose) for pose in keypoints])
    some, true = made[EVERY::EVERY], truths[EVERY::EVERY]
    apart = [own_lpips(judge().view(a), view) for a, view in zip(some, person.views, strict=True)]
    return {
        "flicker": flicker(made, truths), "motion": motion(made, truths),
        "own_lpips": float(np.mean(apart)),
        "laplacian": float(np.mean([laplacian_ratio(a, b) for a, b in zip(some, true, strict=True)])),
        "psnr": float(np.mean([psnr(a, b) for a, b in zip(some, true, strict=True)])),
    }  # fmt: skip


def scores(person: Person, name: str, given: Motion, seed: int) -> dict[str, float]:
    kinds = {"clean": given.keypoints, "noisy": noisy(given.keypoints, person.size[0], seed)}
    found = {"jitter": still(person, name, given.keypoints[len(given.truths) // 2], seed)}
    for kind, keypoints in kinds.items():
        of = sequence(person, name, keypoints, given.truths)
        found |= {f"{kind} {metric}": value for metric, value in of.items()}
    return found


def row(name: str, values: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    metrics = {key: asdict(mean_interval([each[key] for each in values])) for key in values[0]}
    return {"name": name, "metrics": metrics}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    model = flowpose.load(asked.model, threads=1)
    pictures = read_folder(asked.data, "sequences", *model.size)
    motions = motions_of(pictures, asked.people, asked.frames)
    values: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for i, each in enumerate(motions):
        person = Person(model, each)
        for name, found in values.items():
            found.append(scores(person, name, each, i))
    rows = [row(name, found) for name, found in values.items()]
    for each in rows:
        means = "  ".join(f"{key} {found['value']:.3f}" for key, found in each["metrics"].items())
        sys.stdout.write(f"{each['name']:16} {means}\n")
    if asked.json:
        about = {
            "model": asked.model, "key": model.manifest.key, "precision": model.precision,
            "backend": model.backend, "set": "sequences", "people": len(motions), "frames": asked.frames,
            "rate": RATE, "noise_pixels": NOISE, "perturbations": PERTURBATIONS, "compared_every": EVERY,
            "machine": asdict(machine()),
        }  # fmt: skip
        asked.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
