"""Videos and cameras: times, the newest picture, and the motion of one person."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from waiting import until

from flowpose.errors import ImageError, PoseError
from flowpose.estimating import Estimator, video
from flowpose.estimating.video import Camera, find_motion, frames
from flowpose.pose import Pose
from flowpose.report import write_video

Picture = NDArray[np.uint8]


def grey(level: int) -> Picture:
    return np.full((32, 48, 3), level, np.uint8)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten frames at 12.5 a second, each 20 levels brighter."""
    return write_video(tmp_path / "film.mp4", [grey(20 * i) for i in range(10)], 12.5)


def person(x: float) -> Pose:
    rows = np.zeros((17, 3), np.float32)
    rows[5:17] = [x, 8, 1]
    rows[5:17, 1] += np.arange(12)
    return Pose.of(rows, "coco-17", (32, 48))


class Levels:
    """Finds a person at a place that the picture's brightness tells, and another one; nobody in the third frame."""

    def find(self, picture: Picture) -> tuple[Pose, ...]:
        level = float(picture.mean())
        if 30 < level < 50:
            return ()
        return person(2 + level / 10), person(40)


def test_frames_come_in_order_with_their_times_in_red_green_blue(tmp_path: Path, film: Path) -> None:
    shots = list(frames(film))
    assert [round(float(shot.picture.mean()) / 20) for shot in shots] == list(range(10))
    assert np.allclose([shot.time for shot in shots], np.arange(10) / 12.5, atol=1e-3)
    red = write_video(tmp_path / "red.mp4", [np.full((32, 48, 3), (200, 20, 20), np.uint8)], 25)
    assert next(frames(red)).picture.mean((0, 1)).argmax() == 0


def test_the_motion_of_one_person_keeps_the_videos_times_and_gaps(film: Path) -> None:
    found = find_motion(film, Levels(), person=0)
    assert np.allclose(found.times, np.arange(10) / 12.5, atol=1e-3)
    assert [pose.score.any() for pose in found.poses] == [True, True, False, *[True] * 7]
    assert found.poses[4].xy[5, 0] == pytest.approx(2 + 8, abs=0.3)
    other = find_motion(film, Levels(), person=1)
    assert {float(pose.xy[5, 0]) for pose in other.poses if pose.score.any()} == {40.0}


def test_a_video_without_the_person_is_an_error(film: Path) -> None:
    class Nobody:
        def find(self, picture: Picture) -> tuple[Pose, ...]:
            return ()

    with pytest.raises(PoseError, match="shows nobody") as caught:
        find_motion(film, Nobody())
    assert caught.value.got == "10 frames"


def test_long_videos_tell_how_far_they_are(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 1000, 3))
    monkeypatch.setattr(video, "perf_counter", lambda: float(next(ticks)))
    said: list[str] = []
    find_motion(film, Levels(), say=said.append)
    assert said and "film.mp4: 2 frames" in said[0]


@pytest.mark.parametrize(("make", "what"), [(None, "no such file"), (b"no film", "not a video")])
def test_what_is_no_video_is_refused(tmp_path: Path, make: bytes | None, what: str) -> None:
    file = tmp_path / "a.mp4"
    if make is not None:
        file.write_bytes(make)
    with pytest.raises(ImageError, match=what):
        list(frames(file))


def test_a_camera_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match="camera 97: no such camera"):
        Camera(97)


def test_a_film_as_a_camera_plays_at_its_own_pace_from_the_first_look_on(film: Path) -> None:
    with Camera(str(film)) as camera:
        time.sleep(0.2)
        assert camera.count == 0, "nothing plays while a model is loaded"
        began, shots = time.perf_counter(), []
        while (shot := camera.take()) is not None:
            shots.append(shot)
        lasted = time.perf_counter() - began
    assert lasted > 9 / 12.5 - 0.05
    assert camera.count == 10 and len(shots) + camera.dropped == 10
    stamps = [shot.time for shot in shots]
    assert stamps == sorted(stamps) and began <= stamps[0] <= stamps[-1] <= began + lasted


def test_who_is_slow_gets_the_newest_picture_and_the_others_are_counted(film: Path) -> None:
    with Camera(str(film)) as camera:
        first = camera.take()
        until(lambda: camera.count >= 7)
        second = camera.take()
        assert first is not None and second is not None
        assert second.picture.mean() - first.picture.mean() > 60, "several frames later"
        assert camera.dropped >= 3


@pytest.mark.parametrize("started", [True, False])
def test_closing_ends_who_waits(film: Path, started: bool) -> None:
    camera, got = Camera(str(film)), []
    if started:
        camera.take()
    camera.close()
    waiting = threading.Thread(target=lambda: got.append(camera.take()))
    waiting.start()
    waiting.join(5)
    assert not waiting.is_alive() and len(got) == 1
    camera.close()


class Unplugged:
    """What OpenCV gives of a camera that stops after some pictures, with or without an error."""

    def __init__(self, pictures: int, breaks: bool = False) -> None:
        self.left, self.breaks = pictures, breaks

    def read(self) -> tuple[bool, Picture | None]:
        self.left -= 1
        if self.left >= 0:
            return True, grey(100)
        if self.breaks:
            raise cv2.error("no buffer")
        return False, None

    def release(self) -> None: ...


@pytest.mark.parametrize(
    ("pictures", "breaks", "what"),
    [
        (0, False, "camera 0: gives no picture, got 0 pictures"),
        (1, False, "camera 0: gives no more pictures, got 1 pictures"),
        (1, True, "OpenCV cannot read on"),
    ],
)
def test_a_camera_that_stops_by_itself_is_an_error(
    monkeypatch: pytest.MonkeyPatch, pictures: int, breaks: bool, what: str
) -> None:
    stopping = Unplugged(pictures, breaks)
    monkeypatch.setattr(stopping, "isOpened", lambda: True, raising=False)
    monkeypatch.setattr(stopping, "set", lambda *_: True, raising=False)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: stopping)
    with Camera(0) as camera, pytest.raises(ImageError, match=what):
        list(iter(camera.take, None))


def test_estimators_of_ones_own_are_estimators() -> None:
    own: Estimator = Levels()
    find: Callable[[Picture], tuple[Pose, ...]] = own.find
    assert len(find(grey(0))) == 2
