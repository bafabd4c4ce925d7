"""The comparison: the truth is best, everything sees the same pairs, and what trembles or flickers is found out."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from quantize.tiny_student import recipe

from flowpose import comparison
from flowpose.comparison import (
    Motion,
    Pairs,
    choosing,
    copy_source,
    in_motion,
    jitter,
    measurements,
    motions_of,
    pairs_of,
    row,
    scores_of,
    truth_row,
    validation,
)
from flowpose.data import Pictures, draw_pairs, read
from flowpose.errors import DataError, PoseError
from flowpose.metrics import summary

SPEC = recipe("evaluate.pairs=4", "evaluate.split=val")
BETTER = {"psnr": 1, "ssim": 1, "own_lpips": -1, "pck": 1, "pose_error": -1, "identity": 1}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return validation(SPEC, ())


def test_pairs_are_the_same_for_every_stage_and_run(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison._validation.cache_clear()
    again = validation(SPEC, ())
    assert (pairs.sources == again.sources).all() and (pairs.keypoints == again.keypoints).all()
    monkeypatch.setattr(comparison.data, "read", None)
    assert validation(SPEC, ()) is again, "drawn once a process"
    assert len(again) == 4 and again.split == "val"


@pytest.mark.parametrize("given", [0, 1])
def test_a_pair_that_cannot_be_judged_is_named_before_anything_is_drawn(
    given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = read(SPEC.data, SPEC.image, "val")
    broken = pictures.keypoints.copy()
    _, target = next(iter(draw_pairs(pictures, 4, 0)))
    broken[target, given:17, 2] = 0
    monkeypatch.setattr(comparison, "views_of", None)
    name = re.escape(pictures.names[target])
    text = (
        rf"val, {name}: true keypoints: too few joints, got {given}, expected 2 .* Fix: flowpose data check"
    )
    with pytest.raises(PoseError, match=text):
        pairs_of(replace(pictures, keypoints=broken), 4, 0)


def test_settings_are_never_chosen_on_test(pairs: Pairs) -> None:
    assert choosing(SPEC, ()) is validation(SPEC, ())
    test = recipe("evaluate.pairs=3", "evaluate.split=test")
    chosen = choosing(test, ())
    assert (chosen.split, len(chosen)) == ("val", 3) and validation(test, ()).split == "test"
    assert (chosen.truths == pairs.truths[:3]).all()


def test_no_more_pairs_are_chosen_on_than_val_has_published(monkeypatch: pytest.MonkeyPatch) -> None:
    val = read(SPEC.data, SPEC.image, "val")
    few = replace(val, pairs=np.array(list(draw_pairs(val, 2, 0))))
    monkeypatch.setattr(comparison.data, "read", lambda *_: few)
    assert len(choosing(recipe("evaluate.pairs=9", "evaluate.split=test"), ())) == 2


def test_pairs_are_two_pictures_of_one_person(pairs: Pairs) -> None:
    pictures = read(SPEC.data, SPEC.image, "val")
    who = {
        picture.tobytes(): number
        for picture, number in zip(pictures.images, pictures.identities, strict=True)
    }
    for source, truth in zip(pairs.sources, pairs.truths, strict=True):
        assert who[source.tobytes()] == who[truth.tobytes()] and (source != truth).any()


def test_the_truth_scores_best(pairs: Pairs) -> None:
    rng = np.random.default_rng(0)
    contenders = {
        "copy": pairs.sources,
        "noise": rng.integers(0, 256, pairs.sources.shape).astype(np.uint8),
        "dark": pairs.truths // 2,
    }
    best = summary(scores_of(pairs.truths, pairs))
    assert best.psnr == 100 and best.ssim == pytest.approx(1) and best.own_lpips == pytest.approx(0, abs=1e-6)
    assert best.spectrum_top == pytest.approx(1) and best.identity == pytest.approx(1)
    for name, made in contenders.items():
        found = summary(scores_of(made, pairs))
        for metric, sign in BETTER.items():
            assert sign * (getattr(best, metric) - getattr(found, metric)) >= -1e-6, f"{name} {metric}"


def test_a_row_has_intervals_and_its_own_numbers(pairs: Pairs) -> None:
    found = row("copy-source", copy_source, pairs)
    assert {*BETTER, "spectrum_top", "jitter", "kid"} <= set(found.metrics) and "flicker" not in found.metrics
    for metric, interval in found.metrics.items():
        assert interval.low <= interval.value <= interval.high, metric
        assert interval.n == 4
    plain = found.plain()
    assert plain["name"] == "copy-source"
    assert set(plain["metrics"]["psnr"]) == {"value", "low", "high", "n"}
    truth = truth_row(pairs).metrics
    assert truth["psnr"].value > found.metrics["psnr"].value and "jitter" not in truth


def test_measurements_hold_the_means(pairs: Pairs) -> None:
    made = row("copy-source", copy_source, pairs)
    found = {m.metric: m for m in measurements([made], "figures/val")}
    assert set(found) == set(made.metrics)
    psnr = found["psnr"]
    assert (psnr.value, psnr.unit, psnr.n) == (made.metrics["psnr"].value, "dB", 4)
    assert (psnr.set, psnr.against, psnr.stage) == ("figures/val", "truth", "copy-source")


def trembling(gain: float) -> comparison.Draw:
    """A picture whose brightness follows the first joint."""

    def draw(sources: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
        level = np.clip(128 + gain * keypoints[:, 0, 0], 0, 255).round().astype(np.uint8)
        return np.broadcast_to(level[:, None, None, None], sources.shape).copy()

    return draw


def test_what_follows_every_tremble_jitters_more(pairs: Pairs) -> None:
    still, some, more = (jitter(draw, pairs).value for draw in (copy_source, trembling(1), trembling(4)))
    assert still == 0 < some < more


def moving(frames: int = 6) -> Motion:
    rng = np.random.default_rng(0)
    truths = (np.arange(frames)[:, None, None, None] ** 2 * 3 + rng.integers(0, 30, (1, 24, 16, 3))).astype(
        np.uint8
    )
    return Motion(truths[0], truths, np.ones((frames, 133, 3), np.float32))


def test_motion_and_flicker_are_one_for_the_truth_and_more_for_noise() -> None:
    motion = moving()
    rng = np.random.default_rng(1)
    truth = in_motion(lambda sources, keypoints: motion.truths, [motion])
    noisy = in_motion(lambda s, k: rng.integers(0, 256, motion.truths.shape).astype(np.uint8), [motion])
    assert all(each.value == pytest.approx(1) and each.n == 1 for each in truth.values())
    assert set(truth) == {"motion", "flicker"} and min(each.value for each in noisy.values()) > 2


def sequences(names: list[str]) -> Pictures:
    images = np.arange(len(names), dtype=np.uint8)[:, None, None, None] * np.ones((1, 24, 16, 3), np.uint8)
    people = np.array([int(name[0]) for name in names])
    return Pictures("sequences", images, np.ones((len(names), 133, 3), np.float32), people, tuple(names))


def test_motions_are_frames_in_order_from_a_reference_view() -> None:
    names = [f"{who}_{frame}.webp" for who in (1, 0) for frame in ("02", "ref", "00", "01", "03")]
    first, second = motions_of(sequences(names), people=2, frames=3)
    assert first.source[0, 0, 0] == 6 and second.source[0, 0, 0] == 1
    assert first.truths[:, 0, 0, 0].tolist() == [7, 8, 5], "00, 01, 02 of the first person"
    assert len(motions_of(sequences(names), people=1, frames=3)) == 1


@pytest.mark.parametrize("names", [["0_00", "0_01", "0_02", "0_03"], ["0_ref", "0_00", "0_01"]])
def test_what_is_no_sequence_is_an_error(names: list[str]) -> None:
    with pytest.raises(DataError, match=r"not a sequence, got . _ref and . frames"):
        motions_of(sequences(names), people=1, frames=9)
