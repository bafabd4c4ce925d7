"""Each fault of a backend seen in the wild is planted in a fake one, and must be found by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_graphs import NumpyBackend, make_artifact

from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, BackendError
from flowpose.runtime.goldens import TOLERANCES, read_goldens
from flowpose.runtime.loading import assemble, precisions
from flowpose.runtime.model import Model

FAULTS = {
    "zeros": "all zeros",
    "nan": "NaN",
    "context zeros": "context is all zeros",
    "context off": "the context differs",
    "swapped": "colours are swapped",
    "brighter": "not the recorded one",
    "shared": "shared buffer",
    "stale": "stale buffer",
    "float": "another kind",
}


def model(tiny: Artifact, fault: str, precision: str = "fp32") -> Model:
    return assemble(tiny, NumpyBackend(fault), "numpy", precision, 1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(tiny: Artifact, fault: str, precision: str) -> None:
    with pytest.raises(BackendError, match=FAULTS[fault]):
        model(tiny, fault, precision).verify()


@pytest.mark.parametrize("fault", ["stale", "shared", "zeros", "swapped"])
def test_two_goldens_are_enough(tiny: Artifact, fault: str) -> None:
    with pytest.raises(BackendError, match=FAULTS[fault]):
        model(tiny, fault).verify(2)


def test_a_sound_backend_passes(tiny: Artifact) -> None:
    found = model(tiny, "").verify()
    assert (found.n, found.precision) == (4, "fp32")
    assert found.mean == 0 and found.max == 0 and found.context == 0


def test_a_context_is_the_fp32_graphs_whatever_the_frame(tiny: Artifact, monkeypatch) -> None:
    assert TOLERANCES["int8"].context == TOLERANCES["fp32"].context
    found = model(tiny, "", "int8")
    right = found.encode_now
    monkeypatch.setattr(found, "encode_now", lambda picture: right(picture) * 1.03)
    with pytest.raises(BackendError, match="the context differs"):
        found.verify()


def test_a_context_kept_in_half_precision_is_read_as_float32(tiny: Artifact, tmp_path: Path) -> None:
    copy = tmp_path / "half"
    shutil.copytree(tiny.path, copy)
    with np.load(tiny.file("golden/outputs.npz")) as made:
        arrays = {name: made[name] for name in made.files}
    arrays["context"] = arrays["context"].astype(np.float16)
    np.savez(copy / "golden/outputs.npz", **arrays)
    half = Artifact(copy, tiny.manifest)
    goldens = read_goldens(half, "int8")
    assert goldens.context.dtype == np.float32
    assert 0 < model(half, "", "int8").verify().context < 1e-3


def test_the_error_names_artifact_backend_and_remedy(tiny: Artifact) -> None:
    with pytest.raises(BackendError) as caught:
        model(tiny, "zeros").verify()
    for part in (str(tiny.path), "numpy", "fp32", "golden 0", "flowpose compile"):
        assert part in str(caught.value)


def test_an_artifact_without_goldens_says_so(tmp_path) -> None:
    bare = make_artifact(tmp_path / "bare", changes={"golden": None})
    with pytest.raises(ArtifactError, match="no golden files"):
        model(bare, "").verify()


def test_goldens_of_the_wrong_precision(tmp_path) -> None:
    only = make_artifact(tmp_path / "only", ("fp32",))
    assert precisions(only.manifest) == ("fp32",)
    found = model(only, "")
    found.precision = "int8"
    with pytest.raises(ArtifactError, match="lack arrays, got int8"):
        found.verify()
