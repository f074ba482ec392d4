"""Framing, quality rules and the order of background work."""

import dataclasses
import threading

import numpy as np
import pytest

from avatar.face.landmarks import FaceLandmarks
from avatar.preprocess.background import Background
from avatar.preprocess.framing import choose_framing
from avatar.preprocess.quality import Quality, warnings_of
from avatar.preprocess.series import closures, peaks

GOOD = Quality(
    seconds=60.0,
    face_found=1.0,
    face_px=250.0,
    sharpness=0.06,
    reprojection=0.01,
    reprojection_regions={"lips": 0.008},
    jitter_deg=0.05,
    yaw_deg=(-20.0, 20.0),
    pitch_deg=(-8.0, 8.0),
    poses=12,
    actions=30,
    blinks=12,
    closures=20,
    mouth_opening=0.2,
    light_change=0.05,
    cuts=(),
    left_out=0,
    covered=0,
    turned_away=0,
    background_seen=0.5,
    sound="voice",
    audio_delay_seconds=0.0,
    audio_delay_confidence=0.9,
)


def face(x, y, height):
    """Landmarks in an ellipse; only forehead (10), chin (152) and the box matter."""
    angles = np.linspace(0, 2 * np.pi, 478)
    points = np.stack([x + 0.4 * height * np.cos(angles), y + 0.5 * height * np.sin(angles)], -1).astype(np.float32)
    points[10], points[152] = (x, y - height / 2), (x, y + height / 2)
    return FaceLandmarks(landmarks_px=points, score=1.0)


def test_small_frames_are_taken_whole():
    framing = choose_framing((480, 512), [face(250, 200, 200)], 512)
    assert framing.window == (0, 0, 480, 512)
    assert framing.size == (480, 512)
    picture = np.arange(480 * 512 * 3, dtype=np.uint32).astype(np.uint8).reshape(480, 512, 3)
    np.testing.assert_array_equal(framing.cut(picture), picture)


@pytest.mark.parametrize("shape", [(3840, 2160), (1080, 1920), (721, 1281)])
def test_large_frames_are_cut_around_the_person_and_scaled(shape):
    height, width = shape
    framing = choose_framing(shape, [face(0.6 * width, 0.4 * height, 0.2 * height)], 512)
    top, left, h, w = framing.window
    assert top >= 0
    assert left >= 0
    assert top + h <= height
    assert left + w <= width
    assert left < 0.6 * width - 0.1 * height < 0.6 * width + 0.1 * height < left + w
    assert max(framing.size) <= 512
    assert framing.size[0] % 2 == framing.size[1] % 2 == 0
    assert framing.size[0] / framing.size[1] == pytest.approx(h / w, rel=0.01)
    assert framing.cut(np.zeros((*shape, 3), np.uint8)).shape[:2] == framing.size


def test_the_lens_axis_is_known_in_working_pixels():
    framing = choose_framing((2160, 3840), [face(1920, 1080, 500)], 512)
    assert framing.center[0] == pytest.approx(framing.size[1] / 2, abs=1)


def test_a_good_film_gets_no_warning_and_each_weakness_its_own():
    assert warnings_of(GOOD) == []
    weak = {
        "seconds": 5.0,
        "face_found": 0.5,
        "face_px": 100.0,
        "sharpness": 0.005,
        "reprojection": 0.08,
        "yaw_deg": (-2.0, 2.0),
        "jitter_deg": 0.4,
        "left_out": 84,
        "covered": 12,
        "light_change": 0.4,
        "blinks": 0,
        "closures": 0,
        "mouth_opening": 0.01,
    }
    for name, value in weak.items():
        assert len(warnings_of(dataclasses.replace(GOOD, **{name: value}))) == 1, name


def test_blinks_are_counted_once_each():
    closed = np.zeros(100)
    closed[10:13] = 0.9
    closed[40:44] = [0.6, 0.45, 0.6, 0.5]  # one blink that trembles
    closed[70] = 0.4  # a squint
    assert peaks(closed, 0.5, 0.3) == [10, 40]


def test_lips_that_meet_are_counted_when_they_were_apart_before():
    gap = np.full(60, 0.08)
    gap[:5] = 0.0
    gap[20:23] = [0.02, 0.005, 0.02]
    gap[40] = 0.02  # nearly
    assert closures(gap) == [0, 21]


def test_background_work_keeps_its_order_and_its_errors():
    seen = []
    with Background(pending=2) as background:
        for i in range(20):
            background.submit(seen.append, i)
    assert seen == list(range(20))

    def fail():
        raise OSError("full")

    with pytest.raises(OSError, match="full"), Background() as background:
        background.submit(fail)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Background() as background:
        background.submit(seen.append, 99)
        raise KeyboardInterrupt
    assert threading.active_count() <= before
