"""Trains the f8 autoencoder on pictures or on crops of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowpose import data
from flowpose.artifact import Artifact, creating, find_by_key, open_artifact
from flowpose.data import Pictures
from flowpose.errors import ArtifactError
from flowpose.job import Job, Stage, started_key
from flowpose.metrics import psnr
from flowpose.model.autoencoder import STRIDE, Autoencoder, Decoder, Encoder, shrunk, start_from
from flowpose.model.generator import build_autoencoder
from flowpose.model.losses import charbonnier, gradient
from flowpose.model.pictures import signed, to_pictures, to_tensor
from flowpose.model.pretrained import read_pretrained
from flowpose.model.weights import autoencoder_spec, read_weights, save_weights
from flowpose.optimize import Draw, Losses, Task, moved, own_device, run
from flowpose.ranks import WHOLE, Share, sealed_by_main
from flowpose.spec.recipe import AutoencoderSpec, PretrainedAutoencoderSpec

WEIGHTS = "autoencoder.safetensors"
LATENT_SIZE = 1e-3  # keeps raw latents near unit size
MEASURED = 256  # val pictures
NORMALIZED_ON = 1024  # train pictures


def load_autoencoder(artifact: Artifact) -> Autoencoder:
    """The autoencoder of an artifact, in eval mode."""
    autoencoder = build_autoencoder(autoencoder_spec(artifact))
    read_weights(autoencoder, artifact, WEIGHTS)
    return autoencoder.eval()


def started(job: Job, stage: Stage, name: str) -> Artifact:
    """The artifact of another recipe's stage that this one starts from.

    Raises:
        ArtifactError: it was not made yet.
        SpecError: no such recipe.
    """
    key = started_key(name, stage)
    found = find_by_key(job.root, key)
    if found is None:
        raise ArtifactError(
            job.root,
            f"what {stage} starts from is not there: {name}",
            expected=key[:12],
            fix=f"flowpose distill {name}",
        )
    return open_artifact(found)


def crops(
    pictures: Pictures, rng: np.random.Generator, batch: int, size: int, share: Share = WHOLE
) -> NDArray[np.uint8]:
    """u8[batch, size, size, 3] random crops, half of them mirrored; whole pictures for size 0. Of all, the share."""
    height, width = pictures.images.shape[1:3]
    rows, columns = min(size or height, height), min(size or width, width)
    found = []
    for number in rng.integers(len(pictures), size=batch):
        y, x = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        crop = pictures.images[number, y : y + rows, x : x + columns]
        found.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return np.stack(found[share.rank :: share.world])  # views until here: only the own ones are copied


class _Reconstruct(nn.Module):
    """Pictures -> (reconstruction from slightly noisy raw latents, raw latents)."""

    def __init__(self, autoencoder: Autoencoder, noise: float) -> None:
        super().__init__()
        self.autoencoder, self.noise = autoencoder, noise

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.autoencoder.encoder(x)  # of pictures that are shrunk already
        return self.autoencoder.decoder(raw + self.noise * noise), raw


def train_autoencoder(job: Job) -> Artifact:
    """Makes the autoencoder artifact, trained or taken over: weights, and PSNR of its reconstructions on val.

    Raises:
        DataError, TrainingError: see flowpose.data, flowpose.model.pretrained and flowpose.optimize.
    """
    spec = job.recipe.autoencoder
    train = data.read(job.recipe.data, job.recipe.image, "train", job.data)
    fields = job.fields("autoencoder")
    if isinstance(spec, PretrainedAutoencoderSpec):
        autoencoder, config = read_pretrained(spec)
        fields["stage"]["autoencoder"]["config"] = config
    else:
        autoencoder = _trained(job, spec, train)
    autoencoder.to(own_device())
    if not (isinstance(spec, AutoencoderSpec) and spec.start):
        normalize(autoencoder, train.images)

    def write() -> None:
        with creating(job.path, **fields) as draft:
            measured = _measure(job, autoencoder)
            save_weights(autoencoder.cpu(), draft / WEIGHTS)
            draft.add(measurements=measured)

    return sealed_by_main(job.path, write)


def _trained(job: Job, spec: AutoencoderSpec, train: Pictures) -> Autoencoder:
    """Our own autoencoder, trained to reproduce pictures from slightly noisy latents."""

    def losses(module: nn.Module, draw: Draw) -> Losses:
        pictures = crops(train, draw.rng, spec.optim.batch, spec.crop, draw.share)
        device = next(module.parameters()).device
        x = shrunk(signed(moved(torch.from_numpy(pictures), device)), spec.shrink)
        shape = (len(x), spec.latents, x.shape[2] // STRIDE, x.shape[3] // STRIDE)
        y, raw = module(x, moved(draw.normal(shape), device))
        error, edges, size = charbonnier(y, x), gradient(y, x), raw.square().mean()
        return {"loss": error + spec.gradient * edges + LATENT_SIZE * size, "error": error, "edges": edges}

    torch.manual_seed(spec.optim.seed)
    encoder, decoder = Encoder(spec.widths, spec.latents), Decoder(spec.widths, spec.latents, spec.blocks)
    autoencoder = Autoencoder(encoder, decoder, spec.latents, spec.shrink)
    if spec.start:
        read_weights(autoencoder, started(job, "autoencoder", spec.start), WEIGHTS)
    else:
        start_from(encoder, decoder, shrunk(to_tensor(_spread(train.images, NORMALIZED_ON)), spec.shrink))
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = _Reconstruct(autoencoder, spec.noise)
    run(Task(title="autoencoder", module=module, losses=losses, directory=job.work, key=job.key), spec.optim)
    return autoencoder


def _spread(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """About `count` evenly spaced pictures."""
    return images[:: max(1, len(images) // count)]


@torch.no_grad()
def normalize(autoencoder: Autoencoder, images: NDArray[np.uint8]) -> None:
    """Measure the latents' mean and deviation on evenly spaced pictures."""
    device, chosen = next(autoencoder.parameters()).device, _spread(images, NORMALIZED_ON)
    raw = [autoencoder.raw(to_tensor(chosen[i : i + 32], device)) for i in range(0, len(chosen), 32)]
    autoencoder.normalize_to(torch.cat(raw))


@torch.no_grad()
def _measure(job: Job, autoencoder: Autoencoder) -> list[object]:
    val = data.read(job.recipe.data, job.recipe.image, "val", job.data)
    device, chosen = next(autoencoder.parameters()).device, _spread(val.images, MEASURED)
    values = []
    for i in range(0, len(chosen), 32):
        images = chosen[i : i + 32]
        again = to_pictures(autoencoder.decode(autoencoder.encode(to_tensor(images, device))))
        values += [psnr(a, b) for a, b in zip(again, images, strict=True)]
    return [job.measured("psnr", float(np.mean(values)), n=len(values), split="val", unit="dB")]
