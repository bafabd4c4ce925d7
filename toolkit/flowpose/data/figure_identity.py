"""Who a procedural figure is: colours, clothes, hair, proportions and backdrop, drawn from a seed."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flowpose.data.figure_motion import Proportions

Colour = tuple[int, int, int]
Pattern = Literal["plain", "stripes", "two-tone", "emblem", "open"]
Bottom = Literal["trousers", "shorts", "skirt", "dress"]
Hair = Literal["short", "long", "bun", "cap"]

SKINS: tuple[Colour, ...] = (
    (247, 216, 190),
    (236, 188, 152),
    (214, 160, 118),
    (176, 121, 82),
    (128, 82, 55),
    (88, 56, 40),
)
HAIRS: tuple[Colour, ...] = (
    (28, 24, 24),
    (66, 42, 28),
    (112, 72, 38),
    (172, 126, 66),
    (214, 180, 112),
    (140, 58, 34),
    (150, 148, 146),
)
PATTERNS: tuple[Pattern, ...] = ("plain", "plain", "stripes", "two-tone", "emblem", "open")
BOTTOMS: tuple[Bottom, ...] = ("trousers", "trousers", "trousers", "shorts", "skirt", "dress")
STYLES: tuple[Hair, ...] = ("short", "short", "long", "long", "bun", "cap")
SLEEVES = (0.0, 0.55, 1.0, 1.55, 1.95)  # share of the arm covered: 1 ends at the elbow, 2 at the wrist


@dataclass(frozen=True)
class Identity:
    """What stays the same in every picture of a figure. Colours are RGB.

    Attributes:
        sleeves: share of the arm covered, 1 to the elbow, 2 to the wrist.
        legs: share of the leg covered, 1 to the knee, 2 to the ankle (a skirt's hem for skirt and dress).
        bands: stripes on the torso, where the pattern has stripes.
        sky: colour of the backdrop's top.
        floor: colour of its bottom.
    """

    seed: int
    skin: Colour
    hair: Colour
    hair_style: Hair
    top: Colour
    accent: Colour
    pattern: Pattern
    sleeves: float
    bottom: Bottom
    bottom_colour: Colour
    legs: float
    shoes: Colour
    bands: int
    body: Proportions
    sky: Colour
    floor: Colour


def _cloth(rng: np.random.Generator, value: tuple[float, float] = (0.15, 0.95)) -> Colour:
    saturation = rng.uniform(0.0, 0.15) if rng.random() < 0.3 else rng.uniform(0.35, 0.9)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(*value))
    return round(255 * red), round(255 * green), round(255 * blue)


def _unlike(rng: np.random.Generator, other: Colour) -> Colour:
    """Returns a cloth colour that can be told from `other` at a glance."""
    for _ in range(16):
        colour = _cloth(rng)
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 160:
            return colour
    return 255 - other[0], 255 - other[1], 255 - other[2]


def _backdrop(rng: np.random.Generator) -> tuple[Colour, Colour]:
    light = rng.random() < 0.8
    hsv = (rng.random(), rng.uniform(0.0, 0.08) if light else rng.uniform(0.15, 0.5), rng.uniform(0.75, 0.98))
    top = np.array(colorsys.hsv_to_rgb(*hsv)) * 255
    low = top * rng.uniform(0.78, 0.98)
    return (round(top[0]), round(top[1]), round(top[2])), (round(low[0]), round(low[1]), round(low[2]))


def _proportions(rng: np.random.Generator) -> Proportions:
    base = Proportions()
    legs, arms = rng.uniform(0.94, 1.04), rng.uniform(0.95, 1.07)
    return Proportions(
        head=base.head * rng.uniform(0.93, 1.07),
        torso=base.torso * rng.uniform(0.94, 1.05),
        shoulders=base.shoulders * rng.uniform(0.84, 1.1),
        hips=base.hips * rng.uniform(0.9, 1.15),
        upper_arm=base.upper_arm * arms,
        forearm=base.forearm * arms,
        thigh=base.thigh * legs,
        shin=base.shin * legs,
        girth=float(rng.uniform(0.86, 1.22)),
    )


def figure_identity(seed: int) -> Identity:
    """Returns the figure of a seed (0 or more); the same seed gives the same figure."""
    rng = np.random.default_rng((seed, 0x6964))
    top = _cloth(rng)
    bottom = BOTTOMS[rng.integers(len(BOTTOMS))]
    hems = {"trousers": (1.55, 1.95), "shorts": (0.5, 0.95), "skirt": (0.6, 1.3), "dress": (0.6, 1.5)}
    sky, floor = _backdrop(rng)
    return Identity(
        seed=seed,
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        hair_style=STYLES[rng.integers(len(STYLES))],
        top=top,
        accent=_unlike(rng, top),
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        sleeves=SLEEVES[rng.integers(len(SLEEVES))],
        bottom=bottom,
        bottom_colour=top if bottom == "dress" else _unlike(rng, top),
        legs=float(rng.uniform(*hems[bottom])),
        shoes=_cloth(rng, (0.08, 0.6)),
        bands=int(rng.integers(3, 7)),
        body=_proportions(rng),
        sky=sky,
        floor=floor,
    )
