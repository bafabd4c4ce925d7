"""Reading poses and motions: units, canvases, times, people, and what is said of files that cannot be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose.writers import KINDS, SIZE, coco_images, openpose_people, save_pose, write_json, write_lines

from flowpose.errors import MissingDependency, PoseError
from flowpose.pose import CANONICAL, Pose
from flowpose.pose_files import read_motion, read_poses

RNG = np.random.default_rng(0)


def person(at: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """A whole body of 133 joints in view, moved to the right by `at`."""
    xy = RNG.uniform(20, 100, (133, 2)) * scale + [at, 0]
    return np.column_stack([xy, np.full(133, 0.5)])


def test_reading_a_coco_file_gives_a_pose_for_every_annotation(tmp_path: Path) -> None:
    rows = np.tile([4.0, 5.0, 2.0], (17, 1))
    data = {
        "images": [{"id": 7, "height": 256, "width": 176}],
        "annotations": [{"image_id": 7, "keypoints": rows.ravel().tolist()}] * 2,
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    poses = read_poses(tmp_path / "a.json")
    assert [p.size for p in poses] == [SIZE, SIZE] and poses[0].format == "coco-17"


def test_openpose_face_and_hands_make_a_whole_body(tmp_path: Path) -> None:
    rows = person()
    write_json(tmp_path, "a.json", {"people": openpose_people(rows, range(25), whole=True)})
    (pose,) = read_poses(tmp_path / "a.json")
    assert pose.format == "openpose-137"
    assert np.allclose(pose.to(CANONICAL).xy[23:], rows[23:, :2], atol=1e-3)
    write_json(tmp_path, "a.json", {"people": openpose_people(rows, range(18), whole=True)})
    (pose,) = read_poses(tmp_path / "a.json")
    assert pose.format == CANONICAL and np.allclose(pose.xy[23:], rows[23:, :2], atol=1e-3)


def test_reading_numpy_files(tmp_path: Path) -> None:
    rows = np.stack([person()[:17] for _ in range(3)])
    np.save(tmp_path / "a.npy", rows)
    assert np.allclose([p.array() for p in read_poses(tmp_path / "a.npy")], rows)
    np.savez(tmp_path / "a.npz", keypoints=rows[:, :, :2], format="coco-17", size=SIZE)
    assert read_poses(tmp_path / "a.npz")[0].size == SIZE


NORMALISED = {
    "COCO results": lambda folder, rows: write_json(folder, "a.json", [{"keypoints": rows[:17].ravel().tolist()}]),
    "OpenPose": lambda folder, rows: write_json(folder, "a.json", {"people": openpose_people(rows, range(18))}),
    "NumPy": lambda folder, rows: (np.save(folder / "a.npy", rows[None, :17]), folder / "a.npy")[1],
}  # fmt: skip


@pytest.mark.parametrize("kind", NORMALISED)
def test_normalised_coordinates_are_of_the_canvas(kind: str, tmp_path: Path) -> None:
    rows = person()
    path = NORMALISED[kind](tmp_path, rows / [SIZE[1], SIZE[0], 1])
    (pose,) = read_poses(path, size=SIZE, units="normalised")
    assert np.allclose(pose.xy[0], rows[0, :2], atol=1e-3) and pose.size == SIZE
    with pytest.raises(PoseError, match="need the size of the canvas"):
        read_poses(path, units="normalised")
    with pytest.raises(PoseError, match="all joints in one spot"):
        read_poses(path, size=SIZE)[0].check()


def test_mediapipe_is_normalised_unless_told_otherwise(tmp_path: Path) -> None:
    marks = [{"x": 0.01 * i, "y": 0.02 * i, "z": 0, "visibility": 0.5} for i in range(33)]
    path = write_json(tmp_path, "a.json", {"poseLandmarks": marks})
    (pose,) = read_poses(path, size=(200, 100))
    assert np.allclose(pose.xy, [[i, 4 * i] for i in range(33)], atol=1e-4) and (pose.score == 0.5).all()
    (pose,) = read_poses(path, size=(200, 100), units="pixels")
    assert np.allclose(pose.xy[32], [0.32, 0.64])
    with pytest.raises(PoseError, match=r"a\.json: normalised coordinates need the size") as caught:
        read_poses(path)
    assert "size=(height, width)" in str(caught.value.fix)


def test_mediapipe_without_visibility_and_hands_with_none_that_means_anything(tmp_path: Path) -> None:
    """The Tasks interface gave no visibility at first; hands always say 0."""
    body = [{"x": 0.5, "y": 0.01 * i} for i in range(33)]
    hand = [{"x": 0.1, "y": 0.01 * i, "z": 0, "visibility": 0.0} for i in range(21)]
    path = write_json(tmp_path, "a.json", {"pose_landmarks": [body], "left_hand_landmarks": hand})
    (pose,) = read_poses(path, size=SIZE)
    assert pose.format == "mediapipe-holistic-543" and (pose.score[:33] == 1).all()
    assert (pose.score[501:522] == 1).all() and not pose.score[522:].any()


def test_the_file_s_canvas_comes_before_the_caller_s(tmp_path: Path) -> None:
    frame = {"people": openpose_people(person(), range(18)), "canvas_height": 256, "canvas_width": 176}
    path = write_json(tmp_path, "a.json", [frame, {"people": openpose_people(person(), range(18))}])
    assert [pose.size for pose in read_poses(path, size=(512, 512))] == [SIZE, (512, 512)]


CLOCKS = {
    "time": ([3, 3.5, 4.5], [0, 0.5, 1.5]), "timestampMs": ([100, 140, 190], [0, 0.04, 0.09]),
    "time_ms": ([0, 40, 40], [0, 0.04, 0.04]),
}  # fmt: skip


@pytest.mark.parametrize("key", CLOCKS)
def test_times_are_seconds_from_the_first_frame(key: str, tmp_path: Path) -> None:
    given, seconds = CLOCKS[key]
    frames = [{"people": openpose_people(person(), range(18)), key: time} for time in given]
    assert np.allclose(read_motion(write_lines(tmp_path, "a.jsonl", frames)).times, seconds)


def test_without_times_the_file_s_rate_counts_and_then_the_caller_s(tmp_path: Path) -> None:
    frames = [{"people": openpose_people(person(), range(18))}] * 3
    path = write_json(tmp_path, "a.json", {"frames": frames, "fps": 10})
    assert np.allclose(read_motion(path, rate=50).times, [0, 0.1, 0.2])
    path = write_json(tmp_path, "b.json", frames)
    assert np.allclose(read_motion(path, rate=50).times, [0, 0.02, 0.04])
    assert read_motion(path).rate == pytest.approx(30)


BAD_TIMES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "backwards": ([{"time": 1}, {"time": 0.5}], r"motion.times\[1\]: time runs backwards, got -0.5"),
    "some": ([{"time": 1}, {}], r"\[1\]: has no time, got 1 of 2 frames"),
    "no unit": ([{"timestamp": 1}, {"timestamp": 2}], r"\[0\]\.timestamp: does not say what it counts in"),
    "a word": ([{"time": "now"}, {"time": 1}], r"\[0\]\.time: not a number, got 'now'"),
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_times_that_are_refused(case: str, tmp_path: Path) -> None:
    times, text = BAD_TIMES[case]
    frames = [{"people": openpose_people(person(), range(18))} | time for time in times]
    with pytest.raises(PoseError, match=text) as caught:
        read_motion(write_lines(tmp_path, "a.jsonl", frames))
    assert "a.jsonl" in str(caught.value)
    assert len(read_poses(tmp_path / "a.jsonl")) == 2, "times do not matter to poses"


def moved(rows: np.ndarray, x: float) -> np.ndarray:
    return rows + np.array([x, 0, 0])


def crowd(tmp_path: Path) -> Path:
    """Two people in three frames, listed in another order in the second; the large one walks. Nobody in the fourth."""
    frames = []
    for i, order in enumerate([(0, 1), (1, 0), (0, 1)]):
        people = [openpose_people(rows, range(18))[0] for rows in (moved(WALKER, 2 * i), STANDING)]
        frames.append({"people": [people[k] for k in order]})
    return write_json(tmp_path, "a.json", [*frames, {"people": []}])


WALKER, STANDING = person(scale=2.0), person(at=300)


def places(path: Path, who: int | str) -> list[int]:
    """Which person each frame gives: 0 the walker, 1 the one who stands, -1 nobody."""
    motion = read_motion(path, person=who)
    return [-1 if not p.score.any() else int(p.xy[p.score > 0].mean(0)[0] > 250) for p in motion.poses]


def test_people_are_chosen_by_index_by_size_or_by_nearness(tmp_path: Path) -> None:
    path = crowd(tmp_path)
    assert places(path, 0) == [0, 1, 0, -1], "an index jumps with the order of the file"
    assert places(path, "largest") == [0, 0, 0, -1]
    assert places(path, "nearest") == [0, 0, 0, -1]
    with pytest.raises(PoseError, match="no person 0, got 0 people") as caught:
        read_poses(path)
    assert "read_motion" in str(caught.value.fix)
    with pytest.raises(PoseError, match="no person in any frame, got 4 frames"):
        read_motion(path, person=2)
    with pytest.raises(PoseError, match="person: no way to choose, got 'tallest'"):
        read_motion(path, person="tallest")


def test_the_nearest_stays_when_another_becomes_the_largest(tmp_path: Path) -> None:
    grown = STANDING * [3, 3, 1] - [600, 0, 0]
    frames = [[WALKER, STANDING], [moved(WALKER, 1), grown]]
    data = [{"people": [openpose_people(rows, range(18))[0] for rows in people]} for people in frames]
    path = write_json(tmp_path, "a.json", data)
    for who, expected in (("nearest", WALKER), ("largest", grown)):
        assert np.allclose(read_motion(path, person=who).poses[1].xy[0], expected[0, :2], atol=1.1)


def test_coco_people_of_one_picture_are_one_frame_of_a_motion(tmp_path: Path) -> None:
    flags = [(rows[:17] * [1, 1, 4]).ravel().tolist() for rows in (STANDING, WALKER)]
    entries = [{"image_id": 8, "keypoints": each} for each in flags]
    path = write_json(tmp_path, "a.json", {"images": coco_images(3), "annotations": entries})
    motion = read_motion(path, person="largest")
    assert [bool(pose.score.any()) for pose in motion.poses] == [False, True, False]
    assert np.allclose(motion.poses[1].xy, WALKER[:17, :2], atol=1e-3)
    assert len(read_poses(path)) == 2 and len(read_poses(path, person="largest")) == 1
    (pose,) = read_poses(path, name="000000000001.jpg", person=0)
    assert np.allclose(pose.xy, STANDING[:17, :2], atol=1e-3)


def test_frames_with_more_joints_set_the_format_of_a_motion(tmp_path: Path) -> None:
    rows = person()
    frames = [{"people": openpose_people(rows, range(25), whole=whole)} for whole in (False, True, False)]
    motion = read_motion(write_json(tmp_path, "a.json", frames))
    assert [pose.format for pose in motion.poses] == ["openpose-137"] * 3
    assert (
        np.allclose(motion.poses[0].xy[:25], rows[:25, :2], atol=1e-3)
        and not motion.poses[0].score[25:].any()
    )


def test_frames_without_anybody_in_every_json(tmp_path: Path) -> None:
    body = [{"x": 0.5, "y": 0.01 * i} for i in range(33)]
    for nothing in (None, [], {}, {"poseLandmarks": None}, {"poseLandmarks": []}, {"landmarks": []}):
        motion = read_motion(write_json(tmp_path, "a.json", [nothing, {"poseLandmarks": body}]), size=SIZE)
        assert [bool(pose.score.any()) for pose in motion.poses] == [False, True]
        assert motion.poses[0].size == SIZE


def test_a_deepfashion_picture_by_its_name(tmp_path: Path) -> None:
    path = KINDS["DeepFashion CSV"].write(tmp_path, [person(), WALKER * [0.5, 0.5, 1]])
    name = "fashionWOMENTees_Tanksid0000000101_1front.jpg"
    (pose,) = read_poses(path, name=name)
    assert pose.size == SIZE and np.allclose(pose.xy[0], np.floor(WALKER[0, :2] / 2) + 0.5)
    with pytest.raises(PoseError, match=r"no picture of that name, .* one of 2") as caught:
        read_poses(path, name=name.replace("front", "frnt"))
    assert name in str(caught.value.fix)
    with pytest.raises(PoseError, match="a file that names its pictures"):
        read_poses(
            write_json(tmp_path, "a.json", {"people": openpose_people(person(), range(18))}), name=name
        )


def test_csv_rows_of_one_frame_are_people_and_other_columns_are_left_alone(tmp_path: Path) -> None:
    lines = ["frame,note,nose_x,nose_y,left_hip_x,left_hip_y,left_hip_confidence"]
    lines += ["1,a,10,20,30,80,0.5", "1,b,110,20,150,180,0.25", "2,c,11,21,,,"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    motion = read_motion(tmp_path / "a.csv", person="largest", size=SIZE)
    assert motion.poses[0].format == "coco-17" and motion.poses[0].xy[0].tolist() == [110, 20]
    assert motion.poses[0].score[[0, 11]].tolist() == [1, 0.25]
    assert motion.poses[1].xy[0].tolist() == [11, 21] and motion.poses[1].score[11] == 0


def test_several_people_in_an_array(tmp_path: Path) -> None:
    rows = np.stack([np.stack([person()[:17], WALKER[:17]]) for _ in range(3)])
    np.savez(tmp_path / "a.npz", keypoints=rows, times=[2, 2.5, 4])
    motion = read_motion(tmp_path / "a.npz", person="largest")
    assert motion.times == (0, 0.5, 2) and np.allclose(motion.poses[2].xy, WALKER[:17, :2])


def test_a_pose_file_has_a_rate_people_and_missing_joints(tmp_path: Path) -> None:
    pytest.importorskip("pose_format", reason="the package pose-format is not installed")
    points, data = ["LEFT_HIP", "MADE_UP", "NOSE"], RNG.uniform(1, 100, (3, 2, 3, 3))
    score = np.ones((3, 2, 3))
    score[0, 0], score[1, 1, 0] = 0, 0
    path = save_pose(tmp_path / "a.pose", [("POSE_LANDMARKS", points, "XYZC")], data, score)
    motion = read_motion(path, person=1)
    assert motion.poses[0].format == "coco-17" and motion.rate == pytest.approx(25)
    assert np.allclose(motion.poses[0].xy[[11, 0]], data[0, 1, [0, 2], :2], atol=1e-3)
    assert motion.poses[1].score.sum() == 1
    first = read_motion(path, person=0)
    assert not first.poses[0].score.any(), "person 0 is not there, and person 1 is not taken for them"
    assert np.allclose(first.poses[1].xy[[11, 0]], data[1, 0, [0, 2], :2], atol=1e-3)
    path = save_pose(tmp_path / "b.pose", [("FACE", ["a"], "XYC")], data[:, :, :1, :2], score[:, :, :1])
    with pytest.raises(PoseError, match="names no point that is known, got FACE"):
        read_poses(path)


def test_a_pose_file_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pose").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pose_format", None)
    with pytest.raises(MissingDependency, match="needs the package pose-format") as caught:
        read_poses(tmp_path / "a.pose")
    assert "pip install" in str(caught.value.fix)


HEAD = "name:keypoints_y:keypoints_x\n"
FILES = {
    "a.xml": (b"", "unknown kind of pose file, got '.xml'"),
    "a.txt": (b"", "not a DeepFashion pose, got 0 lines, expected 18 lines x y"),
    "b.txt": (b"1 2\n" * 17 + b"1 b\n", "not numbers, expected 18 lines x y"),
    "b.json": (b"{", "not JSON"),
    "deep.json": (b"[" * 100_000, "not JSON"),
    "bytes.json": (b"\xff\xfe\x00", "cannot be read"),
    "c.json": (b"[]", "neither OpenPose's nor COCO's nor MediaPipe's"),
    "d.json": (b'{"people": []}', "no person 0, got 0 people"),
    "e.json": (b'{"annotations": [{}]}', r"annotations\[0\]: has no keypoints"),
    "f.json": (b'{"annotations": [{"keypoints": [1, 2, 2]}]}', r"annotations\[0\]: pose: no format has"),
    "g.npy": (b"numbers", "not a NumPy file"),
    "h.npz": (b"", "not a NumPy file"),
    "i.json": (b'{"annotations": []}', "holds no pose"),
    "j.json": (b'{"images": 5, "annotations": []}', "images: not a list, got int"),
    "k.json": (b'{"images": [[]], "annotations": []}', r"images\[0\]: not a table, got list"),
    "l.json": (b'{"images": [{"height": 5, "width": 5}], "annotations": []}', r"images\[0\]: has no id"),
    "m.json": (b'{"images": [{"id": 1}], "annotations": []}', r"images\[0\]: has no height and no width"),
    "n.json": (b'{"images": [{"id": [], "height": 5, "width": 5}], "annotations": []}', r"images\[0\]\.id: no name"),
    "o.json": (
        b'{"images": [{"id": 1, "height": "5", "width": 5}], "annotations": []}', r"images\[0\]: no size of a canvas"
    ),
    "p.json": (b'{"annotations": [{"image_id": [], "keypoints": []}]}', r"annotations\[0\]: no picture's name"),
    "q.json": (b'{"people": 3}', "people: not a list, got int"),
    "r.json": (b'{"people": [7]}', r"people\[0\]: not a table, got int"),
    "s.json": (b'{"people": [{}]}', r"people\[0\]: pose: no format has this shape"),
    "t.jsonl": (b'{"people": []}\n{', "t.jsonl line 2: not JSON"),
    "u.json": (b'{"poseLandmarks": [{"x": 1, "y": 1}]}', "poseLandmarks: wrong length, got 1 landmarks, expected 33"),
    "v.json": (b'{"poseLandmarks": 5}', "poseLandmarks: not a list, got int"),
    "w.json": (
        b'{"pose_landmarks": [' + b'{"x": 1, "y": 1},' * 32 + b'{"x": 1}]}', r"pose_landmarks\[32\]: not a landmark"
    ),
    "x.json": (
        b'{"pose_landmarks": [' + b'{"x": "a", "y": 1},' * 32 + b'{"x": 1, "y": 1}]}', r"\[0\]: not numbers, got 'a'"
    ),
    "y.jsonl": (b'7\n{"people": []}', r"\[0\]: not a frame, got 7"),
    "z.json": (b'[null, [[]], {"landmarks": []}]', r"\[1\]: not a frame, got list"),
    "a.csv": (b"", "names no joints"),
    "b.csv": (b"left_wrst_x,left_wrst_y\n1,2\n", "no such joint, got left_wrst.*did you mean 'left_wrist_x'"),
    "c.csv": (b"nose_x,nose_y\n1\n", "row 2: a row of another length, got 1 cells, expected 2 cells"),
    "i.csv": (b"nose_x,nose_y,left_hip_x\n", "has an x without its y, got left_hip_x, expected left_hip_y"),
    "d.csv": (b"nose_x,nose_y\n1,b\n", r"row 2\.nose: not numbers, got 1, b"),
    "e.csv": (HEAD.encode() + b"a: [1]: [2]\n", "line 2: not joints"),
    "f.csv": (HEAD.encode() + b"a: [1]\n", "line 2: a row of another length, got 2 cells"),
    "g.csv": (HEAD.encode() + b"a: [1: [2]\n", "line 2: not lists"),
    "h.csv": (b"face_0_x,face_0_y,neck_x,neck_y,mesh_1_x,mesh_1_y\n", "no format has all these joints"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(name: str, tmp_path: Path) -> None:
    content, text = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PoseError, match=text) as caught:
        read_poses(tmp_path / name, size=SIZE)
    assert name in str(caught.value)


def test_damaged_pose_files_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pose_format", reason="the package pose-format is not installed")
    data, score = RNG.uniform(1, 100, (2, 1, 2, 2)), np.ones((2, 1, 2))
    whole = save_pose(tmp_path / "a.pose", [("BODY", ["nose", "left_hip"], "XYC")], data, score).read_bytes()
    assert len(read_poses(tmp_path / "a.pose")) == 2
    for content in (b"", b"pose", whole[:20], whole[:-1]):
        (tmp_path / "b.pose").write_bytes(content)
        with pytest.raises(PoseError, match=r"b\.pose: not a \.pose file"):
            read_poses(tmp_path / "b.pose")


HANDS = {"words": (["x"] * 63, "not numbers"), "short": ([1.0] * 60, "wrong length, got 60 numbers")}


@pytest.mark.parametrize("case", HANDS)
def test_openpose_parts_that_are_refused(case: str, tmp_path: Path) -> None:
    part, text = HANDS[case]
    found = openpose_people(person(), range(25))[0] | {"hand_left_keypoints_2d": part}
    path = write_json(tmp_path, "a.json", {"people": [found]})
    with pytest.raises(PoseError, match=rf"a\.json: people\[0\]\.hand_left_keypoints_2d: {text}"):
        read_poses(path)


ARRAYS: dict[str, tuple[dict[str, object], str]] = {
    "objects": ({"keypoints": np.array([{}], object)}, "keypoints: cannot be read .*allow_pickle"),
    "words": ({"keypoints": np.full((1, 17, 3), "x")}, r"a\.npz: \[0\]: pose: not numbers"),
    "number": ({"keypoints": np.float32(3)}, r"wrong shape, got \[\]"),
    "none": ({"keypoints": np.zeros((0, 17, 3))}, "holds no pose"),
    "one side": ({"keypoints": np.ones((17, 3)), "size": 256}, "size: no size of a canvas, got 256"),
    "three sides": ({"keypoints": np.ones((17, 3)), "size": (1, 2, 3)}, "size: no size of a canvas"),
    "no side": ({"keypoints": np.ones((17, 3)), "size": (np.nan, 5)}, "size: no size of a canvas"),
    "format": ({"keypoints": np.ones((17, 3)), "format": np.array([{}], object)}, "format: cannot be read"),
    "times": ({"keypoints": np.ones((2, 17, 3)), "times": [1.0]}, r"times: wrong shape, got \[1\], expected \[2\]"),
    "rate": ({"keypoints": np.ones((2, 17, 3)), "rate": "fast"}, "rate: not a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_refused(case: str, tmp_path: Path) -> None:
    arrays, text = ARRAYS[case]
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(PoseError, match=text) as caught:
        read_poses(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


ASKED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda folder: read_poses(folder / "nothing.json"), "no such file"),
    "an empty folder": (read_poses, r"no \.json files"),
    "units": (lambda folder: read_poses(folder, units="metres"), "units: unknown units, got 'metres'"),
    "rate": (
        lambda folder: read_motion(write_json(folder, "a.json", [{"keypoints": [5, 6, 1] * 17}]), rate=0),
        "rate: not a frame rate, got 0",
    ),
    "a format that the row cannot have": (
        lambda folder: read_poses(KINDS["DeepFashion CSV"].write(folder, [person()]), format="coco-17"),
        "holds DeepFashion rows, got format 'coco-17'",
    ),
    "DeepFashion in 0..1": (
        lambda folder: read_poses(KINDS["DeepFashion CSV"].write(folder, [person()]), units="normalised"),
        "holds DeepFashion rows, got units 'normalised'",
    ),
    "hands of several people": (
        lambda folder: read_poses(
            write_json(folder, "a.json", {"landmarks": [[{"x": 0, "y": 0}] * 33] * 2,
                                          "leftHandLandmarks": [{"x": 0, "y": 0}] * 21}), size=SIZE),
        "several people, and a face or hands",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_done(case: str, tmp_path: Path) -> None:
    act, text = ASKED[case]
    with pytest.raises(PoseError, match=text):
        act(tmp_path)


def test_one_person_of_several_in_mediapipe_s_tasks(tmp_path: Path) -> None:
    people = [[{"x": x + 0.001 * i, "y": 0.02 * i} for i in range(33)] for x in (0.1, 0.6)]
    path = write_json(tmp_path, "a.json", [{"landmarks": people}])
    assert [p.xy[0][0] for p in read_poses(path, size=(100, 100), person=1)] == pytest.approx([60])
    assert isinstance(read_poses(path, size=(100, 100))[0], Pose)
