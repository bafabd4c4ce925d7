"""Whole-body estimation by rtmlib: a YOLOX network finds people, an RTMPose, RTMW or DWPose network their joints.

rtmlib (0.0.16) takes a file's path or an address; what is not a file it downloads. So paths are checked before it sees
them. Further things of it that are met here: it feeds both networks the colours in one order, while YOLOX was trained
on blue green red and RTMPose on red green blue (rtmlib issue 48); a detector that finds nobody makes it take the whole
picture for a person; of COCO's 80 classes it takes every one for a person; scores are SimCC's peaks, which are no
probabilities (about 1 where RTMPose and DWPose are sure, about 5 for RTMW); it prints to stdout.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, final

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import ArtifactError, BackendError, MissingDependency
from flowpose.estimating import LEAST, EstimatorOptions
from flowpose.pose import Pose

__all__ = ["RtmEstimator"]

# Not `pip install rtmlib`: it asks for opencv-python and opencv-contrib-python, which write over the headless OpenCV.
INSTALL = "pip install --no-deps rtmlib tqdm"
PUBLISHED = (
    "RTMW, DWPose and YOLOX as zips with an end2end.onnx: download.openmmlab.com/mmpose/v1/projects/rtmw/onnx_sdk and "
    ".../rtmposev1/onnx_sdk, also huggingface.co/Tau-J/RTMPose"
)
FORMATS = {17: "coco-17", 133: "coco-wholebody-133"}  # joints of a network -> format
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PERSON = 0  # COCO's class
SIMCC, BOXES = (2,), (1, 2)  # numbers of outputs; a detector may give classes beside boxes


@final
class RtmEstimator:
    """Finds people and their joints.

    Args:
        options: `pose` is needed; without `det` one person fills the picture.

    Raises:
        MissingDependency: rtmlib, onnxruntime or tqdm is not installed.
        ArtifactError: a file is not given, not there, or no such network.
        BackendError: onnxruntime does not take the device.
    """

    def __init__(self, options: EstimatorOptions) -> None:
        pose = _file("pose", options.pose)
        det = _file("det", options.det) if options.det is not None else None
        self._least = LEAST if options.least is None else options.least
        self._pose = _opened("RTMPose", pose, options)
        self._pose.model_input_size = _sides(pose, self._pose, SIMCC)[::-1]
        self._det, self._classes = None, False
        if det is not None:
            self._det = _opened("YOLOX", det, options)
            self._det.model_input_size = _sides(det, self._det, BOXES)
            self._classes = _last_side(det, self._det) > 5
            self._det.det_mode = "multiclass" if self._classes else "human"

    def find(self, picture: NDArray[np.uint8]) -> tuple[Pose, ...]:
        """Returns the people's poses, the surest first; coco-17 or coco-wholebody-133, as the network gives."""
        given = image.check(picture)
        boxes = self._boxes(given)
        if not len(boxes):
            return ()
        joints, scores = self._run("pose network", lambda: self._pose(given, bboxes=boxes))
        return tuple(self._read(xy, score, given) for xy, score in zip(joints, scores, strict=True))

    @staticmethod
    def _run(which: str, network: Callable[[], Any]) -> Any:
        from flowpose.runtime.onnxruntime import FAULTS  # here, since it imports onnxruntime

        try:
            return network()
        except (*FAULTS, ValueError, IndexError, RuntimeError, cv2.error) as error:
            fix = "give a network that rtmlib reads, as its page lists them"
            raise BackendError(f"rtmlib's {which}", f"failed ({error})", fix=fix) from error

    def _boxes(self, picture: NDArray[np.uint8]) -> Any:
        """f32[n,4], left, top, right, bottom in pixels."""
        height, width = picture.shape[:2]
        if self._det is None:
            return np.array([[0, 0, width, height]], np.float32)
        detect, turned = self._det, np.ascontiguousarray(picture[..., ::-1])
        found = self._run("detector", lambda: detect(turned))
        if self._classes:
            boxes, kinds = found
            found = boxes[np.asarray(kinds) == PERSON] if len(boxes) else boxes
        boxes = np.asarray(found, np.float32).reshape(-1, 4)
        low, high = np.clip(boxes[:, :2], 0, (width, height)), np.clip(boxes[:, 2:], 0, (width, height))
        return boxes[((high - low) > 1).all(1)]

    def _read(self, xy: Any, score: Any, picture: NDArray[np.uint8]) -> Pose:
        if len(xy) not in FORMATS:
            expected = " or ".join(f"{joints} ({name})" for joints, name in FORMATS.items())
            raise BackendError("pose network", "other joints", got=f"{len(xy)} joints", expected=expected)
        sure = np.where(score < self._least, 0, np.minimum(score, 1)).astype(np.float32)
        # The network counts pixels, so a joint at its 0 lies in the middle of the first one.
        return Pose(FORMATS[len(xy)], np.asarray(xy + 0.5, np.float32), sure, picture.shape[:2])


def _file(which: str, path: Path | None) -> Path:
    option, variable = f"--{which}-model", f"FLOWPOSE_{which.upper()}_MODEL"
    fix = f"{option} FILE.onnx, or {variable}=FILE.onnx. {PUBLISHED}"
    if path is None:
        expected = "an ONNX file on this machine; nothing is downloaded"
        raise ArtifactError(f"rtmlib {option}", "no network is given", expected=expected, fix=fix)
    if not path.is_file():
        raise ArtifactError(path, "no such file", expected=f"the {which} network as an ONNX file", fix=fix)
    return path


def _opened(kind: str, path: Path, options: EstimatorOptions) -> Any:
    if options.device not in PROVIDERS:
        raise BackendError("device", "unknown device", got=options.device, expected=" or ".join(PROVIDERS))
    try:
        rtmlib, onnxruntime = import_module("rtmlib"), import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise MissingDependency("rtmlib", f"needs the package {error.name}", fix=INSTALL) from error
    from flowpose.runtime.onnxruntime import FAULTS  # here, since it imports onnxruntime

    try:
        with contextlib.redirect_stdout(sys.stderr):
            tool = getattr(rtmlib, kind)(str(path), backend="onnxruntime", device=options.device)
        if options.threads is not None:  # rtmlib opens it with all cores
            wish = onnxruntime.SessionOptions()
            wish.intra_op_num_threads = options.threads
            tool.session = onnxruntime.InferenceSession(str(path), wish, tool.session.get_providers())
    except FAULTS as error:
        raise ArtifactError(path, f"onnxruntime cannot open it ({error})", expected="an ONNX file") from error
    taken = tool.session.get_providers()[0]
    if taken != PROVIDERS[options.device]:  # it falls back without an error
        fix = "pip install onnxruntime-gpu, or EstimatorOptions(device='cpu')"
        raise BackendError(
            path, "onnxruntime took another provider", got=taken, expected=options.device, fix=fix
        )
    return tool


def _sides(path: Path, tool: Any, outputs: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of what the network takes."""
    given, made = tool.session.get_inputs(), tool.session.get_outputs()
    shape = given[0].shape if given else []
    sides = [side for side in shape[2:] if isinstance(side, int) and side > 0]
    if len(given) != 1 or len(shape) != 4 or len(sides) != 2 or len(made) not in outputs:
        kind = "simcc_x and simcc_y" if outputs == SIMCC else "YOLOX's boxes"
        got, expected = f"input {shape}, {len(made)} outputs", f"input [n, 3, height, width], outputs {kind}"
        raise ArtifactError(path, "not such a network", got=got, expected=expected)
    return sides[0], sides[1]


def _last_side(path: Path, tool: Any) -> int:
    side = tool.session.get_outputs()[0].shape[-1]
    if not isinstance(side, int) or side < 5:
        expected = "boxes [n, count, 5], or [n, count, 5 + classes]"
        raise ArtifactError(path, "not YOLOX's output", got=side, expected=expected)
    return side
