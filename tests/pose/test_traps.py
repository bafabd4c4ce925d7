"""What is easily read wrong: orders of eyes and ears, y before x, borders, sides, v, mirrors. See notes on the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pose.writers import SIZE, deepfashion_csv, deepfashion_padded, write_json

from flowpose.pose import CANONICAL, FORMATS, Pose
from flowpose.pose_files import read_motion, read_poses

SHARED = Path(__file__).parents[3] / "shared/data"
DEEPFASHION = SHARED / "people/deepfashion-format/fasion-resize-annotation-test.csv"
POSES = SHARED / "poses"

# A published pose text of a man seen from the front, as the notes quote it: eyes and ears of x 117, 133, 106, 145, the
# right shoulder at x 83, the left one at 166, the left knee missing.
FRONT = {
    0: (125, 37),
    1: (125, 85),
    2: (83, 84),
    5: (166, 86),
    14: (117, 30),
    15: (133, 30),
    16: (106, 34),
    17: (145, 34),
}


def front(tmp_path: Path) -> Path:
    lines = [
        f"{FRONT[i][0]:.18e} {FRONT[i][1]:.18e}" if i in FRONT else f"{-1:.18e} {-1:.18e}" for i in range(18)
    ]
    (tmp_path / "01_1_front.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "01_1_front.txt"


def test_openpose_18_has_the_right_eye_before_the_left_and_both_before_the_ears(tmp_path: Path) -> None:
    """The labels that PATN's code gives joints 14 to 17 have left and right the other way round."""
    assert FORMATS["openpose-18"].joints[14:] == ("right_eye", "left_eye", "right_ear", "left_ear")
    (pose,) = read_poses(front(tmp_path))
    x = dict(zip(FORMATS["coco-17"].joints, pose.to("coco-17").xy[:, 0], strict=True))
    assert x["right_shoulder"] < x["right_ear"] < x["right_eye"] < x["nose"] < x["left_eye"] < x["left_ear"]


def test_a_padded_text_has_forty_columns_more_on_either_side(tmp_path: Path) -> None:
    (pose,) = read_poses(front(tmp_path))
    assert pose.size == SIZE
    assert pose.xy[0].tolist() == [125 - 40 + 0.5, 37 + 0.5], (
        "the middle of the pixel, in the picture of 256 x 176"
    )
    assert pose.score[10] == 0 and not pose.xy[10].any()


@pytest.mark.skipif(not DEEPFASHION.is_file(), reason="no people set at ../shared/data")
def test_eyes_and_ears_lie_on_the_side_of_their_shoulders() -> None:
    """In pictures from the front and the back alike the person's left eye is on the side of the left shoulder."""
    poses = [pose.to("coco-17") for pose in read_poses(DEEPFASHION)]
    for left in (1, 3):
        seen = [p.xy for p in poses if p.score[[left, left + 1, 5, 6]].all()]
        heads, shoulders = (np.array([xy[a, 0] - xy[a + 1, 0] for xy in seen]) for a in (left, 5))
        clear = (np.abs(shoulders) > 15) & (heads != 0)
        assert clear.sum() > 50 and np.mean(heads[clear] * shoulders[clear] > 0) > 0.95


def standing() -> np.ndarray:
    """A person seen from the front: x rises from their right to their left, y downwards; [133,3]."""
    rows = np.zeros((133, 3))
    places = {
        0: (88, 30), 1: (92, 26), 2: (84, 26), 3: (97, 28), 4: (79, 28), 5: (108, 60), 6: (68, 60), 7: (118, 95),
        8: (58, 95), 9: (122, 130), 10: (54, 130), 11: (100, 130), 12: (76, 130), 13: (101, 180), 14: (75, 180),
        15: (102, 230), 16: (74, 230),
    }  # fmt: skip
    for joint, (x, y) in places.items():
        rows[joint] = x, y, 1
    return rows


def test_deepfashion_s_csv_has_y_before_x(tmp_path: Path) -> None:
    path = deepfashion_csv(tmp_path, [standing()])
    first = path.read_text().splitlines()[1].split(":")
    assert first[1].startswith(" [30,") and first[2].startswith(" [88,"), "as the originals are"
    (pose,) = read_poses(path)
    assert pose.xy[0].tolist() == [88.5, 30.5]


def test_a_minus_one_in_either_column_is_a_missing_joint(tmp_path: Path) -> None:
    path = deepfashion_csv(tmp_path, [standing()])
    path.write_text(path.read_text().replace("[88,", "[-1,"))
    (pose,) = read_poses(path)
    assert pose.score[0] == 0 and pose.score[1] == 1
    rows = np.full((18, 2), 50)
    rows[3] = [-1, 50]
    assert Pose.of(rows, "deepfashion-18").score.tolist() == [1, 1, 1, 0, *[1] * 14]


def test_a_padded_csv_is_told_by_an_x_that_the_picture_does_not_have(tmp_path: Path) -> None:
    wide = standing()
    wide[9, 0] = 170
    path = deepfashion_padded(tmp_path, [standing(), wide])
    assert "210" in path.read_text().splitlines()[2]
    for pose in read_poses(path):
        assert pose.xy[0].tolist() == [88.5, 30.5] and pose.size == SIZE
    path = deepfashion_padded(tmp_path, [standing()])
    assert read_poses(path)[0].xy[0].tolist() == [128.5, 30.5], "nothing tells"
    assert read_poses(path, format="deepfashion-18-padded")[0].xy[0].tolist() == [88.5, 30.5]


def test_mediapipe_has_left_before_right_and_both_are_the_person_s_own(tmp_path: Path) -> None:
    rows = standing()
    marks = [{"x": 0.5, "y": 0.5, "visibility": 0.0} for _ in range(33)]
    for landmark, joint in {11: 5, 12: 6, 15: 9, 16: 10, 23: 11, 24: 12, 2: 1, 5: 2}.items():
        marks[landmark] = {"x": rows[joint, 0] / 176, "y": rows[joint, 1] / 256, "visibility": 0.9}
    hands = {
        key: [{"x": x / 176, "y": 130 / 256}] * 21
        for key, x in (("leftHandLandmarks", 122), ("rightHandLandmarks", 54))
    }
    (pose,) = read_poses(write_json(tmp_path, "a.json", {"poseLandmarks": marks} | hands), size=SIZE)
    whole = pose.to(CANONICAL)
    for joint in (5, 6, 9, 10, 11, 12, 1, 2):
        assert np.allclose(whole.xy[joint], rows[joint, :2], atol=1e-3)
    assert np.allclose(whole.xy[91:112, 0], 122) and np.allclose(whole.xy[112:, 0], 54)


def test_coco_s_v_tells_missing_covered_and_visible(tmp_path: Path) -> None:
    """A covered shoulder is known, a covered eye would turn a back into a front; v = 0 counts whatever x and y are."""
    rows = standing()[:17] * [1, 1, 2]
    rows[1, 2], rows[5, 2], rows[6, 2] = 1, 1, 0
    entry = {"image_id": 1, "keypoints": rows.ravel().tolist()}
    (pose,) = read_poses(write_json(tmp_path, "a.json", {"annotations": [entry]}))
    assert pose.score[[0, 1, 5, 6]].tolist() == [1, 0, 0.5, 0] and not pose.xy[6].any()
    (pose,) = read_poses(write_json(tmp_path, "a.json", [entry]))
    assert pose.score[[0, 1, 5, 6]].tolist() == [1, 0, 0.5, 0], "a list with a 2 in it is of flags"
    rows[:, 2] = np.linspace(0.1, 0.9, 17)
    (pose,) = read_poses(write_json(tmp_path, "a.json", [entry | {"keypoints": rows.ravel().tolist()}]))
    assert np.allclose(pose.score, rows[:, 2]), "a list of confidences"


@pytest.mark.parametrize("name", FORMATS)
def test_a_mirrored_picture_s_pose_is_mirrored_back(name: str) -> None:
    """A selfie camera shows the left hand on the left: an estimator then calls it the right one."""
    rows = standing()
    pose = Pose.of(rows, size=SIZE).to(name)
    seen = Pose.of(rows * [-1, 1, 1] + [SIZE[1], 0, 0] * (rows[:, 2:] > 0), CANONICAL, SIZE).to(
        name
    )  # sides by name kept
    selfie = Pose(name, seen.xy[list(FORMATS[name].mirror)], seen.score[list(FORMATS[name].mirror)], SIZE)
    assert np.allclose(selfie.mirror().array(), pose.array(), atol=1e-3)
    here = pose.to("coco-17")
    assert here.xy[5, 0] > here.xy[6, 0] and selfie.to("coco-17").xy[5, 0] > selfie.to("coco-17").xy[6, 0]


@pytest.mark.skipif(not POSES.is_dir(), reason="no .pose files at ../shared/data")
@pytest.mark.parametrize("file", ["mediapipe.pose", "openpose.pose"])
def test_hands_and_faces_of_real_files_are_where_wrists_and_shoulders_say(file: str) -> None:
    pytest.importorskip("pose_format", reason="the package pose-format is not installed")
    motion = read_motion(POSES / file)
    assert motion.rate == pytest.approx(24) and len(motion) > 90
    poses = [pose.check().to(CANONICAL) for pose in motion.poses]
    seen = 0
    for wrist, other, hand in ((9, 10, 91), (10, 9, 112)):
        near = [np.linalg.norm(p.xy[hand] - p.xy[wrist]) < np.linalg.norm(p.xy[hand] - p.xy[other])
                for p in poses if p.score[[wrist, other, hand]].all()]  # fmt: skip
        assert not near or np.mean(near) > 0.9, f"the hand at the {FORMATS[CANONICAL].joints[wrist]}"
        seen += len(near)
    assert seen > 20
    for right, left in ((36, 45), (39, 42), (48, 54), (0, 16), (17, 26)):
        side = [(p.xy[23 + left, 0] - p.xy[23 + right, 0]) * (p.xy[5, 0] - p.xy[6, 0]) for p in poses]
        assert np.mean(np.array(side) > 0) > 0.9, f"face points {right} and {left}"
    above = [
        p.xy[23 + 37, 1] < p.xy[23 + 41, 1] < p.xy[23 + 51, 1] < p.xy[23 + 57, 1] < p.xy[23 + 8, 1]
        for p in poses
    ]
    assert np.mean(above) > 0.9, "lids, lips and chin from above"


@pytest.mark.skipif(not POSES.is_dir(), reason="no .pose files at ../shared/data")
def test_the_mirror_of_the_face_mesh_swaps_points_of_one_height() -> None:
    """In a face that looks at the camera a vertex and its mirror image are as far from the middle line."""
    pytest.importorskip("pose_format", reason="the package pose-format is not installed")
    pose = read_motion(POSES / "mediapipe.pose").poses[0]
    form = FORMATS[pose.format]
    mesh = [i for i in range(33, 501) if pose.score[i] > 0]
    size = np.ptp(pose.xy[mesh], axis=0).max()
    middles = np.array(
        [(pose.xy[i] + pose.xy[form.mirror[i]]) / 2 for i in mesh if pose.score[form.mirror[i]] > 0]
    )
    assert len(middles) > 100
    slope, offset = np.polyfit(middles[:, 1], middles[:, 0], 1)
    assert np.abs(middles[:, 0] - slope * middles[:, 1] - offset).max() < 0.06 * size
    heights = [abs(pose.xy[i, 1] - pose.xy[form.mirror[i], 1]) for i in mesh]
    assert max(heights) < 0.06 * size
