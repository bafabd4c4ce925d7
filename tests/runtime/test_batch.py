"""Several sessions in one call: the single frames' bytes, each bad pose its own error, contexts sent once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tiny_graphs import NumpyBackend, NumpyGraph, encode, pictures, standing

from flowpose.artifact import Artifact
from flowpose.errors import BackendError, FlowposeError, PoseError
from flowpose.pose import Pose
from flowpose.runtime import BACKENDS, Model, load
from flowpose.runtime.backend import ParallelGraph, run_many
from flowpose.runtime.device_copies import DeviceCopies
from flowpose.runtime.lanes import Lanes, in_lanes
from flowpose.runtime.loading import assemble
from flowpose.runtime.onnxruntime import CPU, BoundGraph

COUNTS = (0, 1, 2, 3, 4, 7)


def fake(tiny: Artifact, threads: int = 1) -> Model:
    return assemble(tiny, NumpyBackend(), "numpy", "fp32", threads)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def model(request: pytest.FixtureRequest, tiny: Artifact) -> Model:
    return load(tiny.path, backend=request.param, precision="int8", threads=2)


@pytest.mark.parametrize("count", COUNTS)
def test_a_batch_gives_the_bytes_of_single_frames(model: Model, count: int) -> None:
    sessions = [model.session(pictures()[i % 3]) for i in range(count)]
    poses = [standing(1 + i * 0.5) for i in range(count)]
    made = model.infer_batch(sessions, poses)
    expected = [session.infer(pose) for session, pose in zip(sessions, poses, strict=True)]
    assert len(made) == count
    assert all(np.array_equal(a, b) for a, b in zip(made, expected, strict=True))


def test_pictures_of_a_batch_are_arrays_of_their_own(model: Model) -> None:
    sessions = [model.session(picture) for picture in pictures()]
    first = model.infer_batch(sessions, [standing(1)] * 4)
    before = [np.array(each) for each in first]
    model.infer_batch(sessions, [standing(5)] * 4)
    assert all(np.array_equal(a, b) for a, b in zip(first, before, strict=True))


def test_batches_of_several_threads_do_not_mix(model: Model) -> None:
    sessions = [model.session(picture) for picture in pictures()]
    expected = {
        y: [session.infer(standing(y)) for session in sessions] for y in (1.0, 2.0, 3.0, 4.0)
    }  # fmt: skip
    wrong: list[float] = []

    def work(y: float) -> None:
        for _ in range(15):
            made = model.infer_batch(sessions, [standing(y)] * 4)
            wrong.extend(y for a, b in zip(made, expected[y], strict=True) if not np.array_equal(a, b))

    threads = [threading.Thread(target=work, args=(y,)) for y in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_a_bad_pose_gets_its_error_and_the_others_their_pictures(model: Model) -> None:
    sessions = [model.session(picture) for picture in pictures()]
    poses = [standing(1), np.zeros((133, 3), np.float32), standing(2), np.full((133, 3), np.nan, np.float32)]
    made = model.infer_batch(sessions, poses)
    for i in (0, 2):
        assert np.array_equal(made[i], sessions[i].infer(poses[i]))
    assert isinstance(made[1], PoseError) and made[1].what == "all joints are missing"
    assert isinstance(made[3], PoseError) and made[3].what == "not a finite number"


def test_poses_go_by_their_own_sessions_canvas_and_format(tiny: Artifact) -> None:
    model = fake(tiny)
    small, large = model.session(pictures()[0]), model.session(np.full((48, 32, 3), 200, np.uint8))
    rows = standing()[:17]
    doubled = rows * np.float32([2, 2, 1])
    made = model.infer_batch([small, large], [rows, doubled], format="coco-17")
    assert np.array_equal(made[0], small.infer(rows)) and np.array_equal(made[1], large.infer(doubled))
    assert np.array_equal(large.infer(doubled), large.infer(Pose.of(rows, "coco-17", size=(24, 16))))
    posed = Pose.of(doubled, "coco-17", size=(48, 32))
    assert np.array_equal(model.infer_batch([small], [posed])[0], made[0])


def test_a_batch_of_another_length_or_another_model_is_refused(tiny: Artifact) -> None:
    model, other = fake(tiny), fake(tiny)
    session = model.session(pictures()[0])
    with pytest.raises(FlowposeError) as raised:
        model.infer_batch([session, session], [standing()])
    assert (raised.value.where, raised.value.got, raised.value.expected) == ("poses", 1, 2)
    with pytest.raises(BackendError) as refused:
        model.infer_batch([session, other.session(pictures()[0])], [standing(), standing()])
    assert refused.value.where == "sessions[1]" and refused.value.what == "a session of another model"


def test_a_backend_that_fails_in_a_lane_is_raised(model: Model, monkeypatch) -> None:
    frame = model._frame
    assert isinstance(frame, ParallelGraph)
    good = {"context": encode(pictures()[0]), "keypoints": standing()}
    bad = {"context": encode(pictures()[0]), "keypoints": standing()[:5]}
    with pytest.raises(BackendError):
        frame.run_many([good, bad])
    again = frame.run_many([good, good])
    assert np.array_equal(again[0]["frame"], frame.run(good)["frame"])


class Parallel(NumpyGraph):
    """Draws several frames at once, `off` levels brighter, and counts what is drawn singly."""

    def __init__(self, off: int) -> None:
        super().__init__("frame.fp32", "")
        self.off, self.batches = off, 0

    def run_many(self, inputs: list[dict]) -> list[dict]:
        self.batches += 1
        singly = self.runs
        made = [self.run(each)["frame"].astype(np.int16) + self.off for each in inputs]
        self.runs = singly
        return [{"frame": np.clip(each, 0, 255).astype(np.uint8)} for each in made]


@pytest.mark.parametrize(
    ("count", "threads"), [(2, 2), (3, 4)]
)  # whole rounds, and a rest that goes into lanes
def test_frames_of_a_first_batch_are_compared_with_single_ones(
    tiny: Artifact, count: int, threads: int
) -> None:
    model = fake(tiny, threads)
    sessions = [model.session(picture) for picture in pictures()[:count]]
    poses = [standing(1 + i) for i in range(count)]
    for off in (0, 3):
        model._many_checked, model._frame = False, Parallel(off)
        if off:
            with pytest.raises(
                BackendError, match="frame 0 of a batch: is another one than drawn alone, got median 3"
            ):
                model.infer_batch(sessions, poses)
            assert not model._many_checked
            continue
        for _ in range(3):
            assert len(model.infer_batch(sessions, poses)) == count
        assert model._frame.batches == 3 and model._frame.runs == count


def test_the_table_says_which_backends_draw_in_parallel(tiny: Artifact) -> None:
    assert {name for name, entry in BACKENDS.items() if entry.many == "in parallel"} == {
        "onnxruntime",
        "openvino",
    }


@pytest.mark.parametrize(
    ("count", "lanes", "expected"),
    [(0, 2, 0), (1, 2, 0), (2, 2, 2), (3, 2, 2), (5, 2, 4), (7, 1, 0), (2, 4, 0), (3, 4, 3), (6, 4, 4), (7, 4, 7)],
)  # fmt: skip
def test_whole_rounds_go_into_lanes_and_a_small_rest_does_not(count: int, lanes: int, expected: int) -> None:
    assert in_lanes(count, lanes) == expected


def test_lanes_run_at_once_and_a_lane_one_at_a_time() -> None:
    meet, busy = threading.Barrier(3, timeout=10), [threading.Lock() for _ in range(3)]

    def lane(number: int, inputs: dict) -> dict:
        assert busy[number].acquire(blocking=False)
        meet.wait()  # breaks unless three runs are at work at once
        busy[number].release()
        return inputs

    lanes = Lanes([lambda inputs, n=n: lane(n, inputs) for n in range(3)])
    given = [{"x": np.array(i)} for i in range(6)]
    assert [int(each["x"]) for each in lanes(given)] == list(range(6))


class Sent(NumpyGraph):
    """Counts how often the context is another one than in the run before."""

    def __init__(self) -> None:
        super().__init__("frame.fp32", "")
        self.context, self.changes = None, 0

    def run(self, inputs: dict) -> dict:
        self.changes += inputs["context"] is not self.context
        self.context = inputs["context"]
        return super().run(inputs)


def test_in_turn_the_frames_of_one_person_follow_each_other() -> None:
    graph, contexts = Sent(), [encode(picture) for picture in pictures()[:2]]
    for context in contexts:
        context.flags.writeable = False
    given = [{"context": contexts[i % 2], "keypoints": standing(1 + i)} for i in range(6)]
    made = run_many(graph, given)
    assert graph.changes == 2
    for each, inputs in zip(made, given, strict=True):
        assert np.array_equal(each["frame"], graph.run(inputs)["frame"])


def bound(tiny: Artifact) -> BoundGraph:
    return BoundGraph(tiny.file("frame.fp32.onnx"), 1, ((CPU, {}),), "cpu")


def test_a_device_is_sent_each_person_of_many_once(tiny: Artifact) -> None:
    frame, contexts = bound(tiny), [encode(picture) for picture in pictures()]
    expected = [
        frame.run({"context": context, "keypoints": standing(2)})["frame"] for context in contexts
    ]  # fmt: skip
    for context in contexts:
        context.flags.writeable = False
    before = frame.sent
    for _ in range(3):
        for context, right in zip(contexts, expected, strict=True):
            made = frame.run({"context": context, "keypoints": standing(2)})["frame"]
            assert np.array_equal(made, right)
    assert frame.sent - before == 4 + 3 * 4  # the contexts once, keypoints each time


def read_only(value: float) -> np.ndarray:
    array = np.full(256, value, np.float32)
    array.flags.writeable = False
    return array


def test_copies_go_by_the_array_and_in_a_bounded_memory() -> None:
    sent: list[float] = []

    def send(array: np.ndarray) -> str:
        sent.append(float(array[0]))
        return f"{len(sent)}"

    copies = DeviceCopies[str](limit=2 * 1024)
    a, b, c = read_only(1), read_only(2), read_only(3)
    assert [copies.of(each, send) for each in (a, b, a, b)] == ["1", "2", "1", "2"]
    copies.of(c, send)  # takes the place of a
    assert copies.of(b, send) == "2" and copies.of(c, send) == "3" and copies.of(a, send) == "4"
    assert copies.of(read_only(4), send) == "5"
    own = np.ones(256, np.float32)
    assert [copies.of(own, send) for _ in range(2)] == ["6", "7"]


def test_a_copy_of_an_array_that_was_changed_is_not_used_again() -> None:
    copies, array = DeviceCopies[float](), read_only(1)

    def value(given: np.ndarray) -> float:
        return float(given[0])

    assert copies.of(array, value) == 1
    array.flags.writeable = True
    array[:] = 2
    assert copies.of(array, value) == 2
    array.flags.writeable = False
    assert copies.of(array, value) == 2
    copies.clear()
    assert not copies._copies


def test_copies_of_arrays_that_are_no_more_are_dropped_and_never_taken_for_others() -> None:
    copies = DeviceCopies[float](limit=10**6)

    def value(given: np.ndarray) -> float:
        return float(given[0])

    arrays = [read_only(i) for i in range(20)]
    assert [copies.of(array, value) for array in arrays] == list(range(20))
    assert len(copies._copies) == 20
    arrays.clear()
    for i in range(50):  # memory, and so ids, are used again
        array = read_only(100 + i)
        assert copies.of(array, value) == 100 + i
        del array
    assert len(copies._copies) == 1
