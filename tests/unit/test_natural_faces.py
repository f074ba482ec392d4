"""The tracker's prior of faces: where its numbers come from, and what they say."""

import numpy as np
import pytest

from avatar.face.arkit import INDEX
from avatar.face.natural import natural
from avatar.synthetic.natural import natural_faces


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return natural_faces(people=6, faces=40)


def test_faces_are_made_again_from_their_seeds(faces):
    np.testing.assert_array_equal(natural_faces(people=1, faces=40), faces[:40])


def test_coefficients_stay_in_range_and_what_follows_the_gaze_is_left_out(faces):
    assert faces.min() >= 0 and faces.max() <= 1
    assert not faces[:, [INDEX["eyeLookInLeft"], INDEX["tongueOut"]]].any()


def test_the_file_holds_what_the_program_makes(faces):
    kept, spread = natural(), np.sqrt(natural().covariance.diagonal())
    off = np.abs(faces.mean(0) - kept.mean) / np.maximum(spread, 0.02)
    assert off.max() < 1.0
    assert np.median(off) < 0.2


def test_lips_open_with_the_jaw_and_sides_go_together():
    kept = natural()
    scale = np.sqrt(kept.covariance.diagonal().clip(1e-9))
    correlation = kept.covariance / scale / scale[:, None]
    assert correlation[INDEX["jawOpen"], INDEX["mouthLowerDownLeft"]] > 0.3
    assert correlation[INDEX["mouthSmileLeft"], INDEX["mouthSmileRight"]] > 0.6
    assert np.linalg.eigvalsh(kept.covariance).min() > -1e-6
