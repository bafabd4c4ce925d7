"""Faults that the reliability suite found outside of the files that seal and open: each as it was found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from reliability_archives import people_archives
from reliability_commands import Command, to_full
from reliability_pickles import PLANTED, resealed
from tiny_graphs import make_artifact

from flowpose import image
from flowpose.errors import ArtifactError
from flowpose.runtime import load


@pytest.mark.alone
def test_hostile_tars_and_folders_of_people(tmp_path: Path) -> None:
    picture = image.encode(np.full((24, 16, 3), 90, np.uint8))
    tally = people_archives(picture, tmp_path / "people", with_bombs=False)
    assert tally.clean and tally.tried > 100, tally.faults


def test_json_into_a_full_disk_is_an_error(tmp_path: Path) -> None:
    assert to_full(Command("targets --json", ("targets", "--json"), ()), tmp_path) == "typed error"


@pytest.mark.parametrize("kind", PLANTED)
def test_goldens_with_a_pickle_are_refused(tmp_path: Path, kind: str) -> None:
    model = make_artifact(tmp_path / "tiny", ("fp32",))
    assert model.manifest.golden is not None
    copied = tmp_path / "copied"
    shutil.copytree(model.path, copied)
    resealed(copied, model.manifest.golden.inputs, PLANTED[kind](tmp_path / "ran"))
    with pytest.raises(ArtifactError, match="golden files"):
        load(copied, backend="onnxruntime", precision="fp32", threads=1).verify()
    assert not (tmp_path / "ran").exists()
