"""Estimators: what finds people's joints in a picture. The table says where each one stands and what it is good for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import FlowposeError
from flowpose.pose import Pose

__all__ = ["ESTIMATORS", "LEAST", "Estimator", "EstimatorEntry", "EstimatorOptions", "open_estimator"]

Picture = NDArray[np.uint8]
LEAST = 0.3  # score of a joint that is just there; RTMW's scores go to 5 and need more


class Estimator(Protocol):
    """Finds people. Any object with this method can be given to `flowpose.live_command.run_live` and `find_motion`."""

    def find(self, picture: Picture) -> tuple[Pose, ...]:
        """Returns the poses of the people in a picture u8[h,w,3] (red green blue), on its canvas; none where nobody is.

        Raises:
            ImageError: a wrong picture.
            BackendError: the network failed, or does not give what it should.
        """
        ...


@dataclass(frozen=True)
class EstimatorOptions:
    """What an estimator is opened with.

    Attributes:
        det: file of the network that finds people; None: one person fills the picture.
        pose: file of the network that finds joints.
        least: a joint with a lower score is missing; None: LEAST.
        threads: CPU threads of a network's run, None as the library likes.
        device: cpu or cuda.
    """

    det: Path | None = None
    pose: Path | None = None
    least: float | None = None
    threads: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class EstimatorEntry:
    """An estimator.

    Attributes:
        module, cls: where it stands; the class is called with EstimatorOptions.
        about: what it finds, and what it needs.
    """

    module: str
    cls: str
    about: str


ESTIMATORS: Mapping[str, EstimatorEntry] = MappingProxyType(
    {
        "rtmlib": EstimatorEntry(
            "flowpose.estimating.rtm",
            "RtmEstimator",
            "whole bodies of several people; needs rtmlib, and networks (RTMW, DWPose, RTMPose; YOLOX) as ONNX files",
        ),
        "judge": EstimatorEntry(
            "flowpose.estimating.judged",
            "JudgedEstimator",
            "17 joints of one person who fills the picture's height; ships with flowpose, made on rendered people",
        ),
    }
)


def open_estimator(name: str, options: EstimatorOptions | None = None) -> Estimator:
    """Returns an estimator by its name in ESTIMATORS; nothing is downloaded.

    Raises:
        FlowposeError: no such estimator.
        MissingDependency: a package that it needs is not installed.
        ArtifactError: a network's file is not given, not there, or no such network.
    """
    if name not in ESTIMATORS:
        raise FlowposeError(
            "estimator", "no such estimator", got=f"'{name}'", expected="one of " + ", ".join(ESTIMATORS)
        )
    entry = ESTIMATORS[name]
    found: Estimator = getattr(import_module(entry.module), entry.cls)(options or EstimatorOptions())
    return found
