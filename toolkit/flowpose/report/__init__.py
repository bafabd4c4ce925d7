"""What people look at: contact sheets, videos and the pages of a run, an inspection and a measurement."""

from __future__ import annotations

from flowpose.report.html import StageRow
from flowpose.report.sheet import draw_pose, sheet
from flowpose.report.video import write_video

__all__ = ["StageRow", "draw_pose", "sheet", "write_video"]
