"""What the benchmarks share: the target and what it runs, one person and a motion, and figures from the raw times.

    pytest benchmarks --target cpu --benchmark-json=out/bench.json

A target that is not this machine skips everything, with the reason. The JSON file holds every time; `flowpose` in it
says what the machine did meanwhile, and what the numbers are worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest

import flowpose
from flowpose import samples
from flowpose.artifact import open_artifact
from flowpose.bench import Evidence, Watch, judge
from flowpose.bench.records import Latency
from flowpose.bench.verdict import SAMPLES
from flowpose.bench_command import elsewhere
from flowpose.compile.candidates import usable_backends
from flowpose.errors import FlowposeError
from flowpose.runtime.backend import BACKENDS, ONNX
from flowpose.runtime.loading import precisions
from flowpose.runtime.machine import machine
from flowpose.spec.find import find
from flowpose.targeting import find_target

WATCH: pytest.StashKey[Watch] = pytest.StashKey()
SETUP: pytest.StashKey[Setup] = pytest.StashKey()


@dataclass(frozen=True)
class Setup:
    """What is measured, decided by the target's file and the model.

    Attributes:
        target: its name.
        model: path of the artifact.
        key: its manifest's; empty where nothing can be measured.
        forms: (backend, precision) of each model.
        threads: CPU threads of a run; None: an engine's own.
        away: why nothing can be measured here; empty where it can.
    """

    target: str
    model: str
    key: str = ""
    forms: tuple[tuple[str, str], ...] = ()
    threads: int | None = None
    away: str = ""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("flowpose")
    group.addoption("--target", default="auto", help="a target's name or file: backends, precisions, threads")
    group.addoption(
        "--model", default="people-128", help="a shipped model, or the directory of a graph or engine"
    )
    group.addoption(
        "--rounds",
        type=int,
        default=1000,
        help="timed runs of a frame; a fifth of it of what is paid less often",
    )
    group.addoption("--starts", type=int, default=5, help="timed processes of what takes seconds")


def pytest_configure(config: pytest.Config) -> None:
    try:
        config.stash[SETUP] = setup_of(config.getoption("--target"), config.getoption("--model"))
    except FlowposeError as error:
        raise pytest.UsageError(str(error)) from error


def setup_of(target_name: str, model: str) -> Setup:
    """What the target's file and the model's manifest let be measured on this machine."""
    target, path = find_target(target_name), find("models", model)
    away = elsewhere(target)
    if away:
        return Setup(target.name, str(path), away=away)
    manifest = open_artifact(path, verify=False).manifest
    if manifest.kind == "engine":
        engine = ((manifest.backend or "", manifest.precision or ""),)
        return Setup(target.name, str(path), manifest.key, engine)
    backends, left_out = usable_backends(target)
    have = [each for each in target.precisions if each in precisions(manifest)]
    forms = [(backend, each) for backend in backends for each in have if BACKENDS[backend].suffix == ONNX]
    reasons = "; ".join(f"{each.label}: {each.reason}" for each in left_out) if not forms else ""
    away = (
        ""
        if forms
        else f"no backend of {target.name} runs graphs without an engine (flowpose compile): {reasons}"
    )
    return Setup(target.name, str(path), manifest.key, tuple(forms), target.threads, away)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    setup = metafunc.config.stash[SETUP]
    forms = setup.forms or (("-", "-"),)
    if "model" in metafunc.fixturenames:
        names = [f"{precision}-{backend}" for backend, precision in forms]
        metafunc.parametrize("model", forms, ids=names, indirect=True, scope="session")
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", list(dict.fromkeys(backend for backend, _ in forms)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    away = config.stash[SETUP].away
    for item in items if away else ():
        item.add_marker(pytest.mark.skip(reason=away))


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.stash[SETUP].away and not session.config.option.collectonly:
        session.config.stash[WATCH] = Watch().__enter__()


def pytest_unconfigure(config: pytest.Config) -> None:
    if WATCH in config.stash:
        config.stash[WATCH].__exit__(None)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """What the machine did, and the verdict, beside the times."""
    observed = config.stash[WATCH].observed()
    runs = output_json["benchmarks"]
    # Of a model, if there are any: what takes microseconds feels every interrupt.
    runs = [b for b in runs if "threads" in b["extra_info"]] or runs
    times = {b["name"]: Latency.of([1000 * s for s in b["stats"]["data"]]) for b in runs}
    judged = {name: latency for name, latency in times.items() if latency.n >= SAMPLES} or times
    setup = config.stash[SETUP]
    output_json["flowpose"] = {
        "target": setup.target, "model": setup.model, "key": setup.key, "machine": asdict(machine()),
        "observed": observed.model_dump(mode="json"),
        "verdict": judge(Evidence(judged, observed)).model_dump(mode="json"),
    }  # fmt: skip


@pytest.fixture(scope="session")
def setup(request: pytest.FixtureRequest) -> Setup:
    return request.config.stash[SETUP]


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    """Of what runs once a frame: p99.9 needs a thousand."""
    return int(request.config.getoption("--rounds"))


@pytest.fixture(scope="session")
def fewer(rounds: int) -> int:
    """Of what runs once a person, or once a file."""
    return max(1, rounds // 5)


@pytest.fixture(scope="session")
def starts(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--starts"))


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest, setup: Setup) -> flowpose.Model:
    backend, precision = request.param
    return flowpose.load(setup.model, backend=backend, precision=precision, threads=setup.threads)


@pytest.fixture(scope="session")
def moving() -> samples.Motion:
    """A person, and 48 poses of a motion; a frame takes as long for any."""
    return samples.motion()


@pytest.fixture
def poses(moving: samples.Motion) -> list[np.ndarray]:
    """Arrays f32[17,3], what most detectors give, in pixels of the person's picture."""
    return [pose.to("coco-17").array() for pose in moving.poses]


@pytest.fixture
def record(benchmark: Any, setup: Setup) -> Callable[..., None]:
    """Puts n, mean, p50 to p99.9 (ms; None where n is too small for one) and the machine into extra_info."""

    def put(model: flowpose.Model | None = None, **about: Any) -> None:
        times = Latency.of([1000 * seconds for seconds in benchmark.stats.stats.data])
        found = machine()
        benchmark.extra_info.update(times.model_dump(exclude={"ms"}), unit="ms", target=setup.target, **about)
        benchmark.extra_info.update(cpu=found.cpu, cores=found.cores, versions=found.versions)
        if model is not None:
            own = {"backend": model.backend, "precision": model.precision, "threads": model.threads}
            benchmark.extra_info.update(own)

    return put
