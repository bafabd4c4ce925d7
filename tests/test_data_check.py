"""`flowpose data check`: a sound set is clean, and each thing broken in it is named with place and mending."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_sets import (
    PEOPLE,
    VIEWS,
    drawn,
    make_deepfashion,
    make_market,
    write_annotations,
    write_json_pairs,
    write_list,
    write_text_pairs,
    write_texts,
    write_tree,
)
from typer.testing import CliRunner

import flowpose
from flowpose import image
from flowpose.cli_data import data
from flowpose.data.check_published import WHOLE
from flowpose.data.published_layout import DEEPFASHION, MARKET
from flowpose.data_check import LABELS, check_data, kind_of
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import DataError

SHARED = next((r for root in DEFAULT_ROOTS if (r := root / "people" / "deepfashion-format").is_dir()), None)
NO_SHARED = "no people/deepfashion-format in the data roots"
TABLE, PAIRS = "fasion-resize-annotation-test.csv", "fasion-resize-pairs-test.csv"
Damage = Callable[[Path], object]


def command(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(data, ["check", *arguments])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.stdout


def checked(root: Path, *further: str) -> dict[str, Any]:
    code, text = command(str(root), "--json", *further)
    result: dict[str, Any] = json.loads(text)
    assert code == (0 if result["clean"] else 1) and result["clean"] == (not result["problems"])
    return result


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines()


def edit(name: str, change: Callable[[list[str]], list[str]]) -> Damage:
    """Changes the lines of a file of the set."""

    def damage(root: Path) -> None:
        file = root / name
        file.write_text("".join(f"{line}\n" for line in change(lines_of(file))))

    return damage


def rows(
    change: Callable[[list[int], list[int]], tuple[list[int], list[int]]], count: int | None = None
) -> Damage:
    """Changes y and x of the first annotations, or of all."""

    def each(line: str) -> str:
        name, y, x = line.split(":")
        y, x = (str(part) for part in change(json.loads(y), json.loads(x)))
        return f"{name}: {y}: {x}"

    return edit(
        TABLE,
        lambda lines: [
            lines[0],
            *(
                each(line) if count is None or number < count else line
                for number, line in enumerate(lines[1:])
            ),
        ],
    )


def moved(by: int) -> Damage:
    return rows(lambda y, x: (y, [each if each == -1 else each + by for each in x]))


def first_picture(root: Path) -> Path:
    return sorted((root / "img_highres").rglob("*.jpg"))[0]


def resized(height: int, width: int) -> Damage:
    return lambda root: image.write(first_picture(root), np.full((height, width, 3), 200, np.uint8))


def two_people(lines: list[str]) -> list[str]:
    """The first pair's target becomes the last pair's."""
    return [lines[0], f"{lines[1].split(',')[0]},{lines[-1].split(',')[1]}", *lines[2:]]


def train_has_one_of_test(root: Path) -> None:
    """Train's files, of test's first pair alone."""
    first = lines_of(root / PAIRS)[1]
    for name, kept in ((TABLE, set(first.split(","))), (PAIRS, {first})):
        head, *rest = lines_of(root / name)
        few = [line for line in rest if line in kept or line.split(":")[0] in kept]
        (root / name.replace("test", "train")).write_text("\n".join([head, *few, ""]))


NONE = [-1] * 18
SHORT = "x is 40 too small: padding was taken from numbers that had none"
BREAKS: dict[str, tuple[Damage, str, str]] = {
    "missing picture": (
        lambda r: first_picture(r).unlink(),
        "the picture is missing",
        r"img_highres/.*\.jpg$",
    ),
    "row lost": (
        edit(TABLE, lambda lines: [lines[0], *lines[2:]]),
        "a picture without an annotation",
        r"\.csv line \d+$",
    ),
    "x of the padded frame": (
        moved(40),
        "x is that of the padded picture, 40 too large",
        r"annotation-test\.csv$",
    ),
    "x of the frame without": (moved(-40), SHORT, r"annotation-test\.csv$"),
    "y and x swapped": (rows(lambda y, x: (x, y)), "x and y are swapped", r"annotation-test\.csv$"),
    "one outside": (
        rows(lambda y, x: (y, [300, *x[1:]]), 1),
        "joints outside the frame",
        r"annotation-test\.csv line 2 \(fashion.*\)$",
    ),
    "17 joints": (rows(lambda y, x: (y[1:], x), 1), "not joints", r"annotation-test\.csv line 2$"),
    "no joints": (
        rows(lambda y, x: (NONE, NONE)),
        "all joints are -1: the estimator failed",
        r"annotation-test\.csv$",
    ),
    "one joint": (
        rows(lambda y, x: ([*NONE[:3], y[3], *NONE[4:]], [*NONE[:3], x[3], *NONE[4:]]), 1),
        "too few joints",
        r"annotation-test\.csv line 2 \(fashion.*\)$",
    ),
    "one without": (rows(lambda y, x: (NONE, NONE), 1), "all joints are -1", r"annotation-test\.csv line 2$"),
    "annotated twice": (
        edit(TABLE, lambda lines: [*lines, lines[1]]),
        "the picture is annotated twice",
        r"annotation-test\.csv line \d+$",
    ),
    "pair twice": (
        edit(PAIRS, lambda lines: [*lines, lines[1]]),
        "a pair stands twice",
        r"pairs-test\.csv line \d+$",
    ),
    "listed twice": (
        edit("test.lst", lambda lines: [*lines, lines[0]]),
        "a name stands twice",
        r"test\.lst line \d+$",
    ),
    "unknown annotated": (
        edit("test.lst", lambda lines: lines[1:]),
        "an annotation of an unknown picture",
        r"annotation-test\.csv line \d+$",
    ),
    "unreadable": (
        lambda r: first_picture(r).write_bytes(b"no picture\xff\xd9"),
        "not a picture",
        r"img_highres/.*\.jpg$",
    ),
    "cut off": (
        lambda r: first_picture(r).write_bytes(first_picture(r).read_bytes()[:-99]),
        "a JPEG that ends early",
        r"\.jpg$",
    ),
    "a square": (resized(90, 90), "padded and other pictures are mixed", r"\.jpg$"),
    "wide": (resized(100, 200), "a picture of other proportions", r"\.jpg$"),
    "small": (resized(64, 44), "a picture of another size", r"\.jpg$"),
    "two people": (edit(PAIRS, two_people), "a pair of two people", r"pairs-test\.csv line 2$"),
    "itself": (
        edit(PAIRS, lambda lines: [*lines, ",".join(lines[1].split(",")[:1] * 2)]),
        "a pair of a picture with itself",
        r"pairs-test\.csv line \d+$",
    ),
    "no pairs": (edit(PAIRS, lambda lines: lines[:1]), "no pairs", r"pairs-test\.csv$"),
    "no annotations": (edit(TABLE, lambda lines: lines[:1]), "no annotations", r"annotation-test\.csv$"),
    "empty list": (edit("test.lst", lambda lines: []), "an empty list", r"test\.lst$"),
    "no header": (
        edit(TABLE, lambda lines: lines[1:]),
        "the header is missing",
        r"annotation-test\.csv line 1$",
    ),
    "semicolons": (
        edit(PAIRS, lambda lines: [line.replace(",", ";") for line in lines]),
        "another separator",
        r"pairs-test\.csv line 1$",
    ),
    "a slip in a name": (
        lambda r: (r / PAIRS).rename(r / "fasion-resize-pair-test.csv"),
        "a name that is not read",
        r"fasion-resize-pair-test\.csv$",
    ),
    "no annotation file": (lambda r: (r / TABLE).unlink(), "the file is missing", r"annotation-test\.csv$"),
    "no pictures": (lambda r: shutil.rmtree(r / "img_highres"), "no folder of pictures", r"img_highres$"),
    "train and test": (
        train_has_one_of_test,
        "a person of both train and test",
        r"\((WOMEN|MEN)/\w+/id_\d{8}\)$",
    ),
}
WHOLE_FILES = {"x of the padded frame", "x of the frame without", "y and x swapped", "no joints"}
REAL = ("missing picture", "row lost", "x of the padded frame", "y and x swapped", "17 joints", "two people",
        "semicolons", "train and test", "a square")  # fmt: skip


def assert_named(root: Path, name: str) -> None:
    damage, what, where = BREAKS[name]
    damage(root)
    problems = checked(root)["problems"]
    met = [each for each in problems if each["what"] == what and re.search(where, each["where"])]
    assert met, problems
    assert all(each[part] for each in problems for part in ("where", "what", "got", "expected", "fix")), (
        problems
    )
    if name in WHOLE_FILES:
        assert len(problems) == 1, "one cause, one problem"


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_in_a_drawn_set_is_named(tmp_path: Path, name: str) -> None:
    assert_named(make_deepfashion(tmp_path / "set", ("test",)), name)


@pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
@pytest.mark.parametrize("name", REAL)
def test_what_is_broken_in_the_small_real_layout_is_named(tmp_path: Path, name: str) -> None:
    assert SHARED is not None
    assert_named(Path(shutil.copytree(SHARED, tmp_path / "set")), name)


@pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
def test_the_small_real_layout_is_clean(tmp_path: Path) -> None:
    assert SHARED is not None
    found = checked(SHARED, "--sheet", str(tmp_path / "sheet.png"))
    assert found["clean"] and not found["notes"] and found["kind"] == "deepfashion"
    counts = {"people": 30, "outfits": 157, "pictures": 360, "annotated": 360, "pairs": 720}
    assert found["counts"] == {"test": counts} and not found["published"]
    assert image.read(tmp_path / "sheet.png").shape[0] > 8 * 256


def test_a_drawn_set_of_both_parts_is_clean_and_counted(tmp_path: Path) -> None:
    found = checked(make_deepfashion(tmp_path))
    assert found["clean"] and found["counts"]["train"] == found["counts"]["test"]
    assert found["counts"]["test"] == {
        "people": PEOPLE, "outfits": 2 * PEOPLE, "pictures": PEOPLE * len(VIEWS), "annotated": PEOPLE * len(VIEWS),
        "pairs": 3 * PEOPLE,
    }  # fmt: skip


def test_a_sheet_shows_source_pose_target_and_the_pose_where_the_person_is(tmp_path: Path) -> None:
    root = make_deepfashion(tmp_path / "set", ("test",))
    checked(root, "--sheet", str(tmp_path / "sheet.png"))
    made = image.read(tmp_path / "sheet.png")
    rows_of_it, (height, width) = made.shape[0] // 256, drawn()[0].pixels.shape[:2]
    assert rows_of_it == 8 and made.shape[1] // width == len(LABELS) == 4
    shown = check_data(root).show(8)
    source, joints, target = shown[0]
    assert np.abs(source.astype(int) - drawn()[0].pixels).mean() < 3
    assert np.abs(target.astype(int) - drawn()[1].pixels).mean() < 3
    assert joints[0, 2] == (drawn()[1].x[0] != -1) and source.shape == (height, width, 3)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    root = make_deepfashion(tmp_path, ("test",))
    names = ("two people", "pair twice", "listed twice", "cut off", "17 joints", "itself", "annotated twice")
    for name in names:
        BREAKS[name][0](root)
    told = {each["what"] for each in checked(root)["problems"]}
    assert {BREAKS[name][1] for name in names} <= told


def test_the_padded_form_without_the_padding_is_named(tmp_path: Path) -> None:
    root = make_deepfashion(tmp_path, ("test",))
    (root / TABLE).rename(root / "fasion-annotation-test.csv")
    (only,) = checked(root)["problems"]
    assert only["what"] == SHORT


def test_a_stray_picture_is_a_problem_only_where_its_person_is_annotated(tmp_path: Path) -> None:
    root = make_deepfashion(tmp_path, ("test",))
    write_tree(root, "train")
    found = checked(root)
    assert found["clean"] and f"{PEOPLE * len(VIEWS)} pictures that no file names" in found["notes"][0]
    image.write(first_picture(root).with_name("09_1_front.jpg"), drawn()[0].pixels)
    write_annotations(root / TABLE.replace("test", "train"), "train")
    problems = checked(root)["problems"]
    stray = [each["what"] for each in problems if each["where"].endswith("09_1_front.jpg")]
    assert stray == ["a picture without an annotation"]


def test_pidms_form_is_clean_and_pictures_without_a_pose_text_are_noted(tmp_path: Path) -> None:
    write_tree(tmp_path, folder="img")
    write_texts(tmp_path)
    write_text_pairs(tmp_path / "test_pairs.txt")
    write_list(tmp_path / "test.lst")
    assert checked(tmp_path)["clean"]
    unpaired = tmp_path / "img" / drawn()[0].tree.replace("01_1_front", "09_1_front")
    image.write(unpaired, drawn()[0].pixels)
    with (tmp_path / "test.lst").open("a") as file:
        file.write(drawn()[0].flat.replace("01_1front", "09_1front") + "\n")
    found = checked(tmp_path)
    assert found["clean"] and "1 listed pictures have no pose text" in found["notes"][0]


def test_market_is_clean_and_its_faults_are_named(tmp_path: Path) -> None:
    root = make_market(tmp_path)
    found = checked(root)
    assert found["clean"] and found["kind"] == "market" and found["counts"]["test"]["people"] == PEOPLE
    file = root / "market-annotation-test.csv"
    name, y, x = lines_of(file)[1].split(": ")
    file.write_text(
        file.read_text().replace(f"{name}: {y}: {x}", f"{name}: {x.replace(x[1:3], '99', 1)}: {y}", 1)
    )
    (root / "bounding_box_test" / name).unlink()
    told = {each["what"] for each in checked(root)["problems"]}
    assert told == {"joints outside the frame", "the picture is missing"}


def test_published_numbers_stand_beside_those_of_a_set_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DEEPFASHION.counts["train"]["pairs"] == 101966 and DEEPFASHION.counts["test"]["pairs"] == 8570
    root = make_deepfashion(tmp_path, ("test",))
    monkeypatch.setitem(DEEPFASHION.counts, "test", {"pictures": 24, "pairs": round(3 * PEOPLE / WHOLE) - 1})
    found = checked(root)
    assert found["published"] == {"test": {"pictures": 24, "pairs": 35}} and found["clean"]
    assert found["notes"] == ["test: 18 pairs, published are 35"]
    assert "published" in command(str(root))[1]


def test_the_terminal_shows_the_first_of_a_sort_and_how_many_more(tmp_path: Path) -> None:
    root = make_deepfashion(tmp_path, ("test",))
    for file in sorted((root / "img_highres").rglob("*.jpg"))[:7]:
        file.unlink()
    code, text = command(str(root))
    assert code == 1 and "7 x the picture is missing" in text and "and 2 more (--json lists them)" in text
    assert text.rstrip().endswith("7 problems")


PERSON = {"id": 1, "image_id": 1, "category_id": 1}


def crowd(root: Path, split: str = "test", first: int = 0) -> Path:
    """Three people of two pictures each in the people format, a folder."""
    entries, annotations = [], []
    for number, each in enumerate(drawn()[:12:2]):
        name = f"images/{number}.png"
        image.write(root / split / name, each.pixels)
        triples: list[float] = []
        coco = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
        for joint in coco:
            seen = each.x[joint] != -1
            triples += [each.x[joint] + 0.5, each.y[joint] + 0.5, 2] if seen else [0, 0, 0]
        entries.append({"id": number, "file_name": name, "height": 256, "width": 176})
        annotations.append({"image_id": number, "identity": f"p{first + number // 2}", "keypoints": triples})
    coco_file = root / split / "annotations.json"
    coco_file.write_text(json.dumps({"images": entries, "annotations": annotations}))
    return root


def coco_edit(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(root: Path) -> None:
        file = root / "test" / "annotations.json"
        coco = json.loads(file.read_text())
        change(coco)
        file.write_text(json.dumps(coco))

    return damage


def turn(coco: dict[str, Any]) -> None:
    for each in coco["annotations"]:
        k = each["keypoints"]
        k[0::3], k[1::3] = k[1::3], k[0::3]


CROWD: dict[str, tuple[Damage, str]] = {
    "missing": (lambda r: (r / "test/images/0.png").unlink(), "the picture is missing"),
    "garbage": (lambda r: (r / "test/images/0.png").write_bytes(b"x"), "not a picture"),
    "size": (lambda r: image.write(r / "test/images/0.png", drawn()[0].pixels[::2]), "a picture of another size"),
    "stray": (lambda r: image.write(r / "test/images/9.png", drawn()[0].pixels), "a picture without an annotation"),
    "stranger": (coco_edit(lambda c: c["annotations"][0].update(image_id=99)), "not a person in a picture"),
    "16 joints": (coco_edit(lambda c: c["annotations"][0].update(keypoints=[1.0] * 48)), "not joints"),
    "outside": (coco_edit(lambda c: c["annotations"][0]["keypoints"].__setitem__(slice(0, 3), [900, 9, 2])),
                "joints outside the frame"),
    "nobody": (coco_edit(lambda c: c["annotations"][0].update(keypoints=[0] * 51)), "all joints are missing"),
    "one joint": (coco_edit(lambda c: c["annotations"][0].update(keypoints=[9, 9, 2, *[0] * 48])), "too few joints"),
    "a hand": (coco_edit(lambda c: c["annotations"][0].update(keypoints=[0] * 273 + [9, 9, 2] * 42)), "too few joints"),
    "twice": (coco_edit(lambda c: c["annotations"].append(c["annotations"][0])), "the person is annotated twice"),
    "swapped": (coco_edit(turn), "x and y are swapped"),
    "empty": (coco_edit(lambda c: c["annotations"].clear()), "no annotations"),
    "alone": (coco_edit(lambda c: [a.update(identity=str(i)) for i, a in enumerate(c["annotations"])]), "no pairs"),
    "no COCO": (lambda r: (r / "test/annotations.json").write_text("[]"), "not a COCO keypoint file"),
    "both": (lambda r: crowd(r, "train"), "a person of both train and test"),
    "no tar": (lambda r: (r / "val.tar").write_bytes(b"x" * 600), "not a readable tar"),
}  # fmt: skip


@pytest.mark.parametrize("name", CROWD)
def test_what_is_broken_in_the_people_format_is_named(tmp_path: Path, name: str) -> None:
    damage, what = CROWD[name]
    damage(crowd(tmp_path))
    problems = checked(tmp_path)["problems"]
    assert [each for each in problems if each["what"].startswith(what)], problems
    assert all(each[part] for each in problems for part in ("where", "got", "expected", "fix")), problems


def test_people_are_clean_as_folder_and_as_tar(tmp_path: Path) -> None:
    root = crowd(crowd(tmp_path / "set"), "train", first=50)
    found = checked(root, "--sheet", str(tmp_path / "sheet.png"))
    assert found["clean"] and found["kind"] == "people"
    assert found["counts"]["test"] == {"people": 3, "pictures": 6, "annotated": 6, "pairs": 6}
    with tarfile.open(tmp_path / "test.tar", "w") as tar:
        for file in sorted((root / "test").rglob("*")):
            if file.is_file():
                tar.add(file, file.relative_to(root / "test").as_posix())
    assert checked(tmp_path / "test.tar")["counts"] == {"test": found["counts"]["test"]}


def test_a_folder_of_nothing_or_of_two_sets_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set, got nothing that is read, expected img_highres and"):
        kind_of(tmp_path)
    with pytest.raises(DataError, match="no data set, got no such path"):
        kind_of(tmp_path / "nowhere")
    crowd(make_deepfashion(tmp_path, ("test",)))
    with pytest.raises(DataError, match=r"more than one data set, got deepfashion and people.*Fix: put each"):
        kind_of(tmp_path)


def test_a_set_of_which_nothing_can_be_drawn_gives_no_sheet(tmp_path: Path) -> None:
    root = make_deepfashion(tmp_path, ("test",))
    shutil.rmtree(root / "img_highres")
    with pytest.raises(DataError, match="no pair can be drawn"):
        check_data(root, tmp_path / "sheet.png")


def torn(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with bytes changed, lost or written twice."""
    at, length = (int(each) for each in rng.integers(1, max(2, len(content)), 2))
    middle = {0: b"", 1: rng.bytes(length % 9), 2: content[at : at + length] * 2}[int(rng.integers(3))]
    return content[:at] + middle + content[at + length % 40 :]


def test_torn_files_give_problems_and_never_a_crash(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = make_deepfashion(tmp_path / "deepfashion", ("test",))
    write_text_pairs(root / "test_pairs.txt")
    write_json_pairs(root / "test_data.json")
    write_texts(root)
    sets = (root, crowd(tmp_path / "people"), make_market(tmp_path / "market", ("test",)))
    told = 0
    for turn_of_it in range(60):
        broken = sets[turn_of_it % 3]
        files = [p for p in sorted(broken.rglob("*")) if p.is_file() and (p.suffix not in (".jpg", ".png"))]
        file = files[int(rng.integers(len(files)))]
        content = file.read_bytes()
        file.write_bytes(torn(content, rng))
        told += bool(check_data(broken).problems)
        file.write_bytes(content)
    assert told > 40, "most tears make a set unsound"
    assert not any(check_data(each).problems for each in sets)


def test_a_check_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None); import flowpose.data_check, flowpose.cli_data"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_page_names_every_place_that_is_read() -> None:
    page = (Path(flowpose.__file__).parents[2] / "docs" / "data.md").read_text()
    for kind in (DEEPFASHION, MARKET):
        places = [place for place, _ in (*kind.folders, *kind.annotations, *kind.pairs)] + list(kind.lists)
        assert not [place for place in places if f"`{place.partition('/')[0]}" not in page]


MENDED = (
    "x of the padded frame",
    "y and x swapped",
    "pair twice",
    "annotated twice",
    "no header",
    "a slip in a name",
    "two people",
)


@pytest.mark.parametrize("name", MENDED)
def test_the_command_that_is_given_mends_the_set(tmp_path: Path, name: str) -> None:
    root = make_deepfashion(tmp_path, ("test",))
    BREAKS[name][0](root)
    problems = [each for each in checked(root)["problems"] if each["what"] == BREAKS[name][1]]
    subprocess.run(["bash", "-c", problems[0]["fix"]], check=True, timeout=20, cwd=tmp_path)
    assert checked(root)["clean"]
