"""`flowpose calibrate`: the same set gives the same lock, and what has changed is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import Call, caller

from flowpose import image
from flowpose.calibrate_command import calibrate_set, picture_size, with_digest, write_digest
from flowpose.errors import DataError, SpecError
from flowpose.quantize import lock as locks
from flowpose.quantize.samples import draw
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_calibration
from flowpose.spec.recipe import ImageSpec

SIDE = 64  # of the pictures on disk
SIZE = "32x24"
SET = """\
# Which people, and why.
format: 1
name: dolls
data:
  source: folder
  path: dolls   # below a data root
split: train
count: 12
seed: 1
strata: [view, arms]  # evenly
"""


def person(view: float, hand: float) -> list[float]:
    """51 numbers of coco-17: seen from the front (1), the back (-1) or the side (0), hands at that height."""
    heights = [8, 7, 7, 8, 8, 16, 16, 22, 22, hand, hand, 32, 32, 44, 44, 58, 58]
    sides = [0 if joint == 0 else (-1) ** (joint + 1) for joint in range(17)]
    rows = [[32 + view * 6 * side, y, 2] for side, y in zip(sides, heights, strict=True)]
    return [float(number) for row in rows for number in row]


def make_people(folder: Path, people: int = 4) -> dict[str, Any]:
    """Three pictures a person: front, back and side, one with a raised hand; returns the annotations."""
    coco: dict[str, Any] = {"images": [], "annotations": []}
    for number in range(3 * people):
        who, which = divmod(number, 3)
        name = f"{'abcdefgh'[who]}{which}.png"
        image.write(folder / name, np.full((SIDE, SIDE, 3), 40 + 9 * number, np.uint8))
        joints = person((1, -1, 0)[which], 12.0 if which == who % 3 else 36.0)
        coco["images"].append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
        coco["annotations"].append({"image_id": number, "identity": name[0], "keypoints": joints})
    (folder / "annotations.json").write_text(json.dumps(coco))
    return coco


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with data/dolls and dolls.yaml."""
    monkeypatch.chdir(tmp_path)
    make_people(tmp_path / "data" / "dolls" / "train")
    (tmp_path / "dolls.yaml").write_text(SET)
    return tmp_path


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 200)


def repaint(work: Path, name: str = "b1.png") -> None:
    image.write(work / "data" / "dolls" / "train" / name, np.full((SIDE, SIDE, 3), 250, np.uint8))


def test_the_same_set_gives_the_same_bytes_at_every_size(work: Path) -> None:
    found = [
        calibrate_set("dolls.yaml", size=size, out=work / f"{number}.json")
        for number, size in enumerate((SIZE, SIZE, "64x48", "48x80"))
    ]
    written = [Path(each["lock"]).read_bytes() for each in found]
    assert len(set(written)) == 1
    assert len({each["digest"] for each in found}) == 1
    lock = json.loads(written[0])
    assert lock["size"] is None and lock["calibration"]["digest"] is None and len(lock["pairs"]) == 12
    assert lock["pairs"][0].keys() == {"source", "pose", "stratum", "source_sha256", "pose_sha256"}
    assert not list(work.glob(".*")), "nothing is left beside it"


def test_poses_are_drawn_evenly_and_counted(work: Path) -> None:
    rows = {row["stratum"]: row for row in calibrate_set("dolls.yaml", size=SIZE)["strata"]}
    assert sum(row["pictures"] for row in rows.values()) == 12
    assert {name: row["pairs"] for name, row in rows.items()} == {
        "back/lowered": 2, "back/raised": 2, "front/lowered": 2,
        "front/raised": 2, "side/lowered": 2, "side/raised": 2,
    }  # fmt: skip
    assert (work / "artifacts" / "calib" / "dolls.json").is_file()


def test_a_changed_picture_is_refused_by_name(work: Path) -> None:
    before = calibrate_set("dolls.yaml", size=SIZE, write=True)["digest"]
    repaint(work)
    with pytest.raises(DataError) as caught:
        calibrate_set("dolls.yaml", size=SIZE)
    text = str(caught.value)
    assert "1 of its pictures changed: train/b1.png" in text
    assert f"expected {before}" in text and f"got {caught.value.got}" in text and caught.value.got != before
    assert "flowpose calibrate dolls.yaml --write" in text
    with pytest.raises(DataError, match=r"1 of its pictures changed: train/b1\.png"):
        draw(load_calibration("dolls.yaml"), ImageSpec(height=32, width=24))
    shutil.rmtree(work / "artifacts")
    with pytest.raises(DataError, match="other samples than its digest's, got"):
        calibrate_set("dolls.yaml", size=SIZE)
    assert calibrate_set("dolls.yaml", size=SIZE, write=True)["digest"] == caught.value.got
    assert calibrate_set("dolls.yaml", size=SIZE)["digest"] == caught.value.got


def test_a_moved_joint_is_a_change_too(work: Path) -> None:
    calibrate_set("dolls.yaml", size=SIZE)
    file = work / "data" / "dolls" / "train" / "annotations.json"
    coco = json.loads(file.read_text())
    coco["annotations"][4]["keypoints"][0] += 0.1
    file.write_text(json.dumps(coco))
    with pytest.raises(DataError, match=r"1 of its pictures changed: train/b1\.png"):
        calibrate_set("dolls.yaml", size=SIZE)


def test_many_changed_pictures_are_counted_and_some_named(work: Path) -> None:
    calibrate_set("dolls.yaml", size=SIZE)
    for name in ("a0", "a1", "a2", "b0", "b1"):
        repaint(work, f"{name}.png")
    with pytest.raises(DataError, match=r"5 of its pictures changed: (train/\w+\.png, ){2}\S+ and 2 more"):
        calibrate_set("dolls.yaml", size=SIZE)


def test_a_set_without_a_digest_is_held_to_its_lock(work: Path) -> None:
    calibrate_set("dolls.yaml", size=SIZE)
    make_people(work / "data" / "dolls" / "train", people=5)
    with pytest.raises(DataError, match=r"other samples than its lock's .*the split has gained or lost some"):
        calibrate_set("dolls.yaml", size=SIZE)
    (work / "dolls.yaml").write_text(SET.replace("seed: 1", "seed: 2"))
    calibrate_set("dolls.yaml", size=SIZE)


def test_keys_that_changed_are_named(work: Path) -> None:
    calibrate_set("dolls.yaml", size=SIZE, write=True)
    text = (work / "dolls.yaml").read_text()
    (work / "dolls.yaml").write_text(text.replace("seed: 1", "seed: 2").replace("count: 12", "count: 6"))
    with pytest.raises(DataError, match=r"\(the set's own keys changed: count, seed\)"):
        calibrate_set("dolls.yaml", size=SIZE)


def test_too_few_and_none(work: Path) -> None:
    (work / "dolls.yaml").write_text(SET.replace("count: 12", "count: 25"))
    with pytest.raises(
        DataError, match=r"too few pictures, got 24 pairs, expected 25 .* count to 24 or less"
    ):
        calibrate_set("dolls.yaml", size=SIZE)
    folder = work / "data" / "dolls" / "train"
    coco = json.loads((folder / "annotations.json").read_text())
    coco["annotations"] = coco["annotations"][::3]
    (folder / "annotations.json").write_text(json.dumps(coco))
    with pytest.raises(DataError, match=r"nobody has two pictures, got 4 pictures in train, expected 25"):
        calibrate_set("dolls.yaml", size=SIZE)
    (folder / "annotations.json").write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(DataError, match="the split is empty, got train"):
        calibrate_set("dolls.yaml", size=SIZE)
    assert not (work / "artifacts").exists()


def test_the_digest_goes_into_the_file_and_comments_stay(work: Path) -> None:
    digest = calibrate_set("dolls.yaml", size=SIZE, write=True)["digest"]
    assert (work / "dolls.yaml").read_text() == SET + f'digest: "{digest}"\n'
    assert load_calibration("dolls.yaml").digest == digest
    (work / "dolls.yaml").write_text(SET.replace("seed", "digest: null   # not yet\nseed"))
    calibrate_set("dolls.yaml", size=SIZE, write=True)
    assert f'digest: "{digest}"   # not yet\nseed: 1\n' in (work / "dolls.yaml").read_text()
    again = (work / "dolls.yaml").read_bytes()
    calibrate_set("dolls.yaml", size=SIZE, write=True)
    assert (work / "dolls.yaml").read_bytes() == again


def test_line_ends_are_kept() -> None:
    assert (
        with_digest("a: 1\r\ndigest: abc # old\r\nb: 2\r\n", "d") == 'a: 1\r\ndigest: "d" # old\r\nb: 2\r\n'
    )
    assert with_digest("a: 1\r\nb: 2", "d") == 'a: 1\r\nb: 2\r\ndigest: "d"\r\n'


def test_a_file_that_cannot_take_a_line_is_left_alone(work: Path) -> None:
    text = "{format: 1, name: x, data: {source: figures}, split: train, count: 1, seed: 1}\n"
    (work / "x.yaml").write_text(text)
    with pytest.raises(SpecError, match='Fix: write digest: "' + "a" * 64):
        write_digest(work / "x.yaml", load_calibration("x.yaml"), "a" * 64)
    assert (work / "x.yaml").read_text() == text and not list(work.glob(".*"))


@pytest.mark.parametrize("spoil", ["cut", "other", "edited"])
def test_an_unreadable_lock_says_how_to_mend_it(work: Path, spoil: str) -> None:
    lock = Path(calibrate_set("dolls.yaml", size=SIZE)["lock"])
    text = lock.read_text()
    lock.write_text({"cut": text[:-9], "other": "{}", "edited": text.replace("a1.png", "a2.png", 1)}[spoil])
    with pytest.raises(
        DataError, match=r"lock .*Fix: delete .*dolls\.json and run flowpose calibrate dolls\.yaml"
    ):
        calibrate_set("dolls.yaml", size=SIZE)


def test_a_half_written_lock_is_never_left(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Path(calibrate_set("dolls.yaml", size=SIZE)["lock"])
    whole = lock.read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks.half_made.os, "fsync", full)
    with pytest.raises(DataError, match=r"dolls\.json: cannot be written"):
        calibrate_set("dolls.yaml", size=SIZE)
    assert lock.read_bytes() == whole and [path.name for path in lock.parent.iterdir()] == ["dolls.json"]


def test_drawn_figures_are_known_by_their_pixels(work: Path) -> None:
    data = "{source: figures, identities: 3, pictures: 3}"
    text = f"format: 1\nname: six\ndata: {data}\nsplit: train\ncount: 6\nseed: 1\n"
    (work / "six.yaml").write_text(text)
    small, large = (calibrate_set("six.yaml", size=size) for size in (SIZE, "48x32"))
    assert small["digest"] != large["digest"] and small["drawn"]
    assert json.loads(Path(large["lock"]).read_text())["size"] == [48, 32]
    assert sum(row["pairs"] for row in small["strata"]) == 6 and not small["even"]


def test_the_size_is_a_recipes_or_given() -> None:
    assert picture_size("people-128", None, None) == ImageSpec(height=128, width=88)
    assert picture_size("nobodys", "people-256", None) == ImageSpec(height=256, width=176)
    assert picture_size("nobodys", None, "64x48") == ImageSpec(height=64, width=48)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (("nobodys", None, None), "no shipped recipe uses it.*--size HEIGHTxWIDTH"),
        (("deepfashion", None, None), "several sizes.*Fix: --recipe rpfm-deepfashion-256"),
        (("tiny", "tiny", "64x48"), "given beside --recipe"),
        (("tiny", None, "64"), "not a size, got '64', expected HEIGHTxWIDTH"),
        (("tiny", None, "60x48"), "--size.height"),
    ],
)
def test_sizes_that_are_refused(given: tuple[str, str | None, str | None], text: str) -> None:
    with pytest.raises(SpecError, match=rf"(?s){text}"):
        picture_size(*given)


def test_the_command(work: Path, flowpose: Call) -> None:
    said = flowpose("calibrate", "dolls.yaml", "--size", SIZE, "--out", "here.json", "--json")
    assert said.code == 0 and said.json["lock"] == "here.json" and Path("here.json").is_file()
    assert said.json["count"] == 12 and said.json["fixed"] is False and "reading split train" in said.err
    plain = flowpose("calibrate", "dolls.yaml", "--size", SIZE, "--data", work / "data")
    assert "side/raised" in plain.out and said.json["digest"] in plain.out and "drawn evenly" in plain.out
    assert "next: flowpose calibrate dolls.yaml --write" in plain.err
    written = flowpose("calibrate", "dolls.yaml", "--size", SIZE, "--write")
    assert "next: flowpose quantize RECIPE" in written.err
    unknown = flowpose("calibrate", "peeple-128", "--json")
    assert unknown.code == 1 and unknown.json["error"] == "SpecError"
    assert "did you mean 'people-128'?" in unknown.json["what"] and "tiny" in unknown.json["fix"]


def test_strata_are_known_names_each_once(work: Path) -> None:
    for wrong, text in (("[view, view]", "a name stands twice"), ("[size]", "unknown value, got 'size'")):
        (work / "dolls.yaml").write_text(SET.replace("[view, arms]", wrong))
        with pytest.raises(SpecError, match=text):
            load_calibration("dolls.yaml")


@pytest.mark.parametrize("name", shipped("calib"))
def test_shipped_sets_of_files_that_we_have_are_fixed(name: str) -> None:
    calibration = load_calibration(name)
    assert (calibration.digest is not None) == name.startswith("people-")
