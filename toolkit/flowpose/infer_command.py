"""What `flowpose infer` does: a photograph and a motion in, a film or pictures out, frame by frame."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.background import Alpha, Background, Composer, Keep, Size, parse_background
from flowpose.errors import ImageError, PoseError
from flowpose.estimating import ESTIMATORS, EstimatorOptions, open_estimator
from flowpose.estimating.video import FILMS, find_motion
from flowpose.matte import canonical
from flowpose.pose import SEEN, Pose
from flowpose.pose_files import read_motion, read_poses
from flowpose.pose_motion import Holder, Motion, Smoother, retarget
from flowpose.report.video import CLEAR, FrameWriter, PictureWriter, open_writer
from flowpose.runtime import Session, load
from flowpose.runtime.loading import DEFAULT_MODEL

__all__ = ["InferOptions", "Say", "draw", "infer_files", "own_pose", "resample"]

MOVING = (".mp4", ".gif", ".webp")
RATE = 25.0  # poses a second of files that do not tell

Say = Callable[[str], None]


@dataclass(frozen=True)
class InferOptions:
    """How the motion is read and the frames are made.

    Attributes:
        model: a shipped model's name, or an artifact's directory.
        format: pose format, where the file does not tell.
        fps: frames a second; None: those of the motion.
        person: which person of several: an index, largest or nearest; None: the first, in a video the nearest.
        smooth: takes jitter out of the joints.
        hold: seconds that joints which vanish are held; None: a frame without a person is an error.
        retarget: gives the motion the proportions, size and place of the photograph's person.
        background: see `flowpose.background.parse_background`.
        size: frames of the `model`'s size, or of the `source`'s.
        source_pose: a pose file of the photograph, or the name of the estimator that finds it.
        estimator: finds people where the poses are a video.
        estimating: what it is opened with.
        threads: CPU threads of one run of the model.
    """

    model: str = DEFAULT_MODEL
    format: str | None = None
    fps: float | None = None
    person: int | str | None = None
    smooth: bool = False
    hold: float | None = None
    retarget: bool = False
    background: str = "made"
    size: Size = "model"
    source_pose: str = "judge"
    estimator: str = "rtmlib"
    estimating: EstimatorOptions = field(default_factory=EstimatorOptions)
    threads: int | None = None


def infer_files(
    source: Path, poses: Path, output: Path, options: InferOptions, *, say: Say = print
) -> dict[str, Any]:
    """Writes the frames of a motion: a film where the output's suffix is one of MOVING, else a picture for one pose
    and numbered pictures for several. Returns what was written and made.

    Every pose is checked before the first frame is written, and no frame is kept.

    Args:
        source: a picture of the person.
        poses: a pose file or folder (`flowpose.pose_files.read_motion`), or a video.
        output: where frames go.
        options: how.
        say: given lines of progress.

    Raises:
        ImageError: a picture that cannot be read or written, an unknown suffix, or no frame rate.
        PoseError: a file that cannot be read, holds no pose, or one that cannot be drawn; names the frame.
        FlowposeError: what `flowpose.load` or the estimator raises.
    """
    background = parse_background(options.background)
    _check_output(output, options.fps, background)
    picture = image.read(source)
    motion = _motion(poses, output, picture, options, say)
    loaded = load(options.model, threads=options.threads)
    own = own_pose(picture, options) if options.retarget or isinstance(background, Keep) else None
    ready, still, fps = _prepared(motion, own, options, film=output.suffix.lower() in MOVING)
    session = loaded.session(picture)
    composer = Composer(picture, loaded.size, background, pose=own, out=options.size)
    keypoints = [_checked(session, pose, i) for i, pose in enumerate(ready)]
    with _writer(output, len(keypoints), fps) as writer:
        for i, joints in enumerate(_told(keypoints, say)):
            try:
                writer.add(draw(session, composer, joints))
            except PoseError as error:
                raise _of_frame(error, i) from error
        files = writer.close()
    return {
        "frames": len(keypoints), "still": still, "fps": fps if output.suffix.lower() in MOVING else None,
        "files": [str(path) for path in files], "model": str(loaded.path),
        "backend": loaded.backend, "precision": loaded.precision,
    }  # fmt: skip


def draw(session: Session, composer: Composer, keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns the frame of keypoints that are the model's own input, before the composer's background."""
    model = session.model
    frame = model.frame_now(session.context, keypoints)
    return composer(frame, canonical(keypoints, model.manifest.pose.format))


def own_pose(picture: NDArray[np.uint8], options: InferOptions) -> Pose:
    """Returns the pose of the photograph's own person: out of a file, or found by an estimator.

    Raises:
        PoseError: the estimator finds nobody, or what reading the file raises.
        FlowposeError: what opening the estimator raises.
    """
    size = (picture.shape[0], picture.shape[1])
    if options.source_pose not in ESTIMATORS:
        return read_poses(options.source_pose, size=size)[0]
    asked = options.estimating
    if options.source_pose != options.estimator:
        asked = replace(asked, least=None)  # another network's scores
    found = open_estimator(options.source_pose, asked).find(picture)
    if not found:
        fix = "--source-pose FILE, or another estimator"
        raise PoseError(
            "source", f"{options.source_pose} finds nobody in the photograph", got="none", fix=fix
        )
    return found[0]


def resample(motion: Motion, fps: float) -> Motion:
    """Returns the motion at an even rate: joints that two poses share go evenly from one to the other, others are
    those of the nearer one.

    Raises:
        PoseError: no rate.
    """
    if not (fps > 0 and math.isfinite(fps)):
        raise PoseError("fps", "not a frame rate", got=fps, expected="frames a second, above 0")
    count = math.floor(motion.times[-1] * fps + 1e-6) + 1
    times = tuple(i / fps for i in range(count))
    return Motion(tuple(_between(motion, time) for time in times), times)


def _between(motion: Motion, time: float) -> Pose:
    after = bisect_right(motion.times, time + 1e-9)
    if after == len(motion.times) or after == 0:
        return motion.poses[min(after, len(motion.times) - 1)]
    a, b = motion.poses[after - 1], motion.poses[after]
    share = (time - motion.times[after - 1]) / (motion.times[after] - motion.times[after - 1])
    if a.format != b.format or a.size != b.size:
        return a if share < 0.5 else b
    both, near = (a.score > 0) & (b.score > 0), a if share < 0.5 else b
    xy = np.where(both[:, None], a.xy + np.float32(share) * (b.xy - a.xy), near.xy)
    score = np.where(both, a.score + np.float32(share) * (b.score - a.score), near.score)
    return Pose(a.format, xy, score, a.size)


def _check_output(output: Path, fps: float | None, background: Background) -> None:
    """Raises now, not after the work, when frames cannot be written as this."""
    kind, kinds = output.suffix.lower(), tuple(dict.fromkeys((*image.WRITTEN, *MOVING)))
    if kind not in kinds:
        got = f"'{output.suffix}'" if output.suffix else "no suffix"
        raise ImageError(output, "unknown kind of output", got=got, expected=", ".join(kinds))
    if fps is not None and kind in MOVING and not (fps > 0 and math.isfinite(fps)):
        raise ImageError(output, "no frame rate", got=fps, expected="frames a second, above 0")
    if isinstance(background, Alpha) and kind not in CLEAR:
        fix = f"write {' or '.join(CLEAR)}, or key a colour: --background '#00ff00'"
        raise ImageError(output, "this kind holds no alpha", got=output.suffix, fix=fix)


def _motion(poses: Path, output: Path, picture: NDArray[np.uint8], options: InferOptions, say: Say) -> Motion:
    size, person = (picture.shape[0], picture.shape[1]), options.person
    if poses.suffix.lower() in FILMS:
        estimator = open_estimator(options.estimator, options.estimating)
        return find_motion(poses, estimator, person="nearest" if person is None else person, say=say)
    rate = RATE if options.fps is None else options.fps
    every = person is None and output.suffix.lower() not in MOVING
    return read_motion(poses, format=options.format, size=size, person=person or 0, rate=rate, every=every)


def _prepared(
    motion: Motion, own: Pose | None, options: InferOptions, *, film: bool
) -> tuple[Sequence[Pose], int, float]:
    """The poses to draw, how many of them repeat another since nobody was there, and their rate.

    Pictures are drawn of the poses as they are, unless a rate is asked for.
    """
    poses: list[Pose] = list(motion.poses)
    if options.hold is not None:
        holder = Holder(options.hold)
        held = (holder(pose, time) for pose, time in zip(poses, motion.times, strict=True))
        poses = [pose for pose in held if pose is not None]
    poses, still = _filled(poses, options.hold)
    if options.smooth:
        smoother = Smoother()
        poses = [smoother(pose, time) for pose, time in zip(poses, motion.times, strict=True)]
    if options.retarget and own is not None:
        poses = list(retarget(poses, own))
    if not film and options.fps is None:
        return poses, still, RATE
    ready, fps = _evenly(Motion(tuple(poses), motion.times), options.fps)
    return ready.poses, still, fps


def _filled(poses: Sequence[Pose], hold: float | None) -> tuple[list[Pose], int]:
    """Poses with those that show nobody replaced by the last one before, at the start by the first one after."""
    empty = [not pose.seen.any() for pose in poses]
    if not any(empty):
        return list(poses), 0
    if hold is None or all(empty):
        fix = "--hold 0.25 bridges gaps, then repeats the last pose"
        got = f"no joint with a score above {SEEN}"
        raise PoseError(f"frame {empty.index(True)}", "nobody is in it", got=got, fix=fix)
    last, found = poses[empty.index(False)], []
    for pose, gone in zip(poses, empty, strict=True):
        last = last if gone else pose
        found.append(last)
    return found, sum(empty)


def _evenly(motion: Motion, fps: float | None) -> tuple[Motion, float]:
    """The motion at an even rate, and the rate: as asked, else the motion's mean; as it is where it is even."""
    rate = motion.rate
    asked = fps if fps is not None else rate if rate is not None else RATE
    if rate is None or (
        math.isclose(rate, asked, rel_tol=1e-3)
        and all(abs(time * rate - i) < 0.25 for i, time in enumerate(motion.times))
    ):
        return motion, asked
    return resample(motion, asked), asked


def _checked(session: Session, pose: Pose, number: int) -> NDArray[np.float32]:
    try:
        return session.model.keypoints(pose, session.size)
    except PoseError as error:
        raise _of_frame(error, number) from error


def _of_frame(error: PoseError, number: int) -> PoseError:
    return error.at(f"frame {number}: {error.where}")


def _writer(output: Path, count: int, fps: float) -> FrameWriter:
    if output.suffix.lower() in MOVING:
        return open_writer(output, fps)
    return PictureWriter(output, several=count > 1)


def _told(frames: Sequence[NDArray[np.float32]], say: Say) -> Iterable[NDArray[np.float32]]:
    """Yields the frames, and says every five seconds how many there were."""
    said = perf_counter()
    for i, each in enumerate(frames):
        if perf_counter() - said > 5:
            said = perf_counter()
            say(f"{i} of {len(frames)} frames")
        yield each
