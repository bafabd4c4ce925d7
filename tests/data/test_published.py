"""DeepFashion in every form that its users have it in, and Market-1501: all give the same pictures and pairs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_sets import (
    PEOPLE,
    VIEWS,
    drawn,
    make_deepfashion,
    make_market,
    padded,
    pairs_of,
    write_annotations,
    write_csv_pairs,
    write_flat,
    write_json_pairs,
    write_list,
    write_text_pairs,
    write_texts,
    write_tree,
)

from flowpose import image
from flowpose.data import Pictures
from flowpose.data.deepfashion import read_deepfashion
from flowpose.data.market import read_market
from flowpose.data.published_names import deepfashion_name, market_name
from flowpose.errors import DataError, FlowposeError, ImageError

Write = Callable[[Path], None]
FRAME = (64, 44)


def named(place: str, write: Callable[[Path], None]) -> Write:
    return lambda root: write(root / place)


PICTURES: dict[str, Write] = {
    "img_highres": write_tree,
    "img_highres of png": lambda root: write_tree(root, suffix=".png"),
    "Img/img_highres": lambda root: write_tree(root, folder="Img/img_highres"),
    "img, padded": lambda root: write_tree(root, folder="img", change=padded),
    "img of 256 x 176": lambda root: write_tree(root, folder="img"),
    "flat": write_flat,
    "flat, highres": lambda root: write_flat(root, folder="test_highres"),
}
ANNOTATIONS: dict[str, Write] = {
    "fasion-resize": named("fasion-resize-annotation-test.csv", write_annotations),
    "fashion-resize": named("fashion-resize-annotation-test.csv", write_annotations),
    "fasion, padded": named("fasion-annotation-test.csv", lambda file: write_annotations(file, shift=40)),
    "fashion, padded": named("fashion-annotation-test.csv", lambda file: write_annotations(file, shift=40)),
    "pose texts": write_texts,
}
PAIRS: dict[str, Write] = {
    "fasion-resize": named("fasion-resize-pairs-test.csv", write_csv_pairs),
    "fashion-resize": named("fashion-resize-pairs-test.csv", write_csv_pairs),
    "fasion": named("fasion-pairs-test.csv", write_csv_pairs),
    "fashion": named("fashion-pairs-test.csv", write_csv_pairs),
    "txt, target first": named("test_pairs.txt", write_text_pairs),
    "json": named("test_pairs.json", write_json_pairs),
    "json, data": named("test_data.json", write_json_pairs),
}
USUAL = ("img_highres", "fasion-resize", "fasion-resize")
FORMS = [
    *((each, *USUAL[1:]) for each in PICTURES),
    *((USUAL[0], each, USUAL[2]) for each in ANNOTATIONS),
    *((*USUAL[:2], each) for each in PAIRS),
    ("img, padded", "pose texts", "txt, target first"),  # as PIDM has it
    ("img, padded", "pose texts", "json"),  # as PCDMs and FPDM have it
]


def read(root: Path, pairs: str = "published", say: Callable[[str], None] = lambda text: None) -> Pictures:
    return read_deepfashion(root, "test", pairs, *FRAME, say)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS, ids=" + ".join)
def test_every_form_gives_the_same_pictures_joints_and_pairs(
    tmp_path: Path, form: tuple[str, str, str]
) -> None:
    for table, name in zip((PICTURES, ANNOTATIONS, PAIRS), form, strict=True):
        table[name](tmp_path)
    found = read(tmp_path)
    pairs = [(found.names[a], found.names[b]) for a, b in found.pairs] if found.pairs is not None else []
    assert pairs == [(a.flat, b.flat) for a, b in pairs_of(drawn())], "source to target, in the file's order"
    for number, name in enumerate(found.names):
        true = next(each for each in drawn() if each.flat == name)
        x, y = np.array(true.x), np.array(true.y)
        bodies = found.read_bodies
        assert bodies is not None
        nose, wrist = bodies[number][0], bodies[number][10]
        for joint, at in ((nose, 0), (wrist, 4)):
            assert joint[2] == (x[at] != -1)
            assert joint[2] == 0 or joint[:2].tolist() == [x[at] + 0.5, y[at] + 0.5]
        off = np.abs(found.images[number].astype(int) - image.fit(true.pixels, *FRAME).astype(int)).mean()
        assert off < 3, "JPEG changes a little; a frame that is 40 pixels off changes much"


def test_what_was_taken_is_said(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_tree(tmp_path, folder="img", change=padded)
    write_annotations(tmp_path / "fasion-resize-annotation-test.csv")
    write_texts(tmp_path)
    write_text_pairs(tmp_path / "test_pairs.txt")
    said: list[str] = []
    read(tmp_path, say=said.append)
    assert [line.replace(f"{tmp_path}/", "") for line in said] == [
        "test pictures: img_highres (tree); not img (tree)",
        "test annotations: fasion-resize-annotation-test.csv (csv); not pose (texts, padded)",
        "test pairs: test_pairs.txt (txt, target first)",
    ]


def test_lists_say_which_pose_texts_are_a_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_tree(tmp_path, part)
        write_texts(tmp_path, part)
        write_list(tmp_path / f"{part}.lst", part)
    test, train = (read_deepfashion(tmp_path, split, "all", 16, 16).names for split in ("test", "train"))
    assert set(test) == {each.flat for each in drawn("test")}
    assert set(train) < {each.flat for each in drawn("train")}, "but for val's person"
    assert len(train) == (PEOPLE - 1) * len(VIEWS)


def several_sources(root: Path) -> None:
    a, b, c = drawn()[:3]
    (root / "test_pairs.txt").write_text(f"{c.tree},{a.tree},{b.tree}\n")


def test_a_text_line_of_several_sources_is_several_pairs(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_texts(tmp_path)
    several_sources(tmp_path)
    found = read(tmp_path)
    assert found.pairs is not None
    assert [(found.names[a], found.names[b]) for a, b in found.pairs] == [
        (drawn()[0].flat, drawn()[2].flat),
        (drawn()[1].flat, drawn()[2].flat),
    ]


def test_another_file_settles_which_name_of_a_text_is_the_target(tmp_path: Path) -> None:
    root = make_deepfashion(tmp_path, ("test",))
    rows = [f"{a.tree},{b.tree}" for a, b in pairs_of(drawn())]
    for lines in (rows, [",".join(reversed(row.split(","))) for row in rows]):
        (root / "test_pairs.txt").write_text("\n".join(lines))
        found = read(root)
        assert found.pairs is not None and found.names[found.pairs[0, 1]] == drawn()[1].flat


def contradict(text: str) -> Write:
    def write(root: Path) -> None:
        make_deepfashion(root, ("test",))
        if text == "annotations":
            write_annotations(root / "fashion-resize-annotation-test.csv", shift=3)
        elif text == "texts":
            write_texts(root)
            file = root / "pose" / drawn()[0].tree.replace(".jpg", ".txt")
            file.write_text(file.read_text().replace("-1.000", "9.000", 1).replace("e+02", "e+01", 1))
        else:
            several_sources(root)

    return write


CONTRADICTIONS = {
    "annotations": r"fashion-resize-annotation-test\.csv: two annotations contradict each other, got fashion.*"
    r"expected the joints of .*fasion-resize-annotation-test\.csv\. Fix: move",
    "texts": r"pose: two annotations contradict each other, got fashion",
    "pairs": r"test_pairs\.txt: two pair files contradict each other, got 1 other pairs of 2, expected the 18 pairs",
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_two_that_contradict_are_an_error(tmp_path: Path, name: str) -> None:
    contradict(name)(tmp_path)
    with pytest.raises(DataError, match=CONTRADICTIONS[name]):
        read(tmp_path)


@pytest.mark.parametrize(
    ("place", "right", "shift", "text"),
    [
        (
            "fasion-resize-annotation",
            "fasion-annotation",
            40,
            "x is that of the padded picture, 40 too large",
        ),
        ("fasion-annotation", "fasion-resize-annotation", 0, "x is 40 too small: padding was taken"),
    ],
)
def test_joints_of_the_other_frame_are_not_taken(
    tmp_path: Path, place: str, right: str, shift: int, text: str
) -> None:
    write_tree(tmp_path)
    write_annotations(tmp_path / f"{place}-test.csv", shift=shift)
    write_csv_pairs(tmp_path / "fasion-resize-pairs-test.csv")
    with pytest.raises(DataError, match=text) as caught:
        read(tmp_path)
    assert caught.value.fix == f"mv {tmp_path}/{place}-test.csv {tmp_path}/{right}-test.csv"
    mend(caught.value.fix)
    read(tmp_path)


def mend(fix: str | None) -> None:
    """Carries out what an error says mends it."""
    assert fix
    subprocess.run(["bash", "-c", fix], check=True, timeout=20)


def test_a_square_that_was_squeezed_is_not_cut(tmp_path: Path) -> None:
    def squeezed(pixels: np.ndarray) -> np.ndarray:
        import cv2

        return np.asarray(cv2.resize(pixels, (256, 256)))

    root = make_deepfashion(tmp_path, ("test",))
    busy = squeezed(drawn()[0].pixels)
    busy[:, ::2] //= 2
    image.write(root / "img_highres" / drawn()[0].tree, busy)
    with pytest.raises(
        ImageError, match=r"a square picture that is not padded, got 256 x 256, expected plain"
    ):
        read(root)


BROKEN: dict[str, tuple[Write, str]] = {
    "semicolons": (
        lambda root: rewrite(root / "fasion-resize-pairs-test.csv", ",", ";"),
        r"line 1: another separator, got ';', expected ','",
    ),
    "no header": (
        lambda root: rewrite(root / "fasion-resize-pairs-test.csv", "from,to\n", ""),
        r"line 1: the header is missing, got 'fashion.*expected 'from,to'\. Fix: sed",
    ),
    "no JSON": (lambda root: (root / "test_data.json").write_text("[{"), r"test_data\.json: not JSON"),
    "JSON of something else": (
        lambda root: (root / "test_data.json").write_text('[{"source": 1}]'),
        r"test_data\.json \[0\]: not a pair, got \{'source': 1\}",
    ),
    "half a pair": (
        lambda root: (root / "test_pairs.txt").write_text(drawn()[0].tree),
        r"test_pairs\.txt line 1: not a pair, got 'WOMEN.*expected target,source",
    ),
}


def rewrite(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_a_pair_file_is_told(tmp_path: Path, name: str) -> None:
    damage, text = BROKEN[name]
    damage(make_deepfashion(tmp_path, ("test",)))
    with pytest.raises(DataError, match=text) as caught:
        read(tmp_path)
    assert caught.value.fix


def test_17_lines_are_no_pose_text(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_texts(tmp_path)
    write_text_pairs(tmp_path / "test_pairs.txt")
    file = tmp_path / "pose" / drawn()[0].tree.replace(".jpg", ".txt")
    file.write_text(file.read_text().split("\n", 1)[1])
    with pytest.raises(DataError, match=r"01_1_front\.txt: not joints, got 17 lines, expected 18 lines"):
        read(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "fashionWOMENTees_Tanksid0000221902_3back.jpg",
        "fashionWOMENTees_Tanksid0000221902_3back.png",
        "./img/WOMEN/Tees_Tanks/id_00002219/02_3_back.jpg",
        "img_highres/WOMEN/Tees_Tanks/id_00002219/02_3_back.png",
        "WOMEN/Tees_Tanks/id_00002219/02_3_back.txt",
        "train/fashionWOMENTees_Tanksid0000221902_3back.jpg",
    ],
)
def test_all_spellings_of_a_name_are_one_picture(text: str) -> None:
    found = deepfashion_name(text)
    assert found is not None
    assert found.name == "fashionWOMENTees_Tanksid0000221902_3back.jpg"
    assert found.file == "WOMEN/Tees_Tanks/id_00002219/02_3_back"
    assert (found.person, found.outfit) == ("WOMEN/Tees_Tanks/id_00002219", "WOMEN/Tees_Tanks/id_00002219/02")


@pytest.mark.parametrize(
    "text", ["", "fashionCHILDPantsid0000000501_3back.jpg", "MEN/Pants/id_5/01_3_back.jpg"]
)
def test_other_names_are_no_pictures(text: str) -> None:
    assert deepfashion_name(text) is None and market_name(text) is None


def test_market_without_false_detections_and_backgrounds(tmp_path: Path) -> None:
    root = make_market(tmp_path)
    test = read_market(root, "test", "published", 128, 64)
    assert len(test) == PEOPLE * len(VIEWS) and all(
        name[:4].isdigit() and name[:4] != "0000" for name in test.names
    )
    assert test.pairs is not None and len(test.pairs) == PEOPLE * 3
    assert len(set(test.identities.tolist())) == PEOPLE
    first = drawn("test", 128, 64)[0]
    seen = test.keypoints[0, 0]
    assert seen[2] == 0 or seen[:2].tolist() == [first.x[0] + 0.5, first.y[0] + 0.5]
    val, train = (read_market(root, split, "published", 32, 16) for split in ("val", "train"))
    assert {name[:4] for name in val.names} == {"0500"} and "0500" not in {name[:4] for name in train.names}


def test_market_takes_no_picture_without_shoulders_and_hips_where_all_are_taken(tmp_path: Path) -> None:
    root = make_market(tmp_path)
    file = root / "market-annotation-test.csv"
    lines = file.read_text().splitlines()
    whole = [each for each in drawn("test", 128, 64) if all(each.x[joint] != -1 for joint in (2, 5, 8, 11))]
    assert len(read_market(root, "test", "all", 32, 16)) == len(whole)
    name, y, x = lines[1].split(": ")
    cells = [value if joint != 5 else "-1" for joint, value in enumerate(x.strip("[]").split(", "))]
    file.write_text("\n".join([lines[0], f"{name}: {y}: [{', '.join(cells)}]", *lines[2:]]))
    assert len(read_market(root, "test", "all", 32, 16)) == len(whole) - (drawn("test", 128, 64)[0] in whole)


def test_an_error_of_a_set_says_all_its_parts(tmp_path: Path) -> None:
    with pytest.raises(FlowposeError) as caught:
        read_market(tmp_path, "test", "published", 16, 16)
    error = caught.value
    assert error.where.endswith("market-annotation-test.csv") and error.what == "the file is missing"
    assert error.got == "no file" and error.fix and "bounding_box_train" in error.fix
