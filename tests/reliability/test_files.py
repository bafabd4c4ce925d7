"""Damaged files, hostile archives, pickles, clocks, small disks: a sample of what benchmarks/reliability.py tries."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest
import reliability_archives
import reliability_bytes
import reliability_clock
import reliability_pickles
from reliability_commands import Command, in_places, on_a_full_disk
from reliability_disk import filled
from reliability_kills import measured
from reliability_pretended import STAGES, Pretended
from reliability_tally import Lost, Tally
from tiny_graphs import HEIGHT, WIDTH, make_artifact, pictures, standing

from flowpose.artifact import listing, open_artifact
from flowpose.bundle import open_bundle, seal
from flowpose.errors import IntegrityError
from flowpose.pose import Pose

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("model") / "tiny", ("fp32",)).path


@pytest.fixture(scope="module")
def tar(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seal(tiny, ["cpu"], tmp_path_factory.mktemp("bundle") / "b.tar").path


def test_every_damage_to_every_file_of_an_artifact_is_named(tiny: Path, tmp_path: Path) -> None:
    tally = reliability_bytes.artifacts({"tiny": tiny}, tmp_path, 1)
    assert tally.clean, tally.faults
    files = len(listing(tiny))
    assert tally.tried == files * len(reliability_bytes.DAMAGES)
    assert (
        tally.outcomes["what was written"] <= files * 2
    )  # a link to the same bytes, or what is its own mirror


def test_damaged_bundles_leave_nothing(tar: Path, tmp_path: Path) -> None:
    tally = reliability_bytes.bundles({"tar": tar}, tmp_path, 4)
    assert tally.clean, tally.faults
    assert tally.outcomes["what was written"] == 0


def test_a_file_that_is_opened_as_if_whole_is_found_out(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny, tmp_path / "copy")
    whole = {name: (tiny / name).read_bytes() for name in listing(tiny)}
    (tmp_path / "copy" / "source.onnx").write_bytes(b"other")
    monkeypatch.setattr(reliability_bytes, "open_artifact", lambda path: open_artifact(path, verify=False))
    with pytest.raises(Lost, match="opened as if whole"):
        reliability_bytes.opened(tmp_path / "copy", whole, "bytes changed", "source.onnx")


@pytest.mark.parametrize("damage", ["a pipe", "a link to /dev/zero"])
def test_what_would_never_end_is_not_read(tiny: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(tiny, tmp_path / "copy")
    reliability_bytes.DAMAGES[damage](tmp_path / "copy" / "source.onnx", None)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match=r"source\.onnx: is not a plain file"):
        open_artifact(tmp_path / "copy")


@pytest.mark.alone
def test_hostile_bundles_lead_nowhere(tar: Path, tmp_path: Path) -> None:
    good, place, tally = reliability_archives.members(tar), tmp_path / "place", Tally("hostile")
    place.mkdir()
    open_bundle(tar, tmp_path / "whole")
    whole = reliability_archives.digests(tmp_path / "whole")
    for what, raw in islice(reliability_archives.bundle_attacks(good), 0, None, 3):
        (place / "attack.tar").write_bytes(raw)
        tally.take(what, lambda: reliability_archives.unpacked(place / "attack.tar", place, whole), within=10)
    assert tally.clean and tally.tried > 80, tally.faults
    assert set(tally.outcomes) == {"IntegrityError", "SpecError"}


def test_the_package_loads_nothing_that_can_run_code() -> None:
    assert reliability_pickles.unsafe() == []


@pytest.mark.parametrize(
    ("call", "unsafe"),
    [("torch.load(f)", 1), ("torch.load(f, weights_only=True)", 0), ("pickle.loads(b)", 1), ("np.load(f)", 0),
     ("np.load(f, allow_pickle=True)", 1), ("yaml.load(t, Loader=yaml.Loader)", 1)],
)  # fmt: skip
def test_the_scan_finds_what_can_run_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, unsafe: int
) -> None:
    (tmp_path / "__init__.py").write_text(f"found = {call}\n")
    monkeypatch.setattr("flowpose.__file__", str(tmp_path / "__init__.py"))
    assert len(reliability_pickles.unsafe()) == unsafe


def test_planted_pickles_do_not_run(tmp_path: Path) -> None:
    tally = Tally("pickles")
    assert tally.take("planted", reliability_pickles.works) == "runs where it is loaded"
    reliability_pickles.as_poses(tmp_path, tally)
    assert tally.clean and tally.outcomes["PoseError"] == 25, tally.faults


@pytest.mark.parametrize("offset", [-reliability_clock.YEAR, 100 * reliability_clock.YEAR])
def test_locks_and_sweeping_know_no_clock(tmp_path: Path, offset: float) -> None:
    assert reliability_clock.swept(tmp_path / "place", offset) == "as ever"


def test_a_stream_and_a_run_go_on_while_the_clock_jumps(tiny: Path, tmp_path: Path) -> None:
    poses = [Pose.of(standing(2.0 + y), "coco-wholebody-133", (HEIGHT, WIDTH)) for y in range(3)]
    assert reliability_clock.streamed(tiny, pictures()[0], poses, -reliability_clock.YEAR) == "as ever"
    start = Pretended(tmp_path / "calibration")
    start_of = measured(start, tmp_path / "whole", STAGES[:2])
    jumps = (reliability_clock.YEAR, -reliability_clock.YEAR)
    assert (
        reliability_clock.run_in_jumps(start, start_of.root, tmp_path / "run", STAGES[:2], jumps) == "as ever"
    )


def test_nothing_is_decided_by_the_time_of_day() -> None:
    assert reliability_clock.nowhere_else() == "as ever"


def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    start, tally = Pretended(tmp_path / "calibration"), Tally("full disk")
    reference = measured(start, tmp_path / "whole", STAGES[:2])
    tally.take("train", lambda: filled(reference, start, tmp_path / "small", "train", 0.0, spare=0))
    if tally.skipped:
        pytest.skip(tally.skipped[0])
    assert tally.clean and list(tally.outcomes) == ["ArtifactError, then made"], (
        tally.outcomes,
        tally.faults,
    )


def test_bundles_on_full_disks_and_in_places_that_take_nothing(tiny: Path, tmp_path: Path) -> None:
    arguments = ("bundle", str(tiny), "--target", "cpu", "--no-wheel", "-o", "{out}/x/b.tar")
    command = (Command("bundle", arguments, (4, 16)),)
    full = on_a_full_disk(command, tmp_path / "disks", lambda text: None)
    places = in_places(command, tmp_path / "places", lambda text: None)
    assert full.clean and places.clean, full.faults + places.faults
    assert places.outcomes["done"] == 1 and places.outcomes["typed error"] >= 4
    if not full.skipped:
        assert full.outcomes == {"typed error, then done": 2}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "benchmarks" / "reliability.py"
    spec = importlib.util.spec_from_file_location("reliability_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_table_of_the_stored_counts(script: ModuleType) -> None:
    document = json.loads((script.RESULTS / "reliability.json").read_text())
    fuzzed = {
        name: json.loads((script.RESULTS / file).read_text())
        for name, file in script.FUZZED.items()
        if (script.RESULTS / file).exists()
    }
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert script.table(document, fuzzed) in page
    assert not [name for name, each in document["parts"].items() if each["losses"] or each["untyped"]]
