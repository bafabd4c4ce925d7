"""What hypothesis throws at poses: arrays, files of every kind with something wrong in them, motions.

`TARGETS` says for each what is drawn and what is done with it. What comes out is a picture of a tiny model, or a
FlowposeError; anything else is a fault. `test_fuzz.py` runs it small, `benchmarks/fuzz_poses.py` large.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pose.test_formats_agree import samples
from pose.writers import KINDS
from tiny_graphs import HEIGHT, WIDTH, pictures

from flowpose.errors import FlowposeError
from flowpose.pose import FORMATS, Pose
from flowpose.pose_files import read_motion, read_poses
from flowpose.pose_motion import Chooser, Holder, Smoother, retarget
from flowpose.runtime import Model

Draw = Callable[[st.SearchStrategy[Any]], Any]
SPOTS = st.sampled_from([1, 1, 1, 0, 2, 3])  # how many things are wrong with a file

COUNTS = sorted({len(form.joints) for form in FORMATS.values()})
NAMES = ["deepfashion-18", "deepfashion-18-padded", "coco", "", 17]
FORMAT_NAMES = st.sampled_from([*[None] * 30, *FORMATS, *NAMES])
SIZES = st.sampled_from(
    [*[(256, 176)] * 30, (HEIGHT, WIDTH), None, (1, 1), (0, 5), (-3, 4), (2.5, 3), (3,), "ab", (10**9, 4)]
)
NUMBERS = st.one_of(
    st.floats(width=32), st.floats(-1, 40, width=32), st.sampled_from([0.0, -1.0, 1.0, 2.0, 1e6, -1e6, 3e38, 1.01]),
)  # fmt: skip
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([10**30, 1e308, -1, 0, 256]), st.floats(),
    st.text(max_size=4),
    st.sampled_from([[], {}, [[]], [None], {"x": 1, "y": 2}, [[{"x": 1, "y": 1}]], {"landmark": 3}, [[[[[[1]]]]]]]),
    st.lists(st.floats(-5, 300), max_size=6),
).map(copy.deepcopy)  # fmt: skip


def mostly(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 9).flatmap(lambda n: usual if n else rare)


@dataclass(frozen=True)
class Desk:
    """What a target works with: a tiny model and a folder to write into."""

    model: Model
    folder: Path


@dataclass(frozen=True)
class Target:
    """What is drawn, and what is done with it; returns what came out."""

    values: st.SearchStrategy[Any]
    act: Callable[[Desk, Any], str]


def outcome(target: Target, desk: Desk, value: Any) -> str:
    """What came out, or the class of flowpose's error."""
    try:
        return target.act(desk, value)
    except FlowposeError as error:
        return (
            type(error).__name__
            if error.where and error.what
            else "an error that does not say where and what"
        )


def picture(desk: Desk, pose: Any, format: Any = None) -> str:
    found = desk.model.infer(pictures()[0], pose, format=format)
    assert found.shape == (HEIGHT, WIDTH, 3) and found.dtype == np.uint8
    return "picture"


@st.composite
def near_arrays(draw: Draw, *, plain: bool = False) -> Any:
    """A person in view with a few numbers changed, in any type of number."""
    count, columns = draw(st.sampled_from(COUNTS)), draw(st.sampled_from([2, 3]))
    rows = np.linspace(1, 15, count * columns).reshape(count, columns)
    if columns == 3:
        rows[:, 2] = 1
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 4]))):
        at = draw(st.tuples(st.integers(0, count - 1), st.integers(0, columns - 1)))
        rows[at] = draw(NUMBERS)
    if plain:
        return rows
    shaped = draw(st.sampled_from([*[rows] * 6, rows.ravel(), rows[None], rows.tolist(), rows.T, rows[:-1]]))
    kind = draw(st.sampled_from([*[None] * 5, np.float32, np.float16, np.int64, object, str, complex]))
    with np.errstate(all="ignore"):
        return shaped if kind is None else np.asarray(np.nan_to_num(shaped), kind)


WILD = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int16, np.bool_, np.complex64]),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=8) | st.sampled_from([(17, 3), (18, 2), (25, 3)]),
)  # fmt: skip


def act_array(desk: Desk, value: Any) -> str:
    array, format, size, straight = value
    return picture(desk, array if straight else Pose.of(array, format, size), format if straight else None)


@cache
def templates() -> dict[str, bytes]:
    """One file of each kind: its name -> its bytes."""
    found: dict[str, bytes] = {}
    for number, (name, kind) in enumerate(KINDS.items()):
        if name.startswith(".pose") and find_spec("pose_format") is None:
            continue
        with TemporaryDirectory() as folder:
            path = kind.write(Path(folder), samples()[:2])
            file = sorted(path.iterdir())[0] if path.is_dir() else path
            found[f"{number}{file.suffix}"] = file.read_bytes()
    return found


def of_kind(*suffixes: str) -> list[tuple[str, bytes]]:
    return [(name, data) for name, data in templates().items() if name.endswith(suffixes)]


@st.composite
def documents(draw: Draw) -> tuple[str, bytes]:
    """A JSON document with up to three things replaced, taken away or doubled."""
    name, data = draw(st.sampled_from(of_kind(".json", ".jsonl")))
    lines = [json.loads(line) for line in data.splitlines()] if name.endswith("l") else json.loads(data)
    for _ in range(draw(SPOTS)):
        lines = _spoilt(draw, lines)
    if name.endswith("l") and isinstance(lines, list):
        return name, "\n".join(json.dumps(line) for line in lines).encode()
    return name, json.dumps(lines).encode()


def _spoilt(draw: Draw, data: Any) -> Any:
    node, parent, key = data, None, None
    for _ in range(draw(mostly(st.integers(3, 7), st.integers(0, 2)))):
        keys = (
            list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        )
        if not keys:
            break
        parent, key = node, keys[draw(st.integers(0, len(keys) - 1))]
        node = parent[key]
    if parent is None:
        return draw(JUNK)
    what = draw(st.sampled_from(["replace", "replace", "drop", "double"]))
    if what == "drop":
        del parent[key]
    elif what == "double" and isinstance(parent, list):
        parent.insert(key, node)
    else:
        parent[key] = draw(JUNK)
    return data


@st.composite
def spoilt_text(draw: Draw, *suffixes: str) -> tuple[str, bytes]:
    """A text file with some letters changed, cut out or put in, or cut short."""
    name, data = draw(st.sampled_from(of_kind(*suffixes)))
    for _ in range(draw(SPOTS)):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 1, 2, 3, 8, 10**6]))
        put = draw(
            st.sampled_from(
                ["", "1", "-1", "nan", "1e39", ",", ":", "[", "]", '"', "\n", " ", "true", "é", "\x00"]
            )
        )
        data = data[:start] + put.encode() + data[end:]
    return name, data


@st.composite
def spoilt_bytes(draw: Draw, *suffixes: str) -> tuple[str, bytes]:
    """A binary file with some bytes changed, or cut short."""
    name, data = draw(st.sampled_from(of_kind(*suffixes)))
    for _ in range(draw(SPOTS)):
        start = draw(mostly(st.integers(0, len(data)), st.integers(0, 64)))
        put = draw(
            st.binary(min_size=1, max_size=4) | st.sampled_from([b"\0" * 4, b"\0\0\xc0\x7f", b"\xff" * 8])
        )
        data = data[:start] + put + data[start + len(put) :]
    return name, data[: draw(mostly(st.just(len(data)), st.integers(0, len(data))))]


@st.composite
def archives(draw: Draw) -> tuple[str, bytes]:
    """A whole .npz of a few frames, with a wrong number here and there, and anything for its other arrays."""
    rows = np.stack([draw(near_arrays(plain=True))] * draw(st.integers(1, 3)))
    found = {"keypoints": rows if draw(st.integers(0, 5)) else draw(WILD)}
    for name in ("format", "size", "times", "rate"):
        if draw(st.integers(0, 5)) == 0:
            junk = draw(JUNK | st.sampled_from(["coco-17", (256, 176), [0.0, 1.0], 25]))
            found[name] = np.array(junk) if not isinstance(junk, list | dict) else np.array(str(junk))
    stream = io.BytesIO()
    np.savez(stream, **{name: each for name, each in found.items() if each.dtype != object})
    return "a.npz", stream.getvalue()


@st.composite
def asked(draw: Draw) -> dict[str, Any]:
    return {
        "format": draw(mostly(st.none(), FORMAT_NAMES)), "size": draw(SIZES),
        "units": draw(mostly(st.none(), st.sampled_from(["pixels", "normalised", "mm"]))),
        "person": draw(mostly(st.sampled_from([0, "largest", "nearest"]), st.sampled_from([1, -1, "", None]))),
    }  # fmt: skip


def act_file(desk: Desk, value: Any) -> str:
    (name, data), options, moving = value
    path = desk.folder / name
    path.write_bytes(data)
    poses = read_motion(path, **options).poses if moving else read_poses(path, **options)
    return picture(desk, poses[0])


@st.composite
def motions(draw: Draw) -> list[tuple[list[Pose], float]]:
    """Frames with a few people each, joints coming and going, at times that mostly go on."""
    name = draw(st.sampled_from(["coco-17", "openpose-18", "mediapipe-33"]))
    count, time, frames = len(FORMATS[name].joints), 0.0, []
    for _ in range(draw(st.integers(1, 5))):
        people = []
        for _ in range(draw(st.integers(0, 2))):
            xy = np.linspace(1, 15, count * 2).reshape(count, 2) + draw(
                st.floats(-9e5, 9e5) | st.floats(0, 9)
            )
            score = np.ones(count)
            score[draw(st.integers(0, count)) : draw(st.integers(0, count))] = draw(
                st.sampled_from([0, 0, 0.25])
            )
            people.append(Pose(name, xy, score, draw(st.sampled_from([(HEIGHT, WIDTH)] * 9 + [None]))))
        time += draw(st.sampled_from([0, 0.03, 0.03, 1, -0.1, 1e300, float("nan")]))
        frames.append((people, time))
    return frames


def act_motion(desk: Desk, value: Any) -> str:
    frames, person, other = value
    chooser, holder, smoother = Chooser(person), Holder(), Smoother()
    found: list[Pose] = []
    for people, time in frames:
        held = holder(chooser(people), time)
        if held is not None:
            found.append(smoother(held, time))
    if other and found:
        found = list(retarget(found, Pose.of(np.linspace(1, 15, 34).reshape(17, 2), size=(HEIGHT, WIDTH))))
    return picture(desk, found[-1]) if found else "nobody"


def files(values: st.SearchStrategy[Any]) -> Target:
    return Target(st.tuples(values, asked(), st.booleans()), act_file)


TARGETS: dict[str, Target] = {
    "arrays": Target(
        st.tuples(
            mostly(near_arrays(), WILD | JUNK), mostly(FORMAT_NAMES, JUNK), mostly(SIZES, JUNK), st.booleans()
        ),
        act_array,
    ),
    "JSON": files(documents()),
    "JSON text": files(spoilt_text(".json", ".jsonl")),
    "CSV and text": files(spoilt_text(".csv", ".txt")),
    "NumPy files": files(spoilt_bytes(".npy", ".npz") | archives()),
    **({".pose files": files(spoilt_bytes(".pose"))} if find_spec("pose_format") else {}),
    "motions": Target(
        st.tuples(motions(), st.sampled_from([0, 1, "largest", "nearest"]), st.booleans()), act_motion
    ),
}
