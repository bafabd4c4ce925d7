"""What models are timed on: the picture and the poses that an artifact keeps as goldens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from flowpose.artifact import Artifact
from flowpose.pose import Pose
from flowpose.runtime.goldens import read_goldens
from flowpose.spec.manifest import Manifest


def recorded(artifact: Artifact, precision: str) -> tuple[NDArray[np.uint8], list[Pose]]:
    """Returns the first golden source u8[H,W,3] and all golden poses.

    Raises:
        ArtifactError: the artifact has no goldens of the precision.
    """
    goldens = read_goldens(artifact, precision)
    return goldens.source[0], poses_of(artifact.manifest, goldens.keypoints)


def poses_of(manifest: Manifest, keypoints: Iterable[NDArray[np.float32]]) -> list[Pose]:
    """Returns keypoints f32[J,3] of a model's own format, in pixels of its frame, as poses."""
    size = (manifest.image.height, manifest.image.width)
    return [Pose.of(each, manifest.pose.format, size) for each in keypoints]
