"""Detection and following of faces."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from avatar.face.landmarks import FaceLandmarks, MediapipeDetector, PersonSegmenter, follow
from avatar.face.mediapipe_graph import quiet

CLIP = Path(__file__).parents[3] / "shared" / "clips" / "speech_en_8s.mp4"
SHAPE = np.random.default_rng(0).random((478, 2)).astype(np.float32) - 0.5
SHAPE[10], SHAPE[152] = (0, -0.5), (0, 0.5)


def face(x: float, y: float, height: float) -> FaceLandmarks:
    return FaceLandmarks(landmarks_px=SHAPE * height + np.array([x, y], np.float32), score=1.0)


def test_the_larger_face_is_followed_even_where_the_order_changes():
    big = [face(100 + i, 100, 80) for i in range(8)]
    small = [face(300, 100, 60) for _ in range(8)]
    frames = [[b, s] if i % 2 else [s, b] for i, (b, s) in enumerate(zip(big, small, strict=True))]
    person = follow(frames)
    np.testing.assert_array_equal(person.landmarks_px, np.stack([b.landmarks_px for b in big]))
    assert person.crowded.all()


def test_frames_without_the_face_have_no_confidence_and_repeat_a_neighbour():
    frames = [[face(100, 100, 80)] for _ in range(4)] + [[]] * 2 + [[face(101, 100, 80)] for _ in range(4)]
    person = follow(frames)
    assert (person.confidence == 0).tolist() == [False] * 4 + [True] * 2 + [False] * 4
    np.testing.assert_array_equal(person.landmarks_px[4], frames[3][0].landmarks_px)


def test_somebody_else_does_not_fill_the_gap():
    other = face(400, 300, 70)
    frames = [[face(100, 100, 80)] for _ in range(6)] + [[other]] * 2 + [[face(100, 100, 80)] for _ in range(6)]
    assert (follow(frames).confidence[6:8] == 0).all()


def test_a_frame_where_the_detector_slipped_has_no_confidence():
    frames = [[face(100 + i, 100, 80)] for i in range(7)]
    frames[3] = [face(113, 100, 80)]
    assert np.flatnonzero(follow(frames).confidence == 0).tolist() == [3]


def test_no_face_at_all_is_no_person():
    person = follow([[], [], []])
    assert person.confidence.tolist() == [0, 0, 0]
    assert person.landmarks_px.shape == (3, 478, 2)


def _picture() -> np.ndarray:
    if not CLIP.exists():
        pytest.skip("the example clips in ../shared are missing")
    pytest.importorskip("mediapipe")
    from avatar.media import open_clip

    return open_clip(CLIP).frames[0]


def test_a_face_of_80_pixels_in_a_large_picture_is_found_where_it_is(capfd):
    picture = _picture()
    detector = MediapipeDetector()
    [whole] = detector.detect(picture, 0.0)
    factor = round(whole.height_px / 80)
    small = picture[::factor, ::factor]
    scene = np.full((720, 1280, 3), 60, np.uint8)
    scene[400 : 400 + small.shape[0], 900 : 900 + small.shape[1]] = small
    [found] = detector.detect(scene, 10.0)
    detector.close()
    error = np.linalg.norm(found.landmarks_px - (whole.landmarks_px / factor + np.array([900, 400])), axis=1)
    assert error.mean() < 0.03 * found.height_px
    assert capfd.readouterr().err == ""


def test_an_empty_picture_has_no_face():
    pytest.importorskip("mediapipe")
    detector = MediapipeDetector()
    assert detector.detect(np.zeros((200, 300, 3), np.uint8), 0.0) == []
    detector.close()


def test_the_person_mask_covers_the_face():
    picture = _picture()
    detector, segmenter = MediapipeDetector(), PersonSegmenter()
    [found] = detector.detect(picture, 0.0)
    mask = segmenter.mask(picture)
    assert mask.shape == picture.shape[:2]
    columns, rows = found.landmarks_px.astype(int).T
    assert mask[rows, columns].mean() > 0.9
    assert mask.min() < 0.1


def test_the_detectors_logs_arequietd_until_the_last_thread_left(capfd):
    def say(text: bytes) -> None:
        os.write(2, text)

    with quiet:
        inner = threading.Thread(target=quiet.__enter__)
        inner.start()
        inner.join()
        say(b"one\n")
    say(b"two\n")
    quiet.__exit__()
    say(b"three\n")
    assert capfd.readouterr().err == "three\n"
