"""Videos, animations and numbered pictures of frames, written with OpenCV alone, frame by frame.

A file grows under another name beside its place (`.NAME.part.SUFFIX`) and is moved there when it is whole, so what
bears the name can be played. A video holds no frame; an animation holds all until it is closed, since OpenCV writes it
in one call.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Protocol, final

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.errors import ImageError

__all__ = [
    "ANIMATIONS",
    "VIDEOS",
    "AnimationWriter",
    "FrameWriter",
    "PictureWriter",
    "VideoWriter",
    "open_writer",
    "write_video",
]

Bytes = NDArray[np.uint8]
ANIMATIONS = (".gif", ".webp", ".png")
VIDEOS = (".mp4",)
LARGEST = 1 << 29  # bytes of frames that an animation may hold before it is written
CLEAR = (".webp", ".png", ".gif")  # can hold alpha; a GIF's pixels are clear or not


class FrameWriter(Protocol):
    """Takes frames and leaves files; a context manager that discards what is half written when an error leaves it."""

    def add(self, frame: Bytes) -> None:
        """Writes one more frame, u8[H,W,3] (RGB) or u8[H,W,4] (RGBA, not premultiplied), all of one shape.

        Raises:
            ImageError: no picture, another shape than the first, alpha where the kind has none, or no room for it.
        """

    def close(self) -> tuple[Path, ...]:
        """Returns the finished files; further calls return the same.

        Raises:
            ImageError: there was no frame, or the file cannot be written.
        """

    def discard(self) -> None:
        """Removes what was written."""

    def __enter__(self) -> FrameWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Writer(ABC):
    """What the three writers share: frames of one shape, a part beside the place, and the move to it."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._shape: tuple[int, ...] | None = None
        self._files: tuple[Path, ...] | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(path, f"cannot be written ({error.strerror})") from error

    def _check(self, frame: Bytes) -> None:
        shape, dtype = np.shape(frame), getattr(frame, "dtype", None)
        wrong = dtype != np.uint8 or len(shape) != 3 or shape[2] not in (3, 4) or 0 in shape
        if wrong or self._shape not in (None, shape):
            kept = f", first {list(self._shape)}" if self._shape else ""
            got, expected = f"{dtype}{list(shape)}{kept}", "uint8[height,width,3 or 4], all of one shape"
            raise ImageError(self.path, "frames differ or are no pictures", got=got, expected=expected)
        if shape[2] == 4 and self.path.suffix.lower() not in CLEAR:
            fix = f"write {' or '.join(CLEAR)}, or put the person before a colour: --background '#00ff00'"
            raise ImageError(self.path, "this kind holds no alpha", got=self.path.suffix, fix=fix)
        self._shape = shape
        self.count += 1

    def _none(self) -> ImageError:
        return ImageError(self.path, "no video", got="0 frames", expected="frames and a rate above 0")

    def _failed(self) -> ImageError:
        expected = "a writable folder with space left, and a codec"
        return ImageError(self.path, "OpenCV could not write this video", expected=expected)

    def _moved(self) -> tuple[Path, ...]:
        try:
            self.part.replace(self.path)
        except OSError as error:
            raise ImageError(self.path, f"cannot be written ({error.strerror})") from error
        self._files = (self.path,)
        return self._files

    @abstractmethod
    def close(self) -> tuple[Path, ...]: ...

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except ImageError:
            self.discard()
            raise


def _rate(path: Path, fps: float) -> float:
    if not (fps > 0 and math.isfinite(fps)):
        raise ImageError(path, "no video", got=f"{fps} fps", expected="frames and a rate above 0")
    return fps


@final
class VideoWriter(_Writer):
    """Writes an .mp4 (MPEG-4 part 2) frame by frame; no frame is kept.

    Args:
        path: its place; missing folders are made.
        fps: frames a second, above 0.

    Raises:
        ImageError: no rate, or the folder cannot be made.
    """

    def __init__(self, path: Path, fps: float) -> None:
        super().__init__(path)
        self.fps = _rate(path, fps)
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def add(self, frame: Bytes) -> None:
        self._check(frame)
        height, width = frame.shape[:2]
        # Players want even sides; a repeated last row or column is seen less than a lost one.
        bottom, right = height % 2, width % 2
        if self._writer is None:
            size = (width + right, height + bottom)
            self._writer = cv2.VideoWriter(str(self.part), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self._writer.isOpened():
                raise self._failed()
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        self._writer.write(cv2.copyMakeBorder(bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE))

    def close(self) -> tuple[Path, ...]:
        if self._files is not None:
            return self._files
        if self._writer is None:
            raise self._none()
        self._writer.release()
        # A full disk goes unnoticed by the writer, so the file is asked what it holds.
        reader = cv2.VideoCapture(str(self.part))
        held = round(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if held != self.count:
            raise self._failed()
        return self._moved()

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.release()
        super().discard()


@final
class AnimationWriter(_Writer):
    """Writes an animated .gif, .webp or .png when it is closed; until then it holds the frames, up to LARGEST bytes.

    GIFs hold time in hundredths of a second and 256 colours.

    Args:
        path: its place; missing folders are made.
        fps: frames a second, above 0.

    Raises:
        ImageError: no rate, the folder cannot be made, or this OpenCV writes no animations.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if not hasattr(cv2, "imwriteanimation"):
            got, fix = f"OpenCV {cv2.__version__}", "pip install -U opencv-python-headless"
            raise ImageError(path, "cannot write animations", got=got, expected="4.11 or later", fix=fix)
        super().__init__(path)
        self.fps = _rate(path, fps)
        self._frames: list[Bytes] = []

    def __enter__(self) -> AnimationWriter:
        return self

    def add(self, frame: Bytes) -> None:
        self._check(frame)
        if self.count * frame.nbytes > LARGEST:
            got, fix = f"more than {LARGEST >> 20} MB of frames", "write an .mp4, which holds no frame"
            raise ImageError(self.path, "too long for an animation", got=got, fix=fix)
        order = cv2.COLOR_RGBA2BGRA if frame.shape[2] == 4 else cv2.COLOR_RGB2BGR
        self._frames.append(np.asarray(cv2.cvtColor(frame, order), np.uint8))

    def close(self) -> tuple[Path, ...]:
        if self._files is not None:
            return self._files
        if not self._frames:
            raise self._none()
        animation = cv2.Animation()
        animation.frames, animation.durations = self._frames, [round(1000 / self.fps)] * self.count
        if not cv2.imwriteanimation(str(self.part), animation):
            raise self._failed()
        self._frames = []
        return self._moved()


@final
class PictureWriter(_Writer):
    """Writes one picture for one frame, `NAME.png`, and numbered ones, `NAME-0000.png`, for several.

    Args:
        path: the picture's place; its suffix is one that `flowpose.image` writes.
        several: whether more than one frame will come.
    """

    def __init__(self, path: Path, *, several: bool) -> None:
        super().__init__(path)
        self._several = several
        self._written: list[Path] = []

    def __enter__(self) -> PictureWriter:
        return self

    def add(self, frame: Bytes) -> None:
        self._check(frame)
        stem = f"{self.path.stem}-{self.count - 1:04d}" if self._several else self.path.stem
        file, kind = self.path.with_stem(stem), self.path.suffix.lower()
        if self.count > 1 and not self._several:
            raise ImageError(self.path, "one picture for several frames", fix="PictureWriter(several=True)")
        try:
            self.part.write_bytes(
                image.encode(frame, kind) if frame.shape[2] == 3 else _with_alpha(frame, kind)
            )
            self.part.replace(file)
        except OSError as error:
            raise ImageError(file, f"cannot be written ({error.strerror})") from error
        self._written.append(file)

    def close(self) -> tuple[Path, ...]:
        if not self._written:
            raise self._none()
        return tuple(self._written)


def _with_alpha(frame: Bytes, kind: str) -> bytes:
    _, data = cv2.imencode(kind, cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA))
    return bytes(data.tobytes())


Opener = Callable[[Path, float], FrameWriter]
WRITERS: Mapping[str, Opener] = MappingProxyType(
    {".mp4": VideoWriter, **dict.fromkeys(ANIMATIONS, AnimationWriter)}
)
"""Suffix -> what writes a moving file of that kind."""


def open_writer(path: Path | str, fps: float) -> FrameWriter:
    """Returns what writes frames as the moving file that the suffix names: .mp4, .gif, .webp or an animated .png.

    Raises:
        ImageError: an unknown suffix, no rate, or what the writer refuses.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ImageError(
            path, "unknown kind of video", got=path.suffix or "no suffix", expected=" ".join(WRITERS)
        )
    return WRITERS[path.suffix.lower()](path, fps)


def write_video(path: Path | str, frames: Sequence[Bytes], fps: float) -> Path:
    """Writes frames u8[H,W,3] (RGB) of one size as .mp4 (MPEG-4 part 2), or an animated .gif, .webp or .png.

    Returns the path. GIFs hold time in hundredths of a second and 256 colours.

    Raises:
        ImageError: no frames, frames that differ, an unknown suffix, or OpenCV cannot write this kind here.
    """
    with open_writer(path, fps) as writer:
        for frame in frames:
            writer.add(frame)
        return writer.close()[0]
