"""One person, encoded once, for any number of poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowpose.runtime.contexts import Context
from flowpose.runtime.stream import Stream

if TYPE_CHECKING:
    from flowpose.runtime.model import Model


@dataclass(frozen=True, eq=False)
class Session:
    """One source picture, encoded; `infer` makes frame after frame. Made by `Model.session`.

    Nothing in it changes, so threads may share it; frames are the same bytes whichever thread asks, and in which order.

    Attributes:
        model: the model.
        context: f32[1+L+R,2,Ns,C] of the source, read-only: a GPU backend keeps it on its device.
        size: (height, width) of the source picture, the canvas of poses that have no size.
    """

    model: Model
    context: Context
    size: tuple[int, int]

    def infer(self, pose: Any, *, format: str | None = None) -> NDArray[np.uint8]:
        """Returns u8[H,W,3] for a pose, as `Model.infer` does."""
        return self.model.frame_now(self.context, self.model.keypoints(pose, self.size, format))

    def stream(self) -> Stream:
        """Returns a stream: poses go in whenever they come, a thread of its own draws the newest one."""
        return Stream(self.infer)
