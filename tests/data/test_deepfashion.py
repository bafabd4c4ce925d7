"""The reader of DeepFashion's layout: on a tiny tree, and on rendered people written in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowpose import image
from flowpose.data import draw_pairs, read
from flowpose.data.deepfashion import HELD, read_deepfashion
from flowpose.data_roots import DEFAULT_ROOTS
from flowpose.errors import DataError, FlowposeError, ImageError
from flowpose.spec.recipe import DeepFashionData, ImageSpec

SHARED = next((r for root in DEFAULT_ROOTS if (r := root / "people" / "deepfashion-format").is_dir()), None)
HEIGHT, WIDTH = 64, 44
VIEWS = ("01_1_front", "01_3_back", "02_1_front")
Y = [10 * i for i in range(18)]
X = [5 * i for i in range(18)]
MISSING = 9  # of openpose-18: the right knee


def flat(garment: str, view: str) -> str:
    gender, category, item = garment.split("/")
    outfit, number, side = view.split("_")
    return f"fashion{gender}{category}{item.replace('_', '')}{outfit}_{number}{side}.jpg"


def grey(shade: int, height: int = 110, width: int = 75) -> np.ndarray:
    """A picture with a darker lower half, of a size that has to be stretched."""
    picture = np.full((height, width, 3), shade, np.uint8)
    picture[height // 2 :] //= 2
    return picture


def annotation(name: str, y: list[int] = Y, x: list[int] = X) -> str:
    return f"{name}: {y}: {x}"


def make(root: Path, part: str = "test", garments: tuple[str, ...] = ("MEN/Pants/id_00000005",)) -> list[str]:
    """Pictures, annotations and pairs (front to back and to the other outfit) of a part; returns the flat names."""
    y = [*Y[:MISSING], -1, *Y[MISSING + 1 :]]
    names = []
    for number, garment in enumerate(garments):
        for place, view in enumerate(VIEWS):
            image.write(
                root / "img_highres" / garment / f"{view}.jpg", grey(60 + 20 * (number % 4) + 40 * place)
            )
            names.append(flat(garment, view))
    rows = "\n".join(annotation(name, y) for name in names)
    (root / f"fasion-resize-annotation-{part}.csv").write_text(f"name:keypoints_y:keypoints_x\n{rows}\n")
    fronts = range(0, len(names), len(VIEWS))
    pairs = [f"{names[i]},{names[i + k]}" for i in fronts for k in (2, 1)]
    (root / f"fasion-resize-pairs-{part}.csv").write_text("\n".join(["from,to", *pairs]) + "\n")
    return names


def test_published_pairs_are_kept_in_their_order(tmp_path: Path) -> None:
    names = make(tmp_path, garments=("WOMEN/Tees_Tanks/id_00002219", "MEN/Pants/id_00000005"))
    found = read_deepfashion(tmp_path, "test", "published", HEIGHT, WIDTH)
    assert found.names == tuple(names)
    assert found.pairs is not None and found.pairs.tolist() == [[0, 2], [0, 1], [3, 5], [3, 4]]
    assert list(draw_pairs(found, 4, seed=7)) == [(0, 2), (0, 1), (3, 5), (3, 4)]
    a, b, c, *_ = found.identities
    assert a == b != c, "another NN is another outfit"
    assert len(set(found.identities.tolist())) == 4


def test_pairs_of_all_pictures_stay_within_an_outfit(tmp_path: Path) -> None:
    make(tmp_path)
    found = read_deepfashion(tmp_path, "test", "all", HEIGHT, WIDTH)
    assert found.pairs is None and len(found) == 3
    assert {tuple(sorted(pair)) for pair in draw_pairs(found, 8, seed=0)} == {(0, 1)}


def test_all_leaves_out_pictures_without_a_joint(tmp_path: Path) -> None:
    names = make(tmp_path)
    file = tmp_path / "fasion-resize-annotation-test.csv"
    file.write_text(file.read_text().rsplit("\n", 2)[0] + "\n" + annotation(names[2], [-1] * 18, [-1] * 18))
    assert len(read_deepfashion(tmp_path, "test", "all", HEIGHT, WIDTH)) == 2
    published = read_deepfashion(tmp_path, "test", "published", HEIGHT, WIDTH)
    assert len(published) == 3 and not published.keypoints[2].any()


def test_joints_are_centres_of_pixels_of_256_by_176(tmp_path: Path) -> None:
    make(tmp_path)
    keypoints = read_deepfashion(tmp_path, "test", "published", 2 * 256, 2 * 176).keypoints[0]
    # openpose-18 number -> coco number: nose, right shoulder, left hip, right eye, left ear
    for own, coco in ((0, 0), (2, 6), (11, 11), (14, 2), (17, 3)):
        assert keypoints[coco].tolist() == [2 * (X[own] + 0.5), 2 * (Y[own] + 0.5), 1]
    assert not keypoints[14].any(), "the right knee is missing"
    assert not keypoints[17:].any(), "18 joints say nothing of feet, face and hands"


def test_joints_outside_the_picture_are_missing(tmp_path: Path) -> None:
    names = make(tmp_path)
    file = tmp_path / "fasion-resize-annotation-test.csv"
    x = [*X[:2], 176, 175, -3, *X[5:]]
    rows = [annotation(names[0], x=x), *file.read_text().splitlines()[2:]]
    file.write_text("\n".join(["name:keypoints_y:keypoints_x", *rows]))
    keypoints = read_deepfashion(tmp_path, "test", "published", 256, 176).keypoints[0]
    assert [keypoints[joint, 2] for joint in (6, 8, 10)] == [0, 1, 0]


@pytest.mark.parametrize(("height", "width", "edge"), [(64, 44, 32), (64, 64, 32), (96, 44, 48)])
def test_pictures_are_stretched_then_fitted(tmp_path: Path, height: int, width: int, edge: int) -> None:
    make(tmp_path)
    found = read_deepfashion(tmp_path, "test", "published", height, width).images
    assert found.shape == (3, height, width, 3) and found.dtype == np.uint8
    column = found[0, :, width // 2, 0].astype(int)
    assert abs(int(np.abs(np.diff(column)).argmax()) + 1 - edge) <= 1, "where the lower half begins"
    assert np.ptp(found[0, 2, :, 0].astype(int)) < 8, "no bands of another colour"


def test_a_part_of_train_is_validation(tmp_path: Path) -> None:
    garments = tuple(f"MEN/Pants/id_{i:08d}" for i in range(1, HELD + 3))
    make(tmp_path, "train", garments)
    made = {split: read_deepfashion(tmp_path, split, "published", 16, 16) for split in ("train", "val")}
    ids = {split: {name[15:25] for name in part.names} for split, part in made.items()}
    assert ids["val"] == {"id00000001", f"id{HELD + 1:08d}"}
    assert not ids["train"] & ids["val"] and len(ids["train"] | ids["val"]) == len(garments)
    assert {split: len(part.pairs) for split, part in made.items() if part.pairs is not None} == {
        "train": 2 * HELD,
        "val": 4,
    }


def test_validation_is_test_where_there_is_no_train(tmp_path: Path) -> None:
    make(tmp_path)
    val, test = (read_deepfashion(tmp_path, split, "published", 16, 16) for split in ("val", "test"))
    assert val.split == "val" and val.names == test.names
    with pytest.raises(DataError, match=r"fasion-resize-annotation-train\.csv: the file is missing"):
        read_deepfashion(tmp_path, "train", "published", 16, 16)
    with pytest.raises(DataError, match=r"no such split, got sequences, expected train, val or test"):
        read_deepfashion(tmp_path, "sequences", "published", 16, 16)


def test_the_other_spelling_is_read_too(tmp_path: Path) -> None:
    names = make(tmp_path)
    for kind in ("annotation", "pairs"):
        (tmp_path / f"fasion-resize-{kind}-test.csv").rename(tmp_path / f"fashion-resize-{kind}-test.csv")
    data, size = DeepFashionData(path=tmp_path.name), ImageSpec(height=32, width=24)
    assert read(data, size, "test", (tmp_path.parent,)).names == tuple(names)


Damage = Callable[[Path, list[str]], object]


def rewritten(kind: str, old: str, new: str) -> Damage:
    """Replaces the first `old` in a file."""

    def damage(root: Path, names: list[str]) -> None:
        file = root / f"fasion-resize-{kind}-test.csv"
        file.write_text(file.read_text().replace(old, new, 1))

    return damage


def picture(change: Callable[[Path], object]) -> Damage:
    return lambda root, names: change(root / "img_highres/MEN/Pants/id_00000005/01_3_back.jpg")


NAMED = "fashionMENPantsid0000000501_3back.jpg"
WRONG: dict[str, tuple[Damage, type[FlowposeError], str]] = {
    "no pair file": (
        lambda root, names: (root / "fasion-resize-pairs-test.csv").unlink(),
        DataError,
        r"pairs-test\.csv: the file is missing",
    ),
    "header": (
        rewritten("annotation", "_y:", "_x:"),
        DataError,
        r"annotation-test\.csv line 1: another header",
    ),
    "empty file": (
        lambda root, names: (root / "fasion-resize-pairs-test.csv").write_text(""),
        DataError,
        r"line 1: another header, got an empty file, expected 'from,to'",
    ),
    "short row": (
        rewritten("annotation", "\n" + NAMED + ": ", "\n" + NAMED),
        DataError,
        "line 3: a row of another length",
    ),
    "17 joints": (
        rewritten("annotation", "[0, 10, ", "[10, "),
        DataError,
        "line 2: not joints, got 17 numbers",
    ),
    "text": (rewritten("annotation", "[0, 10, ", "[0, a, "), DataError, "line 2: not joints"),
    "NaN": (rewritten("annotation", "[0, 10, ", "[0, NaN, "), DataError, "line 2: not joints"),
    "a name": (
        rewritten("annotation", NAMED, "id01_3_back.jpg"),
        DataError,
        r"line 3: not the name of a picture, got 'id01_3_back\.jpg'",
    ),
    "twice": (
        rewritten("annotation", NAMED, "fashionMENPantsid0000000501_1front.jpg"),
        DataError,
        "line 3: the picture is annotated twice",
    ),
    "a pair of a stranger": (
        rewritten("pairs", NAMED, NAMED.replace("back", "side")),
        DataError,
        r"pairs-test\.csv line 3: a picture without an annotation, got fashion.*01_3side\.jpg",
    ),
    "no picture": (picture(Path.unlink), DataError, r"01_3_back\.jpg: the picture is missing"),
    "truncated": (
        picture(lambda file: file.write_bytes(file.read_bytes()[:-200])),
        ImageError,
        r"01_3_back\.jpg: a JPEG that ends early",
    ),
    "garbage": (
        picture(lambda file: file.write_bytes(b"no picture\xff\xd9")),
        ImageError,
        r"01_3_back\.jpg: not a picture",
    ),
    "no pairs": (
        lambda root, names: (root / "fasion-resize-pairs-test.csv").write_text("from,to\n"),
        DataError,
        "the split is empty, got test",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(tmp_path: Path, name: str) -> None:
    damage, error, text = WRONG[name]
    damage(tmp_path, make(tmp_path))
    with pytest.raises(error, match=text):
        read_deepfashion(tmp_path, "test", "published", 16, 16)


@pytest.mark.skipif(SHARED is None, reason="no people/deepfashion-format in the data roots")
def test_rendered_people_in_deepfashions_layout() -> None:
    assert SHARED is not None
    found = read_deepfashion(SHARED, "test", "published", 256, 176)
    lines = (SHARED / "fasion-resize-pairs-test.csv").read_text().split()[1:]
    drawn = [f"{found.names[a]},{found.names[b]}" for a, b in draw_pairs(found, len(lines), seed=0)]
    assert drawn == lines, "the published pairs, in order"
    assert set(found.names) == set((SHARED / "test.lst").read_text().split())
    given = found.keypoints[..., 2] > 0
    assert given[:, 5:7].mean() > 0.9, "shoulders"
    assert not given[:, 17:].any()
    x, y = found.keypoints[..., 0], found.keypoints[..., 1]
    assert (x[given] % 1 == 0.5).all() and (y[given] % 1 == 0.5).all()
    wrists = given[:, 9] & given[:, 10] & given[:, 5] & given[:, 6]
    assert (x[wrists, 5] > x[wrists, 6]).mean() > 0.6, "most face the viewer: their left is on the right"
