"""What every backend promises, over all of BACKENDS: those that this machine lacks skip with the reason.

`tensorrt` runs twice: as it is where its libraries are, and on stand-ins for them that compute on the CPU.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import installed
from tiny_graphs import CONTEXT, HEIGHT, JOINTS, WIDTH, draw, encode, pictures, standing

from flowpose.artifact import Artifact
from flowpose.compile.building import Options, build
from flowpose.errors import BackendError, MissingDependency
from flowpose.runtime.backend import (
    BACKENDS,
    Backend,
    Graph,
    ParallelGraph,
    open_backend,
    run_many,
)
from flowpose.runtime.executed import Executed
from flowpose.runtime.loading import assemble, onnx_graph
from flowpose.runtime.onnxruntime import CPU, BoundGraph, OnnxRuntime

FAKE, BOUND = "tensorrt on stand-ins", "onnxruntime, inputs bound as on a GPU"
CASES = (*sorted(BACKENDS), FAKE, BOUND)


class Bound(OnnxRuntime):
    """What the CUDA and TensorRT providers of onnxruntime run, on the CPU."""

    def open(self, path: Path, threads: int) -> BoundGraph:
        return BoundGraph(path, threads, ((CPU, {}),), "cpu")


@dataclass(frozen=True)
class Case:
    """A backend with both graphs of the tiny artifact as it opens them."""

    name: str
    backend: Backend
    files: dict[str, Path]

    def open(self, part: str) -> Graph:
        return self.backend.open(self.files[part], 1)


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, tiny: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    name = {FAKE: "tensorrt", BOUND: "onnxruntime"}.get(request.param, request.param)
    folder = tmp_path_factory.mktemp("built")
    with installed() if request.param == FAKE else nullcontext():
        try:
            backend = Bound() if request.param == BOUND else open_backend(name)
        except MissingDependency as error:
            pytest.skip(str(error))
        if name == "torch-compile":
            built: dict[str, Path] | None = dict(request.getfixturevalue("packages"))
        else:
            options = Options(threads=1, cache=folder / "cache", logs=folder / "logs")
            built = build(tiny, name, "fp32", folder, options, lambda text: None)
        plain = {part: tiny.file(onnx_graph(tiny, part, "fp32", name).file) for part in ("source", "frame")}
        yield Case(name, backend, built or plain)


@pytest.fixture(scope="module")
def source(case: Case) -> Graph:
    return case.open("source")


@pytest.fixture(scope="module")
def frame(case: Case) -> Graph:
    return case.open("frame")


def inputs(shift: float = 2.0, person: int = 0) -> dict[str, np.ndarray]:
    return {"context": encode(pictures()[person]), "keypoints": standing(shift)}


def test_it_says_what_it_is(case: Case) -> None:
    assert case.backend.version
    found = case.backend.identity()
    assert all(isinstance(part, str) and part for pair in found.items() for part in pair)
    assert bool(found) == BACKENDS[case.name].gpu


def test_both_graphs_compute(case: Case, source: Graph, frame: Graph) -> None:
    picture = pictures()[1]
    context = source.run({"source": picture})["context"]
    assert context.dtype == np.float32 and context.shape == CONTEXT
    np.testing.assert_allclose(context, encode(picture), atol=1e-3)
    made = frame.run({"context": context, "keypoints": standing(2.5)})["frame"]
    assert made.dtype == np.uint8 and made.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(made.astype(int) - draw(encode(picture), standing(2.5)).astype(int)).max() <= 1


def test_outputs_are_arrays_of_their_own(frame: Graph) -> None:
    first = frame.run(inputs(1))["frame"]
    before = first.copy()
    second = frame.run(inputs(6))["frame"]
    assert np.array_equal(first, before) and not np.array_equal(first, second)
    second[:] = 0
    assert np.array_equal(frame.run(inputs(1))["frame"], before)


def test_what_is_kept_on_a_device_is_never_stale(frame: Graph) -> None:
    """Read-only arrays that are given again may stay there; others, and changed ones, must arrive."""
    kept = {person: encode(pictures()[person]) for person in (0, 1)}
    for array in kept.values():
        array.flags.writeable = False
    made = [
        frame.run({"context": kept[person], "keypoints": standing(2)})["frame"] for person in (0, 0, 1, 0)
    ]
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[3])
    assert not np.array_equal(made[0], made[2])
    changing = encode(pictures()[0])
    first = frame.run({"context": changing, "keypoints": standing(2)})["frame"]
    changing[:] = kept[1]
    changing.flags.writeable = False
    second = frame.run({"context": changing, "keypoints": standing(2)})["frame"]
    assert np.array_equal(first, made[0]) and np.array_equal(second, made[2])


WRONG = {
    "a shape": {"keypoints": np.zeros((JOINTS, 2), np.float32)},
    "a dtype": {"keypoints": np.zeros((JOINTS, 3), np.float64)},
    "a name": {"joints": np.zeros((JOINTS, 3), np.float32)},
}


def test_a_person_is_sent_once(case: Case) -> None:
    """On backends that count what they send: the context of a stream is sent with its first frame alone."""
    frame = case.open("frame")
    if not hasattr(frame, "sent"):
        pytest.skip("it sends nothing, or does not count")
    context = encode(pictures()[0])
    context.flags.writeable = False
    for shift in (1.0, 2.0, 3.0):
        frame.run({"context": context, "keypoints": standing(shift)})
    assert frame.sent == 1 + 3


@pytest.mark.parametrize("what", WRONG)
def test_wrong_inputs_are_refused_and_the_next_run_is_right(frame: Graph, what: str) -> None:
    expected = frame.run(inputs())["frame"]
    with pytest.raises(BackendError):
        frame.run({"context": inputs()["context"], **WRONG[what]})
    assert np.array_equal(frame.run(inputs())["frame"], expected)


def test_a_missing_input_is_refused(frame: Graph) -> None:
    with pytest.raises(BackendError):
        frame.run({"context": inputs()["context"]})


def test_threads_do_not_mix_their_frames(frame: Graph) -> None:
    shifts = (1.0, 3.0, 5.0)
    expected = {shift: frame.run(inputs(shift))["frame"] for shift in shifts}
    wrong: list[float] = []

    def work(shift: float) -> None:
        given = inputs(shift)
        wrong.extend(
            shift for _ in range(20) if not np.array_equal(frame.run(given)["frame"], expected[shift])
        )

    threads = [threading.Thread(target=work, args=(shift,)) for shift in shifts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2])
def test_several_frames_at_once_are_the_bytes_of_single_ones(case: Case, threads: int) -> None:
    if threads == 2 and BACKENDS[case.name].many != "in parallel":
        pytest.skip("it draws in turn, whatever the number of threads")
    frame = case.backend.open(case.files["frame"], threads)
    given = [inputs(shift, person) for shift in (1.0, 4.0) for person in range(3)]
    single = [frame.run(each)["frame"] for each in given]
    for count in (6, 1, 0, 5, 2):
        made = run_many(frame, given[:count])
        assert len(made) == count
        assert all(np.array_equal(a["frame"], b) for a, b in zip(made, single, strict=False))
    assert np.array_equal(frame.run(given[0])["frame"], single[0])


def test_the_table_says_whether_it_draws_several_frames_at_once(case: Case, frame: Graph) -> None:
    wanted = "in turn" if isinstance(case.backend, Bound) else BACKENDS[case.name].many
    assert isinstance(frame, ParallelGraph) == (wanted == "in parallel")


@pytest.mark.parametrize("content", [b"", b"no graph at all"])
def test_a_file_that_is_no_graph_is_refused(case: Case, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / f"bad{BACKENDS[case.name].suffix}"
    bad.write_bytes(content)
    with pytest.raises(BackendError, match=r"bad\."):
        case.backend.open(bad, 1)


def test_a_truncated_file_is_refused(case: Case, tmp_path: Path) -> None:
    whole = case.files["frame"]
    short = tmp_path / whole.name
    short.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BackendError, match=whole.stem):
        case.backend.open(short, 1)


def test_it_tells_what_it_runs_or_says_that_it_does_not(frame: Graph) -> None:
    found = frame.executed(inputs())
    assert found is None or (isinstance(found, Executed) and min(vars(found).values()) >= 0)


def test_the_goldens_pass(case: Case, tiny: Artifact) -> None:
    built = case.files if BACKENDS[case.name].suffix != ".onnx" else None
    replay = assemble(tiny, case.backend, case.name, "fp32", 1, built).verify()
    assert replay.n == 4 and replay.max <= 1


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_missing_library_is_named_with_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, BACKENDS[name].library, None)
    for module in [each for each in sys.modules if each.startswith(BACKENDS[name].module)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(MissingDependency) as raised:
        open_backend(name)
    assert raised.value.fix and "pip install" in raised.value.fix
    assert BACKENDS[name].library.split("_")[-1] in str(raised.value)
