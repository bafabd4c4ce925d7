"""What reads a pose file: told by its suffix, and a JSON document by its keys."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowpose.errors import PoseError
from flowpose.pose import Pose
from flowpose.pose_files import coco, mediapipe, openpose
from flowpose.pose_files.arrays import read_arrays
from flowpose.pose_files.frames import (
    KINDS,
    Asked,
    Frame,
    Recording,
    named,
    number,
    one_format,
    read_json,
    read_text,
    shown,
    size_in,
)
from flowpose.pose_files.pose_library import read_pose_file
from flowpose.pose_files.tables import read_csv, read_txt
from flowpose.pose_motion import Chooser, Motion

JSON = "OpenPose's 'people', COCO's 'annotations' or 'keypoints', MediaPipe's 'poseLandmarks', or 'frames' of these"


def read_poses(
    path: str | Path,
    *,
    format: str | None = None,
    size: tuple[int, int] | None = None,
    person: int | str | None = None,
    units: str | None = None,
    name: str | None = None,
) -> tuple[Pose, ...]:
    """Returns the poses in a file or folder, in the order of the file or of the names.

    Args:
        path: JSON or JSON lines of OpenPose (one pose a frame), COCO (annotations or results) or MediaPipe; a folder of
            such JSON files (a frame each) or of DeepFashion pose texts; CSV of DeepFashion or with a column a
            coordinate; a .pose file; .npy [n,J,3], [n,J,2] or [J,3]; .npz with `keypoints` and optionally
            `format`, `size` (height, width). docs/poses.md describes them.
        format: name of the format where the shape alone does not tell it.
        size: (height, width) of the canvas where the file does not give it.
        person: which of the people in a frame: an index, "largest" or "nearest" (`flowpose.pose_motion.Chooser`). None:
            the first one; of a COCO file every annotation, one pose each.
        units: "pixels" or "normalised" (0..1 of the canvas); None: MediaPipe's are normalised, all others pixels.
        name: the one picture whose pose is wanted, where the file names pictures (DeepFashion, COCO annotations).

    Raises:
        PoseError: no such file, another kind of file, no pose in it, no such person or picture, or what `Pose.of`
            refuses; names the file and the entry.
        MissingDependency: a .pose file, and pose-format is not installed.
    """
    file, asked = Path(path), Asked(format, size, units)
    recording = _read(file, asked, every=person is None)
    people = tuple(frame for frame in recording.frames if frame.people or not recording.pictures)
    frames = _of_name(file, people, name)
    if not frames:
        raise PoseError(file, "holds no pose", expected="at least one")
    chooser = Chooser(0 if person is None else person)
    return tuple(_chosen(frame, chooser) for frame in frames)


def read_motion(
    path: str | Path,
    *,
    format: str | None = None,
    size: tuple[int, int] | None = None,
    person: int | str = 0,
    units: str | None = None,
    rate: float = 30.0,
    every: bool = False,
) -> Motion:
    """Returns one person's motion: a pose a frame, all in one format, with times.

    A frame in which the person is not gives a pose whose joints are all missing (`flowpose.pose_motion.Holder` bridges
    it). COCO files give a frame a picture.

    Args:
        path, format, size, person, units: as in `read_poses`.
        rate: frames a second where the file gives neither times nor a rate.
        every: each annotation of a COCO file is a frame, not each picture.

    Raises:
        PoseError: what `read_poses` refuses, no frame with the person, times in some frames only or running backwards.
        MissingDependency: a .pose file, and pose-format is not installed.
    """
    file = Path(path)
    recording = _read(file, Asked(format, size, units, timed=True), every=every)
    if not recording.frames:
        raise PoseError(file, "holds no pose", expected="at least one")
    frames, chooser = one_format(recording.frames), Chooser(person)
    found = [chooser(frame.people) for frame in frames]
    some = next((pose for pose in found if pose is not None), None)
    if some is None:
        got = f"{len(frames)} frames"
        raise PoseError(
            file, "no person in any frame", got=got, expected=f"person {person!r} in at least one"
        )
    poses = tuple(some.nobody() if pose is None else pose for pose in found)
    return named(str(file), Motion, poses, _times(file, recording, rate))


def _chosen(frame: Frame, chooser: Chooser) -> Pose:
    pose = chooser(frame.people)
    if pose is None:
        got, fix = f"{len(frame.people)} people", "read_motion gives such a frame a pose without joints"
        raise PoseError(frame.where, f"no person {chooser.person}", got=got, expected="a person", fix=fix)
    return pose


def _of_name(file: Path, frames: tuple[Frame, ...], name: str | None) -> tuple[Frame, ...]:
    if name is None:
        return frames
    found = tuple(frame for frame in frames if frame.name == name)
    if not found:
        names = [frame.name for frame in frames if frame.name is not None]
        near = difflib.get_close_matches(name, names, 1)
        fix = f"did you mean '{near[0]}'?" if near else None
        expected = f"one of {len(names)} names" if names else "a file that names its pictures"
        raise PoseError(file, "no picture of that name", got=f"'{name}'", expected=expected, fix=fix)
    return found


def _times(file: Path, recording: Recording, rate: float) -> tuple[float, ...]:
    """Seconds of each frame, from the first one on."""
    given = [frame.time for frame in recording.frames]
    times = [time for time in given if time is not None]
    if not times:
        each = recording.rate if recording.rate is not None else rate
        if not (0 < each < float("inf")):
            raise PoseError(
                f"{file}: rate", "not a frame rate", got=each, expected="frames a second, above 0"
            )
        return tuple(i / each for i in range(len(given)))
    if len(times) < len(given):
        first = recording.frames[given.index(None)].where
        raise PoseError(
            first, "has no time", got=f"{len(times)} of {len(given)} frames with one", expected="all"
        )
    return tuple(time - times[0] for time in times)


def _read(file: Path, asked: Asked, *, every: bool) -> Recording:
    if not file.exists():
        raise PoseError(file, "no such file", expected=KINDS)
    if file.is_dir():
        return _read_folder(file, asked)
    kind = file.suffix.lower()
    if kind == ".json":
        return _document(file, read_json(str(file), read_text(file)), asked, every=every)
    if kind in (".jsonl", ".ndjson"):
        return _lines(file, asked, every=every)
    if kind not in READERS:
        raise PoseError(file, "unknown kind of pose file", got=f"'{file.suffix}'", expected=KINDS)
    return READERS[kind](file, asked)


def _read_folder(folder: Path, asked: Asked) -> Recording:
    files = sorted(folder.glob("*.json")) or sorted(folder.glob("*.txt"))
    if not files:
        raise PoseError(folder, "no .json files in this folder", expected=KINDS)
    frames: list[Frame] = []
    for file in files:
        frames += _read(file, asked, every=False).frames
    return Recording(tuple(frames))


def _lines(file: Path, asked: Asked, *, every: bool) -> Recording:
    lines = [(i, line) for i, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    return _list(file, [read_json(f"{file} line {i}", line) for i, line in lines], asked, every=every)


def _text(file: Path, asked: Asked) -> Recording:
    return Recording((read_txt(file, asked),))


def _document(file: Path, data: Any, asked: Asked, *, every: bool) -> Recording:
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        return coco.each_annotation(file, data, asked) if every else coco.pictures(file, data, asked)
    if isinstance(data, dict) and isinstance(data.get("frames"), list):
        size = size_in(str(file), data) or asked.size
        rate = next((number(f"{file}: {key}", data[key]) for key in ("fps", "rate") if key in data), None)
        return replace(_list(file, data["frames"], replace(asked, size=size), every=every), rate=rate)
    if openpose.is_frame(data):
        return Recording((openpose.frame(str(file), data, asked),))
    if mediapipe.is_frame(data) and not (isinstance(data, list) and isinstance(data[0], list)):
        return Recording((mediapipe.frame(str(file), data, asked),))
    return _list(file, data if isinstance(data, list) else [data], asked, every=every)


def _list(file: Path, data: list[Any], asked: Asked, *, every: bool) -> Recording:
    """Frames or results of one kind; a frame that is null, or has none of the kind's keys, is one without people."""
    if any(coco.is_result(entry) for entry in data):
        return coco.results(file, data, asked, every=every)
    for is_frame, frame, empty in JSON_FRAMES:
        if any(is_frame(entry) for entry in data):
            places = [f"{file}: [{i}]" for i in range(len(data))]
            filled = [_filled(*each, is_frame, empty) for each in zip(places, data, strict=True)]
            return Recording(tuple(frame(*each, asked) for each in zip(places, filled, strict=True)))
    raise PoseError(file, "neither OpenPose's nor COCO's nor MediaPipe's", expected=JSON)


def _filled(where: str, entry: Any, is_frame: Callable[[Any], bool], empty: dict[str, Any]) -> Any:
    if isinstance(entry, dict):
        return empty | entry
    if entry is None or entry == []:
        return empty
    if not is_frame(entry):
        raise PoseError(where, "not a frame", got=shown(entry), expected="a frame like the others, or null")
    return entry


JSON_FRAMES: tuple[tuple[Callable[[Any], bool], Callable[[str, Any, Asked], Frame], dict[str, Any]], ...] = (
    (openpose.is_frame, openpose.frame, {"people": []}),
    (mediapipe.is_frame, mediapipe.frame, {"landmarks": []}),
)
"""Kinds of frames in JSON: what tells one, what reads one, and one without people."""

READERS: dict[str, Callable[[Path, Asked], Recording]] = {
    ".csv": read_csv, ".txt": _text, ".pose": read_pose_file, ".npy": read_arrays, ".npz": read_arrays,
}  # fmt: skip
"""Suffix -> reader; JSON is told by its keys."""
