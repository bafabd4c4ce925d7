"""Every picture that a published set names is looked for and decoded, before any training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flowpose.data.checked import Findings
from flowpose.data.published_layout import Layout
from flowpose.data.published_names import Named
from flowpose.data.published_pictures import decoded, in_frame, read_bytes
from flowpose.errors import FlowposeError

PROPORTIONS = 0.05  # share by which a picture's proportions may differ from the frame's
SMALL = 0.5  # share of the usual height, below which a picture is a blur among the others
MANY = 5  # sizes that are told


@dataclass(frozen=True)
class Look:
    """A picture that was decoded: its file, its size and that without padding, height before width."""

    file: Path
    size: tuple[int, ...]
    inner: tuple[int, ...]

    @property
    def padded(self) -> bool:
        return self.size != self.inner


def check_pictures(layout: Layout, wanted: Mapping[str, Named], found: Findings) -> None:
    """Tells of the pictures of a part, by name, what is missing, cannot be read or has a size that does not fit."""
    if not layout.folders:
        path = layout.usual(layout.kind.folders)
        got = f"none of {', '.join(place for place, _ in layout.kind.folders)}"
        found.fault(path, "no folder of pictures", got=got, expected=path.name, fix=layout.kind.unpack)
        return
    looks = []
    with ThreadPoolExecutor() as pool:
        for met in pool.map(partial(_looked_at, layout), wanted.values()):
            if isinstance(met, FlowposeError):
                found.tell(met)
            else:
                looks.append(met)
    _sizes(layout, looks, found)


def _looked_at(layout: Layout, named: Named) -> FlowposeError | Look:
    """A picture that was decoded, or what is wrong with it."""
    try:
        data, file = read_bytes(layout, named)
        picture = decoded(layout, data, file)
        size = in_frame(layout, picture, file).shape[:2]
    except FlowposeError as error:
        return error
    return Look(file, picture.shape[:2], size)


def _sizes(layout: Layout, looks: Sequence[Look], found: Findings) -> None:
    """Pictures of other proportions than the frame's, padded ones among others, and much smaller ones."""
    sizes, (height, width) = Counter(look.size for look in looks), layout.kind.frame
    if len(sizes) < 2 and not any(_off(look.inner, (height, width)) for look in looks):
        return
    usual = sizes.most_common(1)[0][0]
    square = next(look.padded for look in looks if look.size == usual)
    for look in looks:
        expected = f"{usual[1]} x {usual[0]} as {sizes[usual]} others (width x height)"
        if _off(look.inner, (height, width)):
            what, expected = "a picture of other proportions", f"those of {width} x {height} (width x height)"
        elif look.padded != square:
            what = "padded and other pictures are mixed"
        elif look.size[0] < SMALL * usual[0]:
            what = "a picture of another size"
        else:
            continue
        got = f"{look.size[1]} x {look.size[0]}"
        found.fault(look.file, what, got=got, expected=expected, fix=layout.kind.unpack)
    if len(sizes) > 1:
        told = ", ".join(f"{count} of {wide} x {tall}" for (tall, wide), count in sizes.most_common(MANY))
        found.note(f"{layout.part}: {len(sizes)} sizes of pictures (width x height): {told}")


def _off(size: tuple[int, ...], frame: tuple[int, int]) -> bool:
    return abs(size[1] / size[0] / (frame[1] / frame[0]) - 1) > PROPORTIONS
