"""`flowpose live`: poses in as they come, frames out as they are made, and numbers at the end that add up."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pytest
from calling import Call, caller
from numpy.typing import NDArray
from tiny_graphs import HEIGHT, WIDTH, make_artifact, pictures, standing
from waiting import until

import flowpose as package
from flowpose import image, live_command, live_outputs
from flowpose.artifact import Artifact
from flowpose.errors import BackendError, FlowposeError, ImageError, MissingDependency, PoseError
from flowpose.estimating.video import Camera
from flowpose.infer_command import InferOptions
from flowpose.live_command import Summary, run_live
from flowpose.live_feeds import Arrival, CameraFeed, LinesFeed, MotionFeed, frame_of_line
from flowpose.live_outputs import FilmOutput, PageOutput, RawOutput, WindowOutput
from flowpose.pose import Pose
from flowpose.pose_files.frames import Asked
from flowpose.pose_motion import Motion
from flowpose.report import write_video
from flowpose.runtime.stream import Stream

SIZE = (HEIGHT, WIDTH)
FRAME = HEIGHT * WIDTH * 3
SOON = 10.0
ROOT = Path(package.__file__).parents[2]
Picture = NDArray[np.uint8]


@pytest.fixture
def flowpose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys, 200)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("graphs") / "export-tiny", ("fp32",))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image.write(tmp_path_factory.mktemp("photo") / "photo.png", pictures()[0])


def person(y: float = 3.0) -> Pose:
    return Pose.of(standing(y)[:17], "coco-17", SIZE)


NOBODY = Pose("coco-17", np.zeros((17, 2), np.float32), np.zeros(17, np.float32), SIZE)


def options(tiny: Artifact, **changes: Any) -> InferOptions:
    return InferOptions(model=str(tiny.path), threads=1, **changes)


def quiet(text: str) -> None:
    """Says nothing."""


class Given:
    """A feed of given arrivals, one after the other with a pause; each when `ready` says so, where it is given."""

    def __init__(
        self,
        poses: Sequence[Pose | PoseError | BackendError | None],
        pause: float = 0.05,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._poses, self._pause, self._closing, self._ready = poses, pause, threading.Event(), ready
        self.count, self.dropped, self.estimating = 0, 0, array("d")

    def __iter__(self) -> Iterator[Arrival]:
        for pose in self._poses:
            if self._closing.wait(self._pause):
                return
            until(self._ready)
            self.count += 1
            if isinstance(pose, BackendError):
                raise pose
            bad = isinstance(pose, PoseError)
            yield Arrival(None if bad else pose, time.perf_counter(), pose if bad else None)  # type: ignore[arg-type]

    def close(self) -> None:
        self._closing.set()


class Kept:
    """An output that keeps what it was shown."""

    clear = True

    def __init__(self, until: int = 10**9, idle: int = 10**9) -> None:
        self.shown: list[tuple[Picture, float]] = []
        self.closed, self.idled, self._until, self._idle = 0, 0, until, idle

    def show(self, picture: Picture, seconds: float) -> bool:
        self.shown.append((picture, seconds))
        return len(self.shown) < self._until

    def idle(self) -> bool:
        self.idled += 1
        return self.idled < self._idle

    def close(self) -> tuple[Path, ...]:
        self.closed += 1
        return ()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """The streams that runs open."""
    opened: list[Stream] = []

    def noted(draw: Any) -> Stream:
        opened.append(Stream(draw))
        return opened[-1]

    monkeypatch.setattr(live_command, "Stream", noted)
    return opened


def all_shown(streams: list[Stream], kept: Kept) -> Callable[[], bool]:
    """Tells whether each pose that came has been refused, or drawn and shown."""

    def found() -> bool:
        counts = streams[-1].counts
        return counts.put == counts.made + counts.failed and len(kept.shown) == counts.made

    return found


def test_every_frame_is_accounted_for(tiny: Artifact, photo: Path, streams: list[Stream]) -> None:
    far = Pose("coco-17", person().xy + 900, person().score, SIZE)
    given = [person(1), None, person(2), PoseError("line 4", "not JSON"), NOBODY, far, person(3)]
    kept = Kept()
    feed = Given(given, 0.01, all_shown(streams, kept))
    found = run_live(photo, feed, [kept], options(tiny), say=quiet)
    assert (found.frames_in, found.nobody, found.refused) == (7, 2, 2)
    assert found.frames_in == found.nobody + found.refused + found.replaced + found.made
    assert found.shown == len(kept.shown) == found.made == 3 and kept.closed == 1
    assert found.problem == "line 4: not JSON"
    assert found.seconds > 0.05 and found.fps == pytest.approx(3 / found.seconds)
    assert found.latency is not None and found.age is not None
    assert 0 < found.latency[0] <= found.latency[1] and found.latency[0] <= found.age[0]


def test_frames_are_those_of_the_newest_poses(
    tiny: Artifact, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty poses in 0.2 s, a model that takes 0.05 s: most are replaced, the last one is shown."""
    real = live_command.draw

    def slow(*given: Any) -> Picture:
        time.sleep(0.05)
        return real(*given)

    monkeypatch.setattr(live_command, "draw", slow)
    kept = Kept()
    found = run_live(
        photo, Given([person(1 + i / 20) for i in range(40)], 0.005), [kept], options(tiny), say=quiet
    )
    assert found.replaced > 10 and found.made + found.replaced == 40
    assert kept.shown[-1][0].astype(int).sum() == min(shown.astype(int).sum() for shown, _ in kept.shown)
    assert found.latency is not None and found.latency[0] >= 50


def test_a_joint_that_vanishes_is_held(tiny: Artifact, photo: Path) -> None:
    given = [person(), NOBODY, NOBODY]
    held = run_live(photo, Given(given), [Kept()], options(tiny, hold=5.0), say=quiet)
    assert held.made + held.replaced == 3 and held.nobody == 0
    assert run_live(photo, Given(given), [Kept()], options(tiny), say=quiet).nobody == 2


def test_parts_that_a_tracker_finds_later_and_a_canvas_that_turns_are_taken(
    tiny: Artifact, photo: Path, streams: list[Stream]
) -> None:
    whole = Pose.of(standing(3), size=SIZE)
    turned = Pose.of(standing(3), size=(HEIGHT + 8, WIDTH))
    given = [person(1), whole, person(2), turned]
    kept = Kept()
    feed = Given(given, 0.01, all_shown(streams, kept))
    found = run_live(photo, feed, [kept], options(tiny, hold=0.25, smooth=True), say=quiet)
    assert (found.refused, found.problem, found.made) == (0, None, 4)


def test_live_poses_are_retargeted_from_the_first_one_on(
    tiny: Artifact, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "own.npy", standing(3))
    drawn: list[NDArray[np.float32]] = []
    real = live_command.draw

    def noted(session: Any, composer: Any, keypoints: NDArray[np.float32]) -> Picture:
        drawn.append(keypoints)
        return real(session, composer, keypoints)

    monkeypatch.setattr(live_command, "draw", noted)
    half = Pose("coco-17", person().xy * 0.5 + (np.float32(60), np.float32(40)), person().score, (100, 100))
    changes = {"retarget": True, "source_pose": str(tmp_path / "own.npy")}
    run_live(photo, Given([half]), [Kept()], options(tiny, **changes), say=quiet)
    assert np.allclose(drawn[0][5:17, :2], standing(3)[5:17, :2], atol=0.3)


def test_an_estimator_that_fails_ends_the_run_with_its_error(
    tiny: Artifact, photo: Path, tmp_path: Path, streams: list[Stream]
) -> None:
    kept = Kept()
    given = [person(1), person(2), BackendError("network", "failed"), person(3)]
    feed = Given(given, ready=all_shown(streams, kept))
    with pytest.raises(BackendError, match="network: failed"):
        run_live(photo, feed, [FilmOutput(tmp_path / "film.mp4", 10), kept], options(tiny), say=quiet)
    assert cv2.VideoCapture(str(tmp_path / "film.mp4")).read()[0], "what was made is kept"


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (BackendError("frame", "failed"), BackendError, "frame: failed"),
        (ValueError("planted"), FlowposeError, "planted"),
    ],
)
def test_a_model_that_fails_ends_the_run_with_its_error(
    tiny: Artifact, photo: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type, text: str
) -> None:
    def fail(*_: object) -> Picture:
        raise fault

    monkeypatch.setattr(live_command, "draw", fail)
    kept = Kept()
    with pytest.raises(kind, match=text):
        run_live(photo, Given([person()] * 5), [kept], options(tiny), say=quiet)
    assert kept.closed == 1


def test_a_viewer_who_goes_ends_the_run(tiny: Artifact, photo: Path) -> None:
    began, kept = time.perf_counter(), Kept(until=2)
    found = run_live(photo, Given([person()] * 1000, 0.05), [kept], options(tiny), say=quiet)
    assert found.shown == 2 and time.perf_counter() - began < SOON


def test_a_viewer_can_go_while_nobody_is_in_view(tiny: Artifact, photo: Path) -> None:
    """A window must be looked after when no frame comes."""
    kept = Kept(idle=3)
    found = run_live(photo, Given([None] * 1000, 0.05), [kept], options(tiny), say=quiet)
    assert found.shown == 0 and kept.idled == 3 and found.nobody < 1000


def test_a_run_ends_after_its_time_and_by_ctrl_c(tiny: Artifact, photo: Path) -> None:
    found = run_live(photo, Given([person()] * 1000, 0.05), [Kept()], options(tiny), seconds=1.0, say=quiet)
    assert 0.2 < found.seconds < SOON

    class Pressed(Kept):
        def show(self, picture: Picture, seconds: float) -> bool:
            raise KeyboardInterrupt

    said: list[str] = []
    kept = Pressed()
    assert run_live(photo, Given([person()] * 1000), [kept], options(tiny), say=said.append).shown == 0
    assert "stopped" in said and kept.closed == 1


def test_no_frame_at_all_is_a_summary_too(tiny: Artifact, photo: Path, tmp_path: Path) -> None:
    found = run_live(photo, Given([]), [FilmOutput(tmp_path / "film.mp4", 10)], options(tiny), say=quiet)
    assert (found.shown, found.fps, found.latency, found.files) == (0, 0.0, None, ())
    assert found.lines()[0].startswith("in 0, dropped 0") and not list(tmp_path.glob("*film*"))


def test_a_motion_plays_at_its_own_pace() -> None:
    feed = MotionFeed(Motion((person(), NOBODY, person()), (0.0, 0.2, 0.5)))
    began = time.perf_counter()
    found = [(each.pose is not None, each.time - began) for each in feed]
    assert [there for there, _ in found] == [True, False, True]
    assert all(at >= due - 0.01 for (_, at), due in zip(found, (0, 0.2, 0.5), strict=True))
    assert found[-1][1] < SOON and feed.count == 3


def test_a_motion_can_be_ended_while_it_waits() -> None:
    feed = MotionFeed(Motion((person(), person()), (0.0, 60.0)))
    threading.Timer(0.1, feed.close).start()
    assert len(list(feed)) == 1


def test_a_camera_goes_through_the_estimator_which_is_timed(
    tmp_path: Path, tiny: Artifact, photo: Path
) -> None:
    class Slow:
        def find(self, picture: Picture) -> tuple[Pose, ...]:
            time.sleep(0.02)
            return (person(), person(5)) if picture.mean() > 100 else ()

    def seen(*levels: int) -> Summary:
        film = write_video(tmp_path / "film.mp4", [level(each, 32) for each in levels], 10)
        return run_live(photo, CameraFeed(Camera(str(film)), Slow(), 1), [Kept()], options(tiny), say=quiet)

    found = seen(200, 20, 200, 200, 20, 200)
    assert found.frames_in == 6 and found.nobody + found.made + found.replaced + found.dropped == 6
    assert found.estimating is not None and found.estimating[0] >= 20
    assert found.age is not None and found.age[0] > 20
    dark = seen(20, 20)
    assert dark.nobody + dark.dropped == 2 and dark.nobody >= 1 and dark.made == 0


OPENPOSE = {
    "people": [{"pose_keypoints_2d": Pose.of(standing(), size=SIZE).to("body-25").array().ravel().tolist()}]
}
MEDIAPIPE = {"landmarks": [{"x": 0.25 + (i % 2) / 4, "y": i / 40, "visibility": 1} for i in range(33)]}
COCO = {"image_id": 7, "keypoints": standing()[:17].ravel().tolist(), "score": 0.9}


@pytest.mark.parametrize(
    ("line", "people"),
    [
        (OPENPOSE, 1),
        (MEDIAPIPE, 1),
        (COCO, 1),
        ({"people": []}, 0),
        (None, 0),
        ({}, 0),
        (MEDIAPIPE["landmarks"], 1),
    ],
)
def test_a_line_of_each_kind_is_a_frame(line: object, people: int) -> None:
    frame = frame_of_line("line 1", json.dumps(line).encode(), Asked(size=SIZE))
    assert len(frame.people) == people
    for pose in frame.people:
        assert pose.size == SIZE
        pose.check()


@pytest.mark.parametrize(
    "line", [b"{", b"[1, 2]", b'{"a": 1}', b"\xff\xfe", b'{"people": [{}]}', b'"text"', b"NaN"]
)
def test_a_line_that_is_no_frame_says_which(line: bytes) -> None:
    with pytest.raises(PoseError) as caught:
        frame_of_line("line 12", line, Asked(size=SIZE))
    assert caught.value.where.startswith("line 12")


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as reading, os.fdopen(writer, "wb", 0) as writing:
        yield reading, writing


def test_lines_come_whole_however_they_are_cut(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    text = b"\n".join(json.dumps(OPENPOSE).encode() for _ in range(3))  # the last one without an end of line

    def write() -> None:
        for start in range(0, len(text), 700):
            writer.write(text[start : start + 700])
        writer.close()

    threading.Thread(target=write).start()
    found = list(LinesFeed(reader.fileno(), Asked(size=SIZE)))
    assert [each.pose is not None for each in found] == [True] * 3


def test_a_bad_line_costs_only_itself(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    good = json.dumps(OPENPOSE).encode()
    writer.write(good + b"\nnonsense\n\n" + good + b"\n")
    writer.close()
    feed = LinesFeed(reader.fileno(), Asked(size=SIZE))
    assert [each.problem is None for each in feed] == [True, False, True] and feed.count == 3


def test_waiting_for_a_line_can_be_ended(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    feed = LinesFeed(pipe[0].fileno(), Asked(size=SIZE))
    threading.Timer(0.2, feed.close).start()
    began = time.perf_counter()
    assert list(feed) == [] and time.perf_counter() - began < SOON


def test_a_line_without_an_end_is_refused(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowpose.live_feeds.LONGEST", 1000)
    pipe[1].write(b"x" * 1001)
    with pytest.raises(PoseError, match="too long"):
        list(LinesFeed(pipe[0].fileno(), Asked(size=SIZE)))


def test_a_film_repeats_frames_so_that_it_plays_in_real_time(tmp_path: Path) -> None:
    film = FilmOutput(tmp_path / "film.mp4", 10)
    for level, seconds in ((20, 0.0), (120, 0.52), (220, 0.58)):  # the second is replaced before its turn
        film.show(np.full((32, 32, 3), level, np.uint8), seconds)
    assert film.close() == (tmp_path / "film.mp4",)
    reader, levels = cv2.VideoCapture(str(tmp_path / "film.mp4")), []
    while (got := reader.read())[0]:
        levels.append(round(float(got[1].mean()), -1))
    assert levels == [20] * 5 + [220]


def test_a_film_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = FilmOutput(tmp_path / "film.mp4", 10)
    film.show(level(20), 0)
    monkeypatch.setattr("flowpose.report.video.cv2.VideoCapture.get", lambda *_: 99, raising=True)
    with pytest.raises(ImageError, match="could not write"):
        film.close()
    assert not list(tmp_path.iterdir())


def test_raw_frames_are_the_pictures_bytes_and_a_reader_who_goes_ends_it(
    pipe: tuple[BinaryIO, BinaryIO],
) -> None:
    reader, writer = pipe
    out = RawOutput(os.fdopen(os.dup(writer.fileno()), "wb"))
    assert out.show(pictures()[1], 0) and reader.read(FRAME) == pictures()[1].tobytes()
    reader.close()
    assert out.show(pictures()[1], 0) is False
    assert out.close() == ()


@pytest.fixture
def page() -> Iterator[PageOutput]:
    made = PageOutput(0)
    yield made
    made.close()


def asked(page: PageOutput, path: str, host: str | None = None) -> http.client.HTTPResponse:
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    return connection.getresponse()


def next_jpeg(answer: http.client.HTTPResponse) -> Picture:
    while (line := answer.readline()) and not line.lower().startswith(b"content-length"):
        pass
    count = int(line.split(b":")[1])
    assert answer.readline() == b"\r\n"
    return image.decode(answer.read(count))


def level(value: int, width: int = 24) -> Picture:
    return np.full((32, width, 3), value, np.uint8)


def test_the_page_shows_the_stream(page: PageOutput) -> None:
    answer = asked(page, "/")
    assert answer.status == 200 and b'src="/stream"' in answer.read()
    page.show(level(50), 0)
    stream = asked(page, "/stream")
    assert stream.status == 200 and "multipart/x-mixed-replace" in str(stream.getheader("Content-Type"))
    assert abs(next_jpeg(stream).mean() - 50) < 3
    page.show(level(150), 0)
    assert abs(next_jpeg(stream).mean() - 150) < 3
    assert asked(page, "/secret").status == 404
    stream.close()


def test_who_looks_late_sees_the_newest_frame(page: PageOutput) -> None:
    for value in range(0, 250, 10):
        page.show(level(value), 0)
    stream = asked(page, "/stream")
    assert abs(next_jpeg(stream).mean() - 240) < 3
    stream.close()


def test_other_names_and_too_many_viewers_are_turned_away(
    page: PageOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_outputs, "VIEWERS", 2)
    page.show(level(50), 0)
    assert asked(page, "/stream", host="evil.example:80").status == 403
    assert asked(page, "/", host="localhost").status == 200
    viewers = [asked(page, "/stream") for _ in range(3)]
    assert [answer.status for answer in viewers] == [200, 200, 503]
    viewers[0].close()
    for _ in range(100):  # it is noticed at the next frames that there is one viewer less
        page.show(level(60), 0)
        if (again := asked(page, "/stream")).status == 200:
            break
        time.sleep(0.02)
    assert again.status == 200
    for answer in (*viewers[1:], again):
        answer.close()


def test_a_page_ends_its_viewers_and_gives_the_port_back() -> None:
    page = PageOutput(0)
    page.show(level(50), 0)
    stream = asked(page, "/stream")
    next_jpeg(stream)
    page.close()
    assert len(stream.read()) < 100, "the end, not silence"
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    again = PageOutput(port)
    with pytest.raises(FlowposeError, match=f"port {port}: cannot be had"):
        PageOutput(port)
    again.close()


def test_an_opencv_without_windows_says_what_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", refuse)
    with pytest.raises(MissingDependency, match="shows no windows") as caught:
        WindowOutput()
    assert "opencv-python" in str(caught.value.fix) and "--mjpeg" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("key", "visible", "goes_on"),
    [(-1, 1.0, True), (ord("q"), 1.0, False), (27, 1.0, False), (-1, 0.0, False)],
)
def test_a_window_is_ended_by_q_escape_or_its_cross(
    monkeypatch: pytest.MonkeyPatch, key: int, visible: float, goes_on: bool
) -> None:
    shown: list[Picture] = []
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible)
    monkeypatch.setattr(cv2, "destroyWindow", lambda _: None)
    window = WindowOutput()
    assert window.show(np.full((4, 4, 3), (255, 0, 0), np.uint8), 0) is goes_on
    assert shown[0][0, 0].tolist() == [0, 0, 255]
    assert window.close() == ()


def test_alpha_is_refused_where_an_output_shows_none(photo: Path, page: PageOutput) -> None:
    with pytest.raises(ImageError, match="shows no alpha"):
        run_live(photo, Given([person()]), [page], InferOptions(background="alpha"), say=quiet)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (("--poses", "-"), "nowhere to show frames"),
        (("--mjpeg", "0"), "wants one source of poses"),
        (("--poses", "-", "--camera", "0", "--mjpeg", "0"), "wants one source of poses"),
        (("--poses", "-", "--out", "-", "--json"), "stdout is taken"),
        (("--poses", "-", "--out", "film.mp4", "--canvas", "640"), "no size"),
        (("--camera", "97", "--out", "film.mp4", "--estimator", "judge"), "no such camera"),
        (("--camera", "0", "--out", "film.mp4"), "no network is given"),
    ],
)
def test_what_is_asked_is_checked_before_a_model_is_loaded(
    flowpose: Call, photo: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], what: str
) -> None:
    monkeypatch.setattr(live_command, "load", None)
    before = signal.getsignal(signal.SIGTERM)
    said = flowpose("live", "--source", photo, *given)
    signal.signal(signal.SIGTERM, before)
    assert said.code == 1 and what in said.err


def start(photo: Path, tiny: Artifact, *given: object) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "flowpose.cli",
        "live",
        "--source",
        photo,
        "--model",
        tiny.path,
        "--threads",
        "1",
    ]
    return subprocess.Popen(
        [str(each) for each in (*command, *given)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "toolkit")},
    )  # fmt: skip


def test_another_program_writes_poses_and_reads_frames(photo: Path, tiny: Artifact) -> None:
    run = start(photo, tiny, "--poses", "-", "--out", "-", "--canvas", f"{WIDTH}x{HEIGHT}", "--no-smooth")
    lines = "\n".join(json.dumps({**OPENPOSE, "n": i}) for i in range(3)) + "\nbad\n"
    out, err = run.communicate(lines.encode(), timeout=60)
    assert run.returncode == 0, err
    assert out and len(out) % FRAME == 0
    assert b"in 4, dropped 0, nobody 0, refused 1" in err and b"first refused: line 4" in err


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_a_whole_film(
    photo: Path, tiny: Artifact, tmp_path: Path, end: signal.Signals
) -> None:
    film = tmp_path / "film.mp4"
    run = start(photo, tiny, "--poses", "-", "--out", film, "--json")
    assert run.stdin is not None and run.stderr is not None
    assert b"live:" in run.stderr.readline()

    def begun() -> bool:  # the first frame is held until there is a second one
        run.stdin.write((json.dumps(OPENPOSE) + "\n").encode())
        run.stdin.flush()
        return any(tmp_path.iterdir())

    until(begun)
    assert not film.exists()
    run.send_signal(end)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert json.loads(out)["files"] == [str(film)] and json.loads(out)["made"] >= 1
    assert cv2.VideoCapture(str(film)).read()[0] and [file.name for file in tmp_path.iterdir()] == [
        "film.mp4"
    ]
