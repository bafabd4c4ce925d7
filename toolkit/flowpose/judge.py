"""The judge: a small network that finds 17 joints and an identity in a picture.

It is trained apart from every generator and only measures: no loss may use it, or its scores would
mean nothing. Its exported graph, `metrics/judge.onnx`, is made by this module:

    python -m flowpose.judge --data ../shared/data/people --out out/judge

The graph takes pictures u8[n,128,88,3] and gives keypoints f32[n,17,3] (x, y in its pixels, score 0..1), an
identity vector f32[n,64] of length 1, and four feature maps, `features1` at stride 2 to `features4` at 16.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from flowpose.data.folder import read_folder
from flowpose.data.pictures import Pictures
from flowpose.judge_data import figure_pictures, training_batch
from flowpose.metrics.judge import HEIGHT, JOINTS, WIDTH
from flowpose.metrics.pose import pose_accuracy
from flowpose.model.losses import identity_loss

CHANNELS = (24, 48, 96, 160)  # at strides 2, 4, 8, 16
NECK = 64
EMBEDDING = 64
STRIDE = 4  # of the heat maps
SIGMA = 1.0  # of the target's peak, in cells of the heat map


@dataclass(frozen=True)
class Settings:
    """How the judge is trained.

    Attributes:
        identities: identities in a batch; two pictures of each.
        figures: share of the identities that are procedural figures.
    """

    steps: int = 1000
    identities: int = 24
    figures: float = 0.25
    rate: float = 3e-3
    weight_decay: float = 0.02
    seed: int = 0
    threads: int = 1


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Block(nn.Module):
    """Two 3x3 convolutions with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map of the same shape."""
        return functional.relu(x + self.second(self.first(x)))


class JudgeNet(nn.Module):
    """Maps u8[n,128,88,3] to keypoints, identity and features; see the module's text."""

    xs: Tensor
    ys: Tensor

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = CHANNELS
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_conv(3, c1, 2), _conv(c1, c1)),
                nn.Sequential(_conv(c1, c2, 2), Block(c2)),
                nn.Sequential(_conv(c2, c3, 2), Block(c3)),
                nn.Sequential(_conv(c3, c4, 2), Block(c4)),
            ]
        )
        self.laterals = nn.ModuleList([nn.Conv2d(c, NECK, 1) for c in CHANNELS[1:]])
        self.heat = nn.Sequential(_conv(NECK, NECK), nn.Conv2d(NECK, JOINTS, 1))
        self.presence = nn.Linear(c4 + JOINTS, JOINTS)
        self.identity = nn.Sequential(nn.Linear(c2 + c3 + c4, 128), nn.ReLU(), nn.Linear(128, EMBEDDING))
        rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
        self.register_buffer("xs", (torch.arange(columns) + 0.5).repeat(rows) * STRIDE)
        self.register_buffer("ys", (torch.arange(rows) + 0.5).repeat_interleave(columns) * STRIDE)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Returns the four feature maps f32[n,c,h,w] of pictures u8[n,128,88,3]."""
        x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def heads(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns heat logits f32[n,17,704], presence logits f32[n,17], identities f32[n,64] of length 1."""
        top = functional.interpolate(self.laterals[2](maps[3]), scale_factor=2.0)
        top = self.laterals[1](maps[2]) + top[..., : WIDTH // 8]  # 88 is 5.5 times 16
        top = self.laterals[0](maps[1]) + functional.interpolate(top, scale_factor=2.0)
        heat = self.heat(top).flatten(2)
        pooled = [m.mean((2, 3)) for m in maps[1:]]
        presence = self.presence(torch.cat([pooled[2], heat.amax(2) * 0.1], 1))
        return heat, presence, functional.normalize(self.identity(torch.cat(pooled, 1)), dim=1)

    def places(self, heat: Tensor) -> Tensor:
        """Returns joint places f32[n,17,2] in pixels: the mean place under the heat map's softmax."""
        share = heat.softmax(2)
        return torch.stack([(share * self.xs).sum(2), (share * self.ys).sum(2)], 2)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Returns keypoints f32[n,17,3], identity f32[n,64] and the four feature maps."""
        maps = self.features(pictures)
        heat, presence, identity = self.heads(maps)
        keypoints = torch.cat([self.places(heat), presence.sigmoid()[..., None]], 2)
        return (keypoints, identity, *maps)


def joint_loss(net: JudgeNet, heat: Tensor, keypoints: Tensor) -> Tensor:
    """Returns the mean over given joints of heat-map cross-entropy and distance (in tenths of the height)."""
    given = (keypoints[..., 2] > 0).float()
    dx = net.xs - keypoints[..., 0:1]
    dy = net.ys - keypoints[..., 1:2]
    target = (-(dx**2 + dy**2) / (2 * (SIGMA * STRIDE) ** 2)).softmax(2)
    entropy = -(target * heat.log_softmax(2)).sum(2)
    distance = (net.places(heat) - keypoints[..., :2]).abs().sum(2) / HEIGHT
    return ((entropy + 10.0 * distance) * given).sum() / given.sum().clamp_min(1.0)


def train(people: Pictures, figures: Pictures, settings: Settings) -> JudgeNet:
    """Returns a trained judge; the run is set by the settings' seed."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    rng = np.random.default_rng(settings.seed)
    net = JudgeNet().train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 14 % faster on EPYC
    optimizer = torch.optim.AdamW(net.parameters(), settings.rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, settings.steps, pct_start=0.1)
    began = time.monotonic()
    for step in range(settings.steps):
        pictures, keypoints = training_batch(people, figures, settings.identities, settings.figures, rng)
        heat, presence, identity = net.heads(net.features(torch.from_numpy(pictures)))
        truth = torch.from_numpy(keypoints)
        seen = functional.binary_cross_entropy_with_logits(presence, truth[..., 2])
        loss = joint_loss(net, heat, truth) + seen + 0.3 * identity_loss(identity)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            left = (time.monotonic() - began) / (step + 1) * (settings.steps - step - 1)
            line = f"step {step + 1}/{settings.steps} loss {loss.item():.3f} left {left:.0f} s"
            print(line, file=sys.stderr, flush=True)
    return net.eval()


@torch.no_grad()
def measure(net: JudgeNet, data: Pictures) -> dict[str, float]:
    """Returns how well joints and identities are found in new pictures.

    pck: share of joints within 0.1 of the box diagonal. error: mean distance in diagonals.
    presence: share of joints rightly called present or missing.
    retrieval: share of pictures whose likest other picture shows the same person.
    """
    outputs = [net(torch.from_numpy(part)) for part in np.array_split(data.images, math.ceil(len(data) / 64))]
    found = torch.cat([o[0] for o in outputs]).numpy()
    identity = torch.cat([o[1] for o in outputs]).numpy()
    truth = data.keypoints[:, :JOINTS]
    results = [pose_accuracy(a, b) for a, b in zip(found, truth, strict=True)]
    likeness = identity @ identity.T
    alone = ~np.eye(len(likeness), dtype=bool)
    same = (data.identities[:, None] == data.identities[None]) & alone
    likest = np.where(alone, likeness, -2.0).argmax(1)
    return {
        "pck": float(np.mean([r.pck for r in results])),
        "error": float(np.mean([r.error for r in results])),
        "presence": float(np.mean((found[..., 2] > 0.5) == (truth[..., 2] > 0))),
        "retrieval": float(np.mean(data.identities[likest] == data.identities)),
        "likeness_same": float(likeness[same].mean()),
        "likeness_other": float(likeness[alone & ~same].mean()),
        "pictures": float(len(found)),
    }


def export(net: JudgeNet, path: Path) -> None:
    """Writes the judge's ONNX graph: opset 17, any batch, weights stored as float16 and used as float32."""
    names = ["keypoints", "identity", "features1", "features2", "features3", "features4"]
    torch.onnx.export(
        net.eval(),
        (torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.uint8),),
        str(path),
        input_names=["pictures"],
        output_names=names,
        dynamic_axes={name: {0: "n"} for name in ["pictures", *names]},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(path))
    halve(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def halve(graph: onnx.GraphProto, least: int = 1024) -> None:
    """Stores weights of `least` or more numbers as float16, each with a cast that loading folds."""
    casts: list[onnx.NodeProto] = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= least:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def parity(net: JudgeNet, path: Path, pictures: NDArray[np.uint8]) -> float:
    """Returns the largest difference of keypoints (pixels) between the network and its exported graph."""
    from flowpose.metrics.judge import Judge

    with torch.no_grad():
        wanted = net(torch.from_numpy(pictures))[0].numpy()
    judge = Judge(path, verify=False)
    got = np.stack([judge.view(picture).keypoints for picture in pictures])
    return float(np.abs(got - wanted).max())


def finish(net: JudgeNet, val: Pictures, out: Path) -> dict[str, object]:
    """Writes judge.onnx and judge.json to `out` and returns what judge.json holds."""
    export(net, out / "judge.onnx")
    report: dict[str, object] = {
        "people/val": measure(net, val),
        "figures": measure(net, figure_pictures(range(5000, 5060), 4)),
        "parity_px": parity(net, out / "judge.onnx", val.images[:4]),
        "parameters": sum(p.numel() for p in net.parameters()),
        "sha256": hashlib.sha256((out / "judge.onnx").read_bytes()).hexdigest(),
    }
    (out / "judge.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def main() -> None:
    """Trains the judge, measures it, and writes judge.onnx, judge.pt and judge.json to the folder --out."""
    parser = argparse.ArgumentParser(prog="python -m flowpose.judge", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the people set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument(
        "--identities", type=int, default=Settings.identities, help="in a batch; two pictures each"
    )
    parser.add_argument("--weights", type=Path, help="judge.pt of an earlier run: only measure and export it")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    net = JudgeNet().eval()
    if given.weights:
        net.load_state_dict(torch.load(given.weights, weights_only=True))
    else:
        people = read_folder(given.data, "train", HEIGHT, WIDTH)
        settings = Settings(steps=given.steps, identities=given.identities)
        net = train(people, figure_pictures(range(1000), 4), settings)
        torch.save(net.state_dict(), given.out / "judge.pt")
    print(json.dumps(finish(net, read_folder(given.data, "val", HEIGHT, WIDTH), given.out), indent=1))


if __name__ == "__main__":
    main()
