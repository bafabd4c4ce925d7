"""The features of the perceptual loss: a small network that learns joints and identities of the train split.

The autoencoder's encoder keeps what a picture is made of, not what is in it: a distance of its maps did no more than
L1 (docs/ablation.md). This network has to tell people apart and to find their joints, as the judge has; it is another
one, of another shape, on other batches, and the judge stays out of every loss. (LPIPS papers train with VGG's features
and measure with AlexNet's, both of ImageNet; this pair is as near and as far.) It is trained once a recipe, and no
shipped file holds it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from flowpose.artifact import stage_key
from flowpose.data import Pictures, draw_sets
from flowpose.job import SILENT, Job, data_digest
from flowpose.model.autoencoder import Residual, conv
from flowpose.model.joints import FOUND
from flowpose.model.losses import identity_loss
from flowpose.model.pictures import signed
from flowpose.optimize import Draw, Losses, Task, moved, restoring, run
from flowpose.pose import SEEN
from flowpose.ranks import WHOLE, Share, by_main
from flowpose.ranks.batches import PAIRS
from flowpose.spec.recipe import FeaturesSpec
from flowpose.train.augment import mirror_keypoints

WIDTHS = (16, 32, 64, 96, 128)  # channels at strides 1, 2, 4, 8 and 16
NECK, EMBEDDING = 48, 64
HEAT_STRIDE = 4
IDENTITY = 0.3  # weight of the identities beside the joints


class FeatureNetwork(nn.Module):
    """Pictures f32[B, 3, H, W] in -1..1 -> maps at strides 1, 2, 4, 8 and 16; windows of pictures will do."""

    def __init__(self) -> None:
        super().__init__()
        strides = [conv(3, WIDTHS[0])]
        strides += [conv(a, b, stride=2) for a, b in pairwise(WIDTHS)]
        self.strides = nn.ModuleList(strides)
        self.blocks = nn.ModuleList(Residual(width) for width in WIDTHS)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stride, block in zip(self.strides, self.blocks, strict=True):
            x = block(F.relu(stride(x)))
            found.append(x)
        return found


class FeatureTask(nn.Module):
    """What the features are learnt by: joints as heat maps, and who is who as a contrast within the batch."""

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network
        self.laterals = nn.ModuleList(nn.Conv2d(width, NECK, 1) for width in WIDTHS[2:])
        self.heat = nn.Sequential(conv(NECK, NECK), nn.ReLU(), nn.Conv2d(NECK, len(FOUND), 1))
        self.identity = nn.Sequential(
            nn.Linear(sum(WIDTHS[1:]), 128), nn.ReLU(), nn.Linear(128, EMBEDDING)
        )  # fmt: skip

    def forward(self, pictures: Tensor, keypoints: Tensor, share: Share = WHOLE) -> tuple[Tensor, Tensor]:
        """(joints, identities): losses of pictures f32[2 n, 3, H, W], 2 i and 2 i + 1 of one person.

        They are the share of a batch; people are told apart from all of its people.
        """
        maps = self.network(pictures)
        fine = maps[2]
        sides = fine.shape[-2:]
        parts = [
            F.interpolate(lateral(each), size=sides, mode="bilinear", align_corners=False)
            for lateral, each in zip(self.laterals, maps[2:], strict=True)
        ]
        heat = self.heat(F.relu(torch.stack(parts).sum(0))).flatten(2)
        pooled = torch.cat([each.mean((2, 3)) for each in maps[1:]], dim=1)
        who = F.normalize(self.identity(pooled).float(), dim=1)
        return _joint_loss(heat, keypoints, sides, share), identity_loss(share.gathered(who, PAIRS))


def _joint_loss(
    heat: Tensor, keypoints: Tensor, sides: tuple[int, int] | torch.Size, share: Share = WHOLE
) -> Tensor:
    """Cross-entropy of heat f32[B, joints, cells] with Gaussians of one cell at the joints inside the picture.

    The mean over all such joints of the batch, as the mean over its shares.
    """
    rows, columns = ((torch.arange(side, device=heat.device) + 0.5) * HEAT_STRIDE for side in sides)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    joints = keypoints[:, list(FOUND)]
    across, down = (joints[..., axis : axis + 1] - at.flatten() for axis, at in ((0, x), (1, y)))
    target = torch.softmax(-0.5 * (across.square() + down.square()) / HEAT_STRIDE**2, dim=-1)
    height, width = (HEAT_STRIDE * side for side in sides)
    inside = (joints[..., 2] > SEEN) & (joints[..., :2] >= 0).all(-1)
    inside &= (joints[..., 0] < width) & (joints[..., 1] < height)
    each = -(target * torch.log_softmax(heat.float(), dim=-1)).sum(-1)
    return (each * inside).sum() / share.mean(inside.sum()).clamp_min(1 / share.world)


def draw_people(
    pictures: Pictures, rng: np.random.Generator, size: int, crop: int, share: Share = WHOLE
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Windows u8[size, h, w, 3] of `crop` pixels a side (0: whole), two after each other of one person; their joints.

    Each is mirrored, made lighter or darker, and moved on its own, so that a person is not known by any of these. The
    numbers of all `size` are drawn, and those of the share are made.
    """
    sources, targets = draw_sets(pictures, rng, size // 2, 1)
    numbers = np.stack([sources, targets[:, 0]], axis=1).ravel()
    height, width = pictures.images.shape[1:3]
    turned = rng.random(len(numbers)) < 0.5
    rows, columns = min(crop or height, height), min(crop or width, width)
    corners = np.array(
        [(rng.integers(height - rows + 1), rng.integers(width - columns + 1)) for _ in numbers]
    )
    light = rng.uniform(0.85, 1.15, (len(numbers), 1, 1, 1)) * rng.uniform(
        0.97, 1.03, (len(numbers), 1, 1, 3)
    )
    numbers, turned, corners, light = (share.of(each, PAIRS) for each in (numbers, turned, corners, light))
    images, keypoints = pictures.images[numbers], pictures.keypoints[numbers].copy()
    images = np.where(turned[:, None, None, None], images[:, :, ::-1], images)
    keypoints = np.where(turned[:, None, None], mirror_keypoints(keypoints, width), keypoints)
    windows = []
    for image, pose, (top, left) in zip(images, keypoints, corners, strict=True):
        pose[:, :2] -= (left, top)
        windows.append(image[top : top + rows, left : left + columns])
    shown = np.clip(np.stack(windows) * light, 0, 255).astype(np.uint8)
    return shown, keypoints.astype(np.float32)


def loss_features(job: Job, spec: FeaturesSpec, pictures: Pictures) -> FeatureNetwork:
    """The frozen network, trained on the train split's pictures; made once for all stages of a recipe.

    Raises:
        DataError, TrainingError: see flowpose.data and flowpose.optimize.
    """
    recipe = job.recipe
    parts = {"data": recipe.data, "image": recipe.image, "features": spec}
    plain = {name: part.model_dump(mode="json", exclude=SILENT) for name, part in parts.items()}
    key = stage_key(data_digest(recipe, "train", job.data), "features", plain)
    work = job.root / recipe.name / "work" / f"features-{key[:12]}"
    path = work / "features.safetensors"
    # Whether it is there already must not change what is drawn at random afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.optim.seed)
        network = FeatureNetwork()
        if not by_main(path.exists):
            _train(network, spec, pictures, work, key)
            by_main(lambda: _write(network, path))
    with restoring(path, "is no feature network"):
        load_model(network, path)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def _train(network: FeatureNetwork, spec: FeaturesSpec, pictures: Pictures, work: Path, key: str) -> None:
    def losses(module: nn.Module, draw: Draw) -> Losses:
        images, keypoints = draw_people(pictures, draw.rng, spec.optim.batch, spec.crop, draw.share)
        device = next(module.parameters()).device
        joints, people = module(
            signed(moved(torch.from_numpy(images), device)),
            moved(torch.from_numpy(keypoints), device),
            draw.share,
        )
        return {"loss": joints + IDENTITY * people, "joints": joints, "identity": people}

    learner = FeatureTask(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run(
        Task(title="features", module=learner, losses=losses, directory=work, key=key, group=PAIRS),
        spec.optim,
    )


def _write(network: FeatureNetwork, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    save_model(network, str(fresh))
    fresh.replace(path)
