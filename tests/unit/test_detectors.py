"""Other finders of landmarks behind the same interface: the face landmarker's file, and networks of 68 points."""

import sys
import types
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.errors import InputError
from avatar.face import AnnyRig
from avatar.face.arkit import INDEX
from avatar.face.face_landmarker import SHA256, SIZE, FaceLandmarkerDetector
from avatar.face.landmarks import MediapipeDetector
from avatar.face.sparse_landmarks import SEEN, FaceAlignmentDetector, completed
from avatar.face.tracking import Footage, fit
from avatar.media.files import sha256

SHARED = Path(__file__).parents[3] / "shared"
CLIP, MODEL = SHARED / "clips" / "speech_en_8s.mp4", SHARED / "models" / "face_landmarker.task"
MARKUP = np.array(
    [
        *(127, 234, 93, 132, 172, 136, 150, 176, 152, 400, 379, 365, 397, 361, 323, 454, 356),
        *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327),
        *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
        *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 81, 13, 311, 308, 402, 14, 178),
    ]
)
"""MediaPipe's point at (contour: near) each of the 68, in the markup's order."""


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    if not CLIP.exists() or not MODEL.exists():
        pytest.skip("the example clips or face_landmarker.task in ../shared are missing")
    pytest.importorskip("mediapipe")
    from avatar.media import open_clip

    clip = open_clip(CLIP)
    return [clip.frames[i] for i in range(6)]


def test_the_pinned_model_is_the_published_one():
    if not MODEL.exists():
        pytest.skip("face_landmarker.task in ../shared is missing")
    assert MODEL.stat().st_size == SIZE
    assert sha256(MODEL) == SHA256


def test_both_mediapipe_detectors_see_the_same_face(frames, capfd):
    old, new = MediapipeDetector(), FaceLandmarkerDetector(MODEL)
    for index, frame in enumerate(frames):
        [a], [(b, scores)] = old.detect(frame, index / 25), new.detect_with_scores(frame, index / 25)
        eyes = np.linalg.norm(a.landmarks_px[33] - a.landmarks_px[263])
        assert np.linalg.norm(a.landmarks_px - b.landmarks_px, axis=1).mean() < 0.03 * eyes
        assert scores.shape == (52,)
        assert scores.min() >= 0
        assert scores.max() <= 1
        assert scores[INDEX["tongueOut"]] == 0
    old.close()
    new.close()
    assert capfd.readouterr().err == ""


def test_time_may_jump_back_and_forth(frames):
    detector = FaceLandmarkerDetector(MODEL)
    first = detector.detect(frames[0], 3.0)[0].landmarks_px
    for seconds in (9.0, 0.0, 0.0):
        again = detector.detect(frames[0], seconds)[0].landmarks_px
        np.testing.assert_allclose(again, first, atol=0.05 * np.ptp(first[:, 0]))
    assert detector.detect(np.zeros_like(frames[0]), 20.0) == []
    detector.close()


def test_a_small_face_is_found_in_a_part_of_the_picture(frames):
    detector = FaceLandmarkerDetector(MODEL)
    [whole] = detector.detect(frames[0], 0.0)
    factor = max(round(whole.height_px / 90), 1)
    small = frames[0][::factor, ::factor]
    scene = np.full((900, 1600, 3), 60, np.uint8)
    scene[500 : 500 + small.shape[0], 1200 : 1200 + small.shape[1]] = small[: 900 - 500, : 1600 - 1200]
    [found] = detector.detect(scene, 10.0)
    detector.close()
    error = np.linalg.norm(found.landmarks_px - (whole.landmarks_px / factor + np.array([1200, 500])), axis=1)
    assert error.mean() < 0.04 * found.height_px


def test_scores_of_jaw_and_lids_follow_the_gaps_of_lips_and_lids(frames):
    from avatar.media import open_clip

    clip, detector = open_clip(CLIP), FaceLandmarkerDetector(MODEL)
    gaps, scores = [], []
    for index in range(0, len(clip.frames), 6):
        [(face, said)] = detector.detect_with_scores(clip.frames[index], index / clip.fps)
        points = face.landmarks_px / face.height_px
        gaps.append([np.linalg.norm(points[a] - points[b]) for a, b in ((13, 14), (159, 145), (386, 374))])
        scores.append(said[[INDEX[name] for name in ("jawOpen", "eyeBlinkRight", "eyeBlinkLeft")]])
    detector.close()
    agree = np.corrcoef(np.array(gaps).T, np.array(scores).T)[:3, 3:].diagonal()
    assert agree[0] > 0.6
    assert agree[1:].max() < -0.8


def test_a_file_that_is_no_model_is_named(tmp_path):
    pytest.importorskip("mediapipe")
    path = tmp_path / "face_landmarker.task"
    with pytest.raises(InputError, match=r"face_landmarker\.task"):
        FaceLandmarkerDetector(path)
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"face_landmarker\.task: no face landmarker"):
        FaceLandmarkerDetector(path)


# 68 points ------------------------------------------------------------------------------------------------------


class FakeLandmarksType(IntEnum):
    TWO_D = 1


class FakeFinder:
    boxes: tuple[np.ndarray, ...] = ()

    def detect_from_image(self, image: np.ndarray) -> list[np.ndarray]:
        assert image.dtype == np.uint8
        return list(self.boxes)


class FakeFaceAlignment:
    """The interface of face-alignment 1.5, as its documentation has it."""

    points: tuple[np.ndarray, ...] = ()

    def __init__(self, landmarks_type, network_size=4, device="cuda", flip_input=False, **_):
        assert (landmarks_type, device, flip_input) == (FakeLandmarksType.TWO_D, "cpu", False)
        self.face_detector = FakeFinder()

    def get_landmarks_from_image(
        self, image_or_path, detected_faces=None, return_bboxes=False, return_landmark_score=False
    ):
        assert not return_bboxes
        assert not return_landmark_score
        assert detected_faces is not None
        return list(self.points) if detected_faces else None


@pytest.fixture
def package(monkeypatch) -> type[FakeFaceAlignment]:
    module = types.ModuleType("face_alignment")
    kind = type("FaceAlignment", (FakeFaceAlignment,), {})
    module.FaceAlignment, module.LandmarksType = kind, FakeLandmarksType  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    return kind


def head_points(turn: tuple[float, float, float], jaw: float = 0.0, seed: int = 1) -> np.ndarray:
    """All of MediaPipe's points of a head, in pixels of a picture 512 high."""
    rig = AnnyRig.load()
    person = rig.personal(rig.sample(1, seed=seed)[0])
    posed = person.neutral + jaw * person.actions[INDEX["jawOpen"]]
    points = rig.landmarks.points(posed, person.faces).numpy() @ Rotation.from_rotvec(turn).as_matrix().T
    points = points + np.array([0.0, 0.05, 0.9])
    return points[:, :2] / points[:, 2:] * 1300 + 256


def test_faces_of_face_alignment_are_largest_first_and_as_sure_as_their_boxes(package, monkeypatch):
    small, large = head_points((0, 0, 0))[MARKUP] * 0.5, head_points((0, 0.3, 0))[MARKUP]
    monkeypatch.setattr(package, "points", (small.astype(np.float32), large.astype(np.float32)))
    boxes = (np.array([0, 0, 100, 100, 0.9]), np.array([0, 0, 300, 300, 0.7]))
    monkeypatch.setattr(FakeFinder, "boxes", boxes)
    detector = FaceAlignmentDetector()
    first, second = detector.detect(np.zeros((512, 512, 3), np.uint8), 0.0)
    assert first.height_px > second.height_px
    assert (first.score, second.score) == pytest.approx((0.7, 0.9))
    np.testing.assert_allclose(first.landmarks_px[MARKUP[17:]], large[17:], atol=1e-3)
    assert not detector.seen.all()
    monkeypatch.setattr(FakeFinder, "boxes", ())
    assert detector.detect(np.zeros((512, 512, 3), np.uint8), 0.1) == []
    detector.close()


def test_without_face_alignment_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(InputError, match="pip install face-alignment"):
        FaceAlignmentDetector()


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.1, 0.5, -0.1)])
def test_the_points_that_68_do_not_tell_are_filled_in_near_their_place(turn):
    true = head_points(turn, jaw=0.3, seed=4)
    found = completed(true[MARKUP].astype(np.float64))
    error = np.linalg.norm(found - true, axis=1) / np.linalg.norm(true[33] - true[263])
    np.testing.assert_allclose(found[SEEN], true[SEEN], atol=1e-3)
    assert error[~SEEN].mean() < 0.05
    assert error.max() < 0.25


def test_points_that_were_filled_in_have_no_weight():
    frames, jaws = 16, np.linspace(0, 0.4, 16)
    turns = [(0.08 * np.sin(i / 3), 0.3 * np.sin(i / 5), 0.05) for i in range(frames)]
    points = np.stack([head_points(t, jaw=j) for t, j in zip(turns, jaws, strict=True)])
    points[:, ~SEEN] = np.stack([completed(p[MARKUP]) for p in points])[:, ~SEEN]
    wrong = points.copy()
    free = ~SEEN
    free[468:] = False  # a first look at the eyes orients itself by irises
    free[10] = False
    wrong[:, free] += 40 * np.random.default_rng(1).normal(size=(1, free.sum(), 2))
    rig = AnnyRig.load()
    tracks = [
        fit(p, np.ones(frames), rig, (512, 512), fps=25.0, footage=Footage(seen=SEEN))[0] for p in (points, wrong)
    ]
    found = [Rotation.from_matrix(t.motion.T_world_head[:, :3, :3].numpy()) for t in tracks]
    true = Rotation.from_rotvec(turns)
    assert np.degrees((found[0] * true.inv()).magnitude()).mean() < 3
    assert np.degrees((found[0] * found[1].inv()).magnitude()).mean() < 1
    opened = tracks[0].motion.expression[:, INDEX["jawOpen"]].numpy()
    assert np.corrcoef(opened, jaws)[0, 1] > 0.95
    assert torch.isfinite(tracks[0].motion.gaze).all()
