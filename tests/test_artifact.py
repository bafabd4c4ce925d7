from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flowpose import artifact as artifacts
from flowpose.artifact import (
    Artifact,
    ancestors,
    creating,
    find_by_key,
    open_artifact,
    place,
    stage_key,
)
from flowpose.errors import ArtifactError, IntegrityError, SpecError
from flowpose.half_made import replace_file, replacing, sweep

KEY = stage_key(None, "train", {"iterations": 3})
FIELDS: dict[str, Any] = {
    "kind": "model",
    "name": "small",
    "key": KEY,
    "stage": {"iterations": 3},
    "image": {"height": 64, "width": 48},
    "pose": {"format": "coco-wholebody-133", "joints": 133},
}


def make(path: Path, **fields: Any) -> Artifact:
    with creating(path, **{**FIELDS, **fields}) as draft:
        (draft / "weights.bin").write_bytes(bytes(range(200)))
        (draft / "golden/inputs.npz").write_bytes(b"golden")
    return open_artifact(path)


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# Making and opening


def test_an_artifact_is_made_and_opened(tmp_path: Path) -> None:
    made = make(tmp_path / "deep" / "train-1", parent="b" * 64)
    assert list(made.manifest.files) == ["golden/inputs.npz", "weights.bin"]
    assert made.file("weights.bin").read_bytes() == bytes(range(200))
    assert made.manifest.parent == "b" * 64
    assert left(tmp_path / "deep") == ["train-1"]


def test_fields_may_be_added_while_making(tmp_path: Path) -> None:
    with creating(tmp_path / "a", **FIELDS) as draft:
        draft.add(times=(0.0, 1.0), card={"licence": "CC0"})
        draft.add(card={"licence": "Apache-2.0"})
    manifest = open_artifact(tmp_path / "a").manifest
    assert manifest.times == (0.0, 1.0)
    assert manifest.card == {"licence": "Apache-2.0"}


def test_a_draft_serves_as_a_path(tmp_path: Path) -> None:
    with creating(tmp_path / "a", **FIELDS) as draft:
        Path(draft, "weights.bin").write_bytes(b"x")
        assert os.fspath(draft) == str(draft)
    assert list(open_artifact(tmp_path / "a").manifest.files) == ["weights.bin"]


def test_a_file_that_is_not_listed_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no such file, got nothing, expected one of golden/inputs.npz"):
        make(tmp_path / "a").file("nothing")


def test_files_of_other_users_can_be_read(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_artifact_may_be_moved(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_artifact(tmp_path / "b").manifest.key == KEY


def test_verifying_20_megabytes_is_quick(tmp_path: Path) -> None:
    with creating(tmp_path / "a", **FIELDS) as draft:
        for index in range(4):
            (draft / f"{index}.bin").write_bytes(bytes([index]) * 5_000_000)
    times = []
    for _ in range(3):
        start = time.process_time()
        open_artifact(tmp_path / "a")
        times.append(time.process_time() - start)
    assert min(times) < 0.2


# What cannot be opened


@pytest.mark.parametrize("kind", ["absent", "file", "empty"])
def test_what_is_no_artifact(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.write_text("x")
    if kind == "empty":
        path.mkdir()
    with pytest.raises(ArtifactError, match=r"no manifest.json|no such artifact") as caught:
        open_artifact(path)
    assert caught.value.where == str(path)
    assert caught.value.fix is not None


@pytest.mark.parametrize("name", ["weights.bin", "golden/inputs.npz", "manifest.json"])
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_one_flipped_byte_is_refused_and_the_file_named(tmp_path: Path, name: str, where: float) -> None:
    made = make(tmp_path / "a")
    path = made.path / name
    raw = bytearray(path.read_bytes())
    raw[int(where * (len(raw) - 1))] ^= 1
    path.write_bytes(raw)
    with pytest.raises(IntegrityError) as caught:
        open_artifact(made.path)
    assert caught.value.where == str(path)
    assert f"Fix: delete {made.path} and make it again" in str(caught.value)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_no_byte_of_the_manifest_can_be_flipped(tmp_path: Path, flip: int) -> None:
    """Blanks and upper case too, which JSON would not mind."""
    made = make(tmp_path / "a")
    path = made.path / "manifest.json"
    raw = path.read_bytes()
    for index in range(len(raw)):
        path.write_bytes(raw[:index] + bytes([raw[index] ^ flip]) + raw[index + 1 :])
        with pytest.raises(ArtifactError, match=r"manifest\.json"):
            open_artifact(made.path, verify=False)


@pytest.mark.parametrize("name", ["weights.bin", "golden/inputs.npz", "manifest.json"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    made = make(tmp_path / "a")
    path = made.path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError) as caught:
        open_artifact(made.path)
    assert caught.value.where == str(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    made.file("golden/inputs.npz").unlink()
    with pytest.raises(IntegrityError, match=r"golden/inputs.npz: the file is missing"):
        open_artifact(made.path, verify=False)


def test_an_unlisted_file_is_named(tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    (made.path / "golden" / "more.npz").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"golden/more.npz: the file is not one of the artifact's"):
        open_artifact(made.path, verify=False)


def test_without_verify_the_content_is_not_read(tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    made.file("weights.bin").write_bytes(b"other")
    assert open_artifact(made.path, verify=False).manifest == made.manifest


@pytest.mark.parametrize("version", [2, None, "1"])
def test_another_format_version_says_how_to_go_on(tmp_path: Path, version: object) -> None:
    made = make(tmp_path / "a")
    path = made.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": version}))
    with pytest.raises(ArtifactError, match="unknown format version") as caught:
        open_artifact(made.path)
    assert caught.value.fix is not None
    assert "install the flowpose version that wrote it" in caught.value.fix


@pytest.mark.parametrize(
    "text", ["[1]", "null", '{"format": 1}', '{"format": 1, "self_sha256": NaN, "x": NaN}']
)
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    made = make(tmp_path / "a")
    (made.path / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"manifest\.json: the file was changed"):
        open_artifact(made.path)


# All or nothing


def test_a_crash_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    def work() -> None:
        with creating(tmp_path / "a", **FIELDS) as draft:
            (draft / "weights.bin").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert left(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), creating(tmp_path / "a", **FIELDS):
        raise KeyboardInterrupt
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_in_the_block_is_told(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(ArtifactError, match="no space is left on the disk"),
        creating(tmp_path / "a", **FIELDS),
    ):
        raise OSError(code, os.strerror(code))
    assert left(tmp_path) == []


@pytest.mark.parametrize("step", ["flush", "sha256", "_rendered"])
def test_a_full_disk_while_sealing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(artifacts, step, full)
    with pytest.raises(ArtifactError, match="no space is left on the disk") as caught:
        make(tmp_path / "a")
    assert caught.value.where == str(tmp_path / "a")
    assert left(tmp_path) == []


def test_other_errors_of_the_block_come_through_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), creating(tmp_path / "a", **FIELDS):
        (tmp_path / "nowhere").read_bytes()


def test_bytes_that_reach_the_disk_wrong_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["0" * 64])
    real = artifacts.sha256
    monkeypatch.setattr(artifacts, "sha256", lambda path: next(digests, None) or real(path))
    with pytest.raises(IntegrityError, match="the file was changed"):
        make(tmp_path / "a")
    assert left(tmp_path) == []


def test_an_artifact_is_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(ArtifactError, match="is there already"):
        make(tmp_path / "a")
    with pytest.raises(ArtifactError, match="is there already"), creating(tmp_path / "b", **FIELDS):
        make(tmp_path / "b")
    assert left(tmp_path) == ["a", "b"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="cannot be written"), creating(tmp_path / "file" / "a", **FIELDS):
        pass


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"knid": "model"}, "manifest.knid: unknown key"),
        ({"key": "12"}, "manifest.key: wrong form"),
        ({"files": {}}, "manifest.files: set when the artifact is sealed"),
        ({"stage": {"lr": float("nan")}}, "a number is not finite"),
    ],
)
def test_wrong_fields_are_told_before_the_work(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError) as caught, creating(tmp_path / "a", **{**FIELDS, **fields}):
        pytest.fail("the block must not run")
    assert expected in str(caught.value)
    assert left(tmp_path) == []


def test_wrong_fields_that_are_added_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'times'"), creating(tmp_path / "a", **FIELDS) as draft:
        draft.add(tims=(0.0, 1.0))
    assert left(tmp_path) == []


def test_graphs_must_name_files_that_are_there(tmp_path: Path) -> None:
    tensor = {"name": "x", "dtype": "u8", "shape": [1]}
    graph = {"name": "frame", "precision": "fp32", "file": "f.onnx", "inputs": [tensor], "outputs": [tensor]}
    with pytest.raises(SpecError, match=r"not among the files, got \['f.onnx'\]"):
        make(tmp_path / "a", graphs=[graph])
    assert left(tmp_path) == []


# Killed processes

KILLED = """
import json, sys, time
from flowpose.artifact import creating
with creating(sys.argv[1], **json.loads(sys.argv[2])) as draft:
    (draft / "weights.bin").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def maker(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that is in the midst of making `tmp_path/a`."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a"), json.dumps(FIELDS)]
    package = Path(artifacts.__file__).resolve().parents[1]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(package)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_a_killed_process_leaves_is_never_opened_and_swept_later(
    tmp_path: Path, maker: subprocess.Popen[str]
) -> None:
    end(maker)
    (partial,) = tmp_path.iterdir()
    assert not (tmp_path / "a").exists()
    for path in (partial, partial / "artifact"):
        with pytest.raises(ArtifactError, match="was never finished"):
            open_artifact(path)
    make(tmp_path / "a")
    assert left(tmp_path) == ["a"]


def test_what_a_living_process_makes_is_not_swept(tmp_path: Path, maker: subprocess.Popen[str]) -> None:
    assert sweep(tmp_path) == ()
    make(tmp_path / "b")
    assert len(left(tmp_path)) == 2
    end(maker)
    assert len(sweep(tmp_path)) == 1
    assert left(tmp_path) == ["b"]


def test_a_process_killed_just_before_the_last_step_leaves_nothing_to_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even whole and with a manifest, it is not in its place."""
    kept: list[Path] = []

    def killed(folder: Path, path: Path) -> None:
        kept.append(folder)
        with pytest.raises(ArtifactError, match="was never finished"):
            open_artifact(folder)
        assert find_by_key(tmp_path.parent, KEY) is None
        raise KeyboardInterrupt

    monkeypatch.setattr(artifacts, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / f"train-{KEY[:12]}")
    assert len(kept) == 1


def test_the_maker_of_one_artifact_may_make_another(tmp_path: Path) -> None:
    with creating(tmp_path / "a", **FIELDS) as draft:
        make(tmp_path / "b")
        (draft / "weights.bin").write_bytes(b"x")
    assert left(tmp_path) == ["a", "b"]


# Keys and history


def test_a_key_depends_on_parent_stage_and_config_only() -> None:
    key = stage_key("a" * 64, "train", {"lr": 1e-4, "size": (1, 2)})
    assert key == stage_key("a" * 64, "train", {"size": [1, 2], "lr": 0.0001})
    others = {
        stage_key("b" * 64, "train", {"lr": 1e-4, "size": (1, 2)}),
        stage_key(None, "train", {"lr": 1e-4, "size": (1, 2)}),
        stage_key("a" * 64, "distill", {"lr": 1e-4, "size": (1, 2)}),
        stage_key("a" * 64, "train", {"lr": 2e-4, "size": (1, 2)}),
    }
    assert len({key, *others}) == 5
    assert len(key) == 64


def test_a_key_stays_the_same_from_version_to_version() -> None:
    # printf '{"config":{"a":1},"parent":null,"stage":"train"}' | sha256sum
    digest = "4f4dc062ee0c3e6533e3b6640074518cb7a9e8fd1097ecdbbd7e49e9b53aa8e6"
    assert stage_key(None, "train", {"a": 1}) == digest


def test_an_artifact_is_found_by_its_key(tmp_path: Path) -> None:
    path = place(tmp_path, "small", "train", KEY)
    assert path == tmp_path / "small" / f"train-{KEY[:12]}"
    assert find_by_key(tmp_path, KEY) is None
    make(path)
    assert find_by_key(tmp_path, KEY) == path
    assert find_by_key(tmp_path, KEY[:12] + "0" * 52) is None
    assert find_by_key(tmp_path / "nowhere", KEY) is None


def test_a_changed_manifest_is_not_taken_for_a_missing_artifact(tmp_path: Path) -> None:
    path = place(tmp_path, "small", "train", KEY)
    make(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(IntegrityError):
        find_by_key(tmp_path, KEY)


def test_a_child_inherits_the_history(tmp_path: Path) -> None:
    measured = {"metric": "psnr", "value": 20.5, "unit": "dB", "n": 8, "set": "figures/val"}
    first = make(tmp_path / "a", measurements=[measured])
    second = make(tmp_path / "b", kind="student", parent=KEY, key="c" * 64, history=ancestors(first))
    history = ancestors(second)
    assert [ancestor.kind for ancestor in history] == ["model", "student"]
    assert history[0].measurements[0].value == 20.5
    assert history[0].stage == {"iterations": 3}


def test_a_replaced_file_keeps_its_mode_and_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "page.html"
    replace_file(file, memoryview(b"first"))
    file.chmod(0o600)
    replace_file(file, b"second")
    assert file.read_bytes() == b"second" and file.stat().st_mode & 0o777 == 0o600
    with suppress(ZeroDivisionError), replacing(file) as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert file.read_bytes() == b"second" and list(file.parent.iterdir()) == [file]
