"""Reading, writing and letterboxing of pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from flowpose import image
from flowpose.errors import ImageError
from flowpose.letterbox import letterbox

SIZES = [
    ((24, 16), (24, 16)),
    ((240, 160), (24, 16)),
    ((10, 30), (24, 16)),
    ((7, 3), (24, 16)),
    ((1, 500), (24, 16)),
]


def noise(height: int, width: int) -> image.Picture:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("canvas", "frame"), SIZES)
def test_a_letterbox_fills_one_side_and_is_centred(canvas: tuple[int, int], frame: tuple[int, int]) -> None:
    box = letterbox(canvas, frame)
    assert box.height == frame[0] or box.width == frame[1]
    assert box.top >= 0 and box.top + box.height <= frame[0]
    assert abs(frame[0] - box.height - 2 * box.top) <= 1
    assert abs(frame[1] - box.width - 2 * box.left) <= 1


@pytest.mark.parametrize(("canvas", "frame"), SIZES)
def test_fit_gives_the_frame_size(canvas: tuple[int, int], frame: tuple[int, int]) -> None:
    fitted = image.fit(noise(*canvas), *frame)
    assert fitted.shape == (*frame, 3) and fitted.dtype == np.uint8


def test_fit_of_the_same_size_is_the_identity() -> None:
    picture = noise(24, 16)
    assert np.array_equal(image.fit(picture, 24, 16), picture)


def test_fit_repeats_the_edges() -> None:
    picture = np.full((20, 20, 3), 200, np.uint8)
    assert (image.fit(picture, 24, 48) == 200).all()


def test_fit_puts_a_point_where_the_pose_goes() -> None:
    from flowpose.pose import Pose

    picture = np.zeros((96, 128, 3), np.uint8)
    picture[40:44, 80:84] = 255
    pose = Pose.of(np.full((17, 3), [82, 42, 1.0]), size=(96, 128)).fit(48, 48)
    rows, columns = np.nonzero(image.fit(picture, 48, 48)[..., 0] > 100)
    assert np.allclose([columns.mean() + 0.5, rows.mean() + 0.5], pose.xy[0], atol=0.51)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    picture = noise(9, 7)
    assert np.array_equal(image.read(image.write(tmp_path / "new" / "a.png", picture)), picture)


@pytest.mark.parametrize("suffix", image.WRITTEN)
def test_colours_keep_their_order(tmp_path: Path, suffix: str) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[..., 0] = 250
    back = image.read(image.write(tmp_path / f"red{suffix}", picture))
    assert back[..., 0].mean() > 240 and back[..., 2].mean() < 10


def test_a_grey_file_is_read_in_three_channels() -> None:
    data = cv2.imencode(".png", np.full((4, 5), 77, np.uint8))[1].tobytes()
    assert (image.decode(data) == 77).all() and image.decode(data).shape == (4, 5, 3)


def test_a_view_comes_back_contiguous() -> None:
    assert image.check(noise(8, 8)[:, ::-1]).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_bytes_that_are_no_picture(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"a\.jpg: not a picture"):
        image.decode(data, "a.jpg")


def test_a_text_file_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(ImageError, match="not a picture, got 5 bytes"):
        image.read(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="no such file"):
        image.read(tmp_path / "b.jpg")


def test_writing_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="unknown kind"):
        image.write(tmp_path / "a.xyz", noise(4, 4))
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot be written"):
        image.write(tmp_path / "file" / "a.png", noise(4, 4))


@pytest.mark.parametrize(
    "wrong", [None, np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 0, 3), np.uint8)]
)
def test_check_refuses(wrong: object) -> None:
    with pytest.raises(ImageError):
        image.check(wrong)
