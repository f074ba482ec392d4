"""A synthetic person's pictures, drawn once for all tests of this folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.core import Camera, MotionFrame


@pytest.fixture(scope="session")
def stills() -> list:
    """Some moments of a speaking synthetic head, 256x256."""
    from films import SIDE, Still

    from avatar.synthetic.speaker import Speaker

    speaker = Speaker(strands=600, texture=128)
    camera = Camera(T_world_camera=torch.eye(4), focal=(640.0, 640.0), center=(128.0, 128.0), size=(SIDE, SIDE))
    out = []
    for turn, jaw in ((-0.15, 0.0), (0.0, 0.5), (0.15, 0.2)):
        pose = torch.eye(4)
        pose[0, 0] = pose[2, 2] = np.cos(turn)
        pose[0, 2], pose[2, 0] = np.sin(turn), -np.sin(turn)
        pose[1, 3], pose[2, 3] = 0.03, 1.0
        expression = torch.zeros(52)
        expression[17] = jaw  # jawOpen
        motion = MotionFrame(expression=expression, T_world_head=pose, neck=torch.zeros(3), gaze=torch.zeros(2, 2))
        drawing = speaker.draw(motion, camera)
        out.append(Still(rgb=drawing.rgb.numpy(), alpha=drawing.alpha.numpy()))
    return out


@pytest.fixture
def good(tmp_path, stills) -> Path:
    """24 frames at 10 fps with a sound."""
    from films import film, person, voice

    return film(tmp_path / "good.mp4", (person(stills, i) for i in range(24)), audio=voice(2.4))


@pytest.fixture(scope="session")
def quick(stills):
    """Tools that take no time: the points of one picture for every frame."""
    pytest.importorskip("mediapipe")
    from films import Ellipse, Remembered, no_offset, person, still_fit

    from avatar.face.landmarks import MediapipeDetector
    from avatar.face.rig import AnnyRig
    from avatar.preprocess import Tools

    detector = MediapipeDetector()
    Remembered.points = detector.detect(person(stills, 0), 0.0)[0].landmarks_px
    detector.close()
    return Tools(detector=Remembered, segmenter=Ellipse, fit=still_fit, offset=no_offset, family=AnnyRig.load)
