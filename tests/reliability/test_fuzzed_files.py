"""A few of the examples that benchmarks/fuzz_files.py counts by the thousand, and attacks by name."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from fuzz_files import count
from fuzz_files_drawn import TARGETS, laughs, nested, png
from tiny_graphs import make_artifact

from flowpose import image
from flowpose.artifact import open_artifact
from flowpose.errors import ImageError, IntegrityError, SpecError
from flowpose.spec.find import find
from flowpose.spec.reading import LARGEST, load_recipe, load_target


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("error")
def test_spoilt_files_give_a_result_or_a_typed_error(name: str, tmp_path: Path) -> None:
    tally = count(TARGETS[name], tmp_path, 40)
    assert tally.clean, tally.faults
    assert tally.tried >= 40 and len(tally.outcomes) > 1


@pytest.mark.parametrize("size", [(65535, 65535), (1 << 20, 1 << 20), (8193, 8193), (1, 1 << 28)])
def test_a_picture_of_a_huge_declared_size_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    tracemalloc.start()
    with pytest.raises(ImageError) as caught:
        image.decode(png(*size, 8, 2), "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert caught.value.where == "bomb.png" and caught.value.what == "too large"
    assert caught.value.got == f"{size[0]} x {size[1]} pixels" and caught.value.fix


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (301, 6)])
def test_the_size_in_a_header_is_that_of_the_picture(kind: str, size: tuple[int, int]) -> None:
    import numpy as np

    data = image.encode(np.full((*size, 3), 80, np.uint8), kind)
    assert image.size_of(data) == size == image.decode(data).shape[:2]


def test_other_kinds_of_pictures_are_refused(tmp_path: Path) -> None:
    for data in (b"GIF89a" + bytes(40), b"II*\0" + bytes(40), b"P6 1 1 255 abc"):
        assert image.size_of(data) is None
        with pytest.raises(ImageError, match="not a picture"):
            image.decode(data)


def test_a_manifest_with_half_a_letter_and_no_digest_is_refused(tmp_path: Path) -> None:
    """Found by fuzzing: without a digest there is none to compare, and such a text cannot be written."""
    made = make_artifact(tmp_path / "tiny", ("fp32",)).path
    (made / "manifest.json").write_text('{"format": 1, "name": "\\ud800"}')
    with pytest.raises(IntegrityError, match=r"manifest\.json: the file was changed"):
        open_artifact(made)


HOSTILE = {
    "billion laughs": (laughs(9, 10), "aliases make more than"),
    "a list in itself": ("a: &a [*a]", "aliases make more than"),
    "brackets": (nested(1500, "[", "]"), "nested too deeply"),
    "tables": (nested(1500, "{a: ", "}"), "nested too deeply"),
    "5,000 digits": ("a: " + "1" * 5000, "not a value"),
    "no truth": ("a: !!bool maybe", "not a value"),
    "no day": ("a: !!timestamp 2020-13-45", "not a value"),
    "bytes": ("a: !!binary aGk=", "no file of this kind can"),
    "a set": ("a: !!set {b, c}", "no file of this kind can"),
    "code": ("a: !!python/object/apply:os.system [id]", "not YAML"),
    "a key twice": ("a: 1\na: 2", "stands twice"),
    "a list as a key": ("? [a]\n: b", "a key is no text"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_yaml_is_refused_with_its_file(tmp_path: Path, what: str) -> None:
    text, expected = HOSTILE[what]
    file = tmp_path / "hostile.yaml"
    file.write_text(text)
    for load in (load_recipe, load_target):
        with pytest.raises(SpecError, match=expected) as caught:
            load(file)
        assert caught.value.where == str(file)


def test_aliases_may_be_used(tmp_path: Path) -> None:
    text = find("recipes", "tiny").read_text()
    assert "optim: {iterations: 40" in text
    plain = text.replace("name: tiny", "name: other")
    shared = plain.replace("  latents: 8", "  latents: &latents 8").replace("pairs: 16", "pairs: *latents")
    (tmp_path / "other.yaml").write_text(shared)
    assert load_recipe(tmp_path / "other.yaml").evaluate.pairs == 8


def test_a_file_of_megabytes_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"#" * (LARGEST + 1))
    with pytest.raises(SpecError, match="too large"):
        load_recipe(tmp_path / "large.yaml")
