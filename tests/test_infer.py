"""`flowpose infer`: a photograph and a motion in, films and pictures out, with the motion's own times."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from calling import Call, caller
from numpy.typing import NDArray
from tiny_graphs import HEIGHT, WIDTH, draw, encode, make_artifact, pictures, standing

from flowpose import image, infer_command
from flowpose.artifact import Artifact
from flowpose.data.figures import draw as draw_figure
from flowpose.data.figures import figure_identity, motion
from flowpose.errors import ArtifactError, ImageError, PoseError
from flowpose.estimating import EstimatorOptions
from flowpose.infer_command import InferOptions, infer_files, own_pose, resample
from flowpose.pose import Pose
from flowpose.pose_motion import Motion
from flowpose.report import write_video

SIZE = (HEIGHT, WIDTH)
Picture = NDArray[np.uint8]


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 200)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("graphs") / "export-tiny", ("fp32",))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image.write(tmp_path_factory.mktemp("photo") / "photo.png", pictures()[0])


def walk(count: int) -> list[NDArray[np.float32]]:
    """A person who sinks by half a pixel a frame."""
    return [standing(1 + i / 2) for i in range(count)]


def lines(path: Path, frames: Sequence[Any], times: Sequence[float] | None = None) -> Path:
    """OpenPose's frames, a line each: lists of people, each f32[25,3]."""
    tables: list[dict[str, Any]] = [
        {"people": [{"pose_keypoints_2d": person.ravel().tolist()} for person in people]} for people in frames
    ]
    for i, table in enumerate(tables):
        if times is not None:
            table["time"] = times[i]
    path.write_text("".join(json.dumps(table) + "\n" for table in tables))
    return path


def body(y: float = 3.0, x: float = 0.0) -> NDArray[np.float32]:
    """The standing person in body-25."""
    rows = Pose.of(standing(y), size=SIZE).to("body-25").array()
    rows[:, 0] += x * (rows[:, 2] > 0)
    return rows


def options(tiny: Artifact, **changes: Any) -> InferOptions:
    return InferOptions(model=str(tiny.path), threads=1, **changes)


def quiet(text: str) -> None:
    """Says nothing."""


def film(path: Path) -> tuple[list[Picture], float]:
    reader = cv2.VideoCapture(str(path))
    found = []
    while (got := reader.read())[0]:
        found.append(np.asarray(cv2.cvtColor(got[1], cv2.COLOR_BGR2RGB), np.uint8))
    return found, reader.get(cv2.CAP_PROP_FPS)


def seen(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """The keypoints of every frame that is drawn from now on."""
    found: list[NDArray[np.float32]] = []

    def noted(session: Any, composer: Any, keypoints: NDArray[np.float32]) -> Picture:
        found.append(keypoints)
        return real(session, composer, keypoints)

    real = infer_command.draw
    monkeypatch.setattr(infer_command, "draw", noted)
    return found


def test_frames_are_the_models_own(tiny: Artifact, photo: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "walk.npy", np.stack(walk(3)))
    result = infer_files(photo, tmp_path / "walk.npy", tmp_path / "out.png", options(tiny), say=quiet)
    made = [image.read(file) for file in result["files"]]
    context = encode(image.read(photo))
    for frame, keypoints in zip(made, walk(3), strict=True):
        assert np.abs(frame.astype(int) - draw(context, keypoints)).max() <= 1


def test_both_ways_of_asking_give_the_same_bytes(
    flowpose: Call, tiny: Artifact, photo: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "one.npy", standing())
    rest = ("--model", tiny.path, "--json")
    old = flowpose("infer", photo, tmp_path / "one.npy", "-o", tmp_path / "a.png", *rest)
    new = flowpose(
        "infer", "--source", photo, "--poses", tmp_path / "one.npy", "--out", tmp_path / "b.png", *rest
    )
    assert old.code == new.code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert {**old.json, "files": []} == {**new.json, "files": []}


@pytest.mark.parametrize(
    ("given", "where"),
    [((), "source"), (("a.png",), "poses"), (("a.png", "b.npy", "--source", "a"), "source")],
)
def test_a_photo_and_a_motion_are_wanted_once(flowpose: Call, given: tuple[str, ...], where: str) -> None:
    said = flowpose("infer", *given, "--json")
    assert said.code == 1 and said.json["where"] == where and said.json["what"] == "is wanted once"


def test_a_files_own_times_are_the_films(tiny: Artifact, photo: Path, tmp_path: Path) -> None:
    poses = lines(
        tmp_path / "walk.jsonl", [[body(1 + i / 2)] for i in range(6)], [10 + i / 12.5 for i in range(6)]
    )
    result = infer_files(photo, poses, tmp_path / "out.mp4", options(tiny), say=quiet)
    frames, fps = film(tmp_path / "out.mp4")
    assert result["fps"] == pytest.approx(12.5) and fps == pytest.approx(12.5, abs=0.01) and len(frames) == 6


def test_a_rate_that_is_asked_for_keeps_the_motions_length(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = lines(tmp_path / "walk.jsonl", [[body(1 + i / 2)] for i in range(6)], [i / 10 for i in range(6)])
    drawn = seen(monkeypatch)
    result = infer_files(photo, poses, tmp_path / "out.mp4", options(tiny, fps=30.0), say=quiet)
    assert result["frames"] == 16 and len(film(tmp_path / "out.mp4")[0]) == 16
    nose = np.array([keypoints[0, 1] for keypoints in drawn])
    assert np.allclose(np.diff(nose), 0.5 / 3, atol=1e-3), "each third of a step"


def test_a_file_without_times_has_the_rate_that_is_asked_for(
    tiny: Artifact, photo: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "walk.npy", np.stack(walk(4)))
    for asked, wanted in ((None, 25.0), (10.0, 10.0)):
        result = infer_files(
            photo, tmp_path / "walk.npy", tmp_path / "out.mp4", options(tiny, fps=asked), say=quiet
        )
        assert result["frames"] == 4 and result["fps"] == wanted


def test_uneven_times_are_made_even(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause of the camera stays a pause: the person moves evenly in time, not from frame to frame."""
    times = [0, 0.1, 0.2, 0.6, 0.7, 0.8]
    poses = lines(tmp_path / "walk.jsonl", [[body(1 + 5 * time)] for time in times], times)
    drawn = seen(monkeypatch)
    infer_files(photo, poses, tmp_path / "out.mp4", options(tiny, fps=10.0), say=quiet)
    assert np.allclose([keypoints[0, 1] for keypoints in drawn], 1 + 0.5 * np.arange(9), atol=1e-3)


def moving(times: Sequence[float]) -> Motion:
    """Right and down at one speed; the left wrist is there in every other pose only."""
    poses = []
    for i, time in enumerate(times):
        rows = standing()[:17].copy()
        rows[:, :2] += np.array([2 * time, time], np.float32)
        rows[9] = 0 if i % 2 else [100 + i, 50, 1]
        poses.append(Pose.of(rows, "coco-17", (200, 200)))
    return Motion(tuple(poses), tuple(times))


def test_resampling_keeps_a_steady_motion_steady() -> None:
    found = resample(moving([0, 0.4, 0.5, 2.0]), 8)
    assert found.times == tuple(i / 8 for i in range(17))
    for pose, time in zip(found.poses, found.times, strict=True):
        assert np.allclose(pose.xy[5:9], standing()[5:9, :2] + np.array([2 * time, time]), atol=1e-4)


def test_resampling_at_its_own_rate_changes_nothing() -> None:
    steady = moving([i / 16 for i in range(9)])
    found = resample(steady, 16)
    assert all(np.array_equal(a.array(), b.array()) for a, b in zip(found.poses, steady.poses, strict=True))


def test_a_joint_that_only_one_neighbour_has_is_not_moved_towards_nothing() -> None:
    wrists = [pose.array()[9] for pose in resample(moving([0, 1, 2]), 4).poses]
    assert [row[2] for row in wrists] == [1, 1, 0, 0, 0, 0, 1, 1, 1]
    assert {tuple(row[:2]) for row in wrists if row[2]} == {(100, 50), (102, 50)}


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_resampling_needs_a_rate(rate: float) -> None:
    with pytest.raises(PoseError, match="not a frame rate"):
        resample(moving([0, 1]), rate)


def test_the_wanted_person_of_several_moves(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = lines(tmp_path / "two.jsonl", [[body(2), body(4, 0.5)], [body(4.5, 0.5), body(2.5)]])
    tops = {}
    for person in (None, 1, "nearest"):
        drawn = seen(monkeypatch)
        infer_files(photo, poses, tmp_path / "out.mp4", options(tiny, person=person), say=quiet)
        tops[person] = [round(float(keypoints[0, 1]), 1) for keypoints in drawn]
        monkeypatch.undo()
    assert tops[None] == [2.0, 4.5] and tops[1] == [4.0, 2.5]
    assert tops["nearest"] in ([2.0, 2.5], [4.0, 4.5])


def test_a_frame_without_the_person_is_an_error_that_says_how_to_bridge_it(
    tiny: Artifact, photo: Path, tmp_path: Path
) -> None:
    poses = lines(tmp_path / "gap.jsonl", [[body()], [], [body()]])
    with pytest.raises(PoseError, match="nobody is in it") as caught:
        infer_files(photo, poses, tmp_path / "out.mp4", options(tiny), say=quiet)
    assert caught.value.where == "frame 1" and "--hold" in str(caught.value.fix)
    assert not (tmp_path / "out.mp4").exists()


def test_held_joints_bridge_a_gap_and_then_the_last_pose_stays(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [[], [body(2)], *[[]] * 8, [body(5)]]
    poses = lines(tmp_path / "gap.jsonl", frames, [i / 10 for i in range(11)])
    drawn = seen(monkeypatch)
    for suffix in (".mp4", ".png"):
        result = infer_files(photo, poses, tmp_path / f"out{suffix}", options(tiny, hold=0.25), say=quiet)
        assert result["frames"] == len(drawn) == 11
        assert result["still"] == 1 + 6, "the first frame, and those after 0.25 s"
        assert all(np.array_equal(each, drawn[1]) for each in drawn[:10]), "the person stays as they were"
        assert not np.array_equal(drawn[10], drawn[1])
        drawn.clear()


def test_pictures_are_made_at_a_rate_where_one_is_asked_for(
    tiny: Artifact, photo: Path, tmp_path: Path
) -> None:
    poses = lines(tmp_path / "walk.jsonl", [[body(y)] for y in range(1, 5)], [0, 0.1, 0.3, 0.4])
    for fps, count in ((None, 4), (20.0, 9)):
        for suffix in (".png", ".jpg"):
            result = infer_files(
                photo, poses, tmp_path / f"{count}{suffix}", options(tiny, fps=fps), say=quiet
            )
            assert result["frames"] == count


def test_the_motions_format_is_not_the_photographs(tiny: Artifact, photo: Path, tmp_path: Path) -> None:
    own, walked = tmp_path / "own.npy", tmp_path / "walk.npy"
    np.save(own, standing())  # 133 joints
    np.save(walked, np.stack([Pose.of(standing(y), size=SIZE).to("openpose-18").array() for y in (1, 2)]))
    asked = options(tiny, format="openpose-18", retarget=True, source_pose=str(own))
    assert infer_files(photo, walked, tmp_path / "out.png", asked, say=quiet)["frames"] == 2


def test_a_bad_pose_is_named_before_anything_is_written(tiny: Artifact, photo: Path, tmp_path: Path) -> None:
    bad = body()
    bad[:, 0] += 900 * (bad[:, 2] > 0)
    poses = lines(tmp_path / "bad.jsonl", [[body()], [body()], [bad]])
    with pytest.raises(PoseError) as caught:
        infer_files(photo, poses, tmp_path / "out.mp4", options(tiny), say=quiet)
    assert caught.value.where.startswith("frame 2: ") and not list(tmp_path.glob("*out*"))


def test_frames_are_written_as_they_are_made(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long film one frame is in memory, not all."""
    kept: list[weakref.ref[Picture]] = []
    most = 0
    real = infer_command.draw

    def noted(*given: Any) -> Picture:
        nonlocal most
        frame = real(*given).copy()
        kept.append(weakref.ref(frame))
        most = max(most, sum(each() is not None for each in kept))
        return frame

    monkeypatch.setattr(infer_command, "draw", noted)
    np.save(tmp_path / "walk.npy", np.stack([standing(1 + i % 5) for i in range(60)]))
    infer_files(photo, tmp_path / "walk.npy", tmp_path / "out.mp4", options(tiny), say=quiet)
    assert len(kept) == 60 and most <= 2


def test_a_run_that_fails_midway_leaves_no_film(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(100))

    def fail(*given: Any) -> Picture:
        if next(count) == 3:
            raise PoseError("planted", "no picture")
        return pictures()[0]

    monkeypatch.setattr(infer_command, "draw", fail)
    np.save(tmp_path / "walk.npy", np.stack(walk(6)))
    with pytest.raises(PoseError, match="frame 3: planted"):
        infer_files(photo, tmp_path / "walk.npy", tmp_path / "out.mp4", options(tiny), say=quiet)
    assert not list(tmp_path.glob("*out*"))


def test_smoothing_takes_jitter_out(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaken = [standing(3 + 0.5 * (-1) ** i) for i in range(12)]
    np.save(tmp_path / "shaken.npy", np.stack(shaken))
    spread = {}
    for smooth in (False, True):
        drawn = seen(monkeypatch)
        infer_files(
            photo, tmp_path / "shaken.npy", tmp_path / "out.mp4", options(tiny, smooth=smooth), say=quiet
        )
        spread[smooth] = np.abs(np.diff([keypoints[0, 1] for keypoints in drawn])).mean()
        monkeypatch.undo()
    assert spread[True] < 0.5 * spread[False]


def test_retargeting_gives_the_photos_persons_size_and_place(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person of half the size at another place, on a larger canvas."""
    own, small = standing(3), standing(3) * np.array([0.5, 0.5, 1], np.float32)
    small[:, :2] += np.array([40, 70], np.float32) * (small[:, 2:] > 0)
    np.savez(tmp_path / "small.npz", keypoints=small[None], size=np.array([120, 80]))
    np.save(tmp_path / "own.npy", own)
    drawn = seen(monkeypatch)
    changes = {"retarget": True, "source_pose": str(tmp_path / "own.npy")}
    infer_files(photo, tmp_path / "small.npz", tmp_path / "out.png", options(tiny, **changes), say=quiet)
    assert np.allclose(drawn[0][5:17, :2], own[5:17, :2], atol=0.3)


def test_alpha_and_the_photos_size(tiny: Artifact, tmp_path: Path) -> None:
    large = image.write(tmp_path / "large.png", cv2.resize(pictures()[0], (64, 90)))
    np.save(tmp_path / "walk.npy", np.stack([standing(2) * np.array([4, 3.75, 1], np.float32)] * 3))
    changes = {"background": "alpha", "size": "source"}
    result = infer_files(
        large, tmp_path / "walk.npy", tmp_path / "out.png", options(tiny, **changes), say=quiet
    )
    stored = cv2.imread(result["files"][0], cv2.IMREAD_UNCHANGED)
    assert stored.shape == (90, 64, 4) and stored[..., 3].max() > 200 and stored[..., 3].min() == 0


def test_the_photos_own_backdrop_is_kept(tiny: Artifact, tmp_path: Path) -> None:
    picture, keypoints = draw_figure(figure_identity(1), motion(1, 1, 15)[0], 256, 176)
    photo = image.write(tmp_path / "figure.png", picture)
    np.save(tmp_path / "own.npy", keypoints)
    changes = {"background": "keep", "size": "source", "source_pose": str(tmp_path / "own.npy")}
    infer_files(photo, tmp_path / "own.npy", tmp_path / "out.png", options(tiny, **changes), say=quiet)
    made = image.read(tmp_path / "out.png")
    assert made.shape == picture.shape and np.array_equal(made[:6], picture[:6])


@pytest.mark.parametrize("name", ["out.mp4", "out.jpg", "out.bmp"])
def test_alpha_is_refused_where_a_file_cannot_hold_it(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(infer_command, "load", None)
    np.save(tmp_path / "one.npy", standing())
    with pytest.raises(ImageError, match="holds no alpha") as caught:
        infer_files(photo, tmp_path / "one.npy", tmp_path / name, InferOptions(background="alpha"), say=quiet)
    assert ".webp" in str(caught.value.fix)


def test_a_photo_in_which_nobody_is_found_says_so(tiny: Artifact, photo: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", standing())
    changes = {"background": "keep", "estimator": "judge", "estimating": EstimatorOptions(least=1.01)}
    with pytest.raises(PoseError, match="finds nobody") as caught:
        infer_files(photo, tmp_path / "one.npy", tmp_path / "out.png", options(tiny, **changes), say=quiet)
    assert "--source-pose" in str(caught.value.fix)


def test_the_least_score_of_one_network_is_not_asked_of_another(tiny: Artifact) -> None:
    figure = draw_figure(figure_identity(1), motion(1, 1, 15)[0], 256, 176)[0]
    high = EstimatorOptions(least=2.0)  # as for RTMW
    assert own_pose(figure, options(tiny, estimator="rtmlib", estimating=high)).score.any()


def test_a_video_moves_the_person_by_an_estimator(
    flowpose: Call, tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [draw_figure(figure_identity(0), pose, 128, 88)[0] for pose in motion(0, 4, 10)]
    dance = write_video(tmp_path / "dance.mp4", frames, 10)
    drawn = seen(monkeypatch)
    given = (
        "--source",
        photo,
        "--poses",
        dance,
        "--out",
        tmp_path / "out.mp4",
        "--model",
        tiny.path,
        "--hold",
        1,
    )
    said = flowpose("infer", *given, "--estimator", "judge", "--json")
    assert said.code == 0, said.err
    assert said.json["frames"] == 4 and said.json["fps"] == pytest.approx(10)
    true = draw_figure(figure_identity(0), motion(0, 1, 10)[0], 128, 88)[1]
    scale = np.array([HEIGHT / 128, HEIGHT / 128])
    assert np.median(np.abs(drawn[0][5:17, :2] - true[5:17, :2] * scale)) < 1.5


def test_a_video_without_weights_says_what_is_missing(photo: Path, tmp_path: Path) -> None:
    dance = write_video(tmp_path / "dance.mp4", [pictures()[0]], 10)
    with pytest.raises(ArtifactError, match="no network is given"):
        infer_files(photo, dance, tmp_path / "out.mp4", InferOptions(), say=quiet)


def test_progress_is_told_now_and_then(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 1000, 4))
    monkeypatch.setattr(infer_command, "perf_counter", lambda: float(next(ticks)))
    np.save(tmp_path / "walk.npy", np.stack(walk(4)))
    said: list[str] = []
    infer_files(photo, tmp_path / "walk.npy", tmp_path / "out.mp4", options(tiny), say=said.append)
    assert said and "of 4 frames" in said[0]
