"""A loaded model: pictures and poses in, pictures out."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose import image
from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, BackendError, FlowposeError, PoseError
from flowpose.pose import SEEN, Pose
from flowpose.runtime.backend import Graph, ParallelGraph, Tensors, run_many
from flowpose.runtime.contexts import KEEP_MB, Context, Contexts, Kept, bytes_of
from flowpose.runtime.executed import Executed
from flowpose.runtime.goldens import TOLERANCES, Goldens, Replay, read_goldens, replay
from flowpose.runtime.lanes import in_lanes
from flowpose.runtime.session import Session
from flowpose.spec.manifest import Manifest, Reference

__all__ = ["Context", "Model", "Picture", "Session", "tensor_shape"]

Picture = NDArray[np.uint8]


class Model:
    """A model that is ready to run; made by `flowpose.load`. Every method may be called from several threads at once.

    Attributes:
        path: the artifact's directory.
        manifest: what the artifact says of itself.
        backend: name of the backend in use.
        precision: precision of the frame graph in use.
        threads: CPU threads of one run.
        size: (height, width) of the frames it makes.
        built: `source` and `frame` files that were built for the backend and are no part of the artifact; mostly None.
        times: the times of its steps where its frame graph is any-step (a reference), else None.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        backend: str,
        precision: str,
        threads: int,
        source: Graph,
        frame: Graph,
        reference: tuple[Reference, str] | None = None,
        built: Mapping[str, Path] | None = None,
    ) -> None:
        self.artifact, self.path, self.manifest = artifact, artifact.path, artifact.manifest
        self.backend, self.precision, self.threads = backend, precision, threads
        self.size = (self.manifest.image.height, self.manifest.image.width)
        self._source, self._frame, self.built = source, frame, built
        self.times = reference[0].grids[reference[1]] if reference else None
        self._grid = {} if self.times is None else {"times": np.array(self.times, np.float32)}
        self._context = reference[0].context if reference else tensor_shape(self.manifest, "frame", "context")
        self._row = reference[1] if reference else None
        own = math.prod(self._context) * np.dtype(np.float32).itemsize
        self._contexts = Contexts(max(bytes_of(KEEP_MB), own))
        self._many_checked = False

    def __repr__(self) -> str:
        height, width = self.size
        name = self.manifest.name if self._row is None else f"{self.manifest.name}'s {self._row}"
        return f"Model({name}, {height}x{width}, {self.precision}, {self.backend}, {self.path})"

    def infer(self, source: Any, pose: Any, *, format: str | None = None) -> Picture:
        """Returns u8[H,W,3]: the person of `source` in the pose.

        Args:
            source: u8[h,w,3] of any size, or the path of a picture file; letterboxed to the model's size. The
                last pictures' contexts are kept by content, so a loop over poses encodes the source once.
            pose: a Pose, or an array that `Pose.of` reads; pixels of its canvas, or of `source` where it has
                no size.
            format: name of the array's format where its shape does not tell it.

        Raises:
            ImageError, PoseError: what is wrong with the source or the pose.
            BackendError: the backend failed.
        """
        return self.session(source).infer(pose, format=format)

    def session(self, source: Any) -> Session:
        """Returns a session for a stream of poses of one source; the source is encoded here, once."""
        picture = image.read(source) if isinstance(source, str | Path) else image.check(source, "source")
        size = (picture.shape[0], picture.shape[1])
        return Session(self, self.encode(picture), size)

    def infer_batch(
        self, sessions: Sequence[Session], poses: Sequence[Any], *, format: str | None = None
    ) -> list[Picture | PoseError]:
        """Returns, for each session and its pose, u8[H,W,3], or the error of a pose that cannot be used.

        For servers: one call draws a frame for each of many people, faster than one call after the other where the
        backend can (`BackendEntry.many`). A bad pose costs nobody else's picture. The pictures are those of single
        frames: the first batch that fills all threads is drawn singly, too, and compared within `TOLERANCES`.

        Args:
            sessions: of this model; one may come more than once.
            poses: one for each session, as for `Session.infer`.
            format: name of the format of those that are arrays.

        Raises:
            FlowposeError: another number of poses than of sessions.
            BackendError: a session of another model, the backend failed, or draws other frames at once than singly.
        """
        self._check_batch(sessions, poses)
        found: list[Picture | PoseError | None] = [None] * len(poses)
        inputs: dict[int, Tensors] = {}
        for i, (session, pose) in enumerate(zip(sessions, poses, strict=True)):
            try:
                inputs[i] = self._inputs(session.context, self.keypoints(pose, session.size, format))
            except PoseError as error:
                found[i] = error
        for i, frame in zip(inputs, self._frames(list(inputs.values())), strict=True):
            found[i] = frame
        return [each for each in found if each is not None]

    def _frames(self, inputs: Sequence[Tensors]) -> list[Picture]:
        made = [_output(each, "frame", self.path) for each in run_many(self._frame, inputs)]
        if (
            isinstance(self._frame, ParallelGraph)
            and not self._many_checked
            and in_lanes(len(inputs), self.threads)
        ):
            self._check_many(inputs, made)
            self._many_checked = True
        return made

    def _check_many(self, inputs: Sequence[Tensors], made: Sequence[Picture]) -> None:
        """Draws the frames of a first batch singly, too: a backend's second form of a graph is not taken on trust."""
        limits, where = TOLERANCES[self.precision], f"{self.path} on {self.backend}, {self.precision}"
        for i, (given, frame) in enumerate(zip(inputs, made, strict=True)):
            off = np.abs(frame.astype(np.int16) - _output(self._frame.run(given), "frame", self.path))
            if np.median(off) > limits.median or off.mean() > limits.mean or off.max() > limits.max:
                got = f"median {np.median(off):.3g}, mean {off.mean():.3g}, max {off.max()} levels off"
                expected = f"median <= {limits.median:g}, mean <= {limits.mean:g}, max <= {limits.max:g}"
                what = "is another one than drawn alone"
                raise BackendError(f"{where}: frame {i} of a batch", what, got=got, expected=expected)

    def _check_batch(self, sessions: Sequence[Session], poses: Sequence[Any]) -> None:
        if len(sessions) != len(poses):
            raise FlowposeError("poses", "not one for each session", got=len(poses), expected=len(sessions))
        for i, session in enumerate(sessions):
            if session.model is not self:
                what, fix = "a session of another model", "a call of infer_batch for each model"
                raise BackendError(f"sessions[{i}]", what, got=session.model, expected=self, fix=fix)

    def encode(self, source: Any) -> Context:
        """Returns the context f32[1+L+R,2,Ns,C] of a source u8[h,w,3] (letterboxed), kept if it is."""
        picture = image.fit(image.check(source, "source"), *self.size)
        digest = hashlib.blake2b(picture.data, digest_size=16).digest()
        return self._contexts.get(digest, lambda: self.encode_now(picture))

    @property
    def kept(self) -> Kept:
        """How many contexts are kept, and their bytes."""
        return self._contexts.kept

    def keep(self, mb: float) -> None:
        """Sets how many MB of contexts are kept, 0 for none; those used longest ago are dropped where it is less.

        A session holds its own context, whatever is kept here.
        """
        self._contexts.limit(bytes_of(mb))

    def forget(self) -> None:
        """Drops the kept contexts."""
        self._contexts.clear()

    def encode_now(self, picture: Picture) -> Context:
        """Returns the context of a u8[H,W,3] of the model's own size, computed anew (for measurements)."""
        context: Context = _output(self._source.run({"source": picture}), "context", self.path)
        return context

    def frame(self, context: Any, pose: Any, *, format: str | None = None) -> Picture:
        """Returns u8[H,W,3] from a context of `encode`.

        Args:
            context: f32[1+L+R,2,Ns,C].
            pose: a Pose, or an array that `Pose.of` reads; pixels of its canvas, or of the frame where it has
                no size.
            format: name of the array's format.

        Raises:
            PoseError: what is wrong with the pose.
            BackendError: a context that is not this model's, or the backend failed.
        """
        shape = self._context
        if not isinstance(context, np.ndarray) or context.dtype != np.float32 or context.shape != shape:
            got = (
                f"{context.dtype}{list(context.shape)}"
                if isinstance(context, np.ndarray)
                else type(context).__name__
            )
            raise BackendError(
                "context", "not a context of this model", got=got, expected=f"float32{list(shape)}"
            )
        return self.frame_now(context, self.keypoints(pose, self.size, format))

    def frame_now(self, context: Context, keypoints: NDArray[np.float32]) -> Picture:
        """Returns u8[H,W,3] from the frame graph's own inputs, which are not checked (for measurements)."""
        frame: Picture = _output(self._frame.run(self._inputs(context, keypoints)), "frame", self.path)
        return frame

    def _inputs(self, context: Context, keypoints: NDArray[np.float32]) -> Tensors:
        return {"context": context, "keypoints": keypoints, **self._grid}

    def executed(self, context: Context, keypoints: NDArray[np.float32]) -> Executed | None:
        """Returns what the backend makes of the frame graph, None where it does not tell; inputs as `frame_now`."""
        return self._frame.executed(self._inputs(context, keypoints))

    def keypoints(self, pose: Any, size: tuple[int, int], format: str | None = None) -> NDArray[np.float32]:
        """Returns f32[J,3], the frame graph's input: the pose checked, fitted to the frame, in the model's
        format.

        Args:
            pose: a Pose or an array that `Pose.of` reads.
            size: (height, width) of the canvas of a pose without size.
            format: name of the array's format.

        Raises:
            PoseError: what is wrong with the pose.
        """
        found = Pose.of(pose, format, size)
        if found.size is None:
            found = dataclasses.replace(found, size=size)
        fitted = found.check().fit(*self.size).inside().to(self.manifest.pose.format)
        if not fitted.seen.any():
            if (fitted.score > 0).any():
                got, expected = f"scores up to {fitted.score.max():.2g}", f"a joint with a score above {SEEN}"
                raise PoseError("pose", "no joint is sure enough to be drawn", got=got, expected=expected)
            expected = self.manifest.pose.format
            raise PoseError("pose", "none of its joints is one of the model's", expected=expected)
        return fitted.array()

    def verify(self, n: int | None = None) -> Replay:
        """Returns how close a replay of the artifact's golden inputs comes to the recorded outputs.

        Args:
            n: replay the first n only; all by default.

        Raises:
            ArtifactError: the artifact has no goldens of this precision, or this is a reference.
            BackendError: an output is not the recorded one: zeros, NaN, another run's, swapped colours, too
                far off.
        """
        if self._row is not None:
            raise ArtifactError(self.path, "has no goldens of its references", got=self._row)
        goldens = read_goldens(self.artifact, self.precision)
        some = Goldens(goldens.source[:n], goldens.keypoints[:n], goldens.context[:n], goldens.frame[:n])
        where = f"{self.path} on {self.backend}, {self.precision}"
        return replay(some, self.precision, self.encode_now, self.frame_now, where)


def tensor_shape(manifest: Manifest, graph: str, tensor: str) -> tuple[int, ...]:
    """Returns the shape that the manifest gives an input or output of a graph."""
    for spec in manifest.graphs:
        for found in (*spec.inputs, *spec.outputs):
            if spec.name == graph and found.name == tensor:
                return found.shape
    raise ArtifactError(manifest.name, f"its {graph} graph has no tensor '{tensor}'")


def _output(outputs: dict[str, NDArray[Any]], name: str, path: Path) -> NDArray[Any]:
    if name not in outputs:
        raise BackendError(path, "the graph gave other outputs", got=", ".join(outputs), expected=name)
    return outputs[name]
