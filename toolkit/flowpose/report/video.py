"""Videos and animations of frames, written with OpenCV alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose.errors import ImageError

Bytes = NDArray[np.uint8]
ANIMATIONS = (".gif", ".webp", ".png")
VIDEOS = (".mp4",)


def _check(path: Path, frames: Sequence[Bytes], fps: float) -> None:
    kinds = (*VIDEOS, *ANIMATIONS)
    if path.suffix.lower() not in kinds:
        raise ImageError(
            path, "unknown kind of video", got=path.suffix or "no suffix", expected=" ".join(kinds)
        )
    if not frames or fps <= 0:
        raise ImageError(
            path, "no video", got=f"{len(frames)} frames at {fps} fps", expected="frames and a rate above 0"
        )
    kept = {(frame.dtype.name, frame.shape) for frame in frames}
    dtype, shape = min(kept)
    if len(kept) > 1 or dtype != "uint8" or len(shape) != 3 or shape[2] != 3:
        raise ImageError(
            path, "frames differ or are no pictures", got=sorted(kept), expected="uint8[height,width,3]"
        )


def _video(path: Path, frames: Sequence[Bytes], fps: float) -> bool:
    # Players want even sides; a repeated last row or column is seen less than a lost one.
    height, width = frames[0].shape[:2]
    bottom, right = height % 2, width % 2
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width + right, height + bottom)
    )
    if not writer.isOpened():
        return False
    for frame in frames:
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        writer.write(cv2.copyMakeBorder(bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE))
    writer.release()
    return path.is_file() and path.stat().st_size > 0


def _animation(path: Path, frames: Sequence[Bytes], fps: float) -> bool:
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames]
    animation.durations = [round(1000 / fps)] * len(frames)
    return bool(cv2.imwriteanimation(str(path), animation))


def write_video(path: Path | str, frames: Sequence[Bytes], fps: float) -> Path:
    """Writes frames u8[H,W,3] (RGB) of one size as .mp4 (MPEG-4 part 2), or an animated .gif, .webp or .png.

    Returns the path. GIFs hold time in hundredths of a second and 256 colours.

    Raises:
        ImageError: no frames, frames that differ, an unknown suffix, or OpenCV cannot write this kind here.
    """
    path = Path(path)
    _check(path, frames, fps)
    if path.suffix.lower() in ANIMATIONS and not hasattr(cv2, "imwriteanimation"):
        got, fix = f"OpenCV {cv2.__version__}", "pip install -U opencv-python-headless"
        raise ImageError(path, "cannot write animations", got=got, expected="4.11 or later", fix=fix)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = (_video if path.suffix.lower() in VIDEOS else _animation)(path, frames, fps)
    if not written:
        raise ImageError(path, "OpenCV could not write this video", expected="a writable folder and a codec")
    return path
