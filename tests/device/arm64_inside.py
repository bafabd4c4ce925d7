"""What arm64.sh runs on the emulated machine: open the bundle, replay its goldens, draw a picture, compile an engine.

Usage: arm64_inside.py BUNDLE FOLDER. Prints a line for each; fails where fp32 could not be replayed.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from flowpose import Pose, load
from flowpose.artifact import open_artifact
from flowpose.bundle import open_bundle
from flowpose.compile import Request, compile_graph
from flowpose.errors import BackendError
from flowpose.runtime.goldens import read_goldens
from flowpose.spec.reading import load_target

TARGET = "cpu-arm64"
ROUNDS, WARMUP = 1, 0  # frames of a contest: emulation takes seconds for one, and its times mean nothing


def timed(what: str, work: Callable[[], str]) -> None:
    start = time.perf_counter()
    said = work()
    print(f"{what}: {said} ({time.perf_counter() - start:.1f} s)", flush=True)


def replayed(model: Path, precision: str, passed: list[str]) -> str:
    try:
        found = load(model, backend="onnxruntime", precision=precision, verify=False).verify()
    except BackendError as error:
        return f"REFUSED by this onnxruntime: {error.what}"
    passed.append(precision)
    return f"{found.n} goldens within tolerance, worst mean difference {found.mean:.3f} levels, largest {found.max:g}"


def drawn(model: Path, precision: str) -> str:
    manifest = open_artifact(model).manifest
    goldens = read_goldens(open_artifact(model), precision)
    size = (manifest.image.height, manifest.image.width)
    pose = Pose.of(goldens.keypoints[0], manifest.pose.format, size)
    loaded = load(model, backend="onnxruntime", precision=precision, verify=False)
    frame = loaded.infer(goldens.source[0], pose)
    off = np.abs(frame.astype(int) - goldens.frame[0]).mean()
    return f"u8{list(frame.shape)}, {off:.3f} levels from the recorded one"


def compiled(model: Path, target: Path, out: Path) -> str:
    asked = Request(threads=1)
    engine = compile_graph(
        open_artifact(model), load_target(target), out, asked, rounds=ROUNDS, warmup=WARMUP
    )
    found = load(engine.path, verify=False).verify()
    manifest = engine.manifest
    return (
        f"{manifest.precision} on {manifest.backend} taken, {found.n} goldens of the engine within tolerance"
    )


def main() -> None:
    bundle, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tools = ("numpy", "onnxruntime", "opencv-python-headless", "pydantic")
    said = ", ".join(f"{tool} {version(tool)}" for tool in tools)
    print(f"{platform.machine()}, Python {platform.python_version()}, glibc {platform.libc_ver()[1]}, {said}")
    folder.mkdir()
    opened = folder / "opened"
    timed("unbundle", lambda: f"{len(open_bundle(bundle, opened).record.files)} files, every sha256 right")
    passed: list[str] = []
    for precision in ("fp32", "int8"):
        timed(f"verify {precision}", partial(replayed, opened / "model", precision, passed))
    if "fp32" not in passed:
        sys.exit("fp32 could not be replayed")
    timed(f"infer {passed[-1]}", lambda: drawn(opened / "model", passed[-1]))
    target = opened / "targets" / f"{TARGET}.yaml"
    timed("compile", lambda: compiled(opened / "model", target, folder / "artifacts"))


if __name__ == "__main__":
    main()
