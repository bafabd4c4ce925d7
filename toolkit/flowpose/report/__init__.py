"""What people look at: contact sheets, videos and the HTML report of a run."""

from __future__ import annotations

from flowpose.report.html import Evidence, StageRow, write_html
from flowpose.report.sheet import draw_pose, sheet
from flowpose.report.video import write_video

__all__ = ["Evidence", "StageRow", "draw_pose", "sheet", "write_html", "write_video"]
