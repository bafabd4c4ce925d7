"""The peers: their shapes are the published ones, workers take turns and may fail, ratios are of one sitting."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flowpose.errors import ArtifactError, BackendError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("rpfm-teacher", "sd-turbo-shape", "cfld-shape", "x-mdpt-s-shape")
STUB = """
import json, os, sys, time
plan = json.loads(sys.argv[1])
if plan["kind"] == "dies":
    sys.exit("RuntimeError: no such kernel")
if plan["kind"] == "hangs":
    time.sleep(60)
print(json.dumps({"first_ms": plan["ms"], "prepare_s": {}, "memory_mb": 1, "size": [8, 8]}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if plan["kind"] == "tires" and asked["call"] == "decode":
        os.kill(os.getpid(), 9)
    with open(plan["log"], "a") as log:
        log.write(f"begin {plan['name']} {asked['call']}\\n")
        time.sleep(0.002)
        log.write(f"end {plan['name']} {asked['call']}\\n")
    print(json.dumps({"ms": [plan["ms"].get(asked["call"], 120.0)] * asked["times"]}), flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def bench() -> SimpleNamespace:
    import peers
    import peers_backends
    import peers_networks
    import peers_report
    import peers_shapes
    import peers_turns
    from page_tables import put

    return SimpleNamespace(
        peers=peers, backends=peers_backends, networks=peers_networks, report=peers_report, shapes=peers_shapes,
        turns=peers_turns, put=put,
    )  # fmt: skip


@pytest.fixture
def stub(tmp_path: Path, bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of workers that only tell durations."""
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setattr(bench.turns, "WORKER", tmp_path / "stub.py")
    return tmp_path / "log"


def job(
    bench: SimpleNamespace, log: Path, name: str, backend: str = "", kind: str = "works", step: float = 100.0
) -> Any:
    """A stub's job: a frame of a peer is three steps and a decode."""
    ms = {"step": step, "decode": 50.0} if backend else {"fp32 here": 10.0, "int8 here": 4.0}
    plan = {"kind": kind, "name": f"{name} {backend}".strip(), "ms": ms, "log": str(log)}
    return bench.turns.Job(name, backend, plan, 1.0, {"step": 3, "decode": 1} if backend else {})


def sat(bench: SimpleNamespace, log: Path, jobs: list[Any], whole_s: float = 0.0, **rules: Any) -> list[Any]:
    own = bench.turns.Rules(rounds=2, whole_s=whole_s, limit_s=rules.get("limit_s", 20.0), threads=1)
    return bench.turns.sit(jobs, log.parent, own, rules.get("checked", set()), lambda line: None)


def eager(network: Any, **changed: NDArray[Any]) -> NDArray[Any]:
    with torch.no_grad():
        inputs = {**network.inputs, **changed}
        return network.make()(*(torch.from_numpy(each) for each in inputs.values())).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_runs_each_network_as_often_as_is_counted(bench: SimpleNamespace, name: str) -> None:
    peer, calls = bench.networks.PEERS[name](bench.shapes.MICRO), {}

    def run(network: str, **changed: NDArray[Any]) -> NDArray[Any]:
        calls[network] = calls.get(network, 0) + 1
        assert changed.keys() <= peer.networks[network].inputs.keys()
        return eager(peer.networks[network], **changed)

    picture = peer.frame(run)
    assert picture.shape == (64, 48, 3) and picture.dtype == np.uint8 and picture.std() > 1
    assert calls == {network: each.calls for network, each in peer.networks.items()}


@pytest.mark.parametrize("name", NAMES)
def test_no_input_of_a_network_is_without_effect(bench: SimpleNamespace, name: str) -> None:
    for label, network in bench.networks.PEERS[name](bench.shapes.MICRO).networks.items():
        plain = eager(network).astype(np.float64)
        for given, value in network.inputs.items():
            other = eager(network, **{given: (value + 1).astype(value.dtype)})
            assert not np.array_equal(plain, other), f"{label} does not look at {given}"


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_the_same_in_every_process_whatever_was_made_before(
    bench: SimpleNamespace, name: str
) -> None:
    every = bench.networks.PEERS[name](bench.shapes.MICRO).networks
    for label in every:  # an export makes one network, other backends all of them
        alone = bench.networks.PEERS[name](bench.shapes.MICRO).networks[label]
        assert np.array_equal(eager(every[label]), eager(alone)), label


@pytest.mark.parametrize(
    ("peer", "network", "millions", "gmac"),
    [
        # Parameters as the models' cards and papers have them; multiply-accumulates as counted once at 256 x 176.
        ("sd-turbo-shape", "step", (865.9, 0.1), 63.8),
        ("sd-turbo-shape", "decode", (1.22, 0.01), 12.1),
        ("cfld-shape", "step", (859.5, 0.1), 126.7),
        ("cfld-shape", "decode", (49.5, 0.1), 213.6),
        ("x-mdpt-s-shape", "call", (33.5, 0.3), 4.04),
        ("rpfm-teacher", "step", (130.0, 1.0), 32.3),
    ],
)
def test_the_full_sizes_are_the_published_ones(
    bench: SimpleNamespace, peer: str, network: str, millions: tuple[float, float], gmac: float
) -> None:
    found = bench.backends.counted(bench.networks.PEERS[peer](bench.shapes.FULL).networks[network])
    expected, within = millions
    assert found["parameters"] / 1e6 == pytest.approx(expected, abs=within)
    assert found["macs"] / 1e9 == pytest.approx(gmac, rel=0.01)


def test_only_one_worker_computes_at_a_time_and_every_second_round_is_turned(
    bench: SimpleNamespace, stub: Path
) -> None:
    sat(
        bench,
        stub,
        [job(bench, stub, "flowpose"), job(bench, stub, "a", "eager"), job(bench, stub, "b", "eager")],
    )
    lines = stub.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["begin", "end"] * (len(lines) // 2)
    begun = [line.removeprefix("begin ") for line in lines if line.startswith("begin")]
    assert begun[:6] == [
        *("flowpose fp32 here", "flowpose int8 here", "a eager step", "a eager decode"),
        *("b eager step", "b eager decode"),
    ]
    assert begun[6:] == begun[:6][::-1]


def test_a_worker_that_fails_costs_the_others_nothing(bench: SimpleNamespace, stub: Path) -> None:
    kinds = ("works", "dies", "hangs", "tires")
    jobs = [job(bench, stub, "flowpose"), *(job(bench, stub, kind, "eager", kind) for kind in kinds)]
    seats = sat(bench, stub, jobs, limit_s=5.0)
    rows = {
        row["peer"]: row for row in bench.report.peer_rows(((1, seat) for seat in seats), {"eager": "fp32"})
    }
    assert rows["works"]["frame_ms"] == 350.0 and rows["works"]["how"] == "composed"
    assert rows["dies"]["not_measured"] == "ended: RuntimeError: no such kernel"
    assert rows["hangs"]["not_measured"] == "took longer than 5 s"
    assert rows["tires"]["not_measured"] == "ended: signal 9"
    assert all(seat.worker is None or seat.worker._process.returncode is not None for seat in seats)


def test_whole_frames_go_before_composed_ones_and_one_is_drawn_of_every_peer(
    bench: SimpleNamespace, stub: Path
) -> None:
    jobs = [
        job(bench, stub, "flowpose"),
        job(bench, stub, "a", "slow", step=200.0),
        job(bench, stub, "a", "fast", step=40.0),
    ]
    checked = sat(bench, stub, jobs, checked={"a"})
    rows = bench.report.peer_rows(((1, seat) for seat in checked), {"slow": "fp32", "fast": "fp32"})
    slow, fast = rows
    assert slow["how"] == "composed" and slow["frame_ms"] == 650.0 and slow["whole_over_composed"] is None
    assert fast["how"] == "measured" and fast["frame_ms"] == 120.0 and fast["n"] == 1
    assert fast["whole_over_composed"] == pytest.approx(120 / 170)
    both = sat(bench, stub, jobs, whole_s=0.7)
    assert [len(seat.ms.get("whole", [])) for seat in both] == [0, 1, 2], "as many as there is time for"
    assert [list(each) for each in both[0].beside] == [["fp32 here", "int8 here"]] * 2, "kept by round"
    assert len(both[0].ms["int8 here"]) == 2 * 25 == 2 * len(both[0].beside[1]["int8 here"])


def test_workers_sit_together_as_far_as_memory_goes(bench: SimpleNamespace) -> None:
    jobs = [bench.turns.Job(str(size), "eager", {}, size) for size in (4.0, 3.0, 9.0, 2.0, 5.0)]
    found = [[each.gb for each in group] for group in bench.turns.sittings(jobs, 7.0)]
    assert found == [[4.0, 3.0], [9.0], [2.0, 5.0]]


def reported(bench: SimpleNamespace) -> dict[str, Any]:
    """Two sittings; in the second everything took twice as long, as on a machine that somebody else used."""
    flow, peers = [], []
    for number, slower in ((1, 1.0), (2, 2.0)):
        seat = bench.turns.Seat(bench.turns.Job("flowpose", "", {}, 1.0))
        seat.ms = {"fp32 openvino": [20.0 * slower] * 3, "int8 openvino": [10.0 * slower] * 3}
        flow.append((number, seat))
    for number, backend, ms in (
        (1, "eager", 3000.0),
        (2, "onnxruntime", 4000.0),
        (2, "openvino-bf16", 3000.0),
    ):
        seat = bench.turns.Seat(bench.turns.Job("cfld-shape", backend, {}, 1.0, {"step": 50}))
        seat.ms, seat.about = {"step": [ms / 50] * 5}, {"prepare_s": {}, "memory_mb": 1.0}
        peers.append((number, seat))
    failed = bench.turns.Seat(
        bench.turns.Job("cfld-shape", "compile", {}, 1.0, {"step": 50}), failed="ended: signal 9"
    )
    seats = [*flow, *peers, (1, failed)]
    rows = bench.report.peer_rows(
        seats, {name: each.precision for name, each in bench.backends.BACKENDS.items()}
    )
    own = bench.report.flowpose_rows(seats)
    return {"rows": rows, "flowpose_rows": own, **bench.report.add_ratios(rows, own)}


def test_ratios_are_to_flowpose_in_the_same_sitting(bench: SimpleNamespace) -> None:
    found = reported(bench)
    assert found["flowpose_best"] == "int8 openvino" and found["flowpose_best_fp32"] == "fp32 openvino"
    assert found["ratios_by_backend"] == {
        "cfld-shape eager": 300.0, "cfld-shape onnxruntime": 200.0, "cfld-shape openvino-bf16": 150.0,
    }  # fmt: skip
    assert found["ratios"] == {"cfld-shape": 150.0}, "the peer's fastest backend counts"
    assert found["ratios_fp32"] == {"cfld-shape": 100.0}, "bf16 is not fp32"


def disturbed(bench: SimpleNamespace) -> list[tuple[int, Any]]:
    """A sitting whose machine was ten times slower in its second round of whole frames."""
    own = bench.turns.Seat(bench.turns.Job("flowpose", "", {}, 1.0), ms={"fp32 here": [10.0] * 4})
    own.beside = [{"fp32 here": [12.0] * 4}, {"fp32 here": [100.0] * 6}]
    seats = [own]
    for name, whole in (("composed", []), ("short", [120.0]), ("long", [120.0, 1000.0])):
        peer = bench.turns.Job(name, "eager", {}, 1.0, {"step": 4})
        about = {"prepare_s": {}, "memory_mb": 1.0}
        seats.append(bench.turns.Seat(peer, about=about, ms={"step": [25.0] * 3, "whole": whole}))
    return [(1, seat) for seat in seats]


def test_a_ratio_is_of_what_ran_in_the_same_turns(bench: SimpleNamespace) -> None:
    seats = disturbed(bench)
    own, rows = bench.report.flowpose_rows(seats), bench.report.peer_rows(seats, {"eager": "fp32"})
    bench.report.add_ratios(rows, own)
    assert [row["ratio"] for row in rows] == [10.0, 10.0, 5.6], "beside networks, one round, both rounds"
    assert [row["flowpose_ms"] for row in rows] == [10.0, 12.0, 100.0]
    assert [row["ratio_fp32"] for row in rows] == [row["ratio"] for row in rows]
    assert own[0]["n"] == 14 and own[0]["beside_whole_ms"] == [[12.0] * 4, [100.0] * 6]


def test_a_whole_frame_that_contradicts_its_networks_says_so(bench: SimpleNamespace) -> None:
    seats = disturbed(bench)
    own, rows = bench.report.flowpose_rows(seats), bench.report.peer_rows(seats, {"eager": "fp32"})
    bench.report.add_ratios(rows, own)
    assert [row["contradicts"] for row in rows] == [False, False, True]
    texts = [bench.report._measured_cells(row)[-1] for row in rows]
    assert texts == [
        "composed, n = 3", "measured, n = 1; 1.20 of composed",
        "measured, n = 2; 5.60 of composed: they contradict each other",
    ]  # fmt: skip
    assert [bench.report.contradicts(each) for each in (0.66, 0.67, 1.5, 1.51)] == [True, False, False, True]


def test_the_page_gets_the_tables_between_its_marks(bench: SimpleNamespace, tmp_path: Path) -> None:
    network = {"macs": 2e9, "parameters": 3e6, "calls": 50}
    found = {
        **reported(bench), "size": [256, 176], "threads": 2, "machine": {"cpu": "an EPYC"},
        "networks": {"cfld-shape": {"step": network}},
        "flowpose": {"model": "m", "trained": False, "macs": {"fp32 openvino": 1e9, "int8 openvino": 1e9}},
    }  # fmt: skip
    page, mark = tmp_path / "peers.md", "<!-- table: benchmarks/peers.py -->"
    page.write_text(f"before\n{mark}\nold\n{mark}\nafter\n")
    bench.put(page, "peers.py", bench.report.table(found))
    text = page.read_text()
    assert text.startswith(f"before\n{mark}\n") and text.endswith(f"{mark}\nafter\n") and "old" not in text
    assert "| cfld-shape | eager | 100 | 3000 | 0.333 | 300 | 150 | composed, n = 5 |" in text
    assert "| cfld-shape | compile | 100 |  |  |  |  | not measured: ended: signal 9 |" in text
    assert (
        "| **flowpose m (random weights)** | int8 openvino | 1.00 | 15.0 | 66.7 | 1 |  | measured, n = 6 |"
        in text
    )
    assert "| cfld-shape | step | 50 | 2.0 | 3.0 | 60.0 | 80.0 | 60.0 |" in text


def test_a_backend_that_computes_something_else_is_not_measured(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    for backend, value in (("eager", 1.0), ("openvino", 1.001), ("onnxruntime", 2.0), ("openvino-bf16", 1.1)):
        np.save(tmp_path / f"a.step.{backend}.npy", np.full(4, value))
    rows = [
        {"peer": "a", "backend": backend, "precision": precision, "networks": {"step": {}}}
        for backend, precision in (("openvino", "fp32"), ("onnxruntime", "fp32"), ("openvino-bf16", "bf16"))
    ]
    bench.report.agreement(rows, tmp_path)
    assert "not_measured" not in rows[0] and rows[0]["differs"]["step"] == pytest.approx(0.001)
    assert rows[1]["not_measured"].startswith("step computes something else than eager")
    assert "not_measured" not in rows[2] and rows[2]["differs"]["step"] == pytest.approx(0.1)


def test_frames_of_another_size_are_not_the_same_work(bench: SimpleNamespace) -> None:
    seat = bench.turns.Seat(
        bench.turns.Job("flowpose", "", {}, 1.0), about={"model": "people-128", "size": [128, 88]}
    )
    with pytest.raises(ArtifactError) as raised:
        bench.peers.check_flowpose(seat, bench.shapes.FULL)
    error = raised.value
    assert (error.where, error.got, error.expected) == ("people-128", "128x88", "256x176, as the peers")
    seat.failed = "ended: signal 9"
    with pytest.raises(BackendError, match="flowpose: ended: signal 9"):
        bench.peers.check_flowpose(seat, bench.shapes.FULL)


def test_flowpose_s_frames_are_the_model_s(bench: SimpleNamespace, tmp_path: Path) -> None:
    import peers_flowpose
    import tiny_graphs

    made = tiny_graphs.make_artifact(tmp_path / "tiny")
    about, actions = peers_flowpose.frames(str(made.path), 1)
    labels = [
        f"{precision} {backend}" for precision in ("fp32", "int8") for backend in peers_flowpose.BACKENDS
    ]
    assert list(actions) == labels and list(about["macs"]) == labels
    assert about["size"] == [24, 16] and about["trained"] and about["key"] == made.manifest.key
    context, poses = tiny_graphs.encode(tiny_graphs.pictures()[0]), [1.0, 2.0, 4.0, 5.5, 1.0]
    for pose in poses:
        expected = tiny_graphs.draw(context, tiny_graphs.standing(pose)).astype(int)
        assert np.abs(actions["fp32 onnxruntime"]() - expected).max() <= 1, "poses take turns"


def test_networks_are_exported_each_by_a_process_until_one_fails(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smoke run exports them all in one."""
    asked, told = SimpleNamespace(threads=1, limit=9.0), []

    def once(label: str, plan: dict[str, Any], folder: Path, threads: int, limit_s: float) -> dict[str, Any]:
        told.append(plan)
        if plan["network"] == "decode":
            raise BackendError(label, "ended: signal 9")
        return {"seconds": 1.26, "memory_mb": 5.0}

    monkeypatch.setattr(bench.peers, "once", once)
    found = bench.peers.exported(asked, tmp_path, {"peer": "a"}, ["step", "decode", "never"])
    assert found == {"step": 1.3, "failed": "export of decode ended: signal 9"}
    assert told[0] == {"peer": "a", "job": "export", "network": "step"} and len(told) == 2


@pytest.mark.slow
def test_the_smoke_run_leaves_rows_and_ratios(tmp_path: Path) -> None:
    stored = tmp_path / "peers.json"
    command = [
        sys.executable, str(BENCHMARKS / "peers.py"), "--smoke", "--rounds", "2", "--peers", "x-mdpt-s-shape",
        "--backends", "eager", "onnxruntime", "--threads", "1", "--json", str(stored),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(stored.read_text())
    rows = found["rows"]
    assert [row["backend"] for row in rows] == ["eager", "onnxruntime"]
    assert all(row["how"] == "measured" and row["n"] == 2 for row in rows), "micro frames are short"
    assert all(row["differs"][name] < 1e-2 for row in rows[1:] for name in ("call", "decode"))
    assert found["ratios"]["x-mdpt-s-shape"] == min(row["ratio"] for row in rows) > 0
    assert found["export_s"]["x-mdpt-s-shape"].keys() == {"call", "decode"}
    assert found["flowpose"]["trained"] is False and found["weights"] == "random"
    assert all(len(row["networks"]["call"]["ms"]) >= 2 for row in rows), "samples are kept"
