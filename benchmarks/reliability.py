"""How many faults of each kind were tried, what came of them, and whether anything was lost.

    python benchmarks/reliability.py --json benchmarks/results/reliability.json --table docs/reliability.md
    python benchmarks/reliability.py --only kills --kills 20 --work /tmp/reliability

Each part is a fault (reliability_*.py). A run of some parts replaces their rows in the JSON and leaves the others.
With `--work` the undisturbed run is kept there and used again. Small disks need root; without it their cases are
skipped, and the JSON says so. Exits with 1 where something was lost, an error was untyped, or something hung.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
from page_tables import put
from reliability_tally import Tally

from flowpose import image
from flowpose.bundle import seal
from flowpose.pose import Pose
from flowpose.runtime.machine import machine
from flowpose.spec.find import find

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tiny_graphs import HEIGHT, WIDTH, make_artifact, pictures, standing

RESULTS = Path(__file__).with_name("results")
FUZZED = {
    "poses, arrays to motions": "fuzz-poses.json",
    "files": "fuzz-files.json",
    "guided": "fuzz-guided.json",
}
SHIPPED = ("people-128",)
ROOMS = (0.05, 0.45, 0.8)  # shares of what a stage writes that its disk has room for


@dataclass(frozen=True)
class Bench:
    """What the parts work with.

    Attributes:
        scratch: a folder for this part.
        kept: a folder for what several parts share.
        counts: name of an option -> its number.
        say: told a line a case.
    """

    scratch: Path
    kept: Path
    counts: Mapping[str, int]
    say: Callable[[str], None]

    @cached_property
    def tiny(self) -> Path:
        """A graph artifact of two small graphs, with goldens."""
        path = self.kept / "tiny-graph"
        return path if path.exists() else make_artifact(path).path

    @cached_property
    def line(self) -> Any:
        """Starts of the micro recipe."""
        from reliability_line import Line

        return Line(self.kept / "calibration")

    @cached_property
    def reference(self) -> Any:
        """The undisturbed run, made once."""
        from reliability_kills import Reference, measured
        from reliability_line import STAGES

        root, told = self.kept / "undisturbed", self.kept / "undisturbed.json"
        if told.exists():
            costs = json.loads(told.read_text())
            return Reference(root, STAGES, costs["seconds"], costs["events"])
        shutil.rmtree(root, ignore_errors=True)
        self.say("an undisturbed run")
        made = measured(self.line, root, STAGES)
        told.write_text(json.dumps({"seconds": made.seconds, "events": made.events}))
        return made


def kills(bench: Bench) -> Tally:
    from reliability_kills import kills

    return kills(
        bench.reference, bench.line, bench.scratch, bench.counts["kills"], seed=7, whole=1, say=bench.say
    )


def disk_stages(bench: Bench) -> Tally:
    from reliability_disk import stages_on_a_full_disk

    return stages_on_a_full_disk(bench.reference, bench.line, bench.scratch, ROOMS, bench.say)


def _commands(bench: Bench) -> Any:
    from reliability_commands import commands

    bundle, source, motion = (bench.scratch / name for name in ("given.tar", "source.png", "motion.npy"))
    seal(bench.tiny, ["cpu"], bundle)
    image.write(source, pictures()[0])
    np.save(motion, np.stack([standing(2.0 + number % 4) for number in range(24)]))
    return commands(bench.tiny, bundle, source, motion)


def disk_commands(bench: Bench) -> Tally:
    from reliability_commands import on_a_full_disk

    return on_a_full_disk(_commands(bench), bench.scratch / "disks", bench.say)


def places(bench: Bench) -> Tally:
    from reliability_commands import in_places

    return in_places(_commands(bench), bench.scratch / "places", bench.say)


def clock(bench: Bench) -> Tally:
    from reliability_clock import clocks
    from reliability_pretended import STAGES, Pretended

    poses = [
        Pose.of(standing(2.0 + number % 4), "coco-wholebody-133", (HEIGHT, WIDTH)) for number in range(6)
    ]
    start = Pretended(bench.scratch / "calibration")
    return clocks(bench.tiny, pictures()[0], poses, start, STAGES, bench.scratch / "clock")


def artifacts(bench: Bench) -> Tally:
    from reliability_bytes import artifacts

    made = {stage: bench.reference.folder(stage) for stage in bench.reference.stages if stage != "report"}
    shipped = {name: find("models", name) for name in SHIPPED}
    return artifacts({**made, **shipped}, bench.scratch, bench.counts["damages"])


def bundles(bench: Bench) -> Tally:
    from reliability_bytes import bundles

    graph = bench.reference.folder("export")
    tars = {name: seal(graph, ["cpu"], bench.scratch / name).path for name in ("b.tar", "b.tar.gz")}
    return bundles(tars, bench.scratch / "damaged", 8 * bench.counts["damages"])


def work(bench: Bench) -> Tally:
    from reliability_work import damaged

    return damaged(bench.reference, bench.line, bench.scratch / "work", bench.say)


def two_runs(bench: Bench) -> Tally:
    from reliability_two import several_runs

    return several_runs(bench.scratch, bench.counts["pairs"])


def two_bundles(bench: Bench) -> Tally:
    from reliability_two import several_bundles

    return several_bundles(bench.tiny, bench.scratch / "seals", bench.counts["pairs"])


def hostile_bundles(bench: Bench) -> Tally:
    from reliability_archives import bundles

    return bundles(seal(bench.tiny, ["cpu"], bench.scratch / "given.tar").path, bench.scratch / "hostile")


def hostile_people(bench: Bench) -> Tally:
    from reliability_archives import people_archives

    return people_archives(image.encode(np.full((24, 16, 3), 90, np.uint8)), bench.scratch / "people")


def pickles(bench: Bench) -> Tally:
    from reliability_pickles import planted

    return planted(bench.tiny, bench.scratch / "planted")


PARTS: Mapping[str, Callable[[Bench], Tally]] = MappingProxyType(
    {
        "kills": kills, "disk-stages": disk_stages, "disk-commands": disk_commands, "places": places, "clock": clock,
        "artifacts": artifacts, "bundles": bundles, "work": work, "two-runs": two_runs, "two-bundles": two_bundles,
        "hostile-bundles": hostile_bundles, "hostile-people": hostile_people, "pickles": pickles,
    }
)  # fmt: skip
"""Name of a part -> what tries its fault."""


def tried(
    names: Sequence[str], kept: Path, counts: Mapping[str, int], say: Callable[[str], None]
) -> Iterator[tuple[str, Tally]]:
    """Yields each part's tally when it is done; parts that fork come first, before anything has started threads."""
    for name in names:
        began = time.monotonic()
        with TemporaryDirectory(dir=kept) as folder:
            tally = PARTS[name](Bench(Path(folder), kept, counts, say))
        tally.further = {**tally.further, "wall_seconds": round(time.monotonic() - began, 1)}
        say(f"{name}: {json.dumps(tally.plain())}")
        for text in tally.faults:
            say(text)
        yield name, tally


def table(document: Mapping[str, Any], fuzzed: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows of docs/reliability.md, from the JSON alone."""
    lines = [
        "| fault | tried | losses | untyped errors | hangs | what came out | skipped |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in document["parts"].values():
        came = ", ".join(f"{name} {count}" for name, count in each["outcomes"].items())
        numbers = (each[name] for name in ("tried", "losses", "untyped", "hung"))
        lines.append(
            f"| {each['fault']} | {' | '.join(map(str, numbers))} | {came} | {len(each['skipped']) or ''} |"
        )
    for name, found in fuzzed.items():
        for kind, counts, untyped, hung in _fuzz_rows(found):
            came = ", ".join(f"{outcome} {count}" for outcome, count in counts.items())
            total = sum(counts.values()) + untyped + hung
            lines.append(f"| fuzzing, {name}: {kind} | {total} | 0 | {untyped} | {hung} | {came} | |")
    return "\n".join(lines)


def _fuzz_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, int], int, int]]:
    """(kind, outcomes, untyped, hung) of a fuzzer's JSON; that of poses has one sum."""
    if isinstance(found["kinds"], dict):
        yield "all kinds", found["total"], found["others"], 0
        return
    for each in found["kinds"]:
        yield each["fault"], each["outcomes"], each["untyped"], each["hung"]


@contextmanager
def place(given: Path | None) -> Iterator[Path]:
    """The folder that is given, or one for this run, in memory where that is a disk."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="some parts")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damages", type=int, default=3, help="of each kind by place, a file")
    parser.add_argument("--pairs", type=int, default=50, help="of processes at once")
    parser.add_argument("--work", type=Path, help="a folder for the undisturbed run, kept")
    parser.add_argument("--json", type=Path, help="rows of the parts are put into it")
    parser.add_argument("--table", type=Path, help="a page with marks, into which the table is put")
    return parser.parse_args()


def main() -> None:
    given = options()
    document: dict[str, Any] = {"parts": {}}
    if given.json and given.json.exists():
        document = json.loads(given.json.read_text())
    counts = {name: getattr(given, name) for name in ("kills", "damages", "pairs")}
    clean = True
    with place(given.work) as kept:
        chosen = given.only if given.only is not None else list(PARTS)
        for name, tally in tried(chosen, kept, counts, lambda text: print(text, file=sys.stderr, flush=True)):  # noqa: T201
            document["parts"][name], clean = tally.plain(), clean and tally.clean
            document["parts"] = {each: document["parts"][each] for each in PARTS if each in document["parts"]}
            document["device"] = asdict(machine())
            if given.json:
                given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.table:
        fuzzed = {
            name: json.loads((RESULTS / file).read_text())
            for name, file in FUZZED.items()
            if (RESULTS / file).exists()
        }
        put(given.table, "reliability.py", table(document, fuzzed) + "\n")
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
