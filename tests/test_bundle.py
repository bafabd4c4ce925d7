"""Bundles: what they hold, that equal inputs give equal bytes, and that nothing hostile or broken is ever unpacked."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signing_keys import signing_keys
from tiny_graphs import make_artifact, pictures, standing

import flowpose
from flowpose import bundle as bundles
from flowpose import sealed_files
from flowpose.artifact import open_artifact
from flowpose.bundle import Bundle, check_bundle, open_bundle, read_bundle, seal
from flowpose.bundle_record import Compiling, parsed, rendered
from flowpose.errors import (
    ArtifactError,
    FlowposeError,
    IntegrityError,
    MissingDependency,
    SpecError,
    TargetMismatch,
)
from flowpose.pose import Pose

Maker = Callable[[tarfile.TarFile], None]
REFERENCES = [
    {
        "name": "l1",
        "source": "source.onnx",
        "frame": "references/l1.onnx",
        "context": [1],
        "grids": {"l1": [0, 1]},
    }
]
HISTORY = [
    {"kind": "quantized", "name": "tiny", "key": "d" * 64, "stage": {"calibration": {"digest": "e" * 64}}}
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("model") / "tiny", changes={"history": HISTORY}).path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wheel") / "flowpose-0.1.0-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory, model: Path, wheel: Path) -> Path:
    return seal(model, ["cpu", "cpu-arm64"], tmp_path_factory.mktemp("master") / "b.tar", wheel=wheel).path


@pytest.fixture
def sealed(tmp_path: Path, master: Path) -> Path:
    return Path(shutil.copy(master, tmp_path / "b.tar"))


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Making and opening


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz", "b.tgz", "b"])
def test_a_bundle_is_sealed_opened_and_runs(tmp_path: Path, model: Path, wheel: Path, name: str) -> None:
    made = seal(
        model, ["cpu"], tmp_path / name, wheel=wheel, compiling=Compiling(precision="fp32", threads=1)
    )
    opened = open_bundle(made.path, tmp_path / "opened")
    assert opened.record == made.record
    assert opened.record.compiling == Compiling(precision="fp32", threads=1)
    assert opened.target("cpu").read_bytes() == flowpose.spec.find.find("targets", "cpu").read_bytes()
    assert (opened.path / str(opened.record.wheel)).read_bytes() == b"a wheel"
    loaded = flowpose.load(opened.model, backend="onnxruntime", threads=1)
    pose = Pose.of(standing(), "coco-wholebody-133", (24, 16))
    before = flowpose.load(model, backend="onnxruntime", threads=1).infer(pictures()[0], pose)
    assert np.array_equal(loaded.infer(pictures()[0], pose), before)
    assert left(tmp_path) == sorted([name, "opened"])


def test_only_what_running_needs_is_in_it(tmp_path: Path) -> None:
    from flowpose.artifact import creating

    plain = make_artifact(tmp_path / "plain")
    fields = {
        name: getattr(plain.manifest, name)
        for name in type(plain.manifest).model_fields
        if name not in ("files", "self_sha256")
    }
    with creating(tmp_path / "full", **{**fields, "references": REFERENCES}) as draft:
        for name in plain.manifest.files:
            (draft / name).write_bytes(plain.file(name).read_bytes())
        (draft / "references/l1.onnx").write_bytes(b"a large teacher")
    seal(tmp_path / "full", ["cpu"], tmp_path / "b.tar")
    opened = open_bundle(tmp_path / "b.tar", tmp_path / "opened")
    manifest = open_artifact(opened.model).manifest
    assert opened.record.left_out == ("references/l1.onnx",)
    assert not manifest.references
    assert set(manifest.files) == set(manifest.run_files())
    assert (manifest.key, opened.record.key) == (plain.manifest.key, plain.manifest.key)


def test_the_record_names_what_the_model_was_made_with(sealed: Path, model: Path) -> None:
    record = read_bundle(sealed).record
    assert record.calibration == "e" * 64
    assert record.created_by == f"flowpose {flowpose.__version__}"
    assert record.targets == {"cpu": "targets/cpu.yaml", "cpu-arm64": "targets/cpu-arm64.yaml"}
    assert record.name == "tiny"


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_equal_inputs_give_equal_bytes(
    tmp_path: Path, model: Path, wheel: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = seal(model, ["cpu", "cpu-arm64"], tmp_path / "one" / name, wheel=wheel)
    before = os.umask(0o077)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    try:
        os.utime(wheel, (1, 1))
        second = seal(model, ["cpu-arm64", "cpu"], tmp_path / "two" / name, wheel=wheel)
    finally:
        os.umask(before)
    assert digest(first.path) == digest(second.path)
    assert first.record.digest() == second.record.digest()


def test_a_folder_holds_the_same_as_a_tar(tmp_path: Path, model: Path, sealed: Path, wheel: Path) -> None:
    folder = seal(model, ["cpu", "cpu-arm64"], tmp_path / "folder", wheel=wheel).path
    with tarfile.open(sealed) as tar:
        names = tar.getnames()
        assert all(tar.extractfile(name).read() == (folder / name).read_bytes() for name in names)  # type: ignore[union-attr]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}
    assert names[0] == "bundle.json"
    assert names[1:] == sorted(names[1:])


def test_an_opened_bundle_is_a_bundle(tmp_path: Path, sealed: Path) -> None:
    once = open_bundle(sealed, tmp_path / "once")
    assert open_bundle(once.path, tmp_path / "twice").record == once.record


def test_gnu_tars_padding_is_taken(tmp_path: Path, sealed: Path) -> None:
    sealed.write_bytes(sealed.read_bytes() + bytes(512 * 9))
    open_bundle(sealed, tmp_path / "opened")


# What cannot be sealed


def test_what_is_there_is_never_lost(tmp_path: Path, model: Path, sealed: Path) -> None:
    before = digest(sealed)
    with pytest.raises(ArtifactError, match="is there already"):
        seal(model, ["cpu"], sealed)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    for into in (sealed, tmp_path / "full", model):
        with pytest.raises(ArtifactError, match="is there already"):
            open_bundle(sealed, into)
    assert digest(sealed) == before
    assert (tmp_path / "full" / "mine").read_text() == "x"


def test_a_file_made_meanwhile_by_another_is_kept(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bundles.write_tar

    def slow(path: Path, files: dict[str, Path]) -> None:
        real(path, files)
        (tmp_path / "b.tar").write_text("another's")

    monkeypatch.setattr(bundles, "write_tar", slow)
    with pytest.raises(ArtifactError, match="is there already"):
        seal(model, ["cpu"], tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_text() == "another's"
    assert left(tmp_path) == ["b.tar"]


def test_a_link_to_nowhere_is_kept(tmp_path: Path, model: Path, sealed: Path) -> None:
    (tmp_path / "link.tar").symlink_to("nowhere")
    with pytest.raises(ArtifactError, match="is there already"):
        seal(model, ["cpu"], tmp_path / "link.tar")
    assert (tmp_path / "link.tar").is_symlink()
    assert left(tmp_path) == ["b.tar", "link.tar"]


@pytest.mark.parametrize(
    ("targets", "compiling", "error", "text"),
    [
        ([], Compiling(), SpecError, "none given"),
        (["cpu", "cpu"], Compiling(), SpecError, "cpu is given twice"),
        (["cpuu"], Compiling(), SpecError, "did you mean 'cpu'"),
        (["cpu"], Compiling(precision="fp16"), TargetMismatch, "tiny: lacks the precision, got fp16"),
        (["cpu"], Compiling(precision="fp8"), TargetMismatch, "lacks the precision, got fp8"),
    ],
)
def test_what_makes_no_bundle(
    tmp_path: Path,
    model: Path,
    targets: list[str],
    compiling: Compiling,
    error: type[FlowposeError],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        seal(model, targets, tmp_path / "b.tar", compiling=compiling)
    assert left(tmp_path) == []


def test_an_engine_is_not_bundled(tmp_path: Path) -> None:
    engine = make_artifact(
        tmp_path / "e", changes={"kind": "engine", "backend": "onnxruntime", "precision": "fp32"}
    )
    with pytest.raises(ArtifactError, match="cannot be bundled, got engine, expected graph"):
        seal(engine.path, ["cpu"], tmp_path / "b.tar")


def test_a_wheel_that_is_not_there(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no.whl: cannot be read"):
        seal(model, ["cpu"], tmp_path / "b.tar", wheel=tmp_path / "no.whl")
    assert left(tmp_path) == []


# Attacks: each is a tar that differs from a good one in one thing


def parts(sealed: Path) -> dict[str, bytes]:
    with tarfile.open(sealed) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def plain(tar: tarfile.TarFile, name: str, data: bytes, **changes: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def rebuilt(sealed: Path, change: Callable[[tarfile.TarFile, str, bytes], bool]) -> None:
    """Writes the tar again; `change` adds what it likes and says whether the file itself is added too."""
    files = parts(sealed)
    with tarfile.open(sealed, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            if change(tar, name, data):
                plain(tar, name, data)


def special(kind: bytes, name: str, link: str = "") -> Callable[[tarfile.TarFile, str, bytes], bool]:
    def change(tar: tarfile.TarFile, at: str, data: bytes) -> bool:
        if at != "model/source.onnx":
            return True
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        tar.addfile(info)
        return False

    return change


def added(name: str) -> Callable[[tarfile.TarFile, str, bytes], bool]:
    def change(tar: tarfile.TarFile, at: str, data: bytes) -> bool:
        if at == "model/source.onnx":
            plain(tar, name, b"evil")
        return True

    return change


def only_if(keep: Callable[[str], bool]) -> Callable[[tarfile.TarFile, str, bytes], bool]:
    return lambda tar, at, data: keep(at)


def longer(tar: tarfile.TarFile, at: str, data: bytes) -> bool:
    if at == "model/source.onnx":
        plain(tar, at, data + b"x")
    return at != "model/source.onnx"


def flipped(tar: tarfile.TarFile, at: str, data: bytes) -> bool:
    if at == "model/source.onnx":
        plain(tar, at, bytes([data[0] ^ 1]) + data[1:])
    return at != "model/source.onnx"


ATTACKS = {
    "absolute path": (added("/etc/flowpose-was-here"), "does not list, got '/etc/flowpose-was-here'"),
    "path that leads out": (added("../out"), r"does not list, got '\.\./out'"),
    "path that leads out from inside": (added("model/../../out"), "does not list"),
    "symbolic link": (
        special(tarfile.SYMTYPE, "model/source.onnx", "/etc/passwd"),
        "something else than plain files",
    ),
    "hard link": (
        special(tarfile.LNKTYPE, "model/source.onnx", "bundle.json"),
        "something else than plain files",
    ),
    "character device": (special(tarfile.CHRTYPE, "model/source.onnx"), "something else than plain files"),
    "block device": (special(tarfile.BLKTYPE, "model/source.onnx"), "something else than plain files"),
    "fifo": (special(tarfile.FIFOTYPE, "model/source.onnx"), "something else than plain files"),
    "folder": (special(tarfile.DIRTYPE, "model"), "something else than plain files"),
    "sparse file": (special(tarfile.GNUTYPE_SPARSE, "model/source.onnx"), "something else than plain files"),
    "extended header": (special(tarfile.XHDTYPE, "model/source.onnx"), "something else than plain files"),
    "long name header": (special(tarfile.GNUTYPE_LONGNAME, "x"), "something else than plain files"),
    "unlisted file": (added("model/more.onnx"), "does not list, got 'model/more.onnx'"),
    "second record": (added("bundle.json"), "does not list"),
    "file twice": (added("model/manifest.json"), "holds a file twice, got 'model/manifest.json'"),
    "missing file": (only_if(lambda at: at != "model/source.onnx"), "lacks files, got model/source.onnx"),
    "missing record": (only_if(lambda at: at != "bundle.json"), "expected bundle.json first"),
    "longer file": (longer, r"model/source.onnx: has another size"),
    "flipped byte": (flipped, r"model/source.onnx: was changed"),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("packed", [False, True])
def test_an_attack_is_refused_and_leaves_nothing(
    tmp_path: Path, sealed: Path, name: str, packed: bool
) -> None:
    change, text = ATTACKS[name]
    rebuilt(sealed, change)
    path = sealed
    if packed:
        path = tmp_path / "b.tar.gz"
        path.write_bytes(gzip.compress(sealed.read_bytes()))
    before = left(tmp_path)
    with pytest.raises(IntegrityError, match=text):
        open_bundle(path, tmp_path / "opened")
    assert left(tmp_path) == before
    assert not Path("/etc/flowpose-was-here").exists()


def test_a_bundle_whose_first_file_is_huge_is_refused_unread(tmp_path: Path, sealed: Path) -> None:
    with sealed.open("r+b") as file:
        info = tarfile.TarInfo("bundle.json")
        info.size = 7 << 30
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(IntegrityError, match="is too large, got 7516192768 bytes"):
        open_bundle(sealed, tmp_path / "opened")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz"])
def test_a_truncated_bundle_is_refused(tmp_path: Path, model: Path, name: str, share: float) -> None:
    path = seal(model, ["cpu"], tmp_path / name).path
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * (len(raw) - 1024))])
    with pytest.raises(IntegrityError):
        open_bundle(path, tmp_path / "opened")
    assert left(tmp_path) == [name]


def test_every_flipped_byte_of_the_content_is_noticed(tmp_path: Path, sealed: Path) -> None:
    raw = sealed.read_bytes()
    rng = np.random.default_rng(0)
    unused = {position for start in range(0, len(raw), 512) for position in range(start + 500, start + 512)}
    for position in rng.choice(len(raw) - 1024, 24, replace=False):
        if position in unused:  # of a header nothing reads these; its checksum covers them
            continue
        sealed.write_bytes(raw[:position] + bytes([raw[position] ^ 0x10]) + raw[position + 1 :])
        with pytest.raises(FlowposeError):
            open_bundle(sealed, tmp_path / "opened")
        assert left(tmp_path) == ["b.tar"]


def test_what_follows_the_end_is_refused(tmp_path: Path, sealed: Path) -> None:
    raw = sealed.read_bytes()
    for more, text in ((b"x", "goes on after its end"), (bytes(1 << 15), "goes on after its end")):
        sealed.write_bytes(raw + more)
        with pytest.raises(IntegrityError, match=text):
            open_bundle(sealed, tmp_path / "opened")


@pytest.mark.parametrize("link", ["file", "folder", "fifo"])
def test_links_and_pipes_in_a_folder_are_refused(tmp_path: Path, model: Path, link: str) -> None:
    folder = seal(model, ["cpu"], tmp_path / "b").path
    (tmp_path / "secret").write_text("x")
    if link == "file":
        (folder / "model" / "source.onnx").unlink()
        (folder / "model" / "source.onnx").symlink_to(tmp_path / "secret")
    elif link == "folder":
        (folder / "model").rename(tmp_path / "elsewhere")
        (folder / "model").symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(folder / "model" / "pipe")
    with pytest.raises(IntegrityError, match="is neither a plain file nor a folder"):
        open_bundle(folder, tmp_path / "opened")
    assert not (tmp_path / "opened").exists()


# A record that was written by an enemy


def with_record(sealed: Path, change: Callable[[dict[str, Any]], None]) -> None:
    files = parts(sealed)
    data = json.loads(files["bundle.json"])
    change(data)
    files["bundle.json"] = (json.dumps(data, indent=1) + "\n").encode()
    with tarfile.open(sealed, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            plain(tar, name, content)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a/",
        "",
        "a\\b",
        "a\nb",
        "-rf",
        ".x/a",
        "bundle.sig",
        "a" * 101,
        "targets",
    ],
)
def test_a_record_with_a_name_that_leads_out_is_refused(tmp_path: Path, sealed: Path, name: str) -> None:
    with_record(sealed, lambda data: data["files"].update({name: {"size": 0, "sha256": "0" * 64}}))
    with pytest.raises(SpecError, match="not a file inside the bundle"):
        open_bundle(sealed, tmp_path / "opened")
    assert left(tmp_path) == ["b.tar"]


def test_a_record_that_declares_too_much_is_refused(tmp_path: Path, sealed: Path) -> None:
    with_record(sealed, lambda data: data["files"]["model/source.onnx"].update(size=5 << 30))
    with pytest.raises(SpecError, match="too large, got"):
        open_bundle(sealed, tmp_path / "opened")


def test_a_record_whose_target_is_no_file_is_refused(tmp_path: Path, sealed: Path) -> None:
    with_record(sealed, lambda data: data["targets"].update(cpu="../../x.yaml"))
    with pytest.raises(SpecError, match="named as a target or wheel but not among the files"):
        open_bundle(sealed, tmp_path / "opened")


def test_another_format_says_how_to_go_on(tmp_path: Path, sealed: Path) -> None:
    with_record(sealed, lambda data: data.update(format=3))
    with pytest.raises(
        ArtifactError, match=r"unknown format version, got 3, expected 2\. Fix: install the flowpose"
    ):
        open_bundle(sealed, tmp_path / "opened")


def test_a_changed_bit_of_a_record_is_noticed_without_a_signature(sealed: Path) -> None:
    raw = parts(sealed)["bundle.json"]
    parsed(sealed, raw)
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 8
        with pytest.raises(FlowposeError):
            parsed(sealed, bytes(changed))


def test_a_record_that_is_written_otherwise_is_refused(tmp_path: Path, sealed: Path) -> None:
    with_record(sealed, lambda data: data.update(name=data.pop("name")))
    with pytest.raises(IntegrityError, match="it is not as flowpose writes it"):
        open_bundle(sealed, tmp_path / "opened")


def with_raw_record(sealed: Path, raw: bytes) -> None:
    rebuilt(sealed, lambda tar, at, data: plain(tar, at, raw) is not None if at == "bundle.json" else True)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b""), (b"[", b"]"), (b'{"a":', b"")])
def test_a_record_of_brackets_is_refused(
    tmp_path: Path, sealed: Path, opening: bytes, closing: bytes
) -> None:
    with_raw_record(sealed, opening * 100_000 + closing * 100_000)
    for read in (read_bundle, lambda path: open_bundle(path, tmp_path / "opened")):
        with pytest.raises(IntegrityError, match=r"b.tar/bundle.json: is nested too deeply.* Fix: "):
            read(sealed)
    assert left(tmp_path) == ["b.tar"]


@pytest.mark.parametrize("depth", range(1, 1100, 60))
@pytest.mark.parametrize("text", ['{"format": 2, "versions": {"a": %s}}', '{"format": 2, "files": %s}', "%s"])
def test_a_record_nested_to_any_depth_is_refused(depth: int, text: str) -> None:
    with pytest.raises(FlowposeError):
        parsed(Path("bundle.json"), (text % ("[" * depth + "]" * depth)).encode())


@pytest.mark.parametrize("name", ["no.tar", "no.tar.gz", "no"])
def test_no_such_bundle(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="no such bundle"):
        open_bundle(tmp_path / name, tmp_path / "opened")
    assert left(tmp_path) == []


# Full disks and killed processes


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(
    tmp_path: Path, sealed: Path, model: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(*_: object) -> str:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(bundles, "_written", full)
    monkeypatch.setattr(bundles, "write_tar", full)
    with pytest.raises(ArtifactError, match="no space is left on the disk"):
        open_bundle(sealed, tmp_path / "opened")
    with pytest.raises(ArtifactError, match="no space is left on the disk"):
        seal(model, ["cpu"], tmp_path / "second.tar")
    assert left(tmp_path) == ["b.tar"]


KILLED = """
import sys, time
from flowpose import bundle
real = bundle._written
def slow(entry, path):
    digest = real(entry, path)
    if entry.name.endswith("source.onnx"):
        print("ready", flush=True)
        time.sleep(60)
    return digest
bundle._written = slow
bundle.open_bundle(sys.argv[1], sys.argv[2])
"""


def test_a_process_killed_half_way_leaves_nothing_to_open_and_the_next_sweeps_it(
    tmp_path: Path, sealed: Path
) -> None:
    package = Path(flowpose.__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(sealed), str(tmp_path / "opened")],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(package)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert not (tmp_path / "opened").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "opened").exists()
    assert len(left(tmp_path)) == 2  # the bundle, and a hidden folder
    open_bundle(sealed, tmp_path / "opened")
    assert left(tmp_path) == ["b.tar", "opened"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles, "_written", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_bundle(sealed, tmp_path / "opened")
    assert left(tmp_path) == ["b.tar"]


def test_no_file_is_held_in_memory(sealed: Path) -> None:
    """A chunk at most is read at once, whatever an entry claims."""
    largest = max(
        len(entry.read(1 << 40)) for entry in sealed_files.entries(sealed) if entry.name != "bundle.json"
    )
    assert largest <= sealed_files.CHUNK


# Signatures


@pytest.fixture
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A private key, its public key, and another's public key."""
    return signing_keys(tmp_path_factory.mktemp("keys"))


def signed(tmp_path: Path, model: Path, key: Path, name: str = "s.tar") -> Bundle:
    return seal(model, ["cpu"], tmp_path / name, key=key)


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s"])
def test_a_signature_is_checked(
    tmp_path: Path, model: Path, keys: tuple[Path, Path, Path], name: str
) -> None:
    made = signed(tmp_path, model, keys[0], name)
    assert made.signed
    opened = open_bundle(made.path, tmp_path / "opened", key=keys[1])
    assert opened.signed
    assert (opened.path / "bundle.sig").stat().st_size == 64
    assert not open_bundle(made.path, tmp_path / "unasked").model.samefile(opened.model)


def test_the_signature_of_another_is_refused(
    tmp_path: Path, model: Path, keys: tuple[Path, Path, Path]
) -> None:
    made = signed(tmp_path, model, keys[0])
    with pytest.raises(IntegrityError, match="the signature is not one by"):
        open_bundle(made.path, tmp_path / "opened", key=keys[2])
    assert left(tmp_path) == ["s.tar"]


def test_a_changed_record_breaks_the_signature(
    tmp_path: Path, model: Path, keys: tuple[Path, Path, Path]
) -> None:
    made = signed(tmp_path, model, keys[0])
    files = parts(made.path)
    changed = made.record.model_copy(update={"created_by": "somebody else"})
    files["bundle.json"] = rendered(changed)
    with tarfile.open(made.path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            plain(tar, name, content)
    open_bundle(made.path, tmp_path / "unasked")
    with pytest.raises(IntegrityError, match="the signature is not one by"):
        open_bundle(made.path, tmp_path / "opened", key=keys[1])


@pytest.mark.parametrize("signature", [True, False])
def test_a_record_that_another_may_have_written_is_not_parsed(
    tmp_path: Path,
    model: Path,
    keys: tuple[Path, Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    signature: bool,
) -> None:
    made = signed(tmp_path, model, keys[0])
    rebuilt(made.path, only_if(lambda at: signature or at != "bundle.sig"))
    with_raw_record(made.path, b"[" * 200_000)
    monkeypatch.setattr(bundles, "parsed", lambda *_: pytest.fail("parsed before its signature was checked"))
    for read in (
        lambda: read_bundle(made.path, key=keys[1]),
        lambda: check_bundle(made.path, keys[1]),
        lambda: open_bundle(made.path, tmp_path / "opened", key=keys[1]),
    ):
        with pytest.raises(
            IntegrityError, match="the signature is not one by" if signature else "is not signed"
        ):
            read()


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s"])
def test_a_bundle_is_checked_where_it_lies(
    tmp_path: Path, model: Path, keys: tuple[Path, Path, Path], name: str
) -> None:
    made = signed(tmp_path, model, keys[0], name)
    assert check_bundle(made.path, keys[1]) == read_bundle(made.path, key=keys[1]) == made
    with pytest.raises(IntegrityError, match="the signature is not one by"):
        check_bundle(made.path, keys[2])
    assert left(tmp_path) == [name]


@pytest.mark.parametrize("attack", ["flipped byte", "longer file", "missing file", "unlisted file", "fifo"])
def test_a_signed_bundle_with_another_file_is_refused_where_it_lies(
    tmp_path: Path, model: Path, keys: tuple[Path, Path, Path], attack: str
) -> None:
    made = signed(tmp_path, model, keys[0])
    change, text = ATTACKS[attack]
    rebuilt(made.path, change)
    assert read_bundle(made.path, key=keys[1]).record == made.record
    with pytest.raises(IntegrityError, match=text):
        check_bundle(made.path, keys[1])


def test_a_missing_signature_is_refused_where_a_key_is_given(
    tmp_path: Path, sealed: Path, keys: tuple[Path, Path, Path]
) -> None:
    with pytest.raises(IntegrityError, match="is not signed, expected a signature by"):
        open_bundle(sealed, tmp_path / "opened", key=keys[1])
    assert left(tmp_path) == ["b.tar"]


def test_keys_of_another_kind_are_told(tmp_path: Path, model: Path, keys: tuple[Path, Path, Path]) -> None:
    private, public, _ = keys
    with pytest.raises(ArtifactError, match="expected an ed25519 private key as PEM"):
        signed(tmp_path, model, public)
    made = signed(tmp_path, model, private)
    with pytest.raises(ArtifactError, match="expected an ed25519 public key as PEM"):
        open_bundle(made.path, tmp_path / "opened", key=private)
    with pytest.raises(ArtifactError, match="the key cannot be read"):
        open_bundle(made.path, tmp_path / "opened", key=tmp_path / "no")


def test_signing_without_the_library_names_it(
    tmp_path: Path, model: Path, keys: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(
        MissingDependency, match=r"needs the package cryptography\. Fix: pip install cryptography"
    ):
        signed(tmp_path, model, keys[0])
    assert left(tmp_path) == []
    seal(model, ["cpu"], tmp_path / "unsigned.tar")
