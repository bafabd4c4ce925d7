"""Pose formats, conversion, mirroring, fitting, and every fault of a pose. Files and motions: tests/pose."""

from __future__ import annotations

import numpy as np
import pytest

from flowpose.errors import PoseError
from flowpose.pose import CANONICAL, FORMATS, Pose
from flowpose.pose_formats import BODY, FACE_IN_MESH, SAME

SIZE = (256, 176)
COUNTS = {
    "coco-17": 17, "openpose-18": 18, "body-25": 25, "openpose-137": 137, "coco-wholebody-133": 133,
    "mediapipe-33": 33, "mediapipe-holistic-543": 543, "mediapipe-holistic-553": 553,
}  # fmt: skip
OWN = ("pupil", "mesh_")  # joints that the models' format does not have
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
    assert not [
        joint
        for joint in named - set(FORMATS[CANONICAL].joints) - BODY
        if not any(own in joint for own in OWN)
    ]


def test_every_face_point_has_its_vertex_of_the_mesh() -> None:
    assert len(FACE_IN_MESH) == len(set(FACE_IN_MESH)) == 68
    form = FORMATS["mediapipe-holistic-543"]
    rows = np.zeros((543, 3))
    rows[form.index("nose")] = [5, 5, 1]
    for i, vertex in enumerate(FACE_IN_MESH):
        rows[33 + vertex] = [i, 2 * i, 0.5 + i / 200]
    whole = Pose.of(rows, size=SIZE).to(CANONICAL).array()[23:91]
    assert np.allclose(whole, [[i, 2 * i, 0.5 + i / 200] for i in range(68)])


def test_a_hand_s_or_face_s_own_joint_comes_before_the_body_s_guess_of_it() -> None:
    """MediaPipe Holistic has the index knuckle and the eyes' corners twice: in the body and in the hand or face."""
    form = FORMATS["mediapipe-holistic-543"]
    rows = np.zeros((543, 3))
    rows[form.index("nose")], rows[form.index("left_index")] = [9, 9, 1], [1, 2, 0.25]
    assert Pose.of(rows).to(CANONICAL).array()[96].tolist() == [1, 2, 0.25]
    rows[form.index("left_hand_5")] = [3, 4, 0.5]
    assert Pose.of(rows).to(CANONICAL).array()[96].tolist() == [3, 4, 0.5]
    assert Pose.of(rows).to("mediapipe-33").array()[19].tolist() == [1, 2, 0.25]
    rows[form.index("left_eye_inner")] = [5, 6, 0.25]
    assert Pose.of(rows).to(CANONICAL).array()[23 + 42].tolist() == [5, 6, 0.25]
    rows[form.index("mesh_362")] = [7, 8, 0.5]
    assert Pose.of(rows).to(CANONICAL).array()[23 + 42].tolist() == [7, 8, 0.5]


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
        joints = [SAME.get(joint, joint) for joint in FORMATS[name].joints]
        kept = [i for i, j in enumerate(joints) if j in FORMATS[CANONICAL].joints and joints.count(j) == 1]
        assert len(kept) > 16 and np.allclose(back.array()[kept], pose.array()[kept])


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
    for name in FORMATS:
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
    "too far": (lambda: Pose.of(np.ones((17, 3)) * [1e6, 1, 1]), "nose: no place in a picture, got .1000000"),
    "too large for float32": (lambda: Pose.of(np.ones((17, 3)) * [1e300, 1, 1]), "nose: not a finite number"),
    "complex": (lambda: Pose.of(np.ones((17, 3), complex)), "not numbers, got ndarray of complex128"),
    "numbers as text": (lambda: Pose.of(np.ones((17, 3)).astype(str)), "not numbers, got ndarray of <U"),
    "huge whole numbers": (lambda: Pose.of([[10**400, 1, 1]] * 17), "not numbers, got list"),
    "half a pixel": (lambda: Pose.of(np.ones((17, 3)), size=(4.5, 4)), r"empty canvas, got \(4.5, 4\)"),
    "one side": (lambda: Pose.of(np.ones((17, 3)), size=(4,)), "empty canvas"),
    "canvas in words": (lambda: Pose.of(np.ones((17, 3)), size=("4", "b")), "empty canvas"),
    "endless canvas": (lambda: Pose.of(np.ones((17, 3)), size=(np.inf, 4)), "empty canvas"),
    "format that is no name": (lambda: Pose.of(np.ones((17, 3)), ["coco-17"]), "unknown pose format"),
    "scores in percent": (lambda: Pose.of(np.ones((17, 3)) * [5, 6, 80]), "nose.score: outside the range"),
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


def test_a_missing_joint_may_have_any_place() -> None:
    rows = np.ones((17, 3)) * [5, 6, 1]
    rows[9], rows[10] = [np.nan, np.inf, 0], [1e9, -1, 0]
    assert not Pose.of(rows).xy[9:11].any()


def test_a_peak_just_above_one_is_one() -> None:
    """The largest confidence in the real OpenPose file is 1.00611."""
    rows = np.ones((17, 3)) * [5, 6, 1.00611]
    assert (Pose.of(rows).score == 1).all() and rows[0, 2] == 1.00611


def test_what_mediapipe_guesses_outside_the_picture_is_no_fault() -> None:
    """A signer cut at the hips: the ankles are guessed three heights further down."""
    rows = np.ones((33, 3)) * [50, 60, 0.9]
    rows[:, 0] += np.arange(33)
    rows[27:33, 1] = 900
    pose = Pose.of(rows, size=SIZE).check()
    assert pose.inside().score[27:].tolist() == [0] * 6
    assert not pose.to(CANONICAL).check().score[15:17].any(), "no other format guesses"
    assert pose.to("mediapipe-holistic-543").score[27:33].all()
    with pytest.raises(PoseError, match="left_ankle: far outside the picture"):
        Pose("coco-17", pose.to("coco-17").xy + np.eye(17)[15][:, None] * 900, np.ones(17), SIZE).check()


def test_sizes_are_whole_numbers_whatever_they_came_as() -> None:
    pose = Pose.of(np.ones((17, 3)), size=np.array([256.0, 176.0]))
    assert pose.size == SIZE and type(pose.size[0]) is int


def test_the_input_of_a_model_is_made_without_checking_twice() -> None:
    """The quick way through check, fit, inside and to gives what the checked constructor gives."""
    for name in FORMATS:
        pose = random_pose(name)
        quick = pose.check().fit(128, 88).inside().to(CANONICAL)
        slow = Pose(name, pose.xy * np.float32(0.5), pose.score, (128, 88)).inside().to(CANONICAL)
        assert np.allclose(quick.array(), slow.array(), atol=1e-3)
        assert not quick.xy[quick.score == 0].any() and not quick.xy.flags.writeable
