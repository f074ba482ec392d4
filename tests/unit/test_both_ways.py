"""A picture and its mirror image are looked at, so that what a detector does to one side alone cancels."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, label

from avatar.face.both_ways import BothWaysDetector, mirror_points
from avatar.face.landmarks import AbstractLandmarkDetector, FaceLandmarks

WIDTH, SIDE = 300, 8
SHAPE = np.random.default_rng(0).uniform(-25, 25, (478, 2))
SHAPE = ((SHAPE + (SHAPE * [-1, 1])[mirror_points()]) / 2).astype(np.float32)
"""A face that is its own mirror image, round the middle of a bright square."""


class Lopsided(AbstractLandmarkDetector):
    """Finds bright squares, and sees some points of each too far to the right."""

    made: list["Lopsided"] = []  # noqa: RUF012
    error = np.where(np.arange(478) % 3 == 0, 4.0, 0.0).astype(np.float32)

    def __init__(self) -> None:
        self.calls: list[str] = []
        Lopsided.made.append(self)

    def detect(self, frame: np.ndarray, seconds: float) -> list[FaceLandmarks]:
        assert frame.flags["C_CONTIGUOUS"]
        found: Any = label(frame[..., 0] == 255)
        bright, count = found
        middles = [(x + 0.5, y + 0.5) for y, x in center_of_mass(bright > 0, bright, range(1, count + 1))]
        return [FaceLandmarks(landmarks_px=self.seen_at(np.array(middle, np.float32)), score=1.0) for middle in middles]

    def seen_at(self, middle: np.ndarray) -> np.ndarray:
        points = SHAPE + middle
        points[:, 0] += self.error
        return points

    def close(self) -> None:
        self.calls.append("close")

    def forget(self) -> None:
        self.calls.append("forget")


class Blindfolded(Lopsided):
    """Sees nothing on the right half of a picture."""

    def detect(self, frame: np.ndarray, seconds: float) -> list[FaceLandmarks]:
        return [face for face in super().detect(frame, seconds) if face.landmarks_px[:, 0].mean() < WIDTH / 2]


def picture(*lefts: int) -> np.ndarray:
    frame = np.zeros((200, WIDTH, 3), np.uint8)
    for left in lefts:
        frame[100 : 100 + SIDE, left : left + SIDE] = 255
    return frame


def test_left_and_right_points_are_pairs():
    pairs = mirror_points()
    assert (pairs[pairs] == np.arange(478)).all()
    for right, left in ((33, 263), (133, 362), (61, 291), (468, 473), (70, 300), (234, 454)):
        assert pairs[right] == left
    assert all(pairs[middle] == middle for middle in (1, 10, 13, 14, 152, 168))


def test_what_a_detector_sees_too_far_to_one_side_cancels():
    [face] = BothWaysDetector(Lopsided).detect(picture(100), 0.0)
    wrong = (Lopsided.error - Lopsided.error[mirror_points()]) / 2
    np.testing.assert_allclose(face.landmarks_px[:, 0], SHAPE[:, 0] + 104 + wrong, atol=1e-4)
    np.testing.assert_allclose(face.landmarks_px[:, 1], SHAPE[:, 1] + 104, atol=1e-4)
    assert abs(face.landmarks_px[:, 0].mean() - SHAPE[:, 0].mean() - 104) < 1e-3 < Lopsided.error.mean()


def test_a_mirrored_picture_gets_the_mirrored_answer():
    here = BothWaysDetector(Lopsided).detect(picture(60), 0.0)[0].landmarks_px
    there = (
        BothWaysDetector(Lopsided)
        .detect(np.ascontiguousarray(picture(60)[:, ::-1]), 0.0)[0]
        .landmarks_px[mirror_points()]
    )
    np.testing.assert_allclose(here, there * [-1, 1] + np.array([WIDTH, 0]), atol=1e-4)


def test_each_of_two_faces_meets_itself():
    left, right = BothWaysDetector(Lopsided).detect(picture(60, 200), 0.0)
    shift = right.landmarks_px - left.landmarks_px
    np.testing.assert_allclose(shift, np.broadcast_to([140, 0], shift.shape), atol=1e-4)


def test_a_face_that_only_one_look_finds_is_taken_as_it_is():
    [face] = BothWaysDetector(Blindfolded).detect(picture(40), 0.0)
    np.testing.assert_array_equal(face.landmarks_px, Lopsided().seen_at(np.array([44, 104], np.float32)))


def test_both_detectors_forget_and_close():
    Lopsided.made.clear()
    detector = BothWaysDetector(Lopsided)
    detector.forget()
    detector.close()
    assert [one.calls for one in Lopsided.made] == [["forget", "close"]] * 2


def test_a_failing_look_is_told_and_does_not_hang():
    class Broken(Lopsided):
        def detect(self, frame: np.ndarray, seconds: float) -> list[FaceLandmarks]:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        BothWaysDetector(Broken).detect(picture(40), 0.0)
