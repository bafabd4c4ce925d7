"""The published protocol: what is refused, and how, without its weights; what it does to pictures before."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose.errors import DataError, ImageError, MissingDependency
from flowpose.metrics import published
from flowpose.metrics.published import ALEXNET, INCEPTION, published_fid, published_lpips, trunk_state

Pictures = list[NDArray[np.uint8]]


def have(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


needs_torch = pytest.mark.skipif(not have("torch"), reason="needs PyTorch")
needs_fid = pytest.mark.skipif(
    not have("torch", "torchvision", "torchmetrics"), reason="needs torchvision and torchmetrics"
)
needs_lpips = pytest.mark.skipif(
    not have("torch", "torchvision", "lpips"), reason="needs torchvision and lpips"
)


def pictures(count: int = 4, seed: int = 0, size: tuple[int, int] = (256, 176)) -> Pictures:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(("metric", "name"), [(published_fid, INCEPTION), (published_lpips, ALEXNET)])
def test_missing_weights_are_named_with_the_command_that_gets_them(
    metric: object, name: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no such file") as caught:
        metric(pictures(), pictures(), weights=tmp_path / name)  # type: ignore[operator]
    text = str(caught.value)
    assert str(tmp_path / name) in text
    assert f"{name} of PyTorch's model hub" in text
    assert "python -c" in text
    assert "http" not in text


@pytest.mark.parametrize("metric", [published_fid, published_lpips])
def test_other_sizes_than_the_papers_are_refused(metric: object, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"")
    with pytest.raises(ImageError, match="not a published size"):
        metric(pictures(), pictures(), weights=weights, size=(128, 88))  # type: ignore[operator]


@pytest.mark.parametrize(("metric", "package"), [(published_fid, "torchmetrics"), (published_lpips, "lpips")])
def test_a_missing_package_is_named(
    metric: object, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def without(name: str) -> object:
        if name.startswith(package):
            raise ModuleNotFoundError(name)
        return importlib.import_module(name)

    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"")
    monkeypatch.setattr(published, "import_module", without)
    with pytest.raises(MissingDependency, match=rf"{package} is missing.*pip install 'flowpose\[metrics\]'"):
        metric(pictures(), pictures(), weights=weights)  # type: ignore[operator]


def test_unequal_numbers_of_pictures_are_errors(tmp_path: Path) -> None:
    weights = tmp_path / ALEXNET
    weights.write_bytes(b"")
    for generated, truth in (([], []), (pictures(2), pictures(3))):
        with pytest.raises(DataError, match="no pairs"):
            published_lpips(generated, truth, weights=weights)


@needs_torch
def test_a_foreign_file_is_not_a_weights_file(tmp_path: Path) -> None:
    import torch

    file = tmp_path / INCEPTION
    file.write_bytes(b"not a pickle")
    with pytest.raises(DataError, match="not a weights file"):
        published._state(file, INCEPTION)
    torch.save([1, 2], file)
    with pytest.raises(DataError, match=r"not a weights file.*got list"):
        published._state(file, INCEPTION)
    torch.save({"weight": torch.zeros(2)}, file)
    assert set(published._state(file, INCEPTION)) == {"weight"}
    with pytest.raises(DataError, match="another network"):
        published._fill(torch.nn.Linear(3, 4), published._state(file, INCEPTION), file, INCEPTION)


@needs_torch
def test_pictures_of_the_size_are_left_alone_and_others_resized() -> None:
    batches = list(published._batches(pictures(33), (256, 176)))
    assert [tuple(batch.shape) for batch in batches] == [(32, 3, 256, 176), (1, 3, 256, 176)]
    assert (batches[1][0].permute(1, 2, 0).numpy() == pictures(33)[32]).all()
    flat = [np.full((512, 352, 3), 77, np.uint8)]
    resized = next(published._batches(flat, (256, 176)))
    assert tuple(resized.shape) == (1, 3, 256, 176)
    assert (resized.float() - 77).abs().max() <= 1  # cut to whole levels, as the protocol does
    with pytest.raises(ImageError, match="wrong dtype"):
        next(published._batches([np.zeros((256, 176, 3), np.float32)], (256, 176)))


def test_alexnets_convolutions_get_the_names_of_the_trunk() -> None:
    state = {f"features.{n}.{kind}": (n, kind) for n in (0, 3, 6, 8, 10) for kind in ("weight", "bias")}
    found = trunk_state({**state, "classifier.1.weight": None})
    assert found["slice1.0.weight"] == (0, "weight")
    assert found["slice5.10.bias"] == (10, "bias")
    assert len(found) == 10


@needs_fid
def test_fid_of_a_set_with_itself_is_nothing(tmp_path: Path) -> None:
    """With drawn weights: the protocol's course, not its figures."""
    import torch
    import torchvision

    torch.manual_seed(0)
    file = tmp_path / INCEPTION
    torch.save(torchvision.models.inception_v3(weights=None, init_weights=False).state_dict(), file)
    own = pictures()
    assert published_fid(own, own, weights=file) == pytest.approx(0, abs=1e-2)
    with pytest.raises(DataError, match="too few pictures"):
        published_fid(own[:1], own, weights=file)


@needs_lpips
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lpips_is_nothing_for_the_same_picture(tmp_path: Path) -> None:
    """With drawn weights in the trunk: the protocol's course, not its figures."""
    import torch
    import torchvision

    torch.manual_seed(0)
    file = tmp_path / ALEXNET
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), file)
    found = published_lpips(pictures(), [*pictures()[:2], *pictures(2, 9)], weights=file)
    assert found.shape == (4,)
    assert (found[:2] == 0).all()
    assert (found[2:] > 0).all()
