"""Contact sheets, pose drawings and videos."""

from __future__ import annotations

import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose import image
from flowpose.data.figures import draw, figure_identity, motion
from flowpose.errors import ImageError, PoseError
from flowpose.report import draw_pose, sheet, write_video
from flowpose.report.video import PictureWriter, VideoWriter, open_writer

Bytes = NDArray[np.uint8]


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


def test_a_growing_film_holds_no_frame_and_bears_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path, gone = tmp_path / "film.mp4", []
    with open_writer(path, 15) as writer:
        for frame in frames(5):
            gone.append(weakref.ref(own := frame.copy()))
            writer.add(own)
            del own
            assert not path.exists()
        assert not any(each() is not None for each in gone)
        assert [file.name for file in tmp_path.iterdir()] == [".film.part.mp4"]
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]
    assert writer.close() == (path,), "closing twice is closing once"


@pytest.mark.parametrize("kind", [".mp4", ".gif", ".webp", ".png"])
def test_an_error_leaves_the_film_before_it_and_nothing_half_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"film{kind}"
    path.write_bytes(b"the film before")

    def fail() -> None:
        with open_writer(path, 15) as writer:
            writer.add(frames(1)[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"the film before" and list(tmp_path.iterdir()) == [path]


def test_a_film_that_lost_frames_is_an_error(tmp_path: Path) -> None:
    """As on a full disk: the writer says nothing, but the file does not hold what was written."""

    def lose() -> None:
        with VideoWriter(tmp_path / "film.mp4", 15) as writer:
            writer.add(frames(1)[0])
            writer.count += 1

    with pytest.raises(ImageError, match="could not write"):
        lose()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [".webp", ".png", ".gif"])
def test_animations_hold_alpha(tmp_path: Path, kind: str) -> None:
    clear = [np.dstack([frame, np.full((64, 48), 255, np.uint8)]) for frame in frames(2)]
    for i, each in enumerate(clear):
        each[:, : 10 * i + 10, 3] = 0
    write_video(tmp_path / f"film{kind}", clear, 10)
    done, animation = cv2.imreadanimation(str(tmp_path / f"film{kind}"))
    assert done and np.array_equal(animation.frames[0][..., 3], clear[0][..., 3])


def test_a_film_holds_no_alpha(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no alpha") as caught:
        write_video(tmp_path / "film.mp4", [np.zeros((8, 8, 4), np.uint8)], 10)
    assert ".webp" in str(caught.value.fix) and not list(tmp_path.iterdir())


def test_an_animation_that_is_too_long_says_what_to_write_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowpose.report.video.LARGEST", 3 * 64 * 48 * 3)
    write_video(tmp_path / "film.webp", frames(3), 10)
    with pytest.raises(ImageError, match="too long") as caught:
        write_video(tmp_path / "longer.webp", frames(4), 10)
    assert ".mp4" in str(caught.value.fix) and [file.name for file in tmp_path.iterdir()] == ["film.webp"]


def test_pictures_are_numbered_where_there_are_several(tmp_path: Path) -> None:
    first, second = frames(2)
    with PictureWriter(tmp_path / "a.png", several=True) as writer:
        writer.add(first)
        writer.add(second)
        assert [file.name for file in writer.close()] == ["a-0000.png", "a-0001.png"]
    assert np.array_equal(image.read(tmp_path / "a-0001.png"), second)
    clear = np.dstack([first, np.full((64, 48), 7, np.uint8)])
    with PictureWriter(tmp_path / "b.png", several=False) as writer:
        writer.add(clear)
        with pytest.raises(ImageError, match="several"):
            writer.add(clear)
    stored = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA), clear)


def test_a_place_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for name in ("film.mp4", "film.webp"):
        with pytest.raises(ImageError, match="cannot be written"):
            write_video(tmp_path / "file" / name, frames(1), 10)
