"""The rtmlib estimator on tiny networks with the real ones' inputs and outputs, so that the real decoding runs."""

from __future__ import annotations

import socket
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from estimating import tiny_networks
from numpy.typing import NDArray

from flowpose.errors import ArtifactError, BackendError, FlowposeError, ImageError, MissingDependency
from flowpose.estimating import ESTIMATORS, EstimatorOptions, open_estimator

Picture = NDArray[np.uint8]
DOTS = {
    "nose": (70, 40),
    "left_eye": (90, 100),
    "right_eye": (60, 150),
}  # x, y of the red, green and blue dot


@pytest.fixture
def tiny() -> ModuleType:
    pytest.importorskip("rtmlib")
    return tiny_networks


def dot(picture: Picture, x: int, y: int, channel: int = 0) -> None:
    """Brightest in its middle, and wide enough for scaling not to lose it."""
    for reach, level in ((3, 120), (2, 160), (1, 200), (0, 255)):
        picture[y - reach : y + reach + 1, x - reach : x + reach + 1, channel] = level


def dots(height: int = 240, width: int = 180) -> Picture:
    """A red, a green and a blue dot on black."""
    picture = np.zeros((height, width, 3), np.uint8)
    for channel, (x, y) in enumerate(DOTS.values()):
        dot(picture, x, y, channel)
    return picture


def place(name: str) -> tuple[float, float]:
    return DOTS[name][0] + 0.5, DOTS[name][1] + 0.5  # the middle of the dot's middle pixel


@pytest.mark.parametrize(("joints", "format"), [(17, "coco-17"), (133, "coco-wholebody-133")])
def test_joints_come_out_where_they_are_and_with_the_right_colours(
    tiny: ModuleType, tmp_path: Path, joints: int, format: str
) -> None:
    """Were red and blue swapped on the way, nose and right eye would be."""
    network = tiny.pose_network(tmp_path / "pose.onnx", joints)
    (pose,) = open_estimator("rtmlib", EstimatorOptions(pose=network)).find(dots())
    assert pose.format == format and pose.size == (240, 180)
    for i, name in enumerate(("nose", "left_eye", "right_eye")):
        assert np.abs(pose.xy[i] - place(name)).max() < 1.2, name
        assert 0.6 < pose.score[i] <= 1
    assert not pose.score[3:].any()


def test_the_networks_own_size_is_told_from_its_file(tiny: ModuleType, tmp_path: Path) -> None:
    network = tiny.pose_network(tmp_path / "large.onnx", 17, 384, 288)
    (pose,) = open_estimator("rtmlib", EstimatorOptions(pose=network)).find(dots())
    assert np.abs(pose.xy[0] - place("nose")).max() < 0.8


def test_scores_above_one_are_one_and_the_least_score_is_a_choice(tiny: ModuleType, tmp_path: Path) -> None:
    network = tiny.pose_network(tmp_path / "rtmw.onnx", 17, peak=2.4)  # 255 gives about 5.5, as RTMW
    (pose,) = open_estimator("rtmlib", EstimatorOptions(pose=network, least=2.0)).find(dots())
    assert (pose.score[:3] == 1).all()
    (pose,) = open_estimator("rtmlib", EstimatorOptions(pose=network, least=9.0)).find(dots())
    assert not pose.score.any()


def test_the_detector_boxes_the_person_and_sees_blue_as_blue(tiny: ModuleType, tmp_path: Path) -> None:
    """Two red dots: only the one inside the blue box is seen, since the rest is cut off before the pose network."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[150:250, 150:220] = (0, 0, 200)
    dot(picture, 182, 202)
    dot(picture, 22, 22)
    options = EstimatorOptions(
        tiny.box_network(tmp_path / "det.onnx"), tiny.pose_network(tmp_path / "pose.onnx", 17)
    )
    (pose,) = open_estimator("rtmlib", options).find(picture)
    assert np.abs(pose.xy[0] - (182.5, 202.5)).max() < 1


def test_a_picture_without_people_gives_none(tiny: ModuleType, tmp_path: Path) -> None:
    """rtmlib itself would take the whole picture for a person."""
    options = EstimatorOptions(
        tiny.box_network(tmp_path / "det.onnx", score=0.1), tiny.pose_network(tmp_path / "pose.onnx", 17)
    )
    assert open_estimator("rtmlib", options).find(dots()) == ()


def test_of_cocos_classes_only_people_are_taken_and_the_surest_comes_first(
    tiny: ModuleType, tmp_path: Path
) -> None:
    cat, people = (15, (100.0, 20.0, 30.0, 30.0), 0.99), [
        (0, (40.0, 90.0, 50.0, 60.0), 0.8), (0, (90.0, 90.0, 40.0, 60.0), 0.95),
    ]  # fmt: skip
    options = EstimatorOptions(
        tiny.raw_network(tmp_path / "det.onnx", [cat, *people]), tiny.pose_network(tmp_path / "pose.onnx", 17)
    )
    picture = np.zeros((128, 128, 3), np.uint8)
    for x, y in ((40, 90), (90, 90), (100, 20)):
        dot(picture, x, y)
    found = open_estimator("rtmlib", options).find(picture)
    assert np.abs([pose.xy[0, 0] for pose in found] - np.array([90.5, 40.5])).max() < 1


def test_nobody_of_the_80_classes_gives_none(tiny: ModuleType, tmp_path: Path) -> None:
    for name, rows in (("cat", [(15, (100.0, 20.0, 30.0, 30.0), 0.99)]), ("nothing", [])):
        det = tiny.raw_network(tmp_path / f"{name}.onnx", rows)
        options = EstimatorOptions(det, tiny.pose_network(tmp_path / "pose.onnx", 17))
        assert open_estimator("rtmlib", options).find(dots(128, 128)) == ()


def test_nothing_is_printed_to_stdout_and_threads_are_kept(
    tiny: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tiny.pose_network(tmp_path / "pose.onnx", 17)
    estimator = open_estimator("rtmlib", EstimatorOptions(pose=network, threads=1))
    assert capsys.readouterr().out == ""
    assert estimator._pose.session.get_session_options().intra_op_num_threads == 1  # type: ignore[attr-defined]
    assert len(estimator.find(dots())) == 1


def test_a_network_with_other_joints_says_which_it_may_have(tiny: ModuleType, tmp_path: Path) -> None:
    network = tiny.pose_network(tmp_path / "pose.onnx", 26)
    with pytest.raises(BackendError, match=r"26 joints, expected 17 \(coco-17\) or 133"):
        open_estimator("rtmlib", EstimatorOptions(pose=network)).find(dots())


@pytest.mark.parametrize("which", ["pose network", "detector"])
def test_a_network_that_fails_while_it_runs_is_told(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    estimator = open_estimator(
        "rtmlib",
        EstimatorOptions(
            pose=tiny.pose_network(tmp_path / "pose.onnx"), det=tiny.box_network(tmp_path / "det.onnx")
        ),
    )

    def fails(*_: object, **__: object) -> None:
        raise Fail("no kernel")

    monkeypatch.setattr(estimator, "_pose" if which == "pose network" else "_det", fails)
    picture = np.zeros((240, 180, 3), np.uint8)
    picture[40:200, 40:140, 2] = 255
    with pytest.raises(BackendError, match=f"rtmlib's {which}: failed .*no kernel"):
        estimator.find(picture)


def test_a_detector_given_as_the_pose_network_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    det = tiny.raw_network(tmp_path / "det.onnx", [])
    with pytest.raises(ArtifactError, match="not such a network") as caught:
        open_estimator("rtmlib", EstimatorOptions(pose=det))
    assert "simcc_x" in str(caught.value.expected)
    pose = tiny.pose_network(tmp_path / "pose.onnx", 17)
    three = tiny.box_network(tmp_path / "three.onnx")
    assert open_estimator("rtmlib", EstimatorOptions(det=three, pose=pose)) is not None


def test_a_file_that_is_no_network_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pose.onnx").write_bytes(b"a page that says 404")
    with pytest.raises(ArtifactError, match="cannot open it"):
        open_estimator("rtmlib", EstimatorOptions(pose=tmp_path / "pose.onnx"))


def test_a_device_that_is_not_there_is_refused_and_no_cpu_taken_for_it(
    tiny: ModuleType, tmp_path: Path
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the provider")
    network = tiny.pose_network(tmp_path / "pose.onnx", 17)
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(BackendError, match="another provider"),
    ):
        open_estimator("rtmlib", EstimatorOptions(pose=network, device="cuda"))
    with pytest.raises(BackendError, match="unknown device"):
        open_estimator("rtmlib", EstimatorOptions(pose=network, device="tpu"))


def test_missing_weights_say_which_where_from_and_how_to_give_them_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    gone = tmp_path / "rtmw.onnx"
    for options, where in (
        (EstimatorOptions(), "rtmlib --pose-model"),
        (EstimatorOptions(pose=gone), str(gone)),
        (EstimatorOptions(det=gone, pose=Path(__file__)), str(gone)),
        (EstimatorOptions(pose=Path("https://example.org/rtmw.zip")), "https:/example.org/rtmw.zip"),
    ):
        with pytest.raises(ArtifactError) as caught:
            open_estimator("rtmlib", options)
        assert caught.value.where == where
        fix = str(caught.value.fix)
        assert "-model FILE.onnx" in fix and "FLOWPOSE_" in fix and "Tau-J/RTMPose" in fix


def test_without_rtmlib_the_command_is_named_that_leaves_opencv_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rtmlib", None)
    (tmp_path / "pose.onnx").write_bytes(b"anything")
    with pytest.raises(MissingDependency) as caught:
        open_estimator("rtmlib", EstimatorOptions(pose=tmp_path / "pose.onnx"))
    assert caught.value.fix == "pip install --no-deps rtmlib tqdm"


def test_an_unknown_estimator_lists_those_there_are() -> None:
    with pytest.raises(FlowposeError) as caught:
        open_estimator("openpose")
    assert caught.value.got == "'openpose'" and all(name in str(caught.value.expected) for name in ESTIMATORS)


def test_a_picture_that_is_none_is_refused(tiny: ModuleType, tmp_path: Path) -> None:
    estimator = open_estimator("rtmlib", EstimatorOptions(pose=tiny.pose_network(tmp_path / "pose.onnx", 17)))
    with pytest.raises(ImageError):
        estimator.find(np.zeros((8, 8), np.uint8))
