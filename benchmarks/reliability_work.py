"""Files that a run keeps while it works, damaged or replaced: the next start names them, or makes the same artifact."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from reliability_bytes import DAMAGES
from reliability_disk import telling
from reliability_kills import Reference, Start, found_whole, prepared, started
from reliability_pickles import PLANTED
from reliability_tally import FAULTS, Lost, Tally

WORK: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "checkpoint.pt": ("regressor", "work/regressor-*/checkpoint.pt"),
        "trajectories.pt": ("distill", "work/distill-*/trajectories-*.pt"),
        "latents.safetensors": ("regressor", "work/latents-*.safetensors"),
        "features.safetensors": ("teacher_finish", "work/features-*/features.safetensors"),
    }
)
"""File -> the stage that reads it when it is made again, and where it lies."""

DAMAGED = ("cut", "empty", "longer", "removed")  # not single bits: these files have no digest


@dataclass(frozen=True)
class Workshop:
    """What is tried: an undisturbed run, how to start one, and what a planted pickle would make."""

    reference: Reference
    start: Start
    mark: Path


def start_with(shop: Workshop, root: Path, kept: tuple[str, str], change: Callable[[Path], None]) -> str:
    """A stage whose work folder is there, one file of it changed: a typed error that names it, or the same artifact.

    Raises:
        Lost: another artifact, or a planted pickle ran.
        AssertionError: an untyped error, or one that does not name the file.
    """
    (stage, pattern), reference = kept, shop.reference
    prepared(reference, stage, root)
    shutil.copytree(reference.root / "tiny" / "work", root / "tiny" / "work")
    (file,) = (root / "tiny").glob(pattern)
    change(file)
    told = root / "told.json"
    ended = started(telling(shop.start, told), root, stage, quiet=True)
    said = json.loads(told.read_text()) if ended.code else {}
    if shop.mark.exists():
        raise Lost("the planted pickle ran")
    if "untyped" in said:
        raise AssertionError(said["untyped"])
    if said:
        assert file.name in said["where"] and said["fix"], (
            f"neither the file nor what mends it is named: {said}"
        )
        return str(said["error"])
    found_whole(reference, root, None)
    return "the same artifact"


def damaged(
    reference: Reference, start: Start, scratch: Path, say: Callable[[str], None], seed: int = 0
) -> Tally:
    """Every file of WORK, damaged and with pickles planted."""
    tally, shop = (
        Tally("damaged or planted file of a run at work"),
        Workshop(reference, start, scratch / "ran"),
    )
    scratch.mkdir(parents=True)
    for name, kept in WORK.items():
        for what, change in _changes(random.Random(seed), shop.mark).items():
            root = scratch / "work"
            came = tally.take(f"{name}, {what}", lambda: start_with(shop, root, kept, change))  # noqa: B023
            shutil.rmtree(root, ignore_errors=True)
            say(f"{name}, {what}: {came} {tally.faults[-1] if came in FAULTS else ''}")
    return tally


def _changes(rng: random.Random, mark: Path) -> dict[str, Callable[[Path], None]]:
    def damaging(name: str) -> Callable[[Path], None]:
        return lambda file: DAMAGES[name](file, rng)

    def planting(make: Callable[[Path], bytes]) -> Callable[[Path], None]:
        return lambda file: (file.write_bytes(make(mark)), None)[1]

    found = {name: damaging(name) for name in DAMAGED}
    return found | {f"a {name} with code": planting(make) for name, make in PLANTED.items()}
