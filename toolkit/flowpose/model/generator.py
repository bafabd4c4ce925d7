"""A whole generator: autoencoder, velocity network, fixed noise z*, time grid and solver.

Teacher and student are the same class; the student's grid is (0, 1). Nothing here trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from flowpose.flow import solve
from flowpose.model.autoencoder import STRIDE, Autoencoder, Decoder, Encoder
from flowpose.model.detail import Detail, packed, sharpened, unpacked
from flowpose.model.edge import EdgeNetwork
from flowpose.model.pretrained import build_pretrained
from flowpose.model.pruning import keep_blocks, with_narrow_decoder
from flowpose.model.skeleton import SkeletonLatent
from flowpose.model.transformer import SIZES, RPFMTransformer
from flowpose.spec.recipe import (
    AutoencoderSpec,
    BootstrapDistillation,
    Distillation,
    EdgeStudent,
    FlowMapDistillation,
    ImageSpec,
    PretrainedAutoencoderSpec,
    PrunedStudent,
    TransformerSpec,
)

NOISE_SEED = 20250503


def build_autoencoder(spec: AutoencoderSpec | PretrainedAutoencoderSpec) -> Autoencoder:
    """A new autoencoder of the spec; its weights are loaded or trained afterwards."""
    if isinstance(spec, PretrainedAutoencoderSpec):
        return build_pretrained(spec)
    encoder, decoder = Encoder(spec.widths, spec.latents), Decoder(spec.widths, spec.latents, spec.blocks)
    return Autoencoder(encoder, decoder, spec.latents, spec.shrink).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_flow(spec: TransformerSpec, image: ImageSpec, autoencoder: Autoencoder) -> RPFMTransformer:
    """A new velocity network for pictures of that size and the latents of that autoencoder."""
    skeleton = None
    if spec.pose == "skeleton-latent":
        skeleton = SkeletonLatent(image.height, image.width, spec.patch, autoencoder)
    return RPFMTransformer(
        SIZES[spec.size],
        height=image.height,
        width=image.width,
        latents=autoencoder.latents,
        stride=autoencoder.stride,
        patch=spec.patch,
        skeleton=skeleton,
    )


def fixed_noise(shape: Sequence[int]) -> Tensor:
    """z* f32[1, c, h, w], N(0, 1) from PCG64: the same on every machine and backend."""
    numbers = np.random.Generator(np.random.PCG64(NOISE_SEED)).standard_normal((1, *shape), dtype=np.float32)
    return torch.from_numpy(numbers)


Network = RPFMTransformer | EdgeNetwork


def student_autoencoder(spec: Distillation, autoencoder: Autoencoder) -> Autoencoder:
    """The autoencoder of a student: the teacher's, or one with a narrower decoder."""
    if isinstance(spec.student, PrunedStudent):
        return with_narrow_decoder(autoencoder, spec.student.decoder)
    return autoencoder


def build_student(
    spec: Distillation, model: TransformerSpec, image: ImageSpec, autoencoder: Autoencoder
) -> Network:
    """A new velocity network of a student: the teacher's kind or the edge network, any-step where its method is."""
    flow: Network
    if isinstance(spec.student, EdgeStudent):
        flow = EdgeNetwork(
            spec.student.width, spec.student.blocks, height=image.height, picture_width=image.width,
            latents=autoencoder.latents, stride=autoencoder.stride,
        )  # fmt: skip
    else:
        flow = build_flow(model, image, autoencoder)
        if isinstance(spec.student, PrunedStudent):
            keep_blocks(flow, spec.student.blocks)
    if isinstance(spec, BootstrapDistillation | FlowMapDistillation):
        flow.add_span()
    return flow


def build_detail(spec: Distillation, flow: Network, autoencoder: Autoencoder) -> Detail | None:
    """A new `Detail` for a student's network where the spec wants one."""
    return new_detail(flow, autoencoder, spec.sharpen) if spec.detail else None


def new_detail(flow: Network, autoencoder: Autoencoder, sharpen: float) -> Detail:
    """A new `Detail` for a network and the decoder of its latents."""
    pitch = STRIDE * flow.patch
    size = (flow.grid[0] * pitch, flow.grid[1] * pitch)
    made = Detail(flow.latents, flow.grid, flow.patch, size, shrink=autoencoder.shrink)
    made.sharpen = sharpen
    return made


class Generator(nn.Module):
    """Source pictures and keypoints -> pictures, through the flow from z* (or given noise).

    Attributes:
        times: the grid, from 0.0 to 1.0.
        solver: a row of flowpose.flow.SOLVERS.
        detail: what carries the source's own pixels, None for latents alone.
    """

    noise: Tensor

    def __init__(
        self,
        autoencoder: Autoencoder,
        flow: Network,
        times: Sequence[float],
        solver: str,
        detail: Detail | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder, self.flow, self.detail = autoencoder, flow, detail
        self.times, self.solver = tuple(times), solver
        rows, columns = (side * flow.patch for side in flow.grid)
        self.register_buffer("noise", fixed_noise((flow.latents, rows, columns)))

    def on_grid(self, times: Sequence[float], solver: str) -> Generator:
        """The same networks and noise on another grid; weights are shared."""
        other = Generator(self.autoencoder, self.flow, times, solver, self.detail)
        other.noise = self.noise
        return other.train(self.training)

    @property
    def pitch(self) -> int:
        """Pixels a token, in each direction."""
        return self.autoencoder.stride * self.flow.patch

    def context(self, latents: Tensor, pictures: Tensor | None = None) -> Tensor:
        """f32[B, 1 + L + R, 2, Ns, C] of source latents f32[B, c, h, w] and, for R layers of detail, of the pictures.

        `pictures` f32[B, 3, H, W] are needed where `detail` is there; without it R is 0.
        """
        context = self.flow.source(latents)
        if self.detail is None or pictures is None:
            return context  # type: ignore[no-any-return]
        sharp = sharpened(pictures, self.detail.sharpen)
        return torch.cat([context, packed(sharp, self.pitch, context.shape[-1])], dim=1)

    def split(self, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """The layers of the flow, and the source pictures f32[B, 3, H, W] where there is detail."""
        if self.detail is None:
            return context, None
        own = self.flow.source.layers
        return context[:, :own], unpacked(context[:, own:], self.flow.grid, self.pitch)

    def latents(self, context: Tensor, keypoints: Tensor, noise: Tensor | None = None) -> Tensor:
        """x_1 f32[B, c, h, w]: the end of the flow that starts at `noise` (default z*) at t = 0.

        `context` is the flow's own layers, with or without those of detail.
        """
        pose, _ = self.flow.pose_tokens(keypoints, context)
        return self._solved(context, pose, noise)

    def _solved(self, context: Tensor, pose: Tensor, noise: Tensor | None) -> Tensor:
        ends = dict(pairwise(self.times))  # an any-step network is told where its step ends

        def velocity(x: Tensor, t: float) -> Tensor:
            modulation = self.flow.modulation(*torch.tensor([[t], [ends.get(t, t)]], device=x.device))
            return self.flow.velocity(x, modulation, context, pose)

        start = self.noise.expand(len(pose), -1, -1, -1) if noise is None else noise
        return solve(velocity, start, self.times, self.solver)

    def pictures(self, context: Tensor, keypoints: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures f32[B, 3, H, W] from a whole context and keypoints f32[B, 133, 3]."""
        layers, sources = self.split(context)
        pose, where = self.flow.pose_tokens(keypoints, layers)
        return self.shown(self._solved(layers, pose, noise), where, sources)

    def shown(self, latents: Tensor, where: Tensor | None, sources: Tensor | None) -> Tensor:
        """Pictures of target latents, with the sources' detail where there is any."""
        if self.detail is None or where is None or sources is None:
            return self.autoencoder.decode(latents)
        decoded, placed = self.autoencoder.drawn(latents), self.detail.placed(latents, where)
        return self.detail.joined(decoded, *self.detail.both(decoded, placed, sources))

    def forward(self, sources: Tensor, keypoints: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures f32[B, 3, H, W] of sources f32[B, 3, H, W] (-1..1) in the poses f32[B, 133, 3]."""
        return self.pictures(self.context(self.autoencoder.encode(sources), sources), keypoints, noise)
