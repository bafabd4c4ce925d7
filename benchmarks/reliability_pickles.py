"""Pickles: nothing in the package loads one that could run code, and planted ones run nothing, wherever files are read.

A planted pickle would make a file `ran` beside it.
"""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from reliability_tally import Lost, Tally

import flowpose
from flowpose import artifact
from flowpose.artifact import open_artifact
from flowpose.errors import FlowposeError
from flowpose.pose_files import read_motion, read_poses
from flowpose.runtime import load

LOADERS: Mapping[str, str] = MappingProxyType(
    {
        "torch.load": "weights_only=True", "np.load": "allow_pickle=False", "numpy.load": "allow_pickle=False",
        "pickle.load": "", "pickle.loads": "", "pickle.Unpickler": "", "marshal.loads": "", "marshal.load": "",
        "joblib.load": "", "dill.load": "", "shelve.open": "", "torch.jit.load": "", "yaml.load": "Loader=_loader()",
        "yaml.unsafe_load": "", "yaml.full_load": "", "eval": "", "exec": "", "torch.hub.load": "", "np.fromregex": "",
    }
)  # fmt: skip
"""What can run code that a file holds -> the argument that forbids it; nothing where nothing does."""


def unsafe() -> list[str]:
    """Calls of LOADERS in the package without what forbids code; NumPy forbids it without being asked, too."""
    package, found = Path(flowpose.__file__).parent, []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, text = ast.unparse(node.func), ast.unparse(node)
            if name not in LOADERS or (LOADERS[name] and LOADERS[name] in text):
                continue
            if LOADERS[name] == "allow_pickle=False" and "allow_pickle" not in text:
                continue
            found.append(f"{path.relative_to(package).as_posix()}:{node.lineno}: {text}")
    return found


class Mark:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.file,)


def plain(mark: Path) -> bytes:
    """A bare pickle."""
    return pickle.dumps(Mark(mark))


def old_torch(mark: Path) -> bytes:
    """PyTorch's old form: pickles one after the other, the first with its magic number."""
    return b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}, Mark(mark)))


def new_torch(mark: Path) -> bytes:
    """PyTorch's zip."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        out.writestr("archive/data.pkl", pickle.dumps({"key": Mark(mark), "ends": Mark(mark)}, 2))
        out.writestr("archive/version", "3\n")
        out.writestr("archive/byteorder", "little")
    return stream.getvalue()


def array(mark: Path) -> bytes:
    """NumPy's .npy with an array of objects."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + pickle.dumps([Mark(mark)])


def arrays(mark: Path) -> bytes:
    """NumPy's .npz of such arrays, by the names that poses and goldens have."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as out:
        for name in ("keypoints", "source", "frame", "format", "context"):
            out.writestr(f"{name}.npy", array(mark))
    return stream.getvalue()


PLANTED: Mapping[str, Callable[[Path], bytes]] = MappingProxyType(
    {"pickle": plain, "old PyTorch": old_torch, "PyTorch": new_torch, "npy": array, "npz": arrays}
)
"""Kinds of files with a pickle in them."""


def works() -> str:
    """Raises Lost where a planted pickle would not run if it were loaded: then it would show nothing."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        mark = Path(folder) / "ran"
        pickle.loads(plain(mark))
        if not mark.exists():
            raise Lost("the planted pickle does nothing")
    return "runs where it is loaded"


def unread(act: Callable[[], object], mark: Path) -> str:
    """What reading a planted file gives; it must not have run.

    Raises:
        Lost: it ran.
    """
    try:
        act()
    except FlowposeError as error:
        found = type(error).__name__
    else:
        found = "read as something else"
    if mark.exists():
        raise Lost("the planted pickle ran")
    return found


def resealed(folder: Path, name: str, data: bytes) -> None:
    """Puts bytes into an artifact as if they had been there when it was sealed: every digest is right."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / artifact.MANIFEST).read_text())
    manifest["files"][name] = artifact.sha256(folder / name)
    manifest["self_sha256"] = artifact._self_digest(manifest)
    (folder / artifact.MANIFEST).write_bytes(artifact._rendered(manifest))


def _poses(place: Path) -> Iterator[tuple[str, Path, Callable[[], object]]]:
    for suffix in (".npy", ".npz", ".pose", ".json", ".csv"):
        file = place / f"poses{suffix}"
        yield f"poses{suffix}", file, lambda file=file: (read_poses(file), read_motion(file))  # type: ignore[misc]


def planted(model: Path, scratch: Path) -> Tally:
    """Pickles as poses, in every file of a graph artifact with its digests made right, and the scan of the package."""
    tally = Tally("pickles, planted and looked for")
    scratch.mkdir(parents=True)
    tally.take("the planted pickle", works)
    tally.take("the package's loaders", lambda: _none(unsafe()))
    as_poses(scratch, tally)
    as_model(model, scratch, tally)
    return tally


def as_poses(scratch: Path, tally: Tally) -> None:
    """Every kind as every kind of pose file."""
    mark = scratch / "ran"
    for kind, make in PLANTED.items():
        for name, file, act in _poses(scratch):
            file.write_bytes(make(mark))
            tally.take(f"{kind} as {name}", lambda: unread(act, mark))  # noqa: B023


def as_model(model: Path, scratch: Path, tally: Tally) -> None:
    """Every kind as every file of a graph artifact that was sealed with it."""
    mark, copied = scratch / "ran", scratch / "model"
    for kind, make in PLANTED.items():
        for name in open_artifact(model).manifest.files:
            shutil.copytree(model, copied)
            resealed(copied, name, make(mark))
            tally.take(f"{kind} as {name}", lambda: unread(lambda: load(copied, threads=1).verify(), mark))
            shutil.rmtree(copied)


def _none(found: list[str]) -> str:
    if found:
        raise Lost(f"code could run: {found}")
    return "none"
