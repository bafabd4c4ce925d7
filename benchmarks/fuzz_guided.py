"""Coverage-guided fuzzing, by atheris, of what reads files: pictures, YAML, manifests, bundle records, tars.

    pip install atheris && python benchmarks/fuzz_guided.py --runs 20000 --json benchmarks/results/fuzz-guided.json

Each target runs in a process of its own, since libFuzzer ends its process. It starts from the good files that
fuzz_files_drawn.py spoils, and counts what comes out; anything but a result or a FlowposeError ends it and is a fault.
atheris is no dependency of flowpose, and this script no part of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

SLOWEST = 10  # seconds that one input may take
MEMORY = 3000  # MB
LONGEST = 20000  # bytes of an input

Acts = Mapping[str, tuple[Callable[[Any, bytes], str], Callable[[Any], list[bytes]]]]


def acts() -> Acts:
    """Target -> what is done with the bytes, and what to start from; imported with atheris's counters in it."""
    from fuzz_files_drawn import (
        Shelf,
        act_manifest,
        act_picture,
        act_record,
        good_manifest,
        pictures,
        texts,
        written,
    )

    from flowpose.bundle import read_bundle, seal
    from flowpose.sealed_files import entries
    from flowpose.spec.reading import load_recipe, load_target

    def recipe(desk: Shelf, data: bytes) -> str:
        file = desk.folder / "any.yaml"
        file.write_bytes(data)
        (load_recipe if data[:1] != b"#" else load_target)(file)
        return "read"

    def tar(desk: Shelf, data: bytes) -> str:
        file = desk.folder / "any.tar"
        file.write_bytes(data)
        for entry in entries(file):
            while entry.read(4096):
                pass
        read_bundle(file)
        return "read"

    def sealed(desk: Shelf) -> list[bytes]:
        return [seal(desk.artifact, ["cpu"], desk.folder / "good.tar").path.read_bytes()[:LONGEST]]

    return MappingProxyType(
        {
            "pictures": (act_picture, lambda desk: list(pictures().values())),
            "YAML": (
                recipe,
                lambda desk: [text.encode() for kind in ("recipes", "targets") for text in texts(kind)],
            ),
            "manifests": (
                lambda desk, data: act_manifest(desk, (data, True)),
                lambda desk: [written(good_manifest())],
            ),
            "bundle records": (act_record, lambda desk: [(desk.bundle / "bundle.json").read_bytes()]),
            "tars": (tar, sealed),
        }
    )


NAMES = ("pictures", "YAML", "manifests", "bundle records", "tars")


def one(name: str, runs: int, counts_file: Path) -> None:
    """Fuzzes a target in this process, which libFuzzer ends; writes the counts again and again."""
    import atheris

    with atheris.instrument_imports(include=["flowpose", "yaml", "tarfile"]):
        act, seeds = acts()[name]
    from fuzz_files_drawn import shelf

    from flowpose.errors import FlowposeError

    counts: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        desk, corpus = shelf(Path(folder)), Path(folder) / "corpus"
        corpus.mkdir()
        for number, data in enumerate(seeds(desk)):
            (corpus / str(number)).write_bytes(data)

        def test(data: bytes) -> None:
            try:
                found = act(desk, data)
            except FlowposeError as error:
                found = type(error).__name__
            counts[found] += 1
            if counts.total() % 200 == 0 or counts.total() >= runs:
                counts_file.write_text(json.dumps(counts))

        limits = (
            f"-timeout={SLOWEST}",
            f"-rss_limit_mb={MEMORY}",
            f"-max_len={LONGEST}",
            f"-artifact_prefix={counts_file}.",
        )
        atheris.Setup([sys.argv[0], f"-runs={runs}", "-seed=7", *limits, str(corpus)], test)
        atheris.Fuzz()


def guided(name: str, runs: int, seconds: float, folder: Path) -> dict[str, Any]:
    """What came of a target: outcomes, and the fault that ended it."""
    counts, began = folder / f"{name.replace(' ', '-')}.json", time.monotonic()
    line = [sys.executable, __file__, "--one", name, "--runs", str(runs), "--counts", str(counts)]
    env = {**os.environ, "OPENCV_LOG_LEVEL": "OFF"}
    try:
        ended = subprocess.run(
            line, capture_output=True, text=True, errors="replace", env=env, check=False, timeout=seconds
        )
        code, told = ended.returncode, ended.stderr
    except subprocess.TimeoutExpired as stopped:  # its time is over, which is no fault
        code, told = 0, str(stopped.stderr or "")
    outcomes = json.loads(counts.read_text()) if counts.exists() else {}
    late = "timeout after" in told or "out-of-memory" in told
    return {
        "fault": name, "outcomes": outcomes, "untyped": int(code != 0 and not late), "hung": int(late),
        "wall_seconds": round(time.monotonic() - began, 1), "last": told[-3000:] if code else "",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=2000, help="inputs a target")
    parser.add_argument("--seconds", type=float, default=600, help="a target's time")
    parser.add_argument("--only", action="append", choices=NAMES)
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--counts", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.runs, options.counts)
    from flowpose.runtime.machine import machine

    with TemporaryDirectory() as folder:
        found = []
        for name in options.only or NAMES:
            found.append(guided(name, options.runs, options.seconds, Path(folder)))
            sys.stderr.write(f"{json.dumps(found[-1])}\n")
    report = {
        "runs": options.runs,
        "kinds": found,
        "atheris": version("atheris"),
        "device": asdict(machine()),
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if any(each["untyped"] or each["hung"] for each in found) else 0)


if __name__ == "__main__":
    main()
