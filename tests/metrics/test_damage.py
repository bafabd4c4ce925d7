"""Every score is fooled by some damage and must see another: the table says which, and by how much at least.

Blur is what PSNR and SSIM forgive; a sharp picture of someone else is what sharpness forgives. On figures that
no network saw, and on the samples, which are of the people set's test split.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose import image, samples
from flowpose.data.figures import draw, figure_identity, figure_pose
from flowpose.data.folder import read_folder
from flowpose.data.pictures import Pictures
from flowpose.metrics import Judge, Scores, score, summary

Bytes = NDArray[np.uint8]
Rows = Mapping[str, Scores]
HEIGHT, WIDTH, COUNT = 128, 88, 6
PEOPLE = Path(__file__).parents[3] / "shared" / "data" / "people"

LOSES = {
    # score: least loss by (blur, another person in the same pose, another pose of the same person)
    "psnr": (60.0, 75.0, 75.0),
    "ssim": (0.03, 0.15, 0.2),
    "ssim_uniform": (0.02, 0.3, 0.3),
    "ms_ssim": (0.01, 0.3, 0.3),
    "own_lpips": (0.02, 0.15, 0.25),
    "spectrum_top": (0.8, None, None),
    "spectrum_2": (0.4, None, None),
    "laplacian": (0.8, None, None),
    "pck": (None, None, 0.3),
    "pose_error": (None, None, 0.06),
    "identity": (None, 0.25, None),
    "masked_psnr": (65.0, 80.0, 80.0),
    "masked_ssim": (0.06, 0.25, 0.35),
}
KEPT = {
    "pck": ("blur", "person", 0.15),
    "pose_error": ("blur", "person", 0.04),
    "identity": ("blur", "pose", 0.1),
}
"""Score -> two damages that it must not see, and by how much at most."""

LOWER_IS_BETTER = ("own_lpips", "pose_error")


def blurred(picture: Bytes) -> Bytes:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.2), np.uint8)


def loss(rows: Rows, damage: str, name: str) -> float:
    whole, damaged = asdict(rows["truth"])[name], asdict(rows[damage])[name]
    return float(damaged - whole if name in LOWER_IS_BETTER else whole - damaged)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def figures(judge: Judge) -> Rows:
    def figure(identity: int, pose: int) -> tuple[Bytes, NDArray[np.float32]]:
        return draw(figure_identity(9000 + identity), figure_pose(np.random.default_rng(pose)), HEIGHT, WIDTH)

    made: dict[str, list[Scores]] = {"truth": [], "blur": [], "person": [], "pose": []}
    for i in range(COUNT):
        truth, keypoints = figure(i, i)
        pictures = (truth, blurred(truth), figure(i + 100, i)[0], figure(i, i + 50)[0])
        for name, picture in zip(made, pictures, strict=True):
            made[name].append(score(picture, truth, keypoints, judge))
    return {name: summary(rows) for name, rows in made.items()}


@pytest.fixture(scope="module")
def people(judge: Judge) -> Rows:
    """The six sample pairs; nobody else is at hand in the same pose, so the other person has another pose."""
    pairs = samples.pairs()
    truths = [image.fit(pair.truth, HEIGHT, WIDTH) for pair in pairs]
    made: dict[str, list[Scores]] = {"truth": [], "blur": [], "person": [], "pose": []}
    for i, pair in enumerate(pairs):
        keypoints = pair.pose.fit(HEIGHT, WIDTH).array()
        other = truths[(i + 2) % len(pairs)]
        pictures = (truths[i], blurred(truths[i]), other, image.fit(pair.source, HEIGHT, WIDTH))
        for name, picture in zip(made, pictures, strict=True):
            made[name].append(score(picture, truths[i], keypoints, judge))
    return {name: summary(rows) for name, rows in made.items()}


def test_the_table_is_of_all_scores() -> None:
    others = {"grid"}  # of a picture alone: what it sees is planted in test_grid.py
    assert set(LOSES) == {field.name for field in fields(Scores)} - others
    for damage in range(3):
        assert any(row[damage] is not None for row in LOSES.values())


@pytest.mark.parametrize("name", LOSES)
def test_damage_of_figures_loses(name: str, figures: Rows) -> None:
    for damage, least in zip(("blur", "person", "pose"), LOSES[name], strict=True):
        if least is not None:
            assert loss(figures, damage, name) > least, damage


@pytest.mark.parametrize("name", LOSES)
def test_damage_of_people_loses(name: str, people: Rows) -> None:
    for damage, least in zip(("blur", "person", "pose"), LOSES[name], strict=True):
        if least is not None:
            assert loss(people, damage, name) > least, damage


@pytest.mark.parametrize("name", KEPT)
def test_pose_and_identity_are_told_apart(name: str, figures: Rows) -> None:
    *damages, most = KEPT[name]
    for damage in damages:
        assert loss(figures, str(damage), name) < float(most), damage


def test_no_single_score_will_do(figures: Rows) -> None:
    """A blurred truth beats every other damage on PSNR and SSIM; only sharpness puts it last."""
    blur, person, pose = figures["blur"], figures["person"], figures["pose"]
    for name in ("psnr", "ssim", "ms_ssim", "masked_psnr", "masked_ssim"):
        assert getattr(blur, name) > max(getattr(person, name), getattr(pose, name))
    assert blur.spectrum_top < 0.3 * min(person.spectrum_top, pose.spectrum_top)


def few(tmp_path: Path) -> Pictures:
    """Two pictures of each of the first COUNT people of the validation set, which takes seconds to read whole."""
    (tmp_path / "val" / "images").mkdir(parents=True)
    with tarfile.open(PEOPLE / "val.tar") as tar:

        def member(name: str) -> bytes:
            found = tar.extractfile(name)
            assert found is not None
            return found.read()

        coco = json.loads(member("annotations.json"))
        names = {entry["id"]: entry["file_name"] for entry in coco["images"]}
        rows: dict[object, list[dict[str, object]]] = {}
        for row in coco["annotations"]:
            rows.setdefault(row["identity"], []).append(row)
        coco["annotations"] = [row for each in list(rows.values())[:COUNT] for row in each[:2]]
        for row in coco["annotations"]:
            name = names[row["image_id"]]
            (tmp_path / "val" / name).write_bytes(member(name))
    (tmp_path / "val" / "annotations.json").write_text(json.dumps(coco), "utf-8")
    return read_folder(tmp_path, "val", HEIGHT, WIDTH)


def test_damage_of_the_validation_set_loses(judge: Judge, tmp_path: Path) -> None:
    if not (PEOPLE / "val.tar").is_file():
        pytest.skip("needs ../shared/data/people/val.tar, which is not in the repository")
    data = few(tmp_path)
    rows: dict[str, list[Scores]] = {"truth": [], "blur": [], "person": [], "pose": []}
    for number, (one, two) in enumerate(data.groups):
        truth, keypoints = data.images[one], data.keypoints[one]
        other = data.images[data.groups[number - 1][0]]
        for name, picture in zip(rows, (truth, blurred(truth), other, data.images[two]), strict=True):
            rows[name].append(score(picture, truth, keypoints, judge))
    found = {name: summary(each) for name, each in rows.items()}
    for name, least in LOSES.items():
        for damage, limit in zip(("blur", "person", "pose"), least, strict=True):
            if limit is not None:
                assert loss(found, damage, name) > 0.5 * limit, (name, damage)
