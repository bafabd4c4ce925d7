"""Reading pictures with COCO keypoints from tars and folders, and what is said when they are broken."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowpose import image
from flowpose.data import read
from flowpose.data.folder import locate, read_folder
from flowpose.errors import DataError, ImageError, PoseError
from flowpose.spec.recipe import FolderData, ImageSpec

HEIGHT, WIDTH = 32, 24
SIDE = 64  # of the pictures on disk: square, so that they are letterboxed
BODY = np.linspace(8, 56, 17)


def keypoints(joints: int = 133) -> list[list[float]]:
    """Body and face visible, on a diagonal; hands and feet missing."""
    rows = [[0.0, 0.0, 0] for _ in range(joints)]
    rows[:17] = [[float(x), float(x) / 2 + 16, 2] for x in BODY]
    for joint in range(23, min(91, joints)):
        rows[joint] = [20.0, 20.0, 2]
    return rows


def flat(rows: list[list[float]]) -> list[float]:
    return list(chain.from_iterable(rows))


def picture(shade: int) -> np.ndarray:
    grey = np.full((SIDE, SIDE, 3), shade, np.uint8)
    grey[SIDE // 2 :] //= 2
    return grey


def make_part(folder: Path, people: int = 2, each: int = 2) -> dict[str, Any]:
    """Pictures `<person><i>.webp` and annotations.json in a folder; returns the annotations."""
    names = [f"{chr(97 + person)}{i}.webp" for person in range(people) for i in range(each)]
    for number, name in enumerate(names):
        image.write(folder / name, picture(40 + 30 * number))
    coco = {
        "images": [
            {"id": number, "file_name": name, "height": SIDE, "width": SIDE}
            for number, name in enumerate(names)
        ],
        "annotations": [
            {"image_id": number, "identity": name[0], "keypoints": flat(keypoints())}
            for number, name in enumerate(names)
        ],
    }
    write(folder, coco)
    return coco


def write(folder: Path, coco: object) -> None:
    (folder / "annotations.json").write_text(json.dumps(coco))


def as_tar(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)
    return path


def test_tars_and_folders_give_the_same(tmp_path: Path) -> None:
    make_part(tmp_path / "one" / "val")
    (tmp_path / "two").mkdir()
    as_tar(tmp_path / "one" / "val", tmp_path / "two" / "val.tar")
    one, two = (read_folder(tmp_path / name, "val", HEIGHT, WIDTH) for name in ("one", "two"))
    assert (one.images == two.images).all() and (one.keypoints == two.keypoints).all()
    assert one.names == two.names == ("val/a0.webp", "val/a1.webp", "val/b0.webp", "val/b1.webp")
    assert one.images.shape == (4, HEIGHT, WIDTH, 3) and one.images.dtype == np.uint8
    assert one.keypoints.shape == (4, 133, 3) and one.keypoints.dtype == np.float32
    assert one.identities.tolist() == [0, 0, 1, 1]


def test_parts_of_a_split_are_joined_and_other_splits_left_alone(tmp_path: Path) -> None:
    make_part(tmp_path / "pictures")
    for name in ("train-0.tar", "train-1.tar", "test.tar", "test-512.tar"):
        as_tar(tmp_path / "pictures", tmp_path / name)
    assert len(read_folder(tmp_path, "train", HEIGHT, WIDTH)) == 8
    assert len(read_folder(tmp_path, "test", HEIGHT, WIDTH)) == 4


def test_pictures_and_keypoints_are_letterboxed_alike(tmp_path: Path) -> None:
    make_part(tmp_path / "val")
    found = read_folder(tmp_path, "val", HEIGHT, WIDTH)
    scale, top = WIDTH / SIDE, (HEIGHT - WIDTH) / 2
    np.testing.assert_allclose(found.keypoints[0, :17, 0], BODY * scale, atol=1e-4)
    np.testing.assert_allclose(found.keypoints[0, :17, 1], (BODY / 2 + 16) * scale + top, atol=1e-4)
    column = found.images[0, :, WIDTH // 2, 0].astype(int)
    edge = int(np.abs(np.diff(column)).argmax()) + 1
    assert edge == SIDE / 2 * scale + top, "where the picture's lower half begins"


def test_covered_face_joints_are_missing_and_covered_body_joints_are_not(tmp_path: Path) -> None:
    coco = make_part(tmp_path / "val")
    rows = keypoints()
    for joint in (0, 4, 9, 15, 30, 90):
        rows[joint][2] = 1
    coco["annotations"][0]["keypoints"] = flat(rows)
    write(tmp_path / "val", coco)
    score = read_folder(tmp_path, "val", HEIGHT, WIDTH).keypoints[0, :, 2]
    assert score[[0, 4, 30, 90]].tolist() == [0, 0, 0, 0]
    assert score[[9, 15, 1, 31]].tolist() == [1, 1, 1, 1]
    assert score[91:].max() == 0


def test_seventeen_joints_will_do(tmp_path: Path) -> None:
    coco = make_part(tmp_path / "val")
    for each in coco["annotations"]:
        each["keypoints"] = flat(keypoints(17))
    write(tmp_path / "val", coco)
    found = read_folder(tmp_path, "val", HEIGHT, WIDTH).keypoints
    assert (found[:, :17, 2] == 1).all() and (found[:, 17:] == 0).all()


def test_a_named_set_is_found_below_the_roots(tmp_path: Path) -> None:
    make_part(tmp_path / "crowd" / "val")
    data, size = FolderData(path="crowd"), ImageSpec(height=HEIGHT, width=WIDTH)
    assert len(read(data, size, "val", (tmp_path / "nothing", tmp_path))) == 4
    assert locate(str(tmp_path / "crowd"), ()) == tmp_path / "crowd"
    with pytest.raises(DataError, match=r"no such data set.*Fix: --data DIR"):
        read(data, size, "val", (tmp_path / "nothing",))


def test_no_such_split(tmp_path: Path) -> None:
    make_part(tmp_path / "val")
    with pytest.raises(
        DataError, match=r"no such split, got train, expected train.tar, train-0.tar or train/"
    ):
        read_folder(tmp_path, "train", HEIGHT, WIDTH)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_tar(tmp_path: Path, share: float) -> None:
    make_part(tmp_path / "pictures")
    tar = as_tar(tmp_path / "pictures", tmp_path / "val.tar")
    with tarfile.open(tar) as whole:
        end = max(member.offset_data + member.size for member in whole.getmembers())
    tar.write_bytes(tar.read_bytes()[: int(share * end)])
    with pytest.raises(DataError, match=r"val\.tar"):
        read_folder(tmp_path, "val", HEIGHT, WIDTH)


def test_a_file_that_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "val.tar").write_bytes(b"not a tar" * 200)
    with pytest.raises(DataError, match=r"val\.tar: not a readable tar.*Fix: copy the file again"):
        read_folder(tmp_path, "val", HEIGHT, WIDTH)


@pytest.mark.parametrize("tarred", [False, True])
def test_a_missing_picture(tmp_path: Path, tarred: bool) -> None:
    part = tmp_path / ("pictures" if tarred else "val")
    make_part(part)
    (part / "b0.webp").unlink()
    if tarred:
        as_tar(part, tmp_path / "val.tar")
    with pytest.raises(DataError, match=r"val(\.tar)?/b0\.webp: the picture is missing"):
        read_folder(tmp_path, "val", HEIGHT, WIDTH)


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    make_part(tmp_path / "val")
    (tmp_path / "val" / "b1.webp").write_bytes(b"RIFF nothing")
    with pytest.raises(ImageError, match=r"val/b1\.webp: not a picture, got 12 bytes"):
        read_folder(tmp_path, "val", HEIGHT, WIDTH)


def nothing(coco: dict[str, Any]) -> object:
    return {}


def a_list(coco: dict[str, Any]) -> object:
    return [coco]


def without(key: str) -> Callable[[dict[str, Any]], object]:
    def change(coco: dict[str, Any]) -> object:
        del coco["annotations"][1][key]
        return coco

    return change


def other(**values: object) -> Callable[[dict[str, Any]], object]:
    def change(coco: dict[str, Any]) -> object:
        coco["annotations"][1].update(values)
        return coco

    return change


def no_size(coco: dict[str, Any]) -> object:
    del coco["images"][1]["height"]
    return coco


WRONG = {
    "empty": (nothing, "not a COCO keypoint file"),
    "a list": (a_list, "not a COCO keypoint file"),
    "no keypoints": (without("keypoints"), r"annotations\[1\]: not a person in a picture"),
    "no identity": (without("identity"), r"annotations\[1\]: not a person in a picture"),
    "no image": (other(image_id=99), r"annotations\[1\]: not a person in a picture"),
    "a text": (other(keypoints="none"), r"annotations\[1\]: not a person in a picture"),
    "not threes": (other(keypoints=[1.0] * 16), r"annotations\[1\]: not a person in a picture"),
    "no size": (no_size, r"annotations\[1\]: not a person in a picture"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_annotations(tmp_path: Path, name: str) -> None:
    change, text = WRONG[name]
    write(tmp_path / "val", change(make_part(tmp_path / "val")))
    with pytest.raises(DataError, match=rf"val/annotations\.json.*{text}|{text}"):
        read_folder(tmp_path, "val", HEIGHT, WIDTH)


def test_annotations_that_are_not_json(tmp_path: Path) -> None:
    make_part(tmp_path / "val")
    (tmp_path / "val" / "annotations.json").write_text("{")
    with pytest.raises(DataError, match=r"val/annotations\.json: not a COCO keypoint file"):
        read_folder(tmp_path, "val", HEIGHT, WIDTH)


def test_keypoints_that_are_no_pose(tmp_path: Path) -> None:
    coco = make_part(tmp_path / "val")
    coco["annotations"][1]["keypoints"] = [1.0, 1.0, 2] * 19
    write(tmp_path / "val", coco)
    with pytest.raises(PoseError, match=r"val/annotations\.json annotations\[1\]"):
        read_folder(tmp_path, "val", HEIGHT, WIDTH)
