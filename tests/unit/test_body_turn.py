"""A body that turns with the head, as on a swivel chair, is followed by its clothes; small turns of a head are not."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.core import Camera, FaceTrack, MotionSequence
from avatar.face.body_turn import is_wide
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.face.torso import follow_torso
from avatar.ops.mesh import rasterize_mesh
from avatar.synthetic.performance import stand

pytest.importorskip("cv2", reason="needs OpenCV, as following does")

SIZE, COUNT, FPS = (192, 192), 40, 6.5
CAMERA = Camera(T_world_camera=torch.eye(4), focal=(375.0, 375.0), center=(96.0, 75.0), size=SIZE)


@cache
def rig() -> PersonalRig:
    family = AnnyRig.load()
    return family.personal(torch.zeros(family.identity_size))


@cache
def turns() -> np.ndarray:
    """Degrees: to one side, to the other, and back."""
    return 30 * np.sin(np.linspace(0, 2 * np.pi, COUNT))


@cache
def true_motion() -> MotionSequence:
    """The head goes along, less in the middle of each turn, and nods."""
    time = np.linspace(0, 2 * np.pi, COUNT)
    head = Rotation.from_euler("YX", np.stack([turns() + 6 * np.sin(3 * time), 3 * np.cos(2 * time)], 1), degrees=True)
    sway = np.zeros((COUNT, 6))
    sway[:, 4] = np.radians(turns())
    pose, neck = stand(rig(), head.as_rotvec(), sway)
    pose[:, 1, 3] -= 0.05
    return MotionSequence(
        expression=torch.zeros(COUNT, 52), T_world_head=pose, neck=neck, gaze=torch.zeros(COUNT, 2, 2), fps=FPS
    )


@cache
def frames() -> list[np.ndarray]:
    """A jumper with a pattern; what turns also gets darker."""
    squares = np.random.default_rng(0).integers(60, 200, (4000, 3)).astype(np.uint8)
    place = (rig().neutral[rig().faces].mean(1).numpy() / 0.015).astype(int)
    colours = squares[np.unique(place, axis=0, return_inverse=True)[1].ravel() % len(squares)]
    out = []
    for index, turn in enumerate(np.radians(turns())):
        posed = rig().posed(true_motion().frame(index))
        triangle = rasterize_mesh(posed, rig().faces, CAMERA.focal, CAMERA.center, SIZE)[0].numpy()
        lit = colours[triangle.clip(0)] * (0.6 + 0.4 * np.cos(2 * turn))
        out.append(np.where((triangle >= 0)[..., None], lit, 20).astype(np.uint8))
    return out


def mask(index: int) -> np.ndarray:
    return np.where((frames()[index] != 20).any(-1), 255, 0).astype(np.uint8)


@cache
def unaware() -> FaceTrack:
    """The true head on a torso that is thought to hold still."""
    motion = true_motion()
    points = [AnnyRig.load().landmarks.points(rig().posed(motion.frame(i)), rig().faces) for i in range(COUNT)]
    still = replace(motion, neck=torch.from_numpy(rotations(motion).as_rotvec()).float())
    return FaceTrack(
        motion=still, identity=torch.zeros(60), camera=CAMERA,
        landmarks_px=CAMERA.project(torch.stack(points)), confidence=torch.ones(COUNT),
    )  # fmt: skip


def rotations(motion: MotionSequence) -> Rotation:
    return Rotation.from_matrix(motion.T_world_head[:, :3, :3].double().numpy())


def found_degrees(track: FaceTrack) -> np.ndarray:
    torso = rotations(track.motion) * Rotation.from_rotvec(-track.motion.neck.double().numpy())
    return np.degrees(torso.as_rotvec()[:, 1])


@cache
def followed() -> FaceTrack:
    return follow_torso(unaware(), rig(), frames().__getitem__, mask)


def test_the_turn_of_the_body_is_found():
    assert np.abs(found_degrees(unaware())).max() < 0.1
    error = found_degrees(followed()) - turns()
    assert np.sqrt((error - np.median(error)).__pow__(2).mean()) < 3


def test_a_torso_that_only_turns_is_not_shifted():
    assert float(followed().motion.torso.abs().max()) < 0.015


def test_progress_is_told_and_ends_within_the_film():
    told = []
    follow_torso(unaware(), rig(), frames().__getitem__, mask, sink=told.append)
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1].done == told[-1].total == COUNT


def test_cloth_without_texture_leaves_the_torso_to_the_head():
    plain = [np.where(frame != 20, 90, 20).astype(np.uint8) for frame in frames()]
    found = follow_torso(unaware(), rig(), plain.__getitem__, mask)
    assert np.isfinite(found_degrees(found)).all()


def test_a_head_that_looks_around_takes_no_body_along():
    motion = unaware().motion
    quick = Rotation.from_rotvec(np.radians(20 * np.sin(np.arange(COUNT) * 1.3))[:, None] * [0, 1, 0]).as_matrix()
    pose = motion.T_world_head.clone()
    pose[:, :3, :3] = torch.from_numpy(quick).float()
    assert is_wide(unaware())
    assert not is_wide(replace(unaware(), motion=replace(motion, T_world_head=pose)))
