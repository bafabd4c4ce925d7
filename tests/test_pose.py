"""Pose formats, conversion, mirroring, fitting, smoothing, reading, and every fault of a pose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flowpose.errors import PoseError
from flowpose.pose import CANONICAL, FORMATS, Pose, smooth
from flowpose.pose_files import read_poses
from flowpose.pose_formats import BODY, SAME

SIZE = (256, 176)
COUNTS = {"coco-17": 17, "openpose-18": 18, "body-25": 25, "coco-wholebody-133": 133, "mediapipe-33": 33}
RNG = np.random.default_rng(0)


def random_pose(name: str, missing: float = 0.2) -> Pose:
    count = COUNTS[name]
    xy = RNG.uniform(0, [SIZE[1], SIZE[0]], (count, 2)).astype(np.float32)
    score = np.where(RNG.uniform(size=count) < missing, 0, RNG.uniform(0.3, 1, count)).astype(np.float32)
    return Pose(name, xy, score, SIZE)


def same(a: Pose, b: Pose) -> bool:
    return a.format == b.format and a.size == b.size and np.allclose(a.array(), b.array(), atol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_is_sound(name: str) -> None:
    form = FORMATS[name]
    assert len(form.joints) == len(set(form.joints)) == COUNTS[name]
    assert sorted(form.mirror) == list(range(COUNTS[name]))
    assert len(set(form.limbs)) == len(form.limbs) and max(max(limb) for limb in form.limbs) < COUNTS[name]
    named = {SAME.get(joint, joint) for joint in form.joints}
    assert named <= set(FORMATS[CANONICAL].joints) | BODY


@pytest.mark.parametrize("name", FORMATS)
def test_a_mirror_keeps_limbs_limbs(name: str) -> None:
    form = FORMATS[name]
    limbs = {frozenset(limb) for limb in form.limbs}
    assert {frozenset((form.mirror[a], form.mirror[b])) for a, b in limbs} == limbs


@pytest.mark.parametrize("name", FORMATS)
def test_mirroring_twice_is_nothing(name: str) -> None:
    for _ in range(20):
        pose = random_pose(name)
        assert same(pose.mirror().mirror(), pose)


def test_a_mirror_swaps_sides_and_turns_x() -> None:
    pose, form = random_pose("coco-17", 0), FORMATS["coco-17"]
    left, right = form.index("left_wrist"), form.index("right_wrist")
    assert np.allclose(pose.mirror().xy[right], [SIZE[1] - pose.xy[left][0], pose.xy[left][1]])


def test_a_mirrored_front_face_looks_the_same() -> None:
    """68 points of a symmetric face: the right half, its mirror image, and the middle line."""
    mirror = FORMATS[CANONICAL].mirror
    for a, b in (
        (23, 39),
        (40, 49),
        (59, 68),
        (62, 65),
        (71, 77),
        (83, 87),
        (57, 55),
        (31, 31),
        (53, 53),
        (88, 90),
    ):
        assert mirror[a] == b and mirror[b] == a


@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back_through_the_models_format(name: str) -> None:
    for _ in range(20):
        pose = random_pose(name)
        back = pose.to(CANONICAL).to(name)
        kept = [i for i, j in enumerate(FORMATS[name].joints) if SAME.get(j, j) in FORMATS[CANONICAL].joints]
        assert np.allclose(back.array()[kept], pose.array()[kept])


def test_17_to_133_to_17_is_the_identity() -> None:
    pose = random_pose("coco-17")
    assert same(pose.to(CANONICAL).to("coco-17"), pose)


@pytest.mark.parametrize("name", ["openpose-18", "body-25"])
def test_the_neck_lies_between_the_shoulders(name: str) -> None:
    pose = random_pose("coco-17", 0)
    made, neck = pose.to(name), FORMATS[name].index("neck")
    assert np.allclose(made.xy[neck], (pose.xy[5] + pose.xy[6]) / 2)
    assert made.score[neck] == min(pose.score[5], pose.score[6])
    score = pose.score.copy()
    score[5] = 0
    assert Pose("coco-17", pose.xy, score, SIZE).to(name).score[neck] == 0


def test_conversion_commutes_with_mirroring() -> None:
    for name in ("coco-17", "body-25", "mediapipe-33"):
        pose = random_pose(name)
        assert same(pose.mirror().to(CANONICAL), pose.to(CANONICAL).mirror())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("columns", [2, 3])
def test_the_shape_tells_the_format(name: str, columns: int) -> None:
    rows = random_pose(name, 0).array()[:, :columns]
    if (name, columns) == ("openpose-18", 2):
        with pytest.raises(PoseError, match="openpose-18 or deepfashion-18"):
            Pose.of(rows)
        return
    assert Pose.of(rows).format == name
    assert Pose.of(rows.ravel()).format == name


def test_deepfashion_rows_are_y_x_with_minus_one_missing() -> None:
    rows = np.full((18, 2), -1.0)
    rows[0] = [30, 80]
    pose = Pose.of(rows, "deepfashion-18", SIZE)
    assert pose.format == "openpose-18" and list(pose.xy[0]) == [80, 30]
    assert pose.score.tolist() == [1] + [0] * 17 and not pose.xy[1:].any()


def test_missing_joints_are_zero() -> None:
    pose = Pose("coco-17", np.full((17, 2), 5.0), np.eye(17)[0])
    assert not pose.xy[1:].any() and pose.xy[0].tolist() == [5, 5]


def test_a_pose_cannot_be_written_to() -> None:
    pose = random_pose("coco-17")
    with pytest.raises(ValueError, match="read-only"):
        pose.xy[0] = 0
    given = np.ones((17, 3))
    made = Pose.of(given)
    given[:] = 0.5
    assert made.score[0] == 1


def test_coco_visibility() -> None:
    rows = np.tile([4.0, 5.0, 2.0], (17, 1))
    rows[0, 2], rows[9, 2], rows[10, 2] = 1, 1, 0
    pose = Pose.coco(rows.ravel().tolist(), SIZE)
    assert pose.score[[0, 5, 9, 10]].tolist() == [0, 1, 0.5, 0]


def test_fitting_scales_and_centres() -> None:
    pose = Pose("coco-17", np.tile([88.0, 128.0], (17, 1)), np.ones(17), SIZE).fit(128, 128)
    assert pose.size == (128, 128) and np.allclose(pose.xy, [[64, 64]] * 17)


def test_inside_drops_what_lies_outside() -> None:
    xy = np.tile([10.0, 10.0], (17, 1))
    xy[3], xy[4], xy[5] = [-1, 5], [5, 256], [175.9, 255.9]
    assert np.flatnonzero(Pose("coco-17", xy, np.ones(17), SIZE).inside().score == 0).tolist() == [3, 4]


def nan(column: int) -> np.ndarray:
    rows = np.ones((17, 3)) * [5, 6, 1]
    rows[9, column] = np.nan
    return rows


WRONG = {
    "unknown format": (lambda: Pose.of(np.ones((17, 3)), "cocoo-17"), "did you mean 'coco-17'"),
    "batch": (lambda: Pose.of(np.ones((1, 17, 3))), r"array\[0\]"),
    "no such count": (lambda: Pose.of(np.ones((19, 3))), "no format has this shape, got .19, 3."),
    "count of another": (lambda: Pose.of(np.ones((17, 3)), "body-25"), r"expected \[25, 3\] or \[25, 2\]"),
    "words": (lambda: Pose.of("pose.json"), "not numbers"),
    "dict": (lambda: Pose.of({"a": 1}), "not numbers"),
    "ragged": (lambda: Pose.of([[1, 2], [3]]), "not numbers"),
    "empty": (lambda: Pose.of([]), "no format has this shape"),
    "nan x": (lambda: Pose.of(nan(0)), "left_wrist: not a finite number"),
    "nan score": (lambda: Pose.of(nan(2)), "left_wrist: not a finite number"),
    "visibility flags": (lambda: Pose.of(np.full((17, 3), 2.0)), "Pose.coco"),
    "canvas": (lambda: Pose.of(np.ones((17, 3)), size=(0, 4)), "empty canvas"),
    "mirror without canvas": (lambda: Pose.of(np.ones((17, 3))).mirror(), "needs the size"),
    "fit without canvas": (lambda: Pose.of(np.ones((17, 3))).fit(4, 4), "needs the size"),
    "not coco": (lambda: Pose.coco(np.full((17, 3), 0.5)), "not COCO triples"),
    "rate": (lambda: list(smooth([], 0)), "not a frame rate"),
    "mixed": (
        lambda: list(smooth([random_pose("coco-17"), random_pose("body-25")], 30)),
        "the format changes",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case: str) -> None:
    act, text = WRONG[case]
    with pytest.raises(PoseError, match=text):
        act()


def test_check_wants_a_person_in_the_picture() -> None:
    xy = np.tile([500.0, 300.0], (17, 1)) + np.arange(17)[:, None]
    with pytest.raises(
        PoseError, match=r"nose: far outside the picture, got .500, 300., expected pixels of a 176 x 256"
    ):
        Pose("coco-17", xy, np.eye(17)[0], SIZE).check()
    with pytest.raises(PoseError, match="every joint lies outside"):
        Pose("coco-17", xy - [300, 0], np.ones(17), SIZE).check()
    with pytest.raises(PoseError, match="in one spot"):
        Pose("coco-17", RNG.uniform(0, 1, (17, 2)), np.ones(17), SIZE).check()
    pose = random_pose("mediapipe-33")
    assert pose.check() is pose


def walk(n: int, noise: float) -> list[Pose]:
    base = np.linspace(0, 160, 34).reshape(17, 2)
    steps = np.linspace(0, 40, n)
    return [
        Pose("coco-17", base + np.array([s, 0]) + RNG.normal(0, noise, (17, 2)), np.ones(17), SIZE)
        for s in steps
    ]


def jitter(poses: list[Pose]) -> float:
    return float(np.abs(np.diff([p.xy for p in poses], n=2, axis=0)).mean())


def test_smoothing_takes_jitter_and_follows() -> None:
    noisy = walk(60, 1.0)
    calm = list(smooth(noisy, 30))
    assert len(calm) == 60 and same(calm[0], noisy[0])
    assert jitter(calm) < 0.5 * jitter(noisy)
    clean = walk(60, 0)
    assert np.abs(calm[-1].xy - clean[-1].xy).mean() < 5


def test_smoothing_leaves_a_still_pose_alone() -> None:
    pose = random_pose("coco-17")
    assert all(same(p, pose) for p in smooth([pose] * 5, 30))


def test_smoothing_does_not_depend_on_resolution() -> None:
    small = walk(20, 1.0)
    large = [Pose("coco-17", p.xy * 4, p.score, (1024, 704)) for p in small]
    for a, b in zip(smooth(small, 30), smooth(large, 30), strict=True):
        assert np.allclose(a.xy * 4, b.xy, atol=1e-2)


def test_a_joint_that_was_missing_starts_anew() -> None:
    poses = walk(4, 0)
    gone = Pose("coco-17", poses[1].xy, np.r_[0, np.ones(16)], SIZE)
    out = list(smooth([poses[0], gone, poses[2], poses[3]], 30))
    assert out[1].score[0] == 0 and np.array_equal(out[2].xy[0], poses[2].xy[0])
    assert not np.array_equal(out[3].xy[1], poses[3].xy[1])


def test_reading_a_coco_file(tmp_path: Path) -> None:
    rows = np.tile([4.0, 5.0, 2.0], (17, 1))
    data = {
        "images": [{"id": 7, "height": 256, "width": 176}],
        "annotations": [{"image_id": 7, "keypoints": rows.ravel().tolist()}] * 2,
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    poses = read_poses(tmp_path / "a.json")
    assert [p.size for p in poses] == [SIZE, SIZE] and poses[0].format == "coco-17"


def openpose(body: np.ndarray, **parts: np.ndarray) -> str:
    lists = {f"{name}_keypoints_2d": part.ravel().tolist() for name, part in parts.items()}
    return json.dumps({"people": [{"pose_keypoints_2d": body.ravel().tolist(), **lists}]})


def test_reading_openpose_files(tmp_path: Path) -> None:
    body = random_pose("body-25", 0).array()
    for i in range(3):
        (tmp_path / f"frame_{i}_keypoints.json").write_text(openpose(body + np.array([i, 0, 0])))
    poses = read_poses(tmp_path, size=SIZE)
    assert [p.format for p in poses] == ["body-25"] * 3 and poses[2].xy[0][0] == pytest.approx(body[0, 0] + 2)


def test_openpose_face_and_hands_make_a_whole_body(tmp_path: Path) -> None:
    body, face = random_pose("body-25", 0).array(), np.tile([7.0, 8.0, 0.9], (70, 1))
    left, right = np.tile([1.0, 2.0, 0.5], (21, 1)), np.tile([3.0, 4.0, 0.6], (21, 1))
    (tmp_path / "a.json").write_text(openpose(body, face=face, hand_left=left, hand_right=right))
    (pose,) = read_poses(tmp_path / "a.json")
    assert pose.format == CANONICAL and np.allclose(pose.xy[23:91], [7, 8])
    assert np.allclose(pose.score[91:112], 0.5) and np.allclose(pose.xy[112:], [3, 4])
    assert np.allclose(pose.xy[0], body[0, :2], atol=1e-3)


def test_reading_numpy_files(tmp_path: Path) -> None:
    rows = np.stack([random_pose("coco-17").array() for _ in range(3)])
    np.save(tmp_path / "a.npy", rows)
    assert np.allclose([p.array() for p in read_poses(tmp_path / "a.npy")], rows)
    np.savez(tmp_path / "a.npz", keypoints=rows[:, :, :2], format="coco-17", size=SIZE)
    assert read_poses(tmp_path / "a.npz")[0].size == SIZE


FILES = {
    "a.txt": (b"", "unknown kind of pose file"),
    "b.json": (b"{", "not JSON"),
    "c.json": (b"[]", "neither a COCO nor an OpenPose file"),
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
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(name: str, tmp_path: Path) -> None:
    content, text = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PoseError, match=text) as caught:
        read_poses(tmp_path / name)
    assert name in str(caught.value)


HANDS = {"words": (["x"] * 63, "not numbers"), "short": ([1.0] * 60, "wrong length, got 60 numbers")}


@pytest.mark.parametrize("case", HANDS)
def test_openpose_parts_that_are_refused(case: str, tmp_path: Path) -> None:
    part, text = HANDS[case]
    body = random_pose("body-25", 0).array().ravel().tolist()
    person = {"pose_keypoints_2d": body, "hand_left_keypoints_2d": part}
    (tmp_path / "a.json").write_text(json.dumps({"people": [person]}))
    with pytest.raises(PoseError, match=rf"a\.json: people\[0\]\.hand_left_keypoints_2d: {text}"):
        read_poses(tmp_path / "a.json")


ARRAYS: dict[str, tuple[dict[str, object], str]] = {
    "objects": ({"keypoints": np.array([{}], object)}, "keypoints: cannot be read .*allow_pickle"),
    "words": ({"keypoints": np.full((1, 17, 3), "x")}, r"a\.npz: \[0\]: pose: not numbers"),
    "number": ({"keypoints": np.float32(3)}, r"wrong shape, got \[\]"),
    "none": ({"keypoints": np.zeros((0, 17, 3))}, "holds no pose"),
    "one side": ({"keypoints": np.ones((17, 3)), "size": 256}, "size: no size of a canvas, got 256"),
    "three sides": ({"keypoints": np.ones((17, 3)), "size": (1, 2, 3)}, "size: no size of a canvas"),
    "no side": ({"keypoints": np.ones((17, 3)), "size": (np.nan, 5)}, "size: no size of a canvas"),
    "format": ({"keypoints": np.ones((17, 3)), "format": np.array([{}], object)}, "format: cannot be read"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_refused(case: str, tmp_path: Path) -> None:
    arrays, text = ARRAYS[case]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(PoseError, match=text) as caught:
        read_poses(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="no such file"):
        read_poses(tmp_path / "nothing.json")
    with pytest.raises(PoseError, match=r"no \.json files"):
        read_poses(tmp_path)
