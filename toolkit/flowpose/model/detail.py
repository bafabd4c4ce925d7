"""What latents lose: the source's own pixels, carried to where its limbs are in the target, and let in where they fit.

The match of limbs says of every place of the target where in the source it is (`Match.carry`). That map is made smooth
and the source is sampled through it, which keeps prints, checks and faces that an average of tokens cannot hold. The
places are means over all that a place matches, so limbs come out too thin and stand beside where they belong: a small
convolutional network compares what was sampled with what was decoded, puts the map right, and the source is sampled
again. A second one then chooses at every pixel between the sampled and the decoded picture. The idea of a flow of
appearance is old in this field (arXiv 2003.00696 among others); here the flow is a by-product of the match.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowpose.model.autoencoder import Residual, conv, grown, shrunk
from flowpose.model.limb_field import PLACES, SPLIT

SHIFT = 0.1  # of half the picture: the scale in which offsets are learnt
CLOSED, OPEN = -2.0, 1.0  # logits of the share of the sampled picture, where training starts: 12 % and 73 %
BLURRED = 5  # pixels, odd
TOLERANCE = 0.16  # of colours in -1..1: how far the carried picture's local mean may be off
QUARTER = 4  # the map is put right at a quarter of the picture's resolution, so that the network sees far
HALF = 2  # the choice is made at half the picture's resolution, four pixels at once


def on_grid(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """f32[B, C, SPLIT * rows, SPLIT * columns] of places f32[B, rows * columns * PLACES, C] in token order."""
    cut = places.reshape(len(places), *grid, SPLIT, SPLIT, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def packed(pictures: Tensor, pitch: int, width: int) -> Tensor:
    """f32[B, R, 2, Ns, width]: pictures f32[B, 3, H, W] as R more layers of a context; the rest is zero."""
    tokens = F.pixel_unshuffle(pictures, pitch).flatten(2).transpose(1, 2)
    tokens = F.pad(tokens, (0, -3 * pitch * pitch % (2 * width)))
    return tokens.reshape(*tokens.shape[:2], -1, 2, width).permute(0, 2, 3, 1, 4)


def unpacked(layers: Tensor, grid: tuple[int, int], pitch: int) -> Tensor:
    """f32[B, 3, H, W], the inverse of `packed`."""
    tokens = layers.permute(0, 3, 1, 2, 4).flatten(2)[..., : 3 * pitch * pitch]
    return F.pixel_shuffle(tokens.transpose(1, 2).reshape(len(tokens), -1, *grid), pitch)


class Halves(NamedTuple):
    """`Detail.joined` three times, f32[B, 3, H, W] each, for what trains different parts (see `Detail.halves`)."""

    drawn: Tensor
    chosen: Tensor
    bare: Tensor


class Detail(nn.Module):
    """Carries a source picture to the target and joins it with what was decoded.

    With `shrink` 2 all that is computed has the decoded picture's size, and the carried pixels come in at twice as many
    in each direction: the map of places, the share and what was decoded are enlarged.

    Attributes:
        sharpen: the amount by which a generator sharpens sources before it packs their pixels into a context
            (`sharpened`); training packs none.
    """

    half_size: Tensor

    def __init__(
        self, latents: int, grid: tuple[int, int], patch: int, size: tuple[int, int], hidden: int = 64,
        width: int = 32, refined: int = 48, shrink: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.grid, self.patch, self.size, self.shrink, self.sharpen = grid, patch, size, shrink, 0.0
        half_size = 0.5 * torch.tensor([size[1], size[0]]).reshape(1, 2, 1, 1)
        self.register_buffer("half_size", half_size, persistent=False)
        offset, found = conv(hidden, 2 * PLACES), conv(width, 4 * HALF * HALF)
        moved = conv(refined, 2 * (QUARTER // HALF) ** 2)
        self.offsets = nn.Sequential(conv(latents * patch * patch + 3 * PLACES, hidden), nn.ReLU(), offset)
        self.refine = nn.Sequential(
            conv(9 * QUARTER * QUARTER, refined), nn.ReLU(), Residual(refined), Residual(refined), moved
        )
        self.choice = nn.Sequential(conv(8 * HALF * HALF, width), nn.ReLU(), Residual(width), found)
        assert found.bias is not None  # made with one
        for last in (offset, moved, found):
            nn.init.zeros_(last.weight)
        nn.init.constant_(found.bias[3 * HALF * HALF :], CLOSED)

    @torch.no_grad()
    def open(self) -> None:
        """Starts the share anew, at OPEN everywhere.

        From a small share no way leads up: a faint stripe over a blurred edge has less contrast than the edge alone.
        """
        last = self.choice[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None  # made so above
        last.weight[3 * HALF * HALF :] = 0
        last.bias[3 * HALF * HALF :] = OPEN

    def placed(self, latents: Tensor, where: Tensor) -> Tensor:
        """f32[B, 3, H, W]: where in the source every pixel of the target is, x and y in -1..1, and how unsure that is.

        Args:
            latents: the target's, f32[B, c, h, w].
            where: f32[B, N * PLACES, 3] of `Match.carry`: x, y and their variance.
        """
        tokens = F.pixel_unshuffle(latents, self.patch) if self.patch > 1 else latents
        by_token = (
            where.reshape(len(where), -1, 3 * PLACES).transpose(1, 2).reshape(len(where), -1, *self.grid)
        )
        found: Tensor = self.offsets(torch.cat([tokens, by_token], dim=1))
        offsets = found.flatten(2).transpose(1, 2).reshape(len(where), -1, 2)
        moved = on_grid(torch.cat([where[..., :2] + SHIFT * offsets, where[..., 2:]], dim=-1), self.grid)
        return F.interpolate(moved.float(), size=self.size, mode="bilinear", align_corners=False)

    def both(self, decoded: Tensor, placed: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What is carried, at the size of the decoded pictures and at that of the sources.

        f32[B, 5, H, W]: the source sampled at every pixel of the target, how unsure the match is, and the stretch; and
        f32[B, 3, shrink H, shrink W]: the source sampled.

        Args:
            decoded: the target as latents draw it, f32[B, 3, H, W].
            placed: of the same pixels, see `placed`; both may be the same window of whole pictures.
            pictures: the sources, f32[B, 3, ., .], always whole.
        """
        small = shrunk(pictures, self.shrink)
        places = self._put_right(decoded, placed, small)
        seen = torch.cat([sampled(small, places), placed[:, 2:], self.stretch(places)], dim=1)
        return seen, seen[:, :3] if self.shrink == 1 else sampled(pictures, grown(places, self.shrink))

    def _put_right(self, decoded: Tensor, placed: Tensor, pictures: Tensor) -> Tensor:
        """f32[B, 2, H, W]: places moved so that what is sampled there fits what was decoded."""
        seen = torch.cat([decoded, sampled(pictures, placed), placed], dim=1).detach()
        found: Tensor = self.refine(F.pixel_unshuffle(seen, QUARTER))
        offsets = F.pixel_shuffle(found, QUARTER // HALF)
        fine = F.interpolate(offsets, scale_factor=HALF, mode="bilinear", align_corners=False)
        return placed[:, :2] + SHIFT * fine

    def stretch(self, places: Tensor) -> Tensor:
        """f32[B, 1, H, W] in 0..1 of places f32[B, 2, H, W]: whether neighbours are neighbours in the source, too.

        0: all at one pixel; 1/3: as in the source; 0.8: sixteen pixels apart. Between two that lie far apart in the
        source nothing belongs: there the map jumps over the source's person, say, and leaves a thin line of it on the
        backdrop.
        """
        right = F.pad((places[..., 1:] - places[..., :-1]).abs(), (0, 1, 0, 0))
        down = F.pad((places[..., 1:, :] - places[..., :-1, :]).abs(), (0, 0, 0, 1))
        far = 0.25 * ((right + down) * self.half_size).sum(1, keepdim=True)
        return far / (1 + far)

    def joined(self, decoded: Tensor, carried: Tensor, large: Tensor | None = None) -> Tensor:
        """Pictures f32[B, 3, shrink H, shrink W] of decoded and carried ones, which may be the same window of both.

        `carried` and `large` are those of `both`; without `large` the carried pixels are those of `carried`.
        """
        share, change = self._choice(decoded, carried)
        return self._mixed(decoded, share, carried[:, :3] if large is None else large) + self._grown(change)

    def _mixed(self, decoded: Tensor, share: Tensor, pixels: Tensor) -> Tensor:
        decoded = self._grown(decoded)
        return decoded + self._grown(share) * (pixels - decoded)

    def _grown(self, maps: Tensor) -> Tensor:
        return grown(maps, self.shrink)

    def halves(self, decoded: Tensor, carried: Tensor, large: Tensor | None = None) -> Halves:
        """`joined` twice, with half of its gradient each, to everything but the share and to the share alone; and bare.

        Carried stripes may be off by a pixel and right to the eye, so the share is trained by losses of its own. And
        what asks for contrast must reach nothing else: through the latents the cheapest contrast is a seam at every
        block, through `change` a checkerboard, and people-128 was full of either within 100 iterations. The bare
        picture joins the carried pixels with decoded ones that are blurred (BLURRED pixels), again for the share alone:
        bricks that the decoder has learnt to draw are no reason to let in less of the source.
        """
        share, change = self._choice(decoded, carried)
        pixels = carried[:, :3] if large is None else large
        drawn = self._mixed(decoded, share.detach(), pixels) + self._grown(change)
        open_, _ = self._choice(decoded.detach(), carried.detach())
        given = pixels.detach()
        opening = self._grown(open_ - open_.detach())
        chosen = drawn.detach() + opening * (given - self._grown(decoded.detach()))
        return Halves(drawn, chosen, self._mixed(local_mean(decoded.detach()), open_, given))

    def _choice(self, decoded: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """(share f32[B, 1, H, W] in 0..1 of the carried picture, smooth; change f32[B, 3, H, W]).

        What latents lose is detail, not colour. So where the local mean of what was carried is not that of what was
        decoded, the match is wrong (a piece of backdrop in a trouser leg, hair on a back), and the share closes.
        """
        found: Tensor = self.choice(F.pixel_unshuffle(torch.cat([decoded, carried], dim=1), HALF))
        logits = found[:, 3 * HALF * HALF :].mean(1, keepdim=True)
        fine = F.interpolate(logits, scale_factor=HALF, mode="bilinear", align_corners=False)
        off = (local_mean(carried[:, :3]) - local_mean(decoded)).square().mean(1, keepdim=True)
        likely = torch.exp(-off / (2 * TOLERANCE * TOLERANCE))
        return torch.sigmoid(fine) * likely, F.pixel_shuffle(found[:, : 3 * HALF * HALF], HALF)


def sampled(pictures: Tensor, places: Tensor) -> Tensor:
    """f32[B, 3, H, W] of pictures at places f32[B, 2 or more, H, W], whose first two are x and y in -1..1."""
    grid = places[:, :2].permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def sharpened(pictures: Tensor, amount: float) -> Tensor:
    """Pictures f32[B, c, H, W] plus `amount` times what a 3 x 3 binomial mean takes from them.

    Pixels that are carried lie anywhere between those of the source, and bilinear sampling blurs: in the mean over all
    places between two pixels it leaves half of the finest stripes. Amount 1 doubles those, as a prefilter does for
    splines (P. Thevenaz, T. Blu, M. Unser, IEEE Transactions on Medical Imaging 19(7), 2000), once a person and not a
    frame.
    """
    if not amount:
        return pictures
    row = pictures.new_tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(pictures.shape[1], 1, 3, 3)
    soft = F.conv2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), kernel, groups=pictures.shape[1])
    return pictures + amount * (pictures - soft)


def local_mean(pictures: Tensor) -> Tensor:
    """Pictures f32[B, c, H, W] averaged over BLURRED x BLURRED pixels, their edges repeated."""
    return F.avg_pool2d(F.pad(pictures, (BLURRED // 2,) * 4, mode="replicate"), BLURRED, 1)
