"""Covered and turned-away faces: no weight, or less, and the motion there is never garbage."""

import numpy as np
import pytest

pytest.importorskip("mediapipe")

from drawn_people import Drawn, follow_head, rotation_error, steps_deg, talking, there_and_back, turning, watch, weights

from avatar.face.covering import find_covered, trust_in_turn, turn_degrees
from avatar.preprocess.shots import Shot, joined
from avatar.synthetic.clip import spec_of
from avatar.synthetic.speaker import Speaker

HAND, TURN = slice(20, 35), slice(58, 90)
"""0.6 s with a hand; later the head turns to 60 degrees and back."""


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker(spec_of(0), strands=400, texture=96)


@pytest.fixture(scope="module")
def bare(speaker) -> Drawn:
    """Talking, then a turn."""
    ramp = np.linspace(0, 1, 11)
    turn = turning(speaker, 60 * (10 * ramp**3 - 15 * ramp**4 + 6 * ramp**5))
    talk = talking(speaker, 10)
    front = turn[[0] * 3]
    return talk[there_and_back(10, 55)] + front + turn[np.r_[0:11, [10] * 10, 10:-1:-1]] + front


@pytest.fixture(scope="module")
def clean(bare):
    return watch(bare)


@pytest.fixture(scope="module")
def film(bare, clean) -> tuple[Drawn, np.ndarray]:
    return with_hand(bare, clean.person.landmarks_px, None)


@pytest.fixture(scope="module")
def watched(film):
    return watch(film[0])


@pytest.fixture(scope="module")
def track(watched):
    return follow_head(watched)[0]


def with_hand(
    film: Drawn, landmarks_px: np.ndarray, colour: np.ndarray | None, comes_in: float = 4, size: float = 1.0
) -> tuple[Drawn, np.ndarray]:
    """An ellipse that comes from below, stays over the mouth and goes; and where its middle is on the mouth.

    Args:
        comes_in: frames that it takes to come and to go.
    """
    frames, over = film.frames.copy(), np.zeros(len(film.frames), bool)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    height = float(np.median(np.linalg.norm(landmarks_px[:, 10] - landmarks_px[:, 152], axis=-1)))
    for index in range(HAND.start, HAND.stop):
        mouth = landmarks_px[index, [13, 14]].mean(0)
        away = max(0.0, 1 - min(index - HAND.start, HAND.stop - 1 - index) / comes_in)
        centre = mouth + np.array([-0.9, 0.55]) * height * away
        radius = np.hypot((x - centre[0]) / (0.34 * height * size), (y - centre[1]) / (0.2 * height * size))
        cover = ((1.05 - radius) / 0.1).clip(0, 1)[..., None]
        brow = frames[index, int(landmarks_px[index, 151, 1]), int(landmarks_px[index, 151, 0])]
        shade = (1.08 - 0.25 * radius**2)[..., None]
        frames[index] = (frames[index] * (1 - cover) + cover * (brow if colour is None else colour) * shade).clip(
            0, 255
        )
        over[index] = away == 0
    return Drawn(frames, film.T_world_head), over


def check_hand(watched, over: np.ndarray) -> None:
    assert watched.covered[over].all()
    assert not watched.covered[: HAND.start].any()
    assert not watched.covered[HAND.stop :].any()
    assert (watched.person.confidence[over] == 0).all()
    assert len(watched.shots) == 1, "a hand is no cut"


def test_a_hand_of_the_skins_colour_over_the_mouth_is_found(watched, film) -> None:
    check_hand(watched, film[1])


def test_a_large_dark_thing_that_comes_at_once_has_no_weight_whatever_it_is_taken_for(bare, clean) -> None:
    dark, over = with_hand(bare, clean.person.landmarks_px, np.array([40.0, 40.0, 45.0]), comes_in=1.5, size=1.4)
    seen = watch(dark)
    assert (seen.person.confidence[over] == 0).all()
    assert (seen.person.confidence[: HAND.start] > 0).all()
    assert (seen.person.confidence[HAND.stop : TURN.start] > 0).all()
    assert {shot.why for shot in seen.shots} <= {"", "another person, or something over the face"}


def test_a_cut_beside_a_covered_face_is_the_hand_coming_in() -> None:
    covered = np.zeros(60, bool)
    covered[20:30] = True
    shots = [Shot(first=0, end=21), Shot(first=21, end=40), Shot(first=40, end=50, why="x"), Shot(first=50, end=60)]
    assert joined(shots, covered) == [Shot(first=0, end=40), *shots[2:]]


def test_behind_a_hand_the_motion_is_interpolated(track, film) -> None:
    error, over = rotation_error(track, film[0]), film[1]
    assert (weights(track)[over] == 0).all()
    assert error[weights(track) > 0].max() < 12
    assert error[over].max() < error[: HAND.start].max() + 3
    assert steps_deg(track)[: TURN.start].max() < 5


def test_nothing_covers_a_face_that_talks_or_turns(clean) -> None:
    assert not clean.covered.any()
    assert len(clean.shots) == 1, "a turn is no cut"
    assert (clean.person.confidence[: TURN.start] == 1).all()


def test_a_head_turned_to_60_degrees_has_less_weight_and_does_not_jump(watched, track) -> None:
    yaw = np.abs(turn_degrees(watched.person.landmarks_px))
    middle = (TURN.start + TURN.stop) // 2
    assert 50 < yaw[middle] < 70
    assert 0.2 < weights(track)[middle] < 0.8
    assert weights(track)[5] > 0.99
    assert steps_deg(track)[TURN].max() < 14, "drawn steps are up to 11 degrees"


def test_trust_falls_from_half_profile_to_profile() -> None:
    points = np.zeros((4, 478, 2), np.float32)
    points[:, 234], points[:, 454] = (-1, 0), (1, 0)
    points[:, 1, 0] = 1.5 * np.tan(np.radians([0, -40, 60, 80]))
    np.testing.assert_allclose(turn_degrees(points), [0, -40, 60, 80], atol=1e-3)
    np.testing.assert_allclose(trust_in_turn(points), [1, 1, 0.5, 0], atol=1e-3)


def test_what_lasts_for_half_of_the_clip_is_no_passing_hand(clean) -> None:
    rng = np.random.default_rng(0)
    colours = np.tile(rng.normal(60, 10, (1, 468, 3)), (60, 1, 1)) + rng.normal(0, 1, (60, 468, 3))
    points = np.tile(clean.person.landmarks_px[:1], (60, 1, 1))
    beard = colours.copy()
    beard[:, points[0, :468, 1] > points[0, 1, 1]] -= 40  # from the nose down
    for covered_frames, expected in ((10, 10), (28, 0)):
        mixed = np.concatenate([beard[:covered_frames], colours[covered_frames:]])
        found = find_covered(mixed, points, np.ones(60, bool)).sum()
        assert expected <= found <= expected + expected // 5
