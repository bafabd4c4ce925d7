"""A bundle on a device over ssh: the exact commands as data, to be read, pasted or carried out.

`plan` does not connect, and reads only where a signature is asked for: then the whole bundle is checked here first, for
its wheel is installed on the device before anything there could check it. What runs on the device is one shell command
a step, every part of it quoted, so that names with blanks, quotes or dollars stay names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .artifact import sha256
from .bundle import Bundle, check_bundle
from .bundle_record import WHEEL_MISSING, Compiling
from .errors import SpecError, TargetMismatch
from .sealed_files import kind
from .spec.base import nearest
from .spec.target import Release, Target

TITLE = "#!/bin/sh\nset -eu"
BESIDE = {
    "12": ("numpy<2", "cuda-bindings>=12.8,<13"),
    "13": ("cuda-bindings>=13,<14",),
}
"""CUDA's major version -> what is installed beside flowpose: its bindings; JetPack 6's own packages need numpy 1."""
DESKTOP = "tensorrt,nvidia"
"""Extras of the wheel for a GPU whose system brings no TensorRT: it, CUDA's bindings, and the reader of clocks."""
ROOM_MB = 1000  # of the environment: 300 MB of packages (measured for arm64, Python 3.10), pip's copies, and engines
DESKTOP_ROOM_MB = 10_000  # the same with TensorRT from pip, which is gigabytes; a guess, not measured

_HOST = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*@)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_FOLDER = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

# Says all that is wrong at once. Arguments: version of Python ("" for any from 3.10), free MB, modules that it needs.
_CHECK = """\
import importlib.util, shutil, sys
wanted, least, modules = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
here, free = "%d.%d" % sys.version_info[:2], shutil.disk_usage(".").free >> 20
print("python", here, "with", free, "MB free")
bad = [] if sys.version_info >= (3, 10) and wanted in ("", here) else ["python3 is not " + (wanted or "3.10 or later")]
bad += [] if free >= least else ["less than %d MB are free" % least]
bad += [] if shutil.which("rsync") else ["no rsync: sudo apt-get install rsync"]
bad += ["python3 has no module " + name for name in modules if not importlib.util.find_spec(name)]
sys.exit("; ".join(bad) or None)"""


@dataclass(frozen=True)
class Step:
    """A command of a deployment: its name, its arguments (run on the workstation), and what it is for."""

    name: str
    argv: tuple[str, ...]
    why: str

    @property
    def line(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.argv)


@dataclass(frozen=True)
class Places:
    """Where things lie on the device, relative to the home folder unless `folder` is absolute.

    `signer` is the public key whose signature is asked for, None without one. `opened` is named after it, too: what was
    opened unasked, or for another key, is not taken for what this key signed.
    """

    folder: str
    bundle: str
    opened: str
    signer: str | None
    wheel: str
    python: str
    flowpose: str

    def file(self, name: str) -> str:
        """Returns the path of a file in the folder."""
        return f"{self.folder}/{name}"


def plan(
    bundle: Bundle,
    host: str,
    target: Target,
    *,
    folder: str = "flowpose",
    venv: str = "venv",
    jetpack: str | None = None,
    key: Path | None = None,
    results: Path = Path("results"),
) -> tuple[Step, ...]:
    """Returns the commands that bring a bundle to a device, compile it there, and fetch the latency table.

    Every step may be run again: what is there already is kept or made anew.

    Args:
        bundle: as `read_bundle` gives it; it must hold flowpose's wheel. With a key it is read again, and all of it
            checked.
        host: as ssh takes it: `user@name`, or a name of its configuration.
        target: one that the bundle is meant for.
        folder: on the device, relative to the home folder.
        venv: name of the environment in it.
        jetpack: the target's release that the device has, such as `6.2`; needed where the target lists any.
        key: the ed25519 public key of who must have signed the bundle; it is copied too.
        results: folder of this machine for `compile.json` and `latency.json`.

    Raises:
        SpecError: a host, folder or release that cannot be used; lists all.
        TargetMismatch: the bundle is not meant for the target, or holds no wheel.
        ArtifactError, IntegrityError, MissingDependency: with a key, as `check_bundle` says.
    """
    release = _checked(host, folder, venv, target, jetpack)
    if key is not None:
        bundle = check_bundle(bundle.path, key)
    if bundle.record.wheel is None:
        raise TargetMismatch(bundle.path, "holds no wheel of flowpose", fix=WHEEL_MISSING)
    target_file = bundle.target_file(target.name)
    at = _places(bundle, folder, venv, key)
    return (
        *_before(bundle, host, target, release, at),
        *_copied(bundle, host, at, key),
        *_installed(host, target, release, at, venv),
        *_measured(host, f"{at.opened}/{target_file}", bundle.record.compiling, at),
        _fetched(host, at, results),
    )


def script(steps: Sequence[Step]) -> str:
    """Returns the steps as a shell script that stops at the first failure."""
    parts = [f"# {number} {step.name}: {step.why}\n{step.line}" for number, step in enumerate(steps, 1)]
    return "\n\n".join([TITLE, *parts]) + "\n"


def from_step(steps: Sequence[Step], name: str | None) -> tuple[Step, ...]:
    """Returns the steps from a name on, all without one; SpecError where there is no such step."""
    names = [step.name for step in steps]
    if name is None:
        return tuple(steps)
    if name not in names:
        expected = f"expected one of {', '.join(names)}{nearest(name, names)}"
        raise SpecError("--from", [f"no such step, got {name!r}, {expected}"])
    return tuple(steps[names.index(name) :])


def _checked(host: str, folder: str, venv: str, target: Target, jetpack: str | None) -> Release | None:
    """Returns the release that is meant; SpecError with all that is wrong."""
    bad = []
    if not _HOST.fullmatch(host):
        bad.append(
            f"host: not a host that is safe to give to ssh, got {host!r}, expected such as user@jetson.local"
        )
    for what, name in (("folder", folder), ("venv", venv)):
        if not _FOLDER.fullmatch(name) or (what == "venv" and "/" in name):
            bad.append(f"{what}: not a plain name, got {name!r}, expected letters, digits and ._- (no ..)")
    known = {release.name: release for release in target.releases}
    short = {name.split()[-1]: release for name, release in known.items()}
    found = {**known, **short}.get(jetpack or "")
    if known and found is None:
        bad.append(
            f"jetpack: got {jetpack!r}, expected one of {', '.join(short)} (cat /etc/nv_tegra_release tells)"
        )
    if not known and jetpack is not None:
        bad.append(f"jetpack: target {target.name} has no releases, got {jetpack!r}, expected none")
    if bad:
        raise SpecError("deploy", bad)
    return found


def _places(bundle: Bundle, folder: str, venv: str, key: Path | None) -> Places:
    signer = None if key is None else f"signer-{sha256(key)[:12]}"
    packed = {"folder": "bundle", "tar": "bundle.tar", "tar.gz": "bundle.tar.gz"}[kind(bundle.path)]
    inside = f"{folder}/bundle" if packed == "bundle" else folder
    return Places(
        folder=folder,
        bundle=f"{folder}/{packed}",
        opened="-".join((f"{folder}/opened", bundle.record.digest()[:12], *([signer] if signer else []))),
        signer=signer and f"{folder}/{signer}.pub",
        wheel=f"{inside}/{bundle.record.wheel}",
        python=f"{folder}/{venv}/bin/python",
        flowpose=f"{folder}/{venv}/bin/flowpose",
    )


def _step(name: str, argv: Sequence[str], why: str) -> Step:
    return Step(name, tuple(argv), why)


def _remote(host: str, *commands: Sequence[str], into: str | None = None) -> tuple[str, ...]:
    """Returns the ssh call of shell commands, each of which must succeed; `into` takes the output of the last."""
    text = " && ".join(shlex.join(command) for command in commands)
    return ("ssh", host, text if into is None else f"{text} > {shlex.quote(into)}")


def _before(
    bundle: Bundle, host: str, target: Target, release: Release | None, at: Places
) -> tuple[Step, ...]:
    size = sum(file.size for file in bundle.record.files.values())
    room = (DESKTOP_ROOM_MB if _is_desktop(target) else ROOM_MB) + 3 * (size >> 20)
    modules = ["ensurepip", *(["tensorrt"] if release and release.tensorrt else [])]
    python = (release.python or "") if release else ""
    check = ("python3", "-c", _CHECK, python, str(room), *modules)
    wants = f"Python {python or '3.10 or later'}, {room} MB of disk, rsync, {' and '.join(modules)}"
    return (
        _step("check", _remote(host, check), f"the device has {wants}"),
        _step("folder", _remote(host, ("mkdir", "-p", at.folder)), f"all that follows lies in {at.folder}"),
    )


def _copied(bundle: Bundle, host: str, at: Places, key: Path | None) -> tuple[Step, ...]:
    """Copies the bundle and takes the wheel out of it, whose digest is known here."""
    source, name = str(bundle.path.absolute()), str(bundle.record.wheel)
    whole: tuple[str, ...] = ("rsync", "-a", "--partial", source, f"{host}:{at.bundle}")
    unpack: tuple[tuple[str, ...], ...] = (("tar", "-xf", at.bundle, "-C", at.folder, name),)
    if kind(bundle.path) == "folder":
        whole = ("rsync", "-a", "--partial", "--delete", f"{source}/", f"{host}:{at.bundle}/")
        unpack = ()
    digest = f"{bundle.record.files[name].sha256}  {at.wheel}"
    remote = _remote(host, *unpack, ("echo", digest))
    check = (*remote[:-1], f"{remote[-1]} | sha256sum -c -")
    keys = [] if key is None else [
        _step("key", ("rsync", "-a", str(key.absolute()), f"{host}:{at.signer}"),
              "whose signature the device asks for"),
    ]  # fmt: skip
    return (
        _step("copy", whole, "goes on where an interrupted copy stopped"),
        *keys,
        _step("wheel", check, "flowpose's own wheel, checked against the bundle that lies here"),
    )


def _is_desktop(target: Target) -> bool:
    """Whether it has a GPU, and a system that brings nothing for it but the driver."""
    return target.gpu is not None and not target.releases


def _installed(host: str, target: Target, release: Release | None, at: Places, venv: str) -> tuple[Step, ...]:
    major = release.cuda.split(".")[0] if release and release.cuda else ""
    beside = (*BESIDE.get(major, ()), *(("cryptography",) if at.signer else ()))
    wheel = f"{at.wheel}[{DESKTOP}]" if _is_desktop(target) else at.wheel
    pip = (at.python, "-m", "pip", "install")
    open_it: tuple[str, ...] = (at.flowpose, "unbundle", at.bundle, "--into", at.opened)
    if at.signer:
        open_it = (*open_it, "--key", at.signer)
    create = shlex.join(("python3", "-m", "venv", "--system-site-packages", f"{at.folder}/{venv}"))
    opened = shlex.join(open_it)
    return (
        _step("venv", ("ssh", host, f"test -x {shlex.quote(at.python)} || {create}"),
              "an environment that sees the system's packages, for TensorRT is one on a Jetson"),
        _step("install", _remote(host, (*pip, wheel, *beside),
                                 (*pip, "--no-deps", "--force-reinstall", at.wheel)),
              "flowpose and what it needs; once more by force, for the same version may have other files"),
        _step("unbundle", ("ssh", host, f"test -d {shlex.quote(at.opened)} || {opened}"),
              "every file is checked; the folder is there whole or not at all"),
    )  # fmt: skip


def _measured(host: str, target: str, compiling: Compiling, at: Places) -> tuple[Step, ...]:
    options = ["--precision", compiling.precision, "--margin", f"{compiling.margin:g}"]
    options += [] if compiling.threads is None else ["--threads", str(compiling.threads)]
    compiling_it = (
        at.flowpose, "compile", f"{at.opened}/model", "--target", target,
        "--out", at.file("artifacts"), *options, "--json",
    )  # fmt: skip
    code = 'import json, sys; print(json.load(open(sys.argv[1]))["path"])'
    engine = f'"$({shlex.join((at.python, "-c", code, at.file("compile.json")))})"'
    flowpose, latency = shlex.quote(at.flowpose), shlex.quote(at.file("latency.json"))
    bench = f"{flowpose} bench {engine} --target {shlex.quote(target)} --json > {latency}"
    return (
        _step("doctor", _remote(host, (at.flowpose, "doctor")), "what this device is, and what it lacks"),
        _step("compile", _remote(host, compiling_it, into=at.file("compile.json")),
              "every backend and precision is checked and timed; minutes with TensorRT"),
        _step("verify", ("ssh", host, f"{flowpose} verify {engine}"), "recorded inputs give the recorded outputs"),
        _step("bench", ("ssh", host, bench), "the latency table"),
    )  # fmt: skip


def _fetched(host: str, at: Places, results: Path) -> Step:
    """Makes the folder first: rsync makes one level only."""
    into = str(results.absolute())
    measured = (f"{host}:{at.file(name)}" for name in ("compile.json", "latency.json"))
    commands = (("mkdir", "-p", into), ("rsync", "-a", *measured, f"{into}/"))
    text = " && ".join(shlex.join(command) for command in commands)
    return _step("fetch", ("/bin/sh", "-c", text), f"brings what was measured to {results}")
