"""The person cut out of a frame and laid before another background, against drawn figures whose outline is exact."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpose import image
from flowpose.background import (
    Alpha,
    Background,
    Colour,
    Composer,
    Keep,
    Made,
    Scene,
    backdrop_of,
    parse_background,
)
from flowpose.data.figures import draw, figure_identity, motion
from flowpose.errors import ImageError, PoseError
from flowpose.matte import body_distance, canonical, matte
from flowpose.pose import CANONICAL, Pose

HEIGHT, WIDTH = 128, 88
GREEN = (0, 200, 0)
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


def figure(seed: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[Picture, Floats, Floats]:
    """A drawn figure, its joints, and how much of each pixel is the figure: told by drawing it before two backdrops."""
    who, pose = figure_identity(seed), motion(seed, 2, 15)[0]
    picture, keypoints = draw(who, pose, height, width)
    other = draw(dataclasses.replace(who, sky=away(who.sky), floor=away(who.floor)), pose, height, width)[0]
    return picture, keypoints, 1 - np.abs(picture.astype(np.float32) - other).sum(2) / (3 * 128)


def before(seed: int, colour: tuple[int, int, int]) -> Picture:
    """The same figure before one colour."""
    who = dataclasses.replace(figure_identity(seed), sky=colour, floor=colour)
    return draw(who, motion(seed, 2, 15)[0], HEIGHT, WIDTH)[0]


def away(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    return tuple((c + 128) % 256 for c in colour)  # type: ignore[return-value]


def overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    one, other = a > 0.5, b > 0.5
    return float((one & other).sum() / (one | other).sum())


def pose_of(keypoints: Floats, height: int = HEIGHT, width: int = WIDTH) -> Pose:
    return Pose.of(keypoints, CANONICAL, (height, width))


def test_the_mask_is_the_figures_outline() -> None:
    found = [
        overlap(matte(picture, joints).alpha, truth) for picture, joints, truth in map(figure, range(12))
    ]
    assert np.mean(found) > 0.92 and min(found) > 0.82


def test_colour_and_pose_together_beat_the_drawn_body_alone() -> None:
    cases = [figure(seed) for seed in range(12)]
    drawn = [overlap((body_distance(j, HEIGHT, WIDTH) < 0).astype(float), truth) for _, j, truth in cases]
    both = [overlap(matte(picture, joints).alpha, truth) for picture, joints, truth in cases]
    assert np.mean(both) > np.mean(drawn) + 0.1


def test_the_mask_scales_with_the_picture() -> None:
    picture, joints, truth = figure(3, 256, 176)
    assert overlap(matte(picture, joints).alpha, truth) > 0.9


def test_the_trunk_stays_where_it_has_the_backdrops_colour() -> None:
    picture, joints, _ = figure(0)
    hidden = np.full_like(picture, picture[0, 0])  # nothing to see at all
    alpha = matte(hidden, joints).alpha
    x, y = joints[[5, 6, 11, 12], :2].mean(0).astype(int)
    assert alpha[y, x] > 0.9 and alpha[2, 2] < 0.05


def test_a_soft_shadow_on_the_floor_is_mostly_no_person() -> None:
    """A tenth less light below the feet; without the term for shadows the mask holds 0.6 of it, not 0.3."""
    held = []
    for seed in range(6):
        picture, joints, _ = figure(seed)
        feet = joints[[15, 16]]
        row, left = int(feet[:, 1].max()) + 5, max(0, int(feet[:, 0].min()) - 5)
        place = (slice(row, row + 4), slice(left, int(feet[:, 0].max()) + 5))
        picture[place] = (picture[place] * 0.9).astype(np.uint8)
        held.append(matte(picture, joints).alpha[place].mean())
    assert np.mean(held) < 0.45


def test_a_person_who_fills_the_frame_is_most_of_it() -> None:
    picture, joints, truth = figure(2, 256, 176)
    box = (slice(60, 124), slice(66, 110))
    near = joints.copy()
    near[:, :2] -= (66, 60)
    alpha = matte(np.ascontiguousarray(picture[box]), near).alpha
    assert overlap(alpha, truth[box]) > 0.8


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda k: k[:17], "wrong shape"),
        (lambda k: k * np.array([1, 1, 0], np.float32), "no joint of the body"),
    ],
)
def test_joints_that_are_no_body_are_refused(change: object, what: str) -> None:
    picture, joints, _ = figure(0)
    with pytest.raises(PoseError, match=what):
        matte(picture, change(joints))  # type: ignore[operator]


def test_a_body_outside_the_frame_leaves_no_mask() -> None:
    picture, joints, _ = figure(0)
    joints[:, 0] += 10 * WIDTH * (joints[:, 2] > 0)
    assert matte(picture, joints).alpha.max() < 0.05


def test_other_formats_are_taken_too() -> None:
    joints = figure(0)[1]
    coco = pose_of(joints).to("coco-17").array()
    assert np.array_equal(canonical(coco, "coco-17")[:17], joints[:17])
    assert canonical(joints, CANONICAL) is joints


def test_what_the_model_made_is_left_as_it_is() -> None:
    picture, joints, _ = figure(0)
    assert np.array_equal(Composer(picture, (HEIGHT, WIDTH), Made())(picture, joints), picture)


def test_a_colour_stands_behind_the_person_without_the_old_backdrops_light() -> None:
    """Laid before green, the edge looks as if the figure had been drawn before green; blending leaves the old light."""
    ours, blended = [], []
    for seed in range(8):
        picture, joints, truth = figure(seed)
        made = Composer(picture, (HEIGHT, WIDTH), Colour(GREEN))(picture, joints)
        assert (made[:3, :3] == GREEN).all()
        right = before(seed, GREEN).astype(float)
        alpha = matte(picture, joints).alpha[..., None]
        edge = (truth > 0.1) & (truth < 0.9)
        ours.append(np.abs(made - right)[edge].mean())
        blended.append(np.abs(alpha * picture + (1 - alpha) * GREEN - right)[edge].mean())
    assert np.mean(ours) < 0.9 * np.mean(blended)


def test_alpha_is_a_fourth_channel_and_its_colours_are_the_persons() -> None:
    picture, joints, truth = figure(4)
    made = Composer(picture, (HEIGHT, WIDTH), Alpha())(picture, joints)
    assert made.shape == (HEIGHT, WIDTH, 4) and made.dtype == np.uint8
    assert overlap(made[..., 3] / 255, truth) > 0.85
    sure = (truth > 0.99) & (made[..., 3] == 255)
    assert np.abs(made[sure][:, :3].astype(int) - picture[sure]).max() <= 1


def test_a_scene_covers_the_frame_and_is_cut_at_its_longer_side() -> None:
    picture, joints, _ = figure(0)
    scene = np.zeros((40, 400, 3), np.uint8)
    scene[:, :180], scene[:, 180:220], scene[:, 220:] = (255, 0, 0), (0, 0, 255), (255, 0, 0)
    made = Composer(picture, (HEIGHT, WIDTH), Scene(scene))(picture, joints)
    assert made.shape == picture.shape
    assert (made[:2, 0] == (0, 0, 255)).all() and (made[-2:, -1] == (0, 0, 255)).all()


def gradient(height: int, width: int) -> Picture:
    """A wall that gets darker downwards, and a floor."""
    rows = np.linspace(230, 150, height)[:, None, None] * np.array([1.0, 0.95, 0.85])
    picture = np.broadcast_to(rows, (height, width, 3)).copy()
    picture[int(0.85 * height) :] = (90, 70, 60)
    return picture.astype(np.uint8)


def photograph(height: int = 512, width: int = 400, seed: int = 0) -> tuple[Picture, Picture, Pose, Floats]:
    """A figure before a wall and a floor, the same without it, its pose, and how much of each pixel is the figure."""
    side = round(height * WIDTH / HEIGHT)
    figures, joints, truth = figure(seed, height, side)
    left, wall = (width - side) // 2, gradient(height, width)
    share = np.zeros((height, width), np.float32)
    share[:, left : left + side] = truth
    person = np.zeros_like(wall)
    person[:, left : left + side] = figures
    moved = joints + np.array([left, 0, 0], np.float32) * (joints[:, 2:] > 0)
    photo = np.round(share[..., None] * person + (1 - share[..., None]) * wall).astype(np.uint8)
    return photo, wall, pose_of(moved.astype(np.float32), height, width), share


def test_the_photographs_person_is_painted_over_and_the_rest_stays_to_the_bit() -> None:
    photo, wall, pose, share = photograph()
    found = backdrop_of(photo, pose)
    wrong = np.abs(found.astype(float) - wall)
    assert wrong[share > 0.5].mean() < 2, "wall and floor go on behind the person"
    assert np.abs(photo.astype(float) - wall)[share > 0.5].mean() > 40, "else this shows nothing"
    far = cv2.dilate((share > 0.01).astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
    assert np.array_equal(found[far], photo[far])


def test_a_kept_backdrop_has_the_photographs_size_and_its_pixels() -> None:
    photo, wall, pose, _ = photograph()
    frame, joints = figure(5)[:2]  # another pose of somebody: what a model could have made
    composer = Composer(photo, (HEIGHT, WIDTH), Keep(), pose=pose, out="source")
    made = composer(frame, joints)
    assert made.shape == photo.shape and composer.size == (512, 400)
    assert np.array_equal(made[:20], photo[:20]), "above the person"
    here = np.zeros((512, 400), bool)
    here[200:300, 180:220] = True
    assert np.abs(made.astype(float) - wall)[here].mean() > 20, "the person is there"
    small = Composer(photo, (HEIGHT, WIDTH), Keep(), pose=pose)(frame, joints)
    assert small.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("shape", [(300, 200), (90, 300), (51, 47)])
def test_frames_of_the_photographs_size_have_its_proportions(shape: tuple[int, int]) -> None:
    """A ring drawn in the frame at the place of the photograph's edge comes out at its edge."""
    photo = np.full((*shape, 3), 120, np.uint8)
    frame = image.fit(
        cv2.rectangle(photo.copy(), (0, 0), (shape[1] - 1, shape[0] - 1), (255, 0, 0), 9), 128, 88
    )
    made = Composer(photo, (128, 88), Made(), out="source")(frame, figure(0)[1])
    assert made.shape == photo.shape
    assert (
        made[0, :, 0].mean() > 180
        and made[:, -1, 0].mean() > 180
        and (made[shape[0] // 2, shape[1] // 2] == 120).all()
    )


def test_keeping_needs_the_photographs_own_pose() -> None:
    with pytest.raises(PoseError, match="own pose is needed"):
        Composer(photograph()[0], (HEIGHT, WIDTH), Keep())


def test_backgrounds_are_told_from_their_text(tmp_path: Path) -> None:
    file = image.write(tmp_path / "room.png", gradient(20, 30))
    known: dict[str, Background] = {
        "made": Made(),
        "keep": Keep(),
        "alpha": Alpha(),
        "#0a80ff": Colour((10, 128, 255)),
    }
    assert {text: parse_background(text) for text in known} == known
    scene = parse_background(str(file))
    assert isinstance(scene, Scene) and np.array_equal(scene.picture, gradient(20, 30))


@pytest.mark.parametrize("text", ["#12345", "#12345g", "#+12345", "green", "", "no/such/file.png"])
def test_what_is_no_background_is_refused(text: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_background(text)
    assert caught.value.where == "--background" and repr(text) == caught.value.got
    assert "#" in str(caught.value.expected)


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(ImageError, match="not a picture"):
        parse_background(str(tmp_path / "note.txt"))
