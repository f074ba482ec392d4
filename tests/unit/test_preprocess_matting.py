"""Mattes and plates of drawn discs that move over a known wall."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from avatar.face.matting import PlateBuilder, guided_alpha, refined_alpha

SIZE = (160, 160)


def wall():
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return np.stack([80 + x / 2, 100 + y / 2, 140 + 30 * np.sin(x / 15)], -1)


def disc(centre_x, radius=40.0):
    """True coverage of a disc with a soft rim."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    distance = np.hypot(x - centre_x, y - 90)
    return np.clip((radius - distance) / 4 + 0.5, 0, 1).astype(np.float32)


def filmed(alpha, seed=0):
    person = np.array([150, 60, 40], np.float32)
    noise = np.random.default_rng(seed).normal(0, 2, (*SIZE, 3))
    return np.clip(wall() * (1 - alpha[..., None]) + person * alpha[..., None] + noise, 0, 255).astype(np.uint8)


def coarse(alpha):
    """What a segmenter gives: a hard mask of an eighth of the resolution, a little too large."""
    import cv2

    small = cv2.resize(alpha, (40, 40), interpolation=cv2.INTER_AREA)
    return (cv2.resize(small, SIZE[::-1]) > 0.25).astype(np.uint8) * 255


@pytest.fixture(scope="module")
def plate():
    places = np.linspace(50, 110, 40)
    builder = PlateBuilder(SIZE, len(places))
    for index in builder.indices:
        alpha = disc(places[index])
        builder.add(filmed(alpha, index), guided_alpha(filmed(alpha, index), coarse(alpha)))
    return builder.finish()


def test_uncovered_background_is_found_and_the_rest_is_filled_without_a_ghost(plate):
    error = np.abs(plate.picture.astype(float) - wall()).mean(-1)
    assert plate.seen.mean() > 0.6
    assert error[plate.seen].mean() < 1.5
    hidden = ~plate.seen
    assert hidden.any()
    assert error[hidden].max() < 40  # the disc itself differs by 100 and more
    assert error[hidden].mean() < 15


def test_every_step_brings_the_matte_closer_to_the_truth(plate):
    truth = disc(82.0)
    frame = filmed(truth, 99)
    rough = coarse(truth)
    guided = guided_alpha(frame, rough)
    refined = refined_alpha(frame, guided, plate, truth > 0.9)
    errors = [float(np.abs(matte - truth).mean()) for matte in (rough / 255.0, guided, refined)]
    assert errors[1] < 0.8 * errors[0]
    assert errors[2] < 0.75 * errors[1]
    assert refined.min() >= 0
    assert refined.max() <= 1


def test_the_matte_stays_as_it_is_where_person_and_wall_look_alike(plate):
    alpha = disc(82.0)
    frame = np.clip(wall() + np.random.default_rng(1).normal(0, 2, (*SIZE, 3)), 0, 255).astype(np.uint8)
    refined = refined_alpha(frame, alpha, plate, alpha > 0.1)
    assert np.abs(refined - alpha).mean() < 0.01


def test_walls_that_the_mask_takes_for_a_person_are_found_out(plate):
    truth = disc(82.0)
    wrong = truth.copy()
    wrong[100:150, 135:155] = 1
    refined = refined_alpha(filmed(truth, 7), wrong, plate, truth > 0.9)
    assert refined[108:142, 142:150].max() < 0.1


def test_a_plate_of_nothing_is_grey_and_one_of_everything_is_the_wall():
    builder = PlateBuilder(SIZE, 5)
    for _ in range(5):
        builder.add(filmed(disc(80)), np.ones(SIZE, np.float32))
    assert not builder.finish().seen.any()
    builder = PlateBuilder(SIZE, 5)
    for seed in range(5):
        builder.add(filmed(np.zeros(SIZE, np.float32), seed), np.zeros(SIZE, np.float32))
    plate = builder.finish()
    assert plate.seen.all()
    assert np.abs(plate.picture.astype(float) - wall()).mean() < 1.5


def test_samples_do_not_grow_with_the_clip():
    assert len(PlateBuilder(SIZE, 9000).indices) <= 160
    assert PlateBuilder(SIZE, 7).indices == list(range(7))
