"""What the judge learns from: people and figures, with changes of light, size, side and backdrop."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.data.pictures import Pictures
from flowpose.metrics.judge import HEIGHT, JOINTS, WIDTH

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
SWAP = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])  # left and right of coco-17


def figure_pictures(seeds: Sequence[int], each: int) -> Pictures:
    """Returns `each` pictures of every figure of the seeds, at the judge's size."""
    drawn: list[tuple[Bytes, Floats]] = []
    for seed in seeds:
        rng = np.random.default_rng((seed, 0x6A64))
        drawn += [draw(figure_identity(seed), figure_pose(rng), HEIGHT, WIDTH) for _ in range(each)]
    return Pictures(
        split="figures",
        images=np.stack([picture for picture, _ in drawn]),
        keypoints=np.stack([keypoints for _, keypoints in drawn]),
        identities=np.repeat(np.array(seeds, np.int64), each),
        names=tuple(f"{seed}/{i}" for seed in seeds for i in range(each)),
    )


def _backdrop(picture: Bytes, rng: np.random.Generator) -> Bytes:
    """Returns the picture on another backdrop, so that an identity cannot be told from its backdrop."""
    edges = np.concatenate([picture[:, :3], picture[:, -3:]], 1).astype(np.float32)
    rows = cv2.GaussianBlur(np.median(edges, axis=1)[:, None], (1, 9), 3.0).reshape(-1, 1, 3)
    cover = np.clip(np.abs(picture - rows).max(2) / 12.0 - 0.6, 0.0, 1.0)[..., None]
    top = rng.uniform(40, 250, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(120, 250))
    ramp = np.linspace(1.0, rng.uniform(0.7, 1.0), len(picture))[:, None, None]
    return np.asarray(np.round(picture * cover + (top * ramp) * (1 - cover)), np.uint8)


def _colour(picture: Bytes, rng: np.random.Generator) -> Bytes:
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.96, 1.04, 3)
    changed = (picture - 128.0) * rng.uniform(0.85, 1.15) + 128.0
    noise = rng.normal(0.0, rng.uniform(0.0, 5.0), picture.shape) if rng.random() < 0.3 else 0.0
    return np.asarray(np.clip(changed * gain + noise, 0, 255), np.uint8)


def _coarse(picture: Bytes, rng: np.random.Generator) -> Bytes:
    share = rng.uniform(0.4, 0.9)
    small = cv2.resize(picture, (round(WIDTH * share), round(HEIGHT * share)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def _moved(picture: Bytes, keypoints: Floats, rng: np.random.Generator) -> tuple[Bytes, Floats]:
    """Returns the picture scaled, stretched and shifted, and its keypoints; lost ones score 0."""
    size = rng.uniform(0.8, 1.25)
    sx, sy = size * rng.uniform(0.92, 1.08), size
    tx = WIDTH / 2 * (1 - sx) + rng.uniform(-0.08, 0.08) * WIDTH
    ty = HEIGHT / 2 * (1 - sy) + rng.uniform(-0.08, 0.08) * HEIGHT
    # OpenCV counts from pixel centres; ours is the corner origin, half a pixel away.
    matrix = np.array([[sx, 0, tx + 0.5 * sx - 0.5], [0, sy, ty + 0.5 * sy - 0.5]])
    warped = cv2.warpAffine(
        picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    out = keypoints.copy()
    out[:, 0] = out[:, 0] * sx + tx
    out[:, 1] = out[:, 1] * sy + ty
    inside = (out[:, 0] >= 0) & (out[:, 0] < WIDTH) & (out[:, 1] >= 0) & (out[:, 1] < HEIGHT)
    out[:, 2] *= inside
    return np.asarray(warped, np.uint8), out


def mirrored(picture: Bytes, keypoints: Floats) -> tuple[Bytes, Floats]:
    """Returns the mirror image; keypoints f32[17,3] keep meaning the person's own left and right."""
    out = keypoints[SWAP].copy()
    out[:, 0] = picture.shape[1] - out[:, 0]
    return np.ascontiguousarray(picture[:, ::-1]), out


def augmented(picture: Bytes, keypoints: Floats, rng: np.random.Generator) -> tuple[Bytes, Floats]:
    """Returns a changed picture with keypoints f32[17,3] that fit it."""
    if rng.random() < 0.5:
        picture, keypoints = mirrored(picture, keypoints)
    if rng.random() < 0.5:
        picture = _backdrop(picture, rng)
    if rng.random() < 0.8:
        picture, keypoints = _moved(picture, keypoints, rng)
    if rng.random() < 0.25:
        picture = _coarse(picture, rng)
    if rng.random() < 0.8:
        picture = _colour(picture, rng)
    return picture, keypoints


def training_batch(
    people: Pictures, figures: Pictures, identities: int, share: float, rng: np.random.Generator
) -> tuple[Bytes, Floats]:
    """Returns two changed pictures of each of `identities` people, of whom about `share` are figures.

    Rows 2i and 2i+1 show the same person: u8[2k,128,88,3] and keypoints f32[2k,17,3].
    """
    fakes = round(identities * share)
    rows: list[tuple[Bytes, Floats]] = []
    for data, count in ((people, identities - fakes), (figures, fakes)):
        for group in rng.choice(len(data.groups), min(count, len(data.groups)), replace=False):
            two = rng.choice(data.groups[group], 2, replace=False)
            rows += [augmented(data.images[i], data.keypoints[i, :JOINTS], rng) for i in two]
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows]).astype(np.float32)
