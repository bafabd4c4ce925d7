"""Contact sheets, pose drawings, videos and the HTML report."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.data.figures import draw, figure_identity, motion
from flowpose.errors import ImageError, PoseError
from flowpose.report import Evidence, StageRow, draw_pose, sheet, write_html, write_video
from flowpose.spec.manifest import Ancestor, Contestant, GateResult, Measurement

Bytes = NDArray[np.uint8]
VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Collects tags, checks that they close, and gathers the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def frames(count: int, height: int = 64, width: int = 48) -> list[Bytes]:
    who = figure_identity(0)
    return [draw(who, pose, height, width)[0] for pose in motion(0, count, 15)]


def test_sheet_enlarges_small_pictures_and_keeps_their_colours() -> None:
    red = np.full((64, 48, 3), (200, 10, 10), np.uint8)
    paper = sheet([[red, red], [red, red]], ["source", "truth"])
    assert paper.dtype == np.uint8
    assert paper.shape[0] > 2 * 176
    assert paper.shape[1] > 2 * 144
    assert (paper == (200, 10, 10)).all(2).sum() == 4 * (64 * 3) * (48 * 3)
    assert (paper[:26] < 128).any(), "labels are written"


def test_sheet_leaves_large_pictures_and_takes_mixed_sizes() -> None:
    large, small = np.zeros((256, 176, 3), np.uint8), np.zeros((64, 44, 3), np.uint8)
    paper = sheet([[large, small]], ["a", "b"])
    assert (paper == 0).all(2).sum() >= 2 * 256 * 176


def test_wrong_sheets_are_errors() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ImageError, match="labels"):
        sheet([[picture]], ["a", "b"])
    with pytest.raises(ImageError, match="labels"):
        sheet([], [])
    with pytest.raises(ImageError, match="sheet row 0"):
        sheet([[picture.astype(np.float32)]], ["a"])


@pytest.mark.parametrize("joints", [17, 133])
def test_a_pose_is_drawn_where_its_joints_are(joints: int) -> None:
    keypoints = draw(figure_identity(0), motion(0, 1, 15)[0], 128, 88)[1][:joints]
    drawing = draw_pose(keypoints, 128, 88)
    assert drawing.shape == (128, 88, 3)
    x, y = keypoints[5, :2].astype(int)
    assert drawing[y, x].max() > 150
    assert draw_pose(np.zeros((joints, 3)), 128, 88).max() == 0
    with pytest.raises(PoseError, match="shape"):
        draw_pose(np.zeros((18, 3)), 128, 88)


@pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 49)])
def test_an_mp4_can_be_read_back(tmp_path: Path, height: int, width: int) -> None:
    shown = frames(6, height, width)
    path = write_video(tmp_path / "new" / "motion.mp4", shown, 15)
    reader = cv2.VideoCapture(str(path))
    count = 0
    while True:
        got, frame = reader.read()
        if not got:
            break
        wanted = cv2.cvtColor(shown[count], cv2.COLOR_RGB2BGR)
        assert np.abs(frame[:height, :width].astype(int) - wanted).mean() < 12
        count += 1
    assert count == 6
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(15, abs=0.1)


@pytest.mark.parametrize("kind", [".gif", ".webp"])
def test_animations_hold_all_frames(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path / f"motion{kind}", frames(5), 12.5)
    done, animation = cv2.imreadanimation(str(path))
    assert done
    assert len(animation.frames) == 5


def test_wrong_videos_are_errors(tmp_path: Path) -> None:
    good = frames(2)
    with pytest.raises(ImageError, match="unknown kind"):
        write_video(tmp_path / "a.avi", good, 15)
    with pytest.raises(ImageError, match="no video"):
        write_video(tmp_path / "a.mp4", [], 15)
    with pytest.raises(ImageError, match="no video"):
        write_video(tmp_path / "a.mp4", good, 0)
    with pytest.raises(ImageError, match="frames differ"):
        write_video(tmp_path / "a.mp4", [good[0], good[1][:32]], 15)


def test_the_report_holds_everything_and_nothing_from_outside(tmp_path: Path) -> None:
    rows = [
        StageRow("teacher", 16, "fp32", 40.5, 812.3, 901.0, 0.9, 1.1, 21.5, 0.8, 0.05, 0.93),
        StageRow("int8", 1, "int8", 9.1, 11.25, 12.5),
    ]
    path = write_html(
        tmp_path / "out" / "report.html",
        "people-128 on <cpu> & co",
        rows,
        {"source, truth <b>": frames(1)[0]},
        evidence=Evidence(
            contest=[
                Contestant(
                    backend="openvino",
                    precision="int8",
                    p50=8.125,
                    p95=9,
                    n=100,
                    ratio=1,
                    chosen=True,
                    reason="1.68 times as fast <& more>",
                    int8_layers=42,
                    float_layers=12,
                    conversions=48,
                ),
                Contestant(
                    backend="onnxruntime",
                    precision="fp32",
                    p50=14,
                    p95=15,
                    n=100,
                    ratio=1.75,
                    chosen=False,
                    reason="slower",
                ),
            ],
            gates=[
                GateResult(stage="distill", metric="psnr", limit=20, value=21.5, passed=True),
                GateResult(
                    stage="quantize", metric="ssim", limit=0.9, value=0.8, passed=False, waived="a trial"
                ),
            ],
            measurements=[
                Measurement(metric="psnr", value=21.5, unit="dB", n=64, set="people/val", stage="train")
            ],
            history=[Ancestor(kind="model", name="people-128", key="a" * 64, stage={"steps": 7})],
        ),
        facts={"device": "2 cores"},
    )
    text = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.links, "the picture is embedded"
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    assert "http" not in text
    assert "prefers-color-scheme:dark" in text
    for words in (
        "people-128 on <cpu> & co",
        "812.30",
        "0.93",
        "waived: a trial",
        "Why this precision",
        "int8 *",
        "1.68 times as fast <& more>",
        "2 cores",
        "aaaaaaaaaaaa",
        "steps",
    ):
        assert words in checker.text


def test_an_empty_report_has_no_empty_sections(tmp_path: Path) -> None:
    text = write_html(tmp_path / "report.html", "nothing yet", [], {}).read_text(encoding="utf-8")
    assert "<h2>" not in text
