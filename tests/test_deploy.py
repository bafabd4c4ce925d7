"""Deployments: the exact commands, their quoting in two shells, what is refused, and a run on a stand-in device."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from signing_keys import signing_keys
from tiny_graphs import make_artifact

from flowpose.bundle import Bundle, read_bundle, seal
from flowpose.bundle_record import BundleFile, Compiling, rendered
from flowpose.deploy import DESKTOP, Step, from_step, plan, script
from flowpose.deploy_run import Outcome, carry_out, run_shown
from flowpose.errors import (
    ArtifactError,
    DeviceError,
    IntegrityError,
    MissingDependency,
    SpecError,
    TargetMismatch,
)
from flowpose.spec.reading import load_target
from flowpose.spec.target import Release, Target

HOST = "me@jetson.local"
NAMES = (
    "check", "folder", "copy", "wheel", "venv", "install", "unbundle", "doctor", "compile", "verify", "bench", "fetch",
)  # fmt: skip
RELEASES = (
    Release(name="JetPack 6.2", tensorrt="10.3", python="3.10", cuda="12.6"),
    Release(name="JetPack 7.2", tensorrt="10.16", python="3.12", cuda="13.2"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles")
    make_artifact(path / "tiny")
    (path / "flowpose-0.1.0-py3-none-any.whl").write_bytes(b"a wheel")
    return path


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    wheel = folder / "flowpose-0.1.0-py3-none-any.whl"
    return seal(folder / "tiny", ["cpu", "cpu-arm64"], folder / "it's a $bundle.tar", wheel=wheel)


@pytest.fixture(scope="module")
def cpu() -> Target:
    return load_target("cpu")


@pytest.fixture(scope="module")
def board() -> Target:
    return load_target("cpu-arm64").model_copy(update={"releases": RELEASES})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A private key, its public key, and another's public key."""
    return signing_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(folder: Path, keys: tuple[Path, Path, Path], tmp_path: Path) -> Bundle:
    wheel = folder / "flowpose-0.1.0-py3-none-any.whl"
    return seal(folder / "tiny", ["cpu"], tmp_path / "signed.tar", wheel=wheel, key=keys[0])


def commands(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    return {step.name: step.argv for step in steps}


# The exact commands


def test_the_plan_of_a_tar_is_these_commands(bundle: Bundle, cpu: Target, tmp_path: Path) -> None:
    found = commands(plan(bundle, HOST, cpu, results=tmp_path / "results"))
    opened = f"flowpose/opened-{bundle.record.digest()[:12]}"
    wheel, flowpose, python = (
        "flowpose/wheel/flowpose-0.1.0-py3-none-any.whl", "flowpose/venv/bin/flowpose", "flowpose/venv/bin/python"
    )  # fmt: skip
    digest = bundle.record.files["wheel/flowpose-0.1.0-py3-none-any.whl"].sha256
    engine = f'"$({python} -c \'import json, sys; print(json.load(open(sys.argv[1]))["path"])\' flowpose/compile.json)"'
    target = f"{opened}/targets/cpu.yaml"
    assert tuple(found) == NAMES
    assert found["folder"] == ("ssh", HOST, "mkdir -p flowpose")
    assert found["copy"] == ("rsync", "-a", "--partial", str(bundle.path), f"{HOST}:flowpose/bundle.tar")
    assert found["wheel"][2] == (
        "tar -xf flowpose/bundle.tar -C flowpose wheel/flowpose-0.1.0-py3-none-any.whl"
        f" && echo '{digest}  {wheel}' | sha256sum -c -"
    )
    assert found["venv"][2] == f"test -x {python} || python3 -m venv --system-site-packages flowpose/venv"
    assert found["install"][2] == (
        f"{python} -m pip install {wheel} && {python} -m pip install --no-deps --force-reinstall {wheel}"
    )
    assert found["unbundle"][2] == (
        f"test -d {opened} || {flowpose} unbundle flowpose/bundle.tar --into {opened}"
    )
    assert found["doctor"][2] == f"{flowpose} doctor"
    assert found["compile"][2] == (
        f"{flowpose} compile {opened}/model --target {target} --out flowpose/artifacts --precision auto"
        " --margin 1.1 --json > flowpose/compile.json"
    )
    assert found["verify"][2] == f"{flowpose} verify {engine}"
    assert found["bench"][2] == f"{flowpose} bench {engine} --target {target} --json > flowpose/latency.json"
    into = tmp_path / "results"
    assert found["fetch"] == (
        "/bin/sh", "-c",
        f"mkdir -p {into} && rsync -a {HOST}:flowpose/compile.json {HOST}:flowpose/latency.json {into}/",
    )  # fmt: skip


def test_a_folder_is_mirrored_and_its_wheel_taken_where_it_lies(
    folder: Path, cpu: Target, tmp_path: Path
) -> None:
    wheel = folder / "flowpose-0.1.0-py3-none-any.whl"
    made = seal(folder / "tiny", ["cpu"], tmp_path / "b", wheel=wheel)
    found = commands(plan(made, HOST, cpu))
    assert found["copy"] == (
        "rsync",
        "-a",
        "--partial",
        "--delete",
        f"{made.path}/",
        f"{HOST}:flowpose/bundle/",
    )
    assert found["wheel"][2].startswith("echo ")
    assert "flowpose/bundle/wheel/flowpose-0.1.0-py3-none-any.whl" in found["install"][2]


def test_the_request_of_the_bundle_reaches_compile(folder: Path, cpu: Target, tmp_path: Path) -> None:
    wheel = folder / "flowpose-0.1.0-py3-none-any.whl"
    asked = Compiling(precision="int8", margin=1.25, threads=3)
    made = seal(folder / "tiny", ["cpu"], tmp_path / "b.tar", wheel=wheel, compiling=asked)
    assert (
        "--precision int8 --margin 1.25 --threads 3 --json" in commands(plan(made, HOST, cpu))["compile"][2]
    )


@pytest.mark.parametrize(
    ("jetpack", "python", "beside"),
    [
        ("6.2", "3.10", "'numpy<2' 'cuda-bindings>=12.8,<13'"),
        ("JetPack 7.2", "3.12", "'cuda-bindings>=13,<14'"),
    ],
)
def test_a_jetpack_brings_its_python_and_the_bindings_of_its_cuda(
    bundle: Bundle, board: Target, jetpack: str, python: str, beside: str
) -> None:
    found = commands(plan(bundle, HOST, board, jetpack=jetpack))
    assert shlex.split(found["check"][2])[3:] == [python, "1000", "ensurepip", "tensorrt"]
    assert f".whl {beside} && " in found["install"][2]


def test_a_pc_gets_the_libraries_of_its_gpu_and_a_board_has_them(bundle: Bundle, cpu: Target) -> None:
    def planned(name: str, jetpack: str | None = None) -> dict[str, tuple[str, ...]]:
        target = load_target(name)
        files = {**bundle.record.targets, name: bundle.record.targets["cpu"]}
        record = bundle.record.model_copy(update={"targets": files})
        return commands(plan(replace(bundle, record=record), HOST, target, jetpack=jetpack))

    wheel, python = "flowpose/wheel/flowpose-0.1.0-py3-none-any.whl", "flowpose/venv/bin/python"
    for name in ("rtx-4090", "h100"):
        found = planned(name)
        assert found["install"][2] == (
            f"{python} -m pip install '{wheel}[tensorrt,nvidia]'"
            f" && {python} -m pip install --no-deps --force-reinstall {wheel}"
        )
        assert shlex.split(found["check"][2])[3:] == ["", "10000", "ensurepip"]
    assert "[tensorrt" not in planned("jetson-orin-nano-8gb", "6.2")["install"][2]
    assert "[tensorrt" not in planned("cpu")["install"][2]


def test_the_extras_that_are_installed_are_those_of_the_wheel() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    assert all(re.search(rf"^{name} = \[", text, re.MULTILINE) for name in DESKTOP.split(","))


# With a key


def test_a_key_is_copied_and_asked_for(signed: Bundle, cpu: Target, keys: tuple[Path, Path, Path]) -> None:
    steps = plan(signed, HOST, cpu, key=keys[1])
    found = commands(steps)
    digest = hashlib.sha256(keys[1].read_bytes()).hexdigest()[:12]
    opened = f"flowpose/opened-{signed.record.digest()[:12]}-signer-{digest}"
    signer = f"flowpose/signer-{digest}.pub"
    assert [step.name for step in steps][2:5] == ["copy", "key", "wheel"]
    assert found["key"] == ("rsync", "-a", str(keys[1]), f"{HOST}:{signer}")
    assert found["unbundle"][2] == (
        f"test -d {opened} || flowpose/venv/bin/flowpose unbundle flowpose/bundle.tar --into {opened} --key {signer}"
    )
    assert f"compile {opened}/model --target {opened}/targets/cpu.yaml " in found["compile"][2]
    assert ".whl cryptography && " in found["install"][2]


def rewritten(bundle: Bundle, wheel: bytes, *, record: bool) -> Bundle:
    """The bundle with another wheel in it; with `record` its digest and size are written into bundle.json."""
    with tarfile.open(bundle.path) as tar:
        files = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    name = str(bundle.record.wheel)
    files[name] = wheel
    if record:
        listed = BundleFile(size=len(wheel), sha256=hashlib.sha256(wheel).hexdigest())
        changed = bundle.record.model_copy(update={"files": {**bundle.record.files, name: listed}})
        files["bundle.json"] = rendered(changed)
    with tarfile.open(bundle.path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for title, data in files.items():
            info = tarfile.TarInfo(title)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return read_bundle(bundle.path)


@pytest.mark.parametrize(
    ("record", "text"), [(True, "the signature is not one by"), (False, r"\.whl: was changed")]
)
def test_with_a_key_nothing_is_planned_for_a_wheel_that_was_not_signed(
    signed: Bundle, cpu: Target, keys: tuple[Path, Path, Path], record: bool, text: str
) -> None:
    changed = rewritten(signed, b"a whale", record=record)
    assert len(plan(changed, HOST, cpu)) == len(NAMES)
    with pytest.raises(IntegrityError, match=text):
        plan(changed, HOST, cpu, key=keys[1])


def test_with_a_key_the_bundle_must_be_signed_by_its_owner(
    bundle: Bundle, signed: Bundle, cpu: Target, keys: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match="is not signed, expected a signature by"):
        plan(bundle, HOST, cpu, key=keys[1])
    with pytest.raises(IntegrityError, match="the signature is not one by"):
        plan(signed, HOST, cpu, key=keys[2])
    with pytest.raises(ArtifactError, match="the key cannot be read"):
        plan(signed, HOST, cpu, key=tmp_path / "no.pub")


def test_the_plan_is_made_of_what_was_checked(
    signed: Bundle, cpu: Target, keys: tuple[Path, Path, Path]
) -> None:
    """A record that was read before is not believed where a key is given."""
    name = str(signed.record.wheel)
    wrong = BundleFile(size=7, sha256="0" * 64)
    other = replace(
        signed, record=signed.record.model_copy(update={"files": {**signed.record.files, name: wrong}})
    )
    assert plan(other, HOST, cpu, key=keys[1]) == plan(signed, HOST, cpu, key=keys[1])


def test_planning_twice_is_the_same_and_touches_nothing(bundle: Bundle, cpu: Target, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert plan(bundle, HOST, cpu, results=results) == plan(bundle, HOST, cpu, results=results)
    assert not results.exists()


# What is refused


@pytest.mark.parametrize(
    "host",
    [
        "", "-oProxyCommand=x", "me@-x", "-me@x", "me@", "@x", "a b", "me@x;reboot", "me@x:/etc", "$(x)", "`x`",
        "me@x\n", "me@@x", "x.", "me@x'",
    ],
)  # fmt: skip
def test_a_host_that_is_not_safe_is_refused(bundle: Bundle, cpu: Target, host: str) -> None:
    with pytest.raises(SpecError, match="host: not a host that is safe to give to ssh"):
        plan(bundle, host, cpu)


@pytest.mark.parametrize("host", ["jetson", "me@jetson", "me@10.0.0.7", "nv_1@my-board.local", "board_2"])
def test_a_host_as_ssh_takes_it(bundle: Bundle, cpu: Target, host: str) -> None:
    assert plan(bundle, host, cpu)[0].argv[:2] == ("ssh", host)


@pytest.mark.parametrize("name", ["", "-rf", "../x", "a/../b", "a b", "~", "$HOME", "a;b", "/", "a/", ".."])
def test_a_folder_that_is_not_plain_is_refused(bundle: Bundle, cpu: Target, name: str) -> None:
    with pytest.raises(SpecError, match="folder: not a plain name"):
        plan(bundle, HOST, cpu, folder=name)


def test_all_that_is_wrong_is_told_at_once(bundle: Bundle, board: Target) -> None:
    with pytest.raises(SpecError) as caught:
        plan(bundle, "-x", board, folder="..", venv="a/b", jetpack="5.1")
    assert len(caught.value.problems) == 4
    assert "got '5.1', expected one of 6.2, 7.2 (cat /etc/nv_tegra_release tells)" in str(caught.value)


def test_a_release_is_needed_where_there_are_any_and_refused_elsewhere(
    bundle: Bundle, cpu: Target, board: Target
) -> None:
    with pytest.raises(SpecError, match=r"jetpack: got None, expected one of 6\.2, 7\.2"):
        plan(bundle, HOST, board)
    with pytest.raises(SpecError, match="jetpack: target cpu has no releases"):
        plan(bundle, HOST, cpu, jetpack="6.2")


def test_a_bundle_for_other_targets_or_without_a_wheel(
    folder: Path, bundle: Bundle, cpu: Target, tmp_path: Path
) -> None:
    other = cpu.model_copy(update={"name": "other"})
    with pytest.raises(
        TargetMismatch, match="is not meant for the target, got other, expected cpu or cpu-arm64"
    ):
        plan(bundle, HOST, other)
    bare = seal(folder / "tiny", ["cpu"], tmp_path / "b.tar")
    with pytest.raises(TargetMismatch, match="holds no wheel of flowpose"):
        plan(bare, HOST, cpu)


# As a script


def stand_ins(folder: Path, **programs: str) -> dict[str, str]:
    """Programs of these names and texts, put before all others; and the environment that finds them."""
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_shell_gives_every_program_exactly_its_arguments(
    bundle: Bundle, board: Target, tmp_path: Path
) -> None:
    tell = f'{sys.executable} -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$(basename "$0")" "$@" >> "$TOLD"'
    env = {**stand_ins(tmp_path / "bin", ssh=tell, rsync=tell), "TOLD": str(tmp_path / "told")}
    results = tmp_path / "it's $HOME/results"
    steps = plan(bundle, HOST, board, jetpack="6.2", results=results)
    subprocess.run(["sh"], input=script(steps), text=True, env=env, check=True)
    told = [tuple(json.loads(line)) for line in (tmp_path / "told").read_text().splitlines()]
    assert told[:-1] == [step.argv for step in steps[:-1]]
    measured = (f"{HOST}:flowpose/compile.json", f"{HOST}:flowpose/latency.json")
    assert told[-1] == ("rsync", "-a", *measured, f"{results}/")


def test_the_script_stops_at_the_first_failure_and_explains_each_step(bundle: Bundle, cpu: Target) -> None:
    text = script(plan(bundle, HOST, cpu))
    assert text.startswith("#!/bin/sh\nset -eu\n")
    assert "# 9 compile: every backend and precision is checked and timed" in text


def test_going_on_from_a_step(bundle: Bundle, cpu: Target) -> None:
    steps = plan(bundle, HOST, cpu)
    assert from_step(steps, None) == steps
    assert [step.name for step in from_step(steps, "verify")] == ["verify", "bench", "fetch"]
    with pytest.raises(SpecError, match=r"no such step, got 'compil', .*did you mean 'compile'"):
        from_step(steps, "compil")


# Carrying out


def test_a_failing_step_stops_the_rest_and_says_how_to_go_on(bundle: Bundle, cpu: Target) -> None:
    ran: list[Sequence[str]] = []
    said: list[str] = []

    def run(argv: Sequence[str]) -> Outcome:
        ran.append(argv)
        return (
            Outcome(3, ("building", "out of memory"))
            if "compile /" in str(argv) or len(ran) == 9
            else Outcome(0)
        )

    steps = plan(bundle, HOST, cpu)
    with pytest.raises(DeviceError) as caught:
        carry_out(steps, run, say=said.append)
    assert len(ran) == len(said) == 9
    text = str(caught.value)
    assert text.startswith(
        "step compile: failed with exit status 3; its last lines:\n    building\n    out of memory"
    )
    assert text.endswith("the same command with --run --from compile")
    assert said[0].startswith("[1/12] check: ")
    assert steps[0].line in said[0]


def test_all_steps_in_order(bundle: Bundle, cpu: Target) -> None:
    assert carry_out(plan(bundle, HOST, cpu), lambda argv: Outcome(0)) == NAMES


def test_a_program_that_is_missing_here_is_named(
    bundle: Bundle, cpu: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MissingDependency, match=r"needs rsync and ssh\. Fix: sudo apt-get install rsync openssh-client"
    ):
        carry_out(plan(bundle, HOST, cpu))


def test_output_is_shown_as_it_comes_and_its_end_kept(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; [print(i) for i in range(30)]; print('bad', file=sys.stderr); sys.exit(4)"
    outcome = run_shown((sys.executable, "-u", "-c", code))
    assert outcome.status == 4
    assert outcome.last[-2:] == ("29", "bad")
    assert len(outcome.last) == 12
    assert capsys.readouterr().err.count("\n") == 31


# On a stand-in device: ssh is a shell in another home folder, rsync is cp; tar, sha256sum and python3 are real

SSH = 'cd "$DEVICE" && exec sh -c "$2"'
RSYNC = """
while [ "${1#-}" != "$1" ]; do shift; done
place() { case "$1" in *@*:*) echo "$DEVICE/${1#*:}";; *) echo "$1";; esac; }
for last; do :; done
case "$last" in */) [ -d "$(place "$last")" ] || mkdir "$(place "$last")" || exit 11;; esac
while [ $# -gt 1 ]; do cp -r "$(place "$1")" "$(place "$last")"; shift; done
"""
VENV_PYTHON = f'[ "$2" = pip ] && exit 0\nexec {sys.executable} "$@"'
FLOWPOSE = """
echo "$@" >> "$DEVICE/called"
case "$1" in
    unbundle) mkdir "$4";;
    compile) echo '{"path": "art facts/it'"'"'s $HOME"}';;
    bench) echo '{"rows": 1}';;
    verify) [ "$2" = "art facts/it's \\$HOME" ];;
esac
"""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEVICE", str(tmp_path / "device"))
    env = stand_ins(tmp_path / "bin", ssh=SSH, rsync=RSYNC)
    monkeypatch.setenv("PATH", env["PATH"])
    home = tmp_path / "device"
    (home / "flowpose/venv").mkdir(parents=True)
    stand_ins(home / "flowpose/venv/bin", python=VENV_PYTHON, flowpose=FLOWPOSE)
    return home


def test_a_deployment_on_a_stand_in_device(bundle: Bundle, cpu: Target, tmp_path: Path, device: Path) -> None:
    steps = plan(bundle, HOST, cpu, results=tmp_path / "results")
    assert carry_out(steps) == NAMES
    assert (device / "flowpose/bundle.tar").read_bytes() == bundle.path.read_bytes()
    assert (device / "flowpose/wheel/flowpose-0.1.0-py3-none-any.whl").read_bytes() == b"a wheel"
    assert json.loads((tmp_path / "results/latency.json").read_text()) == {"rows": 1}
    called = (device / "called").read_text().splitlines()
    assert [line.split()[0] for line in called] == ["unbundle", "doctor", "compile", "verify", "bench"]
    assert carry_out(steps) == NAMES  # again: what is unpacked is kept
    assert [line.split()[0] for line in (device / "called").read_text().splitlines()].count("unbundle") == 1


def test_what_was_measured_comes_into_a_folder_that_is_made(
    bundle: Bundle, cpu: Target, tmp_path: Path, device: Path
) -> None:
    steps = plan(bundle, HOST, cpu, results=tmp_path / "a/b b/c")
    for name in ("compile.json", "latency.json"):
        (device / "flowpose" / name).write_text("{}")
    assert carry_out(from_step(steps, "fetch")) == ("fetch",)
    assert sorted(path.name for path in (tmp_path / "a/b b/c").iterdir()) == ["compile.json", "latency.json"]


def test_what_was_opened_unasked_is_opened_again_with_a_key(
    signed: Bundle, cpu: Target, keys: tuple[Path, Path, Path], tmp_path: Path, device: Path
) -> None:
    carry_out(plan(signed, HOST, cpu, results=tmp_path / "results"))
    steps = plan(signed, HOST, cpu, key=keys[1], results=tmp_path / "results")
    for _ in range(2):
        carry_out(steps)
    called = [line for line in (device / "called").read_text().splitlines() if line.startswith("unbundle")]
    assert len(called) == 2 and "--key" not in called[0] and "--key" in called[1]


def test_a_changed_wheel_stops_the_deployment(
    bundle: Bundle, cpu: Target, tmp_path: Path, device: Path
) -> None:
    steps = plan(bundle, HOST, cpu, results=tmp_path / "results")
    carry_out(steps[:3])
    copied = device / "flowpose/bundle.tar"
    copied.write_bytes(copied.read_bytes().replace(b"a wheel", b"a whale"))
    with pytest.raises(DeviceError, match=r"step wheel: failed with exit status 1"):
        carry_out(steps[3:])
    assert not (device / "called").exists()


def checked(bundle: Bundle, target: Target, jetpack: str | None) -> subprocess.CompletedProcess[str]:
    command = plan(bundle, HOST, target, jetpack=jetpack)[0].argv[2]
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)


def test_the_check_says_all_that_the_device_lacks(
    bundle: Bundle, cpu: Target, board: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = stand_ins(tmp_path / "bin", rsync="")
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", env["PATH"])
    good = checked(bundle, cpu, None)
    assert good.returncode == 0, good.stderr
    old = Release(name="JetPack 0.1", tensorrt="1", python="2.7", cuda="1.0")
    bad = checked(bundle, board.model_copy(update={"releases": (old,)}), "0.1")
    assert bad.returncode == 1
    assert bad.stderr == "python3 is not 2.7; python3 has no module tensorrt\n"


def test_a_bundle_that_is_read_again_gives_the_same_plan(bundle: Bundle, cpu: Target) -> None:
    assert plan(read_bundle(bundle.path), HOST, cpu) == plan(bundle, HOST, cpu)


ROOT = Path(__file__).parents[1]
BINDINGS = (
    "pyproject.toml", "docs/jetson.md", "toolkit/flowpose/deploy.py", "toolkit/flowpose/runtime/backend.py",
    "toolkit/flowpose/runtime/cuda.py",
)  # fmt: skip


@pytest.mark.parametrize("file", BINDINGS)
def test_one_floor_of_cuda_bindings_stands_everywhere(file: str) -> None:
    assert set(re.findall(r"cuda-bindings[^\s'\"`]*", (ROOT / file).read_text())) - {"cuda-bindings"} <= {
        "cuda-bindings>=12.8", "cuda-bindings>=12.8,<13", "cuda-bindings>=13,<14"
    }  # fmt: skip


def test_the_page_names_refused_engines_as_loading_does() -> None:
    symptoms = re.findall(
        r"^\| `(the engine [^`]*?)(?: \.\.\.)?` \|", (ROOT / "docs/jetson.md").read_text(), re.M
    )
    code = (ROOT / "toolkit/flowpose/runtime/loading.py").read_text()
    assert len(symptoms) == 2 and all(symptom in code for symptom in symptoms)
