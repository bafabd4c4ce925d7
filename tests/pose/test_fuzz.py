"""Whatever comes as a pose gives a picture or flowpose's own error; FLOWPOSE_FUZZ=10000 looks further."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("hypothesis", reason="the package hypothesis is not installed")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pose.fuzzing import TARGETS, Desk, outcome
from tiny_graphs import make_artifact

from flowpose import errors
from flowpose.runtime import load

ERRORS = [name for name, found in vars(errors).items() if isinstance(found, type)]
EXAMPLES = int(os.environ.get("FLOWPOSE_FUZZ", "60"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("fuzz")
    artifact = make_artifact(folder / "tiny", ("fp32",))
    return Desk(load(artifact.path, backend="onnxruntime", precision="fp32", threads=1), folder)


@pytest.mark.parametrize("name", TARGETS)
def test_a_picture_or_a_typed_error(name: str, desk: Desk) -> None:
    seen: set[str] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        seen.add(outcome(TARGETS[name], desk, data.draw(TARGETS[name].values)))

    run()
    assert seen <= {"picture", "nobody", *ERRORS}
    assert {"picture", "PoseError"} <= seen, "not everything is refused, and not everything is taken"
