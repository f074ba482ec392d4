"""Nothing runs across a cut: not the smoothing, not the following of faces, not that of the torso."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from avatar.core import Camera, FaceTrack, MotionSequence
from avatar.face.landmarks import FaceLandmarks, follow
from avatar.face.rig import AnnyRig
from avatar.face.segments import in_each, spans

CUT = np.repeat([0, 1], 20)


def test_spans_are_the_runs_of_equal_ids() -> None:
    assert spans(np.array([0, 0, 1, 3, 3]), 5) == [slice(0, 2), slice(2, 3), slice(3, 5)]
    assert spans(None, 5) == [slice(0, 5)]
    assert spans(np.zeros(0, int), 0) == []
    with pytest.raises(ValueError, match="3 segment ids for 5 frames"):
        spans(np.zeros(3, int), 5)


def test_smoothing_in_each_segment_keeps_the_step_between_them() -> None:
    step = np.repeat([0.0, 1.0], 20)
    np.testing.assert_array_equal(in_each(lambda x: gaussian_filter1d(x, 2.0), step, CUT), step)


def test_nobody_is_followed_across_a_cut() -> None:
    shape = np.random.default_rng(0).random((478, 2)).astype(np.float32) - 0.5
    shape[10], shape[152] = (0, -0.5), (0, 0.5)

    def face(x: float, height: float) -> FaceLandmarks:
        return FaceLandmarks(landmarks_px=shape * height + np.array([x, 100], np.float32), score=1.0)

    frames = [[face(100, 80)]] * 20 + [[face(100, 60), face(220, 90)]] * 20
    apart = follow(frames, CUT).landmarks_px[:, :, 0].mean(1)
    assert apart[20] - apart[19] > 100, "the larger face of the second shot"
    assert follow(frames).landmarks_px[20:, :, 0].mean() < 110, "without the cut the same place goes on"


def test_the_torso_is_not_smoothed_across_a_cut() -> None:
    pytest.importorskip("cv2")
    from avatar.face.torso import follow_torso

    rig, size, focal, depth = AnnyRig.load(), (256, 256), 640.0, 0.9
    head = rig.personal(torch.zeros(rig.identity_size))
    pose = torch.eye(4).repeat(40, 1, 1)
    pose[:, 1, 3], pose[:, 2, 3] = -0.06, depth
    still = {"expression": torch.zeros(40, 52), "neck": torch.zeros(40, 3), "gaze": torch.zeros(40, 2, 2)}
    motion = MotionSequence(**still, T_world_head=pose, fps=25.0)
    camera = Camera(T_world_camera=torch.eye(4), focal=(focal, focal), center=(128.0, 128.0), size=size)
    points = camera.project(rig.landmarks.points(head.posed(motion.frame(0)), head.faces)).repeat(40, 1, 1)
    track = FaceTrack(
        motion=motion, identity=torch.zeros(rig.identity_size), camera=camera, landmarks_px=points,
        confidence=torch.ones(40),
    )  # fmt: skip
    cloth = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = [np.roll(cloth, 0 if index < 20 else 6, axis=1) for index in range(40)]
    person = np.full(size, 255, np.uint8)
    cut = follow_torso(track, head, frames.__getitem__, lambda _: person, segments=CUT).motion.torso[:, 0]
    smooth = follow_torso(track, head, frames.__getitem__, lambda _: person).motion.torso[:, 0]
    moved = float(cut[30] - cut[10])
    assert moved == pytest.approx(6 / focal * depth, rel=0.25)
    assert float(cut[20] - cut[19]) == pytest.approx(moved, rel=0.02)
    assert float(smooth[20] - smooth[19]) < 0.9 * moved
