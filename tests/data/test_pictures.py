"""Pairs drawn from a data set, and the procedural figures' splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from flowpose.data import Pictures, draw_pairs, draw_sets
from flowpose.data.figures_set import FIRST, figures
from flowpose.errors import DataError
from flowpose.spec.recipe import FiguresData


def pictures(sizes: tuple[int, ...] = (3, 1, 4, 2)) -> Pictures:
    """Blank pictures; person i has sizes[i] of them, shuffled."""
    who = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = len(who)
    blank, poses = np.zeros((count, 16, 16, 3), np.uint8), np.zeros((count, 133, 3), np.float32)
    return Pictures("train", blank, poses, who, tuple(f"{i}" for i in range(count)))


def test_groups_are_the_people_with_two_pictures() -> None:
    made = pictures()
    assert len(made) == 10
    assert sorted(len(group) for group in made.groups) == [2, 3, 4]
    assert all(len(set(made.identities[group])) == 1 for group in made.groups)


def test_nobody_has_two_pictures() -> None:
    with pytest.raises(DataError, match="no identity has two pictures"):
        draw_sets(pictures((1, 1)), np.random.default_rng(0), 1, 1)


def test_sets_are_of_one_person_and_never_the_source_itself() -> None:
    made = pictures()
    sources, targets = draw_sets(made, np.random.default_rng(1), 300, 2)
    assert sources.shape == (300,) and targets.shape == (300, 2)
    assert (made.identities[targets] == made.identities[sources][:, None]).all()
    assert (targets != sources[:, None]).all()
    for source, own in zip(sources, targets, strict=True):
        few = (made.identities == made.identities[source]).sum() < 3
        assert few or own[0] != own[1], "targets repeat only where there are too few"


def test_pairs_are_drawn_both_ways() -> None:
    made = pictures()
    sources, targets = draw_sets(made, np.random.default_rng(2), 500, 1)
    drawn = set(zip(sources.tolist(), targets[:, 0].tolist(), strict=True))
    assert drawn == {(b, a) for a, b in drawn}
    assert len(drawn) == 3 * 2 + 4 * 3 + 2 * 1, "every pair of every person"


def test_draws_depend_on_the_seed_alone() -> None:
    made = pictures()
    first, same, other = (
        draw_sets(made, np.random.default_rng(seed), 20, 2)[0].tolist() for seed in (5, 5, 6)
    )
    assert first == same != other
    assert list(draw_pairs(made, 9, 3)) == list(draw_pairs(made, 9, 3)) != list(draw_pairs(made, 9, 4))


def test_validation_pairs_are_spread_over_the_people() -> None:
    made = pictures()
    found = list(draw_pairs(made, 12, 0))
    assert all(a != b and made.identities[a] == made.identities[b] for a, b in found)
    assert set(Counter(int(made.identities[a]) for a, _ in found).values()) == {4}
    assert list(draw_pairs(made, 5, 0)) == found[:5], "a larger set begins with the smaller one"


def test_splits_of_figures_share_nobody() -> None:
    data = FiguresData(identities=8, pictures=2)
    made = {split: figures(data, split, 48, 32) for split in FIRST}
    assert [len(made[split]) for split in ("train", "val", "test")] == [16, 4, 4]
    seen = [picture.tobytes() for split in made.values() for picture in split.images]
    assert len(set(seen)) == len(seen)
    assert all(abs(a - b) >= 1_000_000 for a in FIRST.values() for b in FIRST.values() if a != b)


def test_figures_are_the_same_for_the_same_seed() -> None:
    data = FiguresData(identities=2, pictures=2)
    first, same = (figures(data, "train", 48, 32) for _ in range(2))
    other = figures(FiguresData(identities=2, pictures=2, seed=1), "train", 48, 32)
    assert (first.images == same.images).all() and (first.keypoints == same.keypoints).all()
    assert (first.images != other.images).any(axis=(1, 2, 3)).all()
    assert first.identities.tolist() == [0, 0, 1, 1]
    assert len(set(first.names)) == 4


def published(pairs: list[list[int]]) -> Pictures:
    return replace(pictures((3, 3)), pairs=np.array(pairs, np.int64))


def test_all_published_pairs_come_in_their_order_and_fewer_are_drawn_from_them() -> None:
    rows = [[4, 1], [0, 5], [0, 2], [3, 1], [2, 0]]
    made = published(rows)
    for seed in (0, 1):
        assert [list(pair) for pair in draw_pairs(made, 5, seed)] == rows
    first, more = (list(draw_pairs(made, count, 0)) for count in (2, 4))
    assert first == more[:2] and len(set(more)) == 4
    assert {pair for seed in range(20) for pair in draw_pairs(made, 2, seed)} == {(a, b) for a, b in rows}
    with pytest.raises(DataError, match=r"fewer pairs are published, got 5, expected 6 or more"):
        list(draw_pairs(made, 6, 0))


def test_training_draws_published_pairs_alone_and_evenly() -> None:
    rows = [[0, 5], [0, 2], [0, 3], [4, 1]]
    sources, targets = draw_sets(published(rows), np.random.default_rng(0), 4000, 2)
    assert targets.shape == (4000, 2)
    drawn = Counter(zip(sources.tolist(), targets[:, 0].tolist(), strict=True))
    assert set(drawn) == {(a, b) for a, b in rows}
    assert all(abs(count - 1000) < 150 for count in drawn.values())
    assert (targets[sources == 0, 0] != targets[sources == 0, 1]).all(), "another target of the same source"
    assert (targets[sources == 4] == 1).all(), "repeated where there is no other"


def test_content_is_all_that_training_draws_from() -> None:
    made = pictures()
    turned, joints = made.images.copy(), made.keypoints.copy()
    turned[3, 0, 0], joints[3, 5, 0] = 1, 1
    pairs = np.array([[0, 1]])
    others = (
        {"images": turned}, {"keypoints": joints}, {"identities": made.identities + 1}, {"pairs": pairs},
        {"digests": ("0",) * len(made)},
    )  # fmt: skip
    assert len({made.content, *(replace(made, **each).content for each in others)}) == 1 + len(others)
    assert pictures().content == made.content == replace(made, names=("x",) * len(made), split="val").content
