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

    def __init__(self, faces: int = 2) -> None:
        self.faces, self.looks = faces, 0
        self.calls: list[str] = []
        Lopsided.made.append(self)

    def detect(self, frame: np.ndarray, seconds: float) -> list[FaceLandmarks]:
        assert frame.flags["C_CONTIGUOUS"]
        self.looks += 1
        found: Any = label(frame[..., 0] == 255)
        bright, count = found
        middles = [(x + 0.5, y + 0.5) for y, x in center_of_mass(bright > 0, bright, range(1, count + 1))]
        points = [self.seen_at(np.array(middle, np.float32)) for middle in middles[: self.faces]]
        return [FaceLandmarks(landmarks_px=at, score=1.0) for at in points]

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


def test_one_face_is_looked_at_twice_and_nothing_else_searches_the_mirrored_picture():
    Lopsided.made.clear()
    detector = BothWaysDetector(Lopsided)
    for _ in range(3):
        assert len(detector.detect(picture(60), 0.0)) == 1
    assert [(one.faces, one.looks) for one in Lopsided.made] == [(2, 3), (1, 3)]


def test_a_second_face_that_comes_and_goes_is_looked_at_both_ways_too():
    Lopsided.made.clear()
    detector = BothWaysDetector(Lopsided)
    both = BothWaysDetector(Lopsided).detect(picture(60, 200), 0.0)
    for lefts in ((60,), (60, 200), (60, 200), (200,)):
        found = detector.detect(picture(*lefts), 0.0)
        for face, left in zip(found, lefts, strict=True):
            np.testing.assert_allclose(face.landmarks_px, both[left == 200].landmarks_px, atol=1e-4)


def test_a_face_that_only_one_look_finds_is_taken_as_it_is():
    [face] = BothWaysDetector(Blindfolded).detect(picture(40), 0.0)
    np.testing.assert_array_equal(face.landmarks_px, Lopsided().seen_at(np.array([44, 104], np.float32)))


def test_all_detectors_forget_and_close():
    Lopsided.made.clear()
    detector = BothWaysDetector(Lopsided)
    detector.detect(picture(60, 200), 0.0)
    detector.forget()
    detector.close()
    assert [one.calls for one in Lopsided.made] == [["forget", "close"]] * 3


def test_a_failing_look_is_told_and_does_not_hang():
    class Broken(Lopsided):
        def detect(self, frame: np.ndarray, seconds: float) -> list[FaceLandmarks]:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        BothWaysDetector(Broken).detect(picture(40), 0.0)
