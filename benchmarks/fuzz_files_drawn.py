"""What hypothesis throws at files: pictures, recipes, targets, calibration sets, manifests, bundles.

`TARGETS` says for each what is drawn and what is done with it; the latter returns a word for what came out, or raises.
"""

from __future__ import annotations

import copy
import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tiny_graphs import make_artifact

from flowpose import artifact, image
from flowpose.bundle import open_bundle, read_bundle, seal
from flowpose.bundle_record import RECORD
from flowpose.spec.check import check_recipe
from flowpose.spec.find import shipped
from flowpose.spec.reading import load_calibration, load_recipe, load_target

Draw = Callable[[st.SearchStrategy[Any]], Any]
LARGE = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Shelf:
    """Good files to spoil: a folder to write into, a tiny artifact, a bundle of it as a folder."""

    folder: Path
    artifact: Path
    bundle: Path


@dataclass(frozen=True)
class Target:
    """What is drawn, and what is done with it."""

    name: str
    values: st.SearchStrategy[Any]
    act: Callable[[Shelf, Any], str]


def shelf(folder: Path) -> Shelf:
    made = make_artifact(folder / "made", ("fp32",)).path
    bundle = seal(made, ["cpu"], folder / "bundle").path
    return Shelf(folder, made, bundle)


# Pictures


@cache
def pictures() -> dict[str, bytes]:
    """One small file of each kind that cameras, tools and pages make; those that flowpose does not read, too."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (12, 9, 3), np.uint8)
    deep, alpha = colour.astype(np.uint16) * 257, np.dstack([colour, colour[:, :, :1]])
    forms = {
        "colour": colour,
        "grey": colour[:, :, 0],
        "alpha": alpha,
        "deep": deep,
        "deep grey": deep[:, :, 0],
    }
    found = {}
    for kind in (".png", ".jpg", ".webp", ".bmp", ".tiff", ".gif", ".ppm"):
        for form, pixels in forms.items():
            if form == "colour" or (
                kind != ".gif" and (pixels.dtype == np.uint8 or kind in (".png", ".tiff"))
            ):
                done, data = cv2.imencode(kind, pixels)
                if done:
                    found[f"{form}{kind}"] = data.tobytes()
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    found["progressive.jpg"] = cv2.imencode(".jpg", colour, progressive)[1].tobytes()
    found["palette.png"] = png(9, 12, 8, 3, [(b"PLTE", bytes(range(96))), (b"tRNS", bytes(32))])
    for kind in (".webp", ".png", ".gif"):
        moving = cv2.Animation()
        moving.frames, moving.durations = [alpha, alpha[::-1].copy()], [40, 40]
        found[f"moving{kind}"] = cv2.imencodeanimation(kind, moving)[1].tobytes()
    return {**found, **_of_pillow(colour)}


def _of_pillow(colour: Any) -> dict[str, bytes]:
    """What only Pillow writes: four inks, and a turned picture. Nothing where it is missing."""
    import io

    try:
        from PIL import Image
    except ImportError:
        return {}
    found, plain = {}, Image.fromarray(colour)
    for name, picture in (("inks.jpg", plain.convert("CMYK")), ("palette.bmp", plain.convert("P"))):
        stream = io.BytesIO()
        picture.save(stream, {"jpg": "JPEG", "bmp": "BMP"}[name[-3:]])
        found[name] = stream.getvalue()
    stream, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6
    plain.save(stream, "JPEG", exif=turned)
    return {**found, "turned.jpg": stream.getvalue()}


def png(
    width: int, height: int, depth: int, colour: int, further: list[tuple[bytes, bytes]] | None = None
) -> bytes:
    """A PNG whose checksums are right, whatever its header says; its pixels are those of 9 x 12 at most."""
    rows = zlib.compress(bytes((1 + 9 * 8) * 12))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *(further or ())]
    chunks += [(b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@st.composite
def spoilt(draw: Draw, data: bytes) -> bytes:
    """Some bytes changed, put in or cut out, mostly near the start where sizes stand, or the end cut off."""
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        near = draw(st.booleans())
        start = draw(st.integers(0, min(len(data), 64) if near else len(data)))
        put = draw(
            st.binary(min_size=1, max_size=4)
            | st.sampled_from([struct.pack(order, n) for n in LARGE for order in ("<I", ">I")])
        )
        gone = draw(st.sampled_from([len(put), len(put), len(put), 0, 9]))
        data = data[:start] + put + data[start + gone :]
    return data[: draw(st.sampled_from([len(data)] * 4 + [draw(st.integers(0, len(data)))]))]


@st.composite
def picture_files(draw: Draw) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        size = st.sampled_from([*LARGE[:9], 9, 12, 30000, 8192, 8193])
        depth, colour = draw(st.sampled_from([1, 2, 4, 8, 16, 3])), draw(st.sampled_from([0, 2, 3, 4, 6, 7]))
        return png(draw(size), draw(size), depth, colour)
    return draw(spoilt(draw(st.sampled_from(sorted(pictures().values())))))


def act_picture(desk: Shelf, data: bytes) -> str:
    file = desk.folder / "picture"
    file.write_bytes(data)
    found = image.read(file)
    assert found.ndim == 3 and found.shape[2] == 3 and found.dtype == np.uint8
    assert found.shape[0] * found.shape[1] <= image.MOST_PIXELS
    assert image.fit(found, 16, 12).shape == (16, 12, 3)
    return "picture"


# Recipes, targets, calibration sets

WORDS = (
    "0", "-1", "1e400", ".nan", ".inf", "-.inf", "null", "~", "true", "''", "[]", "{}", "!!binary aGk=",
    "!!set {a, b}",
    "!!timestamp 2020-13-45", "!!int abc", "!!float x", "!!python/object/apply:os.system [id]", "!!omap [a: 1]",
    "&a [*a]", "*b", "<<: {a: 1}", "1" * 5000, "0x1F", "2020-01-01", '"\\ud800"', '"\\0"', "|", "? [a]", "- x", "1_000",
    "é", "x" * 3000,
    "{a: 1, a: 2}", "[" * 40 + "]" * 40, "!!pairs [a: 1]", "!!null x", "!!bool maybe", "!!merge x", "!x y",
)  # fmt: skip
"""What YAML may hold where a value is expected, and what it may not."""


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + closing * depth


def laughs(levels: int, width: int) -> str:
    """The billion laughs: each line holds the one before `width` times."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * width)}]" for i in range(levels)]
    return "\n".join(lines)


@cache
def texts(kind: str) -> tuple[str, ...]:
    return tuple(path.read_text() for path in shipped(kind).values())  # type: ignore[arg-type]


@st.composite
def yaml_files(draw: Draw, kind: str) -> str:
    """A shipped file with some values replaced, lines doubled, dropped or moved in, or a hostile text beside it."""
    text = draw(st.sampled_from(texts(kind)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        text = draw(_changed(text))
    extra = draw(st.integers(0, 19))
    if extra == 0:
        text += "\n" + laughs(draw(st.integers(1, 40)), draw(st.integers(2, 12)))
    elif extra == 1:
        brackets = draw(
            st.sampled_from([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("[[{a: ", "}]]")])
        )
        text += "\nextra: " + nested(draw(st.sampled_from([5, 100, 500, 2000, 20000])), *brackets)
    elif extra == 2:
        text += "\n" + "\n".join(f"k{i}: {i}" for i in range(draw(st.sampled_from([10, 1000, 60000]))))
    return text


@st.composite
def _changed(draw: Draw, text: str) -> str:
    lines = text.splitlines() or [""]
    at = draw(st.integers(0, len(lines) - 1))
    what = draw(st.integers(0, 5))
    if what <= 2:
        key, colon, _ = lines[at].partition(":")
        lines[at] = f"{key}{colon or ':'} {draw(st.sampled_from(WORDS))}"
    elif what == 3:
        lines.insert(at, draw(st.sampled_from(lines)))
    elif what == 4:
        del lines[at]
    else:
        start = draw(st.integers(0, len(text)))
        return text[:start] + draw(st.sampled_from([*WORDS, ":", "{", "\t", "\n", "#"])) + text[start + 1 :]
    return "\n".join(lines)


def act_recipe(desk: Shelf, value: tuple[str, list[str]]) -> str:
    file = desk.folder / "recipe.yaml"
    file.write_text(value[0], encoding="utf-8", errors="surrogatepass")
    check_recipe(load_recipe(file, value[1]))
    return "recipe"


def act_target(desk: Shelf, text: str) -> str:
    file = desk.folder / "target.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    load_target(file)
    return "target"


def act_calibration(desk: Shelf, text: str) -> str:
    file = desk.folder / "calibration.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    load_calibration(file)
    return "calibration set"


OVERRIDES = st.lists(
    st.builds(
        "{}={}".format,
        st.sampled_from(
            ["train.optim.lr", "data", "image.height", "name", "quantize", "a.b.c", "", ".", "gates.0", "gates.9.x"]
        ),
        st.sampled_from(WORDS),
    ),
    max_size=2,
)  # fmt: skip


# Manifests and bundles

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4),
    st.sampled_from([[], {}, [[]], 10**400, -1, 1e308]),
    st.sampled_from(["x" * 2000, "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "0" * 64]),
    st.sampled_from([json.loads(nested(depth, "[", "]")) for depth in (3, 60, 300)]),
).map(copy.deepcopy)  # fmt: skip


@st.composite
def changed(draw: Draw, data: Any) -> Any:
    """A JSON document with up to three things replaced, taken away or renamed."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        parent, key, node = None, None, data
        for _ in range(draw(st.integers(1, 6))):
            keys = (
                list(node)
                if isinstance(node, dict)
                else list(range(len(node)))
                if isinstance(node, list)
                else []
            )
            if not keys:
                break
            parent, key = node, keys[draw(st.integers(0, len(keys) - 1))]
            node = parent[key]
        what = draw(st.integers(0, 5))
        if parent is None:
            return draw(JUNK)
        if what == 0:
            del parent[key]
        elif what == 1 and isinstance(parent, dict):
            parent[draw(st.sampled_from(["x", "", "../x", "files", "format", "key", "a/b", "\ud800"]))] = (
                parent.pop(key)
            )
        else:
            parent[key] = draw(JUNK)
    return data


@cache
def good_manifest() -> Any:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return json.loads((shelf(Path(folder)).artifact / artifact.MANIFEST).read_text())


@cache
def good_record() -> Any:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return json.loads((shelf(Path(folder)).bundle / RECORD).read_text())


def written(data: Any) -> bytes:
    """The bytes of a JSON document as flowpose would write it, as far as it can be."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    return (text + "\n").encode("utf-8", errors="surrogatepass")


@st.composite
def json_bytes(draw: Draw, good: Callable[[], Any]) -> bytes:
    """A document spoilt as data or as bytes; or a hostile one."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return nested(
            draw(st.sampled_from([10, 500, 5000, 200000])),
            *draw(st.sampled_from([("[", "]"), ('{"a":', "}")])),
        ).encode()
    if kind <= 3:
        return draw(spoilt(written(good())))
    return written(draw(changed(good())))


def resealed(raw: bytes) -> bytes:
    """The same with its own digest made right where it can be, so that what comes after the digest is reached."""
    try:
        data = json.loads(raw)
        digest = artifact._self_digest(data)
    except (ValueError, RecursionError, AttributeError, artifact.SpecError):
        return raw
    return written({**data, "self_sha256": digest}) if isinstance(data, dict) else raw


def act_manifest(desk: Shelf, value: tuple[bytes, bool]) -> str:
    raw, sealed = value
    copied = desk.folder / "copied"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(desk.artifact, copied)
    (copied / artifact.MANIFEST).write_bytes(resealed(raw) if sealed else raw)
    found = artifact.open_artifact(copied)
    artifact.ancestors(found)
    return "artifact"


def act_record(desk: Shelf, raw: bytes) -> str:
    copied, into = desk.folder / "bundle-copied", desk.folder / "into"
    for folder in (copied, into):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(desk.bundle, copied)
    (copied / RECORD).write_bytes(raw)
    read_bundle(copied)
    open_bundle(copied, into)
    return "bundle"


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        each.name: each
        for each in (
            Target("pictures", picture_files(), act_picture),
            Target("recipes", st.tuples(yaml_files("recipes"), OVERRIDES), act_recipe),
            Target("targets", yaml_files("targets"), act_target),
            Target("calibration sets", yaml_files("calib"), act_calibration),
            Target("manifests", st.tuples(json_bytes(good_manifest), st.booleans()), act_manifest),
            Target("bundle records", json_bytes(good_record), act_record),
        )
    }
)
"""What is spoilt, by its name."""
