"""The judge at work: joints, identity and features of a picture, from the packaged `judge.onnx`.

The judge is trained on its own (see flowpose/judge.py), on the people set's train split (CC0) and procedural
figures, and used in no loss of a generator. It errs: of true joints it finds (within 0.1 of the box diagonal)
91 % of people val and of unseen figures (benchmarks/results/judge.json). So the pose accuracy of the truth is
the ceiling: show it beside a model's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError, IntegrityError, MissingDependency
from flowpose.metrics.pictures import check
from flowpose.metrics.pose import JOINTS, PoseAccuracy, pose_accuracy

HEIGHT, WIDTH = 128, 88  # the judge's own picture size
PATH = Path(__file__).with_name("judge.onnx")
SHA256 = "93a672b106c070228b56a3b6099b36f4860c74775c05074a128048e778a9795d"
LAYERS = ("features1", "features2", "features3", "features4")

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

__all__ = [
    "HEIGHT",
    "JOINTS",
    "LAYERS",
    "WIDTH",
    "Judge",
    "View",
    "calibrate",
    "identity_similarity",
    "own_lpips",
]


@dataclass(frozen=True)
class View:
    """What the judge sees in one picture.

    Attributes:
        keypoints: f32[17,3], x and y in the picture's own pixels, score 0..1.
        identity: f32[64] of length 1.
        features: four maps f32[c,h,w], at strides 2 to 16 of 128x88.
    """

    keypoints: Floats
    identity: Floats
    features: tuple[Floats, ...]


class Judge:
    """Runs the judge's graph on the CPU.

    Args:
        path: the graph; the packaged one by default.
        threads: of onnxruntime.
        verify: refuse a file whose sha256 is not the packaged one's.

    Raises:
        IntegrityError: the file is missing or not the one that this version's scores were made with.
        MissingDependency: onnxruntime is not installed.
    """

    def __init__(self, path: Path = PATH, *, threads: int = 1, verify: bool = True) -> None:
        try:
            import onnxruntime  # here, since metrics must import without it
        except ImportError as error:
            raise MissingDependency(
                "judge", "onnxruntime is missing", fix="pip install onnxruntime"
            ) from error
        if not path.is_file():
            raise IntegrityError(path, "no such file", expected="the judge's graph", fix="reinstall flowpose")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if verify and digest != SHA256:
            raise IntegrityError(
                path, "not this version's judge", got=digest, expected=SHA256, fix="reinstall flowpose"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.path, self.sha256 = path, digest
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def view(self, picture: Bytes) -> View:
        """Returns what the judge sees in a picture u8[H,W,3] (RGB) of any size.

        Raises:
            ImageError: not u8[H,W,3].
        """
        check("picture", picture)
        height, width = picture.shape[:2]
        shrinks = height >= HEIGHT and width >= WIDTH
        if (height, width) != (HEIGHT, WIDTH):
            way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            picture = np.asarray(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=way), np.uint8)
        keypoints, identity, *features = self._session.run(
            None, {"pictures": np.ascontiguousarray(picture[None])}
        )
        own = keypoints[0] * np.array([width / WIDTH, height / HEIGHT, 1.0], np.float32)
        return View(own.astype(np.float32), identity[0], tuple(f[0] for f in features))


def own_lpips(a: View, b: View) -> float:
    """Returns the distance of two views' features: 0 for the same picture, more the more they differ.

    Features are scaled to length 1 over the channels at every place; squared differences are averaged over
    places and the four maps, as LPIPS does (Zhang et al. 2018, arXiv 1801.03924), without its weights.
    Figures of other networks' LPIPS cannot be compared with it.
    """
    parts: list[float] = []
    for left, right in zip(a.features, b.features, strict=True):
        units = [f / np.sqrt((f * f).sum(0, keepdims=True) + 1e-8) for f in (left, right)]
        parts.append(float(((units[0] - units[1]) ** 2).sum(0).mean()))
    return float(np.mean(parts))


def identity_similarity(a: View, b: View) -> float:
    """Returns the cosine of two views' identity vectors, -1..1; 1 for the same picture."""
    return float(np.clip(a.identity @ b.identity, -1.0, 1.0))


def calibrate(
    pictures: Sequence[Bytes], keypoints: Sequence[NDArray[np.floating]], judge: Judge
) -> PoseAccuracy:
    """Returns how well the judge finds known joints: PCK@0.1, mean error and joints, over all pictures' joints.

    Pictures u8[H,W,3] with f32[17|133,3] each, in their pixels. Real pictures say what a model's pose accuracy
    is worth: it cannot be trusted further than the judge errs on them.

    Raises:
        DataError: no pictures, or not as many keypoints.
        ImageError, PoseError: a wrong picture or pose, see `pose_accuracy`.
    """
    if not len(pictures) or len(pictures) != len(keypoints):
        got = [len(pictures), len(keypoints)]
        raise DataError("calibrate", "no known joints", got=got, expected="keypoints for every picture")
    found = [pose_accuracy(judge.view(p).keypoints, k) for p, k in zip(pictures, keypoints, strict=True)]
    joints = sum(each.joints for each in found)
    return PoseAccuracy(
        pck=sum(each.pck * each.joints for each in found) / joints,
        error=sum(each.error * each.joints for each in found) / joints,
        joints=joints,
    )
