"""What `flowpose infer` does: files in, files out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowpose import image
from flowpose.errors import ImageError
from flowpose.pose_files import read_poses
from flowpose.report import write_video
from flowpose.runtime import load

MOVING = (".mp4", ".gif", ".webp")


def infer_files(
    source: Path, pose: Path, output: Path, *, model: str, format: str | None, fps: float
) -> dict[str, Any]:
    """Writes the frames of all poses: a video where the output's suffix is one of MOVING, else a picture for
    one pose and numbered pictures for several.

    Raises:
        ImageError: a picture that cannot be read or written, an unknown suffix, or no frame rate.
        PoseError: a file that cannot be read, or holds no pose.
        FlowposeError: what `flowpose.load` raises.
    """
    _check_output(output, fps)
    picture = image.read(source)
    poses = read_poses(pose, format=format, size=picture.shape[:2])
    loaded = load(model)
    session = loaded.session(picture)
    written = _write(output, [session.infer(each) for each in poses], fps)
    return {
        "frames": len(poses), "files": [str(path) for path in written], "model": str(loaded.path),
        "backend": loaded.backend, "precision": loaded.precision,
    }  # fmt: skip


def _check_output(output: Path, fps: float) -> None:
    """Raises now, not after the work, when frames cannot be written as this."""
    kind, kinds = output.suffix.lower(), tuple(dict.fromkeys((*image.WRITTEN, *MOVING)))
    if kind not in kinds:
        got = f"'{output.suffix}'" if output.suffix else "no suffix"
        raise ImageError(output, "unknown kind of output", got=got, expected=", ".join(kinds))
    if kind in MOVING and not (fps > 0 and math.isfinite(fps)):
        raise ImageError(output, "no frame rate", got=fps, expected="frames a second, above 0")


def _write(output: Path, frames: Sequence[image.Picture], fps: float) -> list[Path]:
    if output.suffix.lower() in MOVING:
        return [write_video(output, frames, fps)]
    if len(frames) == 1:
        return [image.write(output, frames[0])]
    names = [output.with_stem(f"{output.stem}-{i:04d}") for i in range(len(frames))]
    return [image.write(name, frame) for name, frame in zip(names, frames, strict=True)]
