"""How good the mask of a made person is, and the backdrop behind it.

    python benchmarks/matte.py benchmarks/results/matte.json [--fit] [--sheet FILE]

There is no mask in the people set, but the pictures of one person share their backdrop, and each shows another part of
it: a smooth surface through the pixels far from every skeleton first, then the median of what no picture's person
covers. A pixel of the person is one that differs from it and is no soft shadow, or in the middle of a limb. Where
clothes have the backdrop's colour that errs, and the mask that is judged errs the same way; drawn figures, whose
outline is exact, check it. Frames that were made are held against the person of the true picture: what the model drew
elsewhere counts as wrong, so their overlap is no measure of the mask alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import flowpose
from flowpose import image, matte
from flowpose.background import backdrop_of
from flowpose.data import read
from flowpose.data.figures import draw, figure_identity, motion
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.estimating import open_estimator
from flowpose.pose import CANONICAL, Pose
from flowpose.report import sheet
from flowpose.runtime.machine import machine
from flowpose.spec.recipe import FolderData, ImageSpec

Floats = NDArray[np.floating]
Picture = NDArray[np.uint8]
SIZE = (256, 176)
DEGREE = 4  # of the surface
DIFFERS = 7.0  # distance in Lab
SHADE, GREYISH = 0.3, 5.0  # a shadow takes this share of the light and changes colour by less
PEOPLE, POSES = 40, 6


@dataclass(frozen=True, eq=False)
class Case:
    """One pose of one person.

    Attributes:
        true, made: u8[H,W,3] of the model's size: the picture, and what the model made of another picture.
        keypoints: f32[133,3] in its pixels.
        truth: f32[H,W], how much of each pixel is the person.
        backdrop: f32[H,W,3].
    """

    true: Picture
    made: Picture
    keypoints: NDArray[np.float32]
    truth: Floats
    backdrop: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Person:
    """The source of one person, and the backdrop that all their pictures share; u8[256,176,3]."""

    source: Picture
    pose: Pose
    backdrop: Floats
    mask: NDArray[np.bool_]


def near(keypoints: Floats, reach: float) -> NDArray[np.bool_]:
    """What lies within so many body heights of the drawn body."""
    return matte.body_distance(keypoints.astype(np.float32), *SIZE) < reach


def surface(pictures: Floats, far: NDArray[np.bool_]) -> Floats:
    """The smooth surface through what is far from everybody, fitted four times without what lies far off it."""
    y, x = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1 : 1 : SIZE[1] * 1j]
    terms = np.stack([x**i * y**j for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)], -1)
    taken = far
    for _ in range(4):
        known = taken.any(0)
        values = np.nanmedian(np.where(taken[..., None], pictures, np.nan), axis=0)[known]
        found = terms @ np.linalg.lstsq(terms[known], values, rcond=None)[0]
        taken = far & (np.abs(pictures - found).max(-1) < 12)
    return found


def truth_of(picture: Floats, backdrop: Floats, keypoints: Floats) -> NDArray[np.bool_]:
    """The person: what differs from the backdrop near the body, without soft shadows, in pieces that hold a limb."""
    lab = [cv2.cvtColor((p / 255).astype(np.float32), cv2.COLOR_RGB2Lab) for p in (picture, backdrop)]
    light, colour = lab[0][..., 0] - lab[1][..., 0], np.hypot(*(lab[0] - lab[1])[..., 1:].transpose(2, 0, 1))
    shadow = (light < 0) & (light > -SHADE * lab[1][..., 0]) & (colour < GREYISH) & ~near(keypoints, 0.01)
    limbs = near(keypoints, -0.03)
    found = ((np.hypot(light, colour) > DIFFERS) & near(keypoints, 0.17) & ~shadow) | limbs
    found = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, pieces = cv2.connectedComponents(found)
    kept = np.isin(pieces, np.setdiff1d(np.unique(pieces[limbs]), [0]))
    return np.asarray(kept)


def shared_backdrop(pictures: Floats, keypoints: Sequence[Floats]) -> tuple[Floats, list[NDArray[np.bool_]]]:
    """The backdrop of one person's pictures, and the person in each."""
    far = np.stack([~near(k, 0.14) for k in keypoints])
    smooth = found = surface(pictures, far)
    masks: list[NDArray[np.bool_]] = []
    for _ in range(2):
        masks = [truth_of(p, found, k) for p, k in zip(pictures, keypoints, strict=True)]
        grown = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0 for m in masks])
        free = ~grown & np.stack([~near(k, 0.0) for k in keypoints])
        seen = np.nanmedian(np.where(free[..., None], pictures, np.nan), axis=0)
        found = np.where((free.sum(0) >= 2)[..., None], seen, smooth)
    masks = [truth_of(p, found, k) for p, k in zip(pictures, keypoints, strict=True)]
    return found, masks


def cases_of(split: str, model: flowpose.runtime.Model) -> tuple[list[Case], list[Person]]:
    """PEOPLE of a split in POSES poses each, made from the first picture of theirs."""
    people = read(FolderData(), ImageSpec(height=SIZE[0], width=SIZE[1]), split, DEFAULT_ROOTS)
    cases, sources = [], []
    height, width = model.size
    for group in people.groups[:: max(1, len(people.groups) // PEOPLE)][:PEOPLE]:
        pictures, keypoints = people.images[group].astype(np.float64), [people.keypoints[i] for i in group]
        backdrop, masks = shared_backdrop(pictures, keypoints)
        poses = [Pose.of(k, CANONICAL, SIZE) for k in keypoints]
        session = model.session(people.images[group[0]])
        sources.append(Person(people.images[group[0]], poses[0], backdrop, masks[0]))
        small = cv2.resize(backdrop.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        for i in range(1, POSES + 1):
            truth = cv2.resize(masks[i].astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
            picture = image.fit(people.images[group[i]], height, width)
            joints = model.keypoints(poses[i], SIZE)
            cases.append(Case(picture, session.infer(poses[i]), joints, truth, small))
    return cases, sources


Mask = Callable[[Picture, NDArray[np.float32]], Floats]


def scores(found: Sequence[Floats], truths: Sequence[Floats]) -> dict[str, float]:
    """Overlap of the masks cut at one half, mean and 5th percentile, and the mean difference of alpha."""
    overlaps = [
        float(((a > 0.5) & (t > 0.5)).sum() / ((a > 0.5) | (t > 0.5)).sum())
        for a, t in zip(found, truths, strict=True)
    ]
    off = [float(np.abs(a - t).mean()) for a, t in zip(found, truths, strict=True)]
    return {
        "n": len(found), "overlap": round(float(np.mean(overlaps)), 4),
        "overlap_p5": round(float(np.percentile(overlaps, 5)), 4), "alpha_off": round(float(np.mean(off)), 4),
    }  # fmt: skip


def alpha(picture: Picture, keypoints: NDArray[np.float32]) -> Floats:
    return matte.matte(picture, keypoints).alpha


def body_alone(picture: Picture, keypoints: NDArray[np.float32]) -> Floats:
    return (matte.body_distance(keypoints, *picture.shape[:2]) < 0.01).astype(np.float32)


def with_backdrop(case: Case, picture: Picture) -> Floats:
    """The mask, given the true backdrop instead of what the frame shows far from the body."""
    own = matte._backdrop

    def given(frame: Picture, far: NDArray[np.float32]) -> NDArray[np.float32]:
        return case.backdrop + own(frame, far) - own(case.backdrop, far)  # type: ignore[arg-type]

    matte._backdrop = given
    try:
        return alpha(picture, case.keypoints)
    finally:
        matte._backdrop = own


def rows_of(cases: Sequence[Case]) -> list[dict[str, object]]:
    truths = [case.truth for case in cases]
    rows: list[dict[str, object]] = []
    for kind in ("true", "made"):
        pictures = [getattr(case, kind) for case in cases]
        for name, mask in (("mask", alpha), ("drawn body alone", body_alone)):
            found = [mask(p, case.keypoints) for p, case in zip(pictures, cases, strict=True)]
            rows.append({"pictures": kind, "mask": name, **scores(found, truths)})
        found = [with_backdrop(case, p) for p, case in zip(pictures, cases, strict=True)]
        rows.append({"pictures": kind, "mask": "mask, true backdrop given", **scores(found, truths)})
    return rows


def figures(count: int = 48) -> dict[str, object]:
    """The mask of drawn figures, whose outline is exact: each is drawn before two backdrops."""
    found, truths = [], []
    for seed in range(count):
        who, pose = figure_identity(seed), motion(seed, 2, 15)[0]
        other = {name: tuple((c + 128) % 256 for c in getattr(who, name)) for name in ("sky", "floor")}
        picture, keypoints = draw(who, pose, 128, 88)
        away = draw(replace(who, **other), pose, 128, 88)[0]
        found.append(alpha(picture, keypoints))
        truths.append(1 - np.abs(picture.astype(np.float32) - away).sum(2) / (3 * 128))
    return {"pictures": "drawn figures, exact outline", "mask": "mask", **scores(found, truths)}


def painted(people: Sequence[Person]) -> list[dict[str, object]]:
    """How far the painted-over backdrop is from the true one where the person was; OpenCV's way in the true hole."""
    judge = open_estimator("judge")
    rows = []
    for name in ("pose given", "pose found by judge", "pose given, cv2.inpaint"):
        off, spent = [], []
        for person in people:
            pose = judge.find(person.source)[0] if "judge" in name else person.pose
            began = time.thread_time()
            if "inpaint" in name:
                hole = cv2.dilate(person.mask.astype(np.uint8), np.ones((7, 7), np.uint8))
                found = cv2.inpaint(person.source, hole, 3, cv2.INPAINT_TELEA)
            else:
                found = backdrop_of(person.source, pose)
            spent.append(1000 * (time.thread_time() - began))
            off.append(float(np.abs(found.astype(float) - person.backdrop)[person.mask].mean()))
        rows.append({
            "painted over": name, "n": len(off), "levels_off": round(float(np.mean(off)), 2),
            "levels_off_p95": round(float(np.percentile(off, 95)), 2), "ms": round(float(np.median(spent)), 1),
        })  # fmt: skip
    return rows


def spent(case: Case, scale: int, runs: int = 300) -> dict[str, object]:
    """Milliseconds of processor time of one mask, on one thread."""
    height, width = (scale * side for side in case.made.shape[:2])
    picture = np.asarray(cv2.resize(case.made, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    keypoints = (case.keypoints * np.array([scale, scale, 1])).astype(np.float32)
    times = []
    for _ in range(runs):
        began = time.thread_time()
        matte.matte(picture, keypoints)
        times.append(1000 * (time.thread_time() - began))
    half, most = np.percentile(times[runs // 10 :], (50, 95))
    return {
        "height": height,
        "width": width,
        "n": len(times[runs // 10 :]),
        "p50": round(float(half), 3),
        "p95": round(float(most), 3),
    }


def fitted(cases: Sequence[Case], each: int = 500) -> list[float]:
    """The weights of a logistic regression on random pixels of true and made pictures."""
    rng, inputs, sides = np.random.default_rng(0), [], []
    for case in cases:
        for picture in (case.true, case.made):
            distance = matte.body_distance(case.keypoints, *picture.shape[:2])
            far = np.asarray(distance > matte.FAR, np.float32)
            backdrop = matte._backdrop(picture, far)
            difference = np.asarray(cv2.subtract(picture, backdrop, dtype=cv2.CV_32F), np.float32)
            terms = matte.terms(distance, *matte._colour(difference, far), backdrop)
            pixels = rng.choice(distance.size, each, replace=False)
            inputs.append(np.stack([np.ones(distance.size), *(t.ravel() for t in terms)], 1)[pixels])
            sides.append(case.truth.ravel()[pixels] > 0.5)
    x, y = np.concatenate(inputs), np.concatenate(sides).astype(float)
    weights = np.zeros(x.shape[1])
    for _ in range(40):  # Newton's steps
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        bend = (x * (p * (1 - p))[:, None]).T @ x + 0.1 * np.eye(len(weights))
        weights = weights + np.linalg.solve(bend, x.T @ (y - p) - 0.1 * weights)
    return [round(float(w), 2) for w in weights]


def drawn(cases: Sequence[Case]) -> Picture:
    """A sheet: the picture, what was made, the true mask, the mask, and the person before a colour."""
    rows = []
    for case in cases:
        cut = matte.matte(case.made, case.keypoints)
        share = cut.alpha[..., None]
        front = np.clip(case.made - (1 - share) * cut.backdrop, 0, 255 * share)
        grey = [np.repeat((255 * m[..., None]).astype(np.uint8), 3, 2) for m in (case.truth, cut.alpha)]
        rows.append(
            [case.true, case.made, *grey, np.round(front + (1 - share) * (0, 150, 0)).astype(np.uint8)]
        )
    return sheet(rows, ["truth", "made", "true mask", "mask", "before a colour"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="people-128")
    parser.add_argument("--fit", action="store_true", help="print weights fitted on val")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # nanmedian of what nobody shows
    cv2.setNumThreads(1)
    model = flowpose.load(options.model, threads=1)
    if options.fit:
        sys.stdout.write(f"weights {fitted(cases_of('val', model)[0])}\n")
    cases, people = cases_of("test", model)
    document = {
        "model": options.model, "key": model.manifest.key, "set": "people/test", "people": PEOPLE, "poses": POSES,
        "masks": [*rows_of(cases), figures()],
        "backdrops": painted(people),
        "milliseconds": [spent(cases[0], 1), spent(cases[0], 2)],
        "device": asdict(machine()),
    }  # fmt: skip
    options.file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.sheet:
        image.write(options.sheet, drawn(cases[:: max(1, len(cases) // 16)][:16]))
    shown = {key: document[key] for key in ("masks", "backdrops", "milliseconds")}
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")


if __name__ == "__main__":
    main()
