"""The figures of the field's papers, in their own protocol: FID and LPIPS as published for DeepFashion.

The protocol is CFLD's (arXiv 2402.18078, read from its code), in the line of GFLA, NTED, PIDM and PCDMs:

    size     256 x 176 or 512 x 352; other sizes are resized, bicubic with antialiasing, cut to whole levels
    FID      torchvision's Inception v3 with its ImageNet weights (IMAGENET1K_V1), 2048 pooled features;
             pictures in 0..1 made 299 x 299 (bilinear), then torchvision's own input transform; the real set
             is the whole TRAIN split, the last, smaller batch counts
    LPIPS    AlexNet, linear heads 0.1, pictures in -1..1

So this FID is not that of pytorch-fid or clean-fid, whose network has other weights: never mix them. Weights
are files that the user brings; nothing here downloads. The packages are needed in these functions only.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpose.errors import DataError, ImageError, MissingDependency
from flowpose.metrics.pictures import check

Bytes = NDArray[np.uint8]
Size = tuple[int, int]

SIZES: tuple[Size, ...] = ((256, 176), (512, 352))  # height, width
INCEPTION = "inception_v3_google-0cc3c7bd.pth"
ALEXNET = "alexnet-owt-7be5be79.pth"
MODELS = {INCEPTION: "inception_v3", ALEXNET: "alexnet"}
"""File name in PyTorch's model hub -> torchvision's name of the network (weights IMAGENET1K_V1)."""

SLICES = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
"""Convolution of torchvision's AlexNet -> the part of lpips's trunk that holds it."""

FEATURES = 2048
BATCH = 32


def _package(name: str) -> Any:
    """Returns a module by its name: no line of the metrics may import PyTorch, which devices lack."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependency(
            "published metrics", f"{name.split('.')[0]} is missing", fix="pip install 'flowpose[metrics]'"
        ) from error


def _existing(weights: Path, name: str) -> Path:
    if not weights.is_file():
        call = f"import torchvision; torchvision.models.{MODELS[name]}(weights='IMAGENET1K_V1')"
        raise DataError(
            weights,
            "no such file",
            expected=f"{name} of PyTorch's model hub",
            fix=f'where there is a network: python -c "{call}", then copy the file that it reports',
        )
    return weights


def _state(weights: Path, name: str) -> dict[str, Any]:
    """Returns the tensors of a weights file by name."""
    torch = _package("torch")
    try:
        found = torch.load(weights, map_location="cpu", weights_only=True)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        EOFError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(weights, "not a weights file", expected=f"{name} of PyTorch's model hub") from error
    if not isinstance(found, dict):
        raise DataError(weights, "not a weights file", got=type(found).__name__, expected="tensors by name")
    return found


def _fill(network: Any, state: dict[str, Any], weights: Path, name: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(weights, "weights of another network", expected=name) from error


def trunk_state(state: dict[str, Any]) -> dict[str, Any]:
    """Returns AlexNet's convolutions, from torchvision's names (`features.3.weight`) to those of lpips's trunk."""
    return {
        f"slice{part}.{number}.{kind}": state[f"features.{number}.{kind}"]
        for number, part in SLICES.items()
        for kind in ("weight", "bias")
        if f"features.{number}.{kind}" in state
    }


def _batches(pictures: Iterable[Bytes], size: Size) -> Iterator[Any]:
    """Gives u8[b,3,H,W] tensors of the protocol's size; the last may be smaller."""
    torch = _package("torch")
    rest = iter(pictures)
    while batch := list(islice(rest, BATCH)):
        yield torch.stack([_sized(picture, size) for picture in batch])


def _sized(picture: Bytes, size: Size) -> Any:
    """Returns a u8[3,H,W] tensor of the protocol's size."""
    check("published metrics", picture)
    torch = _package("torch")
    planes = torch.from_numpy(picture.transpose(2, 0, 1).copy())
    if picture.shape[:2] == size:
        return planes
    larger = torch.nn.functional.interpolate(planes[None].float(), size, mode="bicubic", antialias=True)
    return larger[0].clamp(0, 255).to(torch.uint8)


def _checked(size: Size) -> Size:
    if size not in SIZES:
        raise ImageError("published metrics", "not a published size", got=size, expected=SIZES)
    return size


def _inception(weights: Path) -> Any:
    """Returns u8[b,3,H,W] -> f32[b,2048]: Inception v3 with what the papers do before it."""
    torch, models = _package("torch"), _package("torchvision.models")
    network = models.inception_v3(weights=None, init_weights=False, transform_input=True)
    _fill(network, _state(weights, INCEPTION), weights, INCEPTION)
    network.fc, network.num_features = torch.nn.Identity(), FEATURES

    def prepared(module: Any, inputs: Any) -> Any:
        wide = torch.nn.functional.interpolate(inputs[0].float() / 255, (299, 299), mode="bilinear")
        return (wide,)

    network.register_forward_pre_hook(prepared)
    return network.requires_grad_(False).eval()


def published_fid(
    generated: Iterable[Bytes], real: Iterable[Bytes], *, weights: Path, size: Size = SIZES[0]
) -> float:
    """Returns the FID of pose-guided synthesis papers (CFLD's protocol) of generated against real pictures.

    Args:
        generated: u8[H,W,3] each; every test pair's.
        real: u8[H,W,3] each; to be comparable, the whole TRAIN split (48,674 pictures of DeepFashion).
        weights: the file inception_v3_google-0cc3c7bd.pth of PyTorch's model hub.
        size: (height, width) at which the paper compared with measures.

    Raises:
        DataError: no weights file, a file that is not it, or fewer than two pictures of either kind.
        MissingDependency: torch, torchvision or torchmetrics is not installed.
        ImageError: a wrong picture, or a size that is not published.
    """
    _existing(weights, INCEPTION), _checked(size)
    fid, torch = _package("torchmetrics.image.fid"), _package("torch")
    metric = fid.FrechetInceptionDistance(feature=_inception(weights))
    for pictures, is_real in ((real, True), (generated, False)):
        count = 0
        with torch.no_grad():
            for batch in _batches(pictures, size):
                metric.update(batch, real=is_real)
                count += len(batch)
        if count < 2:
            where = "real" if is_real else "generated"
            raise DataError(where, "too few pictures", got=count, expected="2 or more")
    return float(metric.compute())


def _lpips(weights: Path) -> Any:
    package = _package("lpips")
    # pnet_rand leaves the trunk empty, where lpips would otherwise download it; its heads are in the package.
    network = package.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    _fill(network.net, trunk_state(_state(weights, ALEXNET)), weights, ALEXNET)
    return network.requires_grad_(False).eval()


def published_lpips(
    generated: Sequence[Bytes], truth: Sequence[Bytes], *, weights: Path, size: Size = SIZES[0]
) -> NDArray[np.float64]:
    """Returns f64[n]: the LPIPS of every generated picture against its truth, as the papers measure it.

    Args:
        generated, truth: as many u8[H,W,3] of one as of the other, in one order.
        weights: the file alexnet-owt-7be5be79.pth of PyTorch's model hub.
        size: (height, width) at which the paper compared with measures.

    Raises:
        DataError: no weights file, a file that is not it, no pictures, or not as many of both.
        MissingDependency: torch, torchvision or lpips is not installed.
        ImageError: a wrong picture, or a size that is not published.
    """
    _existing(weights, ALEXNET), _checked(size)
    if not len(generated) or len(generated) != len(truth):
        got = [len(generated), len(truth)]
        raise DataError("published_lpips", "no pairs of pictures", got=got, expected="as many of both")
    network, torch = _lpips(weights), _package("torch")
    pairs = zip(_batches(generated, size), _batches(truth, size), strict=True)
    with torch.no_grad():
        parts = [network(a / 255, b / 255, normalize=True).flatten().tolist() for a, b in pairs]
    return np.array(list(chain.from_iterable(parts)))
