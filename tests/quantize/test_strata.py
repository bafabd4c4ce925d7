"""Sorts of poses: what they mean, that a mirror changes none, and that all are drawn evenly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from flowpose.data import Pictures, draw_pairs
from flowpose.pose import Pose
from flowpose.quantize.samples import draw_from
from flowpose.quantize.strata import AXES, draw_evenly, shares, strata
from flowpose.spec.calibration import Calibration

SIZE = (256, 176)
HIPS, KNEES, ANKLES, WRISTS = slice(11, 13), slice(13, 15), slice(15, 17), slice(9, 11)


def standing(width: float = 40.0, hand: float = 130.0) -> np.ndarray:
    """f32[133, 3]: a person 60 pixels from shoulders to hips, `width` from right to left, hands `hand` pixels down."""
    pose = np.zeros((133, 3), np.float32)
    heights = [30, 28, 28, 30, 30, 60, 60, 90, 90, hand, hand, 120, 120, 170, 170, 220, 220]
    for joint, y in enumerate(heights):
        side = 0.0 if joint == 0 else width / 2 if joint % 2 else -width / 2
        pose[joint] = (88 + side, y, 1)
    return pose


def without(pose: np.ndarray, *joints: slice) -> np.ndarray:
    pose = pose.copy()
    for each in joints:
        pose[each] = 0
    return pose


def one(pose: np.ndarray) -> str:
    (found,) = strata(pose[None], AXES)
    return found


@pytest.mark.parametrize(
    ("pose", "stratum"),
    [
        (standing(), "front/full/lowered"),
        (standing(-40), "back/full/lowered"),
        (standing(0), "side/full/lowered"),
        (standing(17), "side/full/lowered"),
        (standing(19), "front/full/lowered"),
        (standing(hand=40), "front/full/raised"),
        (standing(hand=89), "front/full/raised"),
        (standing(hand=91), "front/full/lowered"),
        (without(standing(hand=40), WRISTS), "front/full/lowered"),
        (without(standing(), slice(15, 16)), "front/full/lowered"),
        (without(standing(), ANKLES), "front/half/lowered"),
        (without(standing(-40), ANKLES, KNEES), "back/close/lowered"),
        (without(standing(), slice(11, 17)), "unknown/close/unknown"),
        (np.zeros((133, 3), np.float32), "unknown/close/unknown"),
    ],
)
def test_what_a_stratum_is(pose: np.ndarray, stratum: str) -> None:
    assert one(pose) == stratum


def test_only_the_axes_asked_for_are_named_and_in_that_order() -> None:
    poses = np.stack([standing(), standing(-40)])
    assert strata(poses, ["arms", "view"]) == ("lowered/front", "lowered/back")
    assert strata(poses, ["view"]) == ("front", "back")


def test_a_mirror_image_is_of_the_same_stratum_and_left_for_right_is_the_other_view() -> None:
    swapped = {"front": "back", "back": "front", "side": "side"}
    for width in (-40, -10, 0, 10, 40):
        pose = standing(width, hand=50)
        pose[9, 1] = 130
        mirrored = Pose("coco-wholebody-133", pose[:, :2], pose[:, 2], SIZE).mirror().array()
        assert one(mirrored) == one(pose)
        flipped = np.where(pose[:, 2:] > 0, pose * (-1, 1, 1) + (SIZE[1], 0, 0), 0)
        view, framing, arms = one(pose).split("/")
        assert one(flipped.astype(np.float32)) == f"{swapped[view]}/{framing}/{arms}"


def test_neither_size_nor_place_nor_turning_in_the_picture_changes_it() -> None:
    pose = standing(30, hand=70)
    turned = pose.copy()
    turned[:17, :2] = pose[:17, :2] @ np.array([[0, 1], [-1, 0]]) + (300, 0)
    for other in (pose * (0.25, 0.25, 1) + (0, 4, 0), turned):
        assert one(other.astype(np.float32)) == one(pose) == "front/full/raised"


def crowd(fronts: int = 40, backs: int = 6, sides: int = 1) -> Pictures:
    """One person each two pictures: a front, and one of the kind; and a loner seen from the back."""
    kinds = [40.0] * fronts + [-40.0] * backs + [0.0] * sides
    poses = [standing(width) for kind in kinds for width in (40.0, kind)] + [standing(-40)]
    count = len(poses)
    who = np.append(np.repeat(np.arange(len(kinds)), 2), len(kinds))
    names = tuple(f"{i}" for i in range(count))
    return Pictures("train", np.zeros((count, 8, 8, 3), np.uint8), np.stack(poses), who, names)


def views(pictures: Pictures, pairs: list[tuple[int, int]]) -> Counter[str]:
    found = strata(pictures.keypoints, ["view"])
    return Counter(found[target] for _, target in pairs)


def test_every_stratum_gives_as_much_as_it_has_up_to_an_equal_share() -> None:
    made = crowd()
    assert views(made, draw_evenly(made, ["view"], 12, 1)) == {"front": 6, "back": 5, "side": 1}
    assert views(made, draw_evenly(made, ["view"], 20, 1)) == {"front": 13, "back": 6, "side": 1}
    plain = views(made, list(draw_pairs(made, 12, 1)))
    assert plain["front"] > 8, "what the data has most of"


def test_pairs_are_of_one_person_and_none_twice() -> None:
    made = crowd()
    everything = draw_evenly(made, AXES, made.pair_count, 3)
    assert len(set(everything)) == made.pair_count == 94
    assert all(made.identities[a] == made.identities[b] and a != b for a, b in everything)


def test_a_target_comes_twice_only_where_all_have_come_once() -> None:
    poses = np.stack([standing()] * 4 + [standing(-40)] * 2)
    made = Pictures("train", np.zeros((6, 8, 8, 3), np.uint8), poses, np.zeros(6, int), tuple("abcdef"))
    backs = [pair for pair in draw_evenly(made, ["view"], 8, 1) if pair[1] > 3]
    assert Counter(target for _, target in backs) == {4: 2, 5: 2}
    assert len(set(backs)) == 4


def test_published_pairs_stay_what_they_are() -> None:
    published = np.array([[0, 1], [1, 0], [80, 81], [82, 83], [92, 93]])
    made = replace(crowd(), pairs=published)
    assert made.pair_count == 5
    drawn = draw_evenly(made, ["view"], 3, 1)
    assert {tuple(row) for row in published.tolist()} >= set(drawn)
    assert views(made, drawn) == {"front": 1, "back": 1, "side": 1}


def test_the_seed_is_all_that_changes_a_draw() -> None:
    made = crowd()
    assert draw_evenly(made, AXES, 12, 1) == draw_evenly(made, AXES, 12, 1)
    assert draw_evenly(made, AXES, 12, 1) != draw_evenly(made, AXES, 12, 2)


@pytest.mark.parametrize(
    ("there", "count", "taken"),
    [
        ({"a": 9, "b": 9, "c": 9}, 6, {"a": 2, "b": 2, "c": 2}),
        ({"a": 9, "b": 1, "c": 9}, 9, {"b": 1, "a": 4, "c": 4}),
        ({"a": 5, "b": 9}, 5, {"a": 2, "b": 3}),
        ({"a": 1, "b": 2}, 3, {"a": 1, "b": 2}),
        ({"a": 3, "b": 3, "c": 3}, 2, {"a": 0, "b": 1, "c": 1}),
    ],
)
def test_shares(there: dict[str, int], count: int, taken: dict[str, int]) -> None:
    assert shares(there, count) == taken


def test_without_strata_the_draw_is_the_plain_one() -> None:
    made = crowd()
    data = {"source": "figures"}
    plain = Calibration.parse(
        {"format": 1, "name": "a", "data": data, "split": "train", "count": 9, "seed": 4}, "calibration"
    )
    wanted = tuple((made.names[a], made.names[b]) for a, b in draw_pairs(made, 9, 4))
    assert draw_from(made, plain).names == wanted
    even = draw_from(made, plain.model_copy(update={"strata": ("view",)}))
    assert even.names != wanted and len(even) == 9
