"""The shipped samples: complete, of one size, and the demo runs on them with any model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_graphs import HEIGHT, WIDTH
from tiny_references import make_with_teacher

from flowpose import image, samples
from flowpose.demo import DemoResult, run_demo
from flowpose.errors import DataError, SpecError

LIMIT = 300_000  # bytes of the folder


def test_every_person_is_a_picture_of_one_size() -> None:
    for name in samples.PEOPLE:
        picture = samples.source(name)
        assert picture.shape == (256, 176, 3)
        assert picture.std() > 10
    with pytest.raises(DataError, match="sweater, skirt"):
        samples.source("hat")


def test_pairs_show_one_person_in_another_pose() -> None:
    pairs = samples.pairs()
    assert len(pairs) == 6
    for pair in pairs:
        assert pair.truth.shape == pair.source.shape
        assert pair.pose.size == (256, 176)
        assert pair.pose.check() is pair.pose
        # The same backdrop in the same corner, yet another picture.
        assert np.abs(pair.truth[:20, :20].astype(int) - pair.source[:20, :20]).mean() < 12
        assert (pair.truth != pair.source).any()


def test_joints_lie_on_the_person() -> None:
    """The middle of the shoulders differs from the backdrop at the top corner."""
    for pair in samples.pairs():
        x, y = pair.pose.xy[5:7].mean(axis=0).astype(int)
        there = pair.truth[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(axis=0)
        assert np.abs(there - pair.truth[2:6, 2:6].reshape(-1, 3).mean(axis=0)).max() > 20


def test_the_motion_is_smooth_and_moves() -> None:
    motion = samples.motion()
    assert len(motion.poses) == 48
    assert motion.rate == 15
    xy = np.stack([pose.xy[:17] for pose in motion.poses])
    here = np.stack([pose.score[:17] for pose in motion.poses]) > 0
    steps = np.linalg.norm(np.diff(xy, axis=0), axis=2)[here[1:] & here[:-1]]
    assert steps.max() < 60, "pixels a frame"
    assert steps.mean() > 1, "pixels a frame"


def test_the_folder_is_small_and_says_where_it_is_from() -> None:
    files = [file for file in samples.FOLDER.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) < LIMIT
    readme = " ".join((samples.FOLDER / "README.md").read_text("utf-8").split())
    assert "CC0 1.0" in readme
    assert "The data used in this project was obtained from mocap.cs.cmu.edu." in readme
    assert "The database was created with funding from NSF EIA-0196217." in readme


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, Path, str]:
    root = tmp_path_factory.mktemp("demo")
    tiny = make_with_teacher(root, {"teacher-16": tuple(np.linspace(0, 1, 17))})
    (root / "data" / "real").mkdir(parents=True)
    _photographs(root / "data" / "real")
    lines: list[str] = []
    result = run_demo(
        root / "out",
        model=tiny.path,
        data=[root / "data"],
        threads=1,
        turns=3,
        say=lines.append,
    )
    return result, root / "out", "\n".join(lines)


def _photographs(folder: Path) -> None:
    """Three pictures of the samples under the names and in the form of the real photographs."""
    images, annotations = [], []
    for number, pair in enumerate(samples.pairs()[:3]):
        image.write(folder / f"pose-{number}.png", pair.truth)
        images.append({"id": number, "file_name": f"pose-{number}.png", "height": 256, "width": 176})
        rows = np.concatenate([pair.pose.xy[:17], 2 * (pair.pose.score[:17, None] > 0)], axis=1)
        annotations.append({"image_id": number, "keypoints": rows.reshape(-1).tolist()})
    (folder / "keypoints.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def test_the_demo_writes_what_it_names(demo: tuple[DemoResult, Path, str]) -> None:
    result, out, said = demo
    names = {"contact-sheet.png", "real.png", "motion.mp4", "motion.gif", "latency.json"}
    assert {file.name for file in result.files} == names
    for file in result.files:
        assert file.parent == out
        assert file.stat().st_size > 0
        assert str(file) in said
    sheet = image.read(out / "contact-sheet.png")
    assert sheet.shape[0] > 6 * HEIGHT
    assert sheet.shape[1] > 5 * WIDTH


def test_the_demo_compares_in_one_run_and_invents_nothing(demo: tuple[DemoResult, Path, str]) -> None:
    result, out, said = demo
    int8, fp32, teacher, absent = result.latency
    assert int8.ratio == 1
    assert [row.label.split(", ")[-1] for row in (int8, fp32, teacher)] == ["int8", "fp32", "fp32"]
    assert teacher.p50 is not None
    assert teacher.p95 is not None
    assert teacher.p95 >= teacher.p50 > 0
    assert (absent.p50, absent.p95, absent.ratio) == (None, None, None)
    assert "not measured: tiny's teacher-50 is not shipped" in absent.note
    document = json.loads((out / "latency.json").read_text())
    assert len(document["comparison"]) == 4
    assert {entry["n"] for entry in document["turns"]["stages"]} == {3}
    assert "not measured" in said


def test_the_demo_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no shipped model"):
        run_demo(tmp_path, model="no-such-model", say=lambda text: None)
