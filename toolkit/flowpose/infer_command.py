"""What `flowpose infer` does: files in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowpose import image
from flowpose.pose_files import read_poses
from flowpose.report import write_video
from flowpose.runtime import load

MOVING = (".mp4", ".gif", ".webp")


def infer_files(
    source: Path, pose: Path, output: Path, *, model: str, format: str | None, fps: float
) -> dict[str, Any]:
    """Writes the frames of all poses: a picture for one pose, else a video or numbered pictures.

    Raises:
        ImageError, PoseError: a file that cannot be read or written, or is no picture or pose.
        FlowposeError: what `flowpose.load` raises.
    """
    picture = image.read(source)
    poses = read_poses(pose, format=format, size=picture.shape[:2])
    loaded = load(model)
    session = loaded.session(picture)
    frames = [session.infer(each) for each in poses]
    written = [output]
    if output.suffix.lower() in MOVING and len(frames) > 1:
        write_video(output, frames, fps)
    elif len(frames) == 1:
        image.write(output, frames[0])
    else:
        written = [
            image.write(output.with_stem(f"{output.stem}-{i:04d}"), frame) for i, frame in enumerate(frames)
        ]
    return {
        "frames": len(frames), "files": [str(path) for path in written], "model": str(loaded.path),
        "backend": loaded.backend, "precision": loaded.precision,
    }  # fmt: skip
