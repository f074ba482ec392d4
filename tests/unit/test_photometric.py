"""The pictures correct the head's pose where the landmarks are wrong."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.core import Camera, FaceTrack, MotionSequence
from avatar.events import Event, Progress
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.ops.mesh import rasterize_mesh

pytest.importorskip("cv2", reason="needs OpenCV, as the pictures' comparison does")

from avatar.face.photometric import refine_pose

SIZE, COUNT, FPS = (224, 224), 36, 25.0
CAMERA = Camera(T_world_camera=torch.eye(4), focal=(600.0, 600.0), center=(112.0, 112.0), size=SIZE)


@cache
def rig() -> PersonalRig:
    family = AnnyRig.load()
    return family.personal(torch.zeros(family.identity_size))


def motion(turns: np.ndarray, places: np.ndarray) -> MotionSequence:
    pose = torch.eye(4).repeat(len(turns), 1, 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.from_rotvec(turns).as_matrix()).float()
    pose[:, :3, 3] = torch.from_numpy(places).float()
    zero = torch.zeros(len(turns), 3)
    return MotionSequence(
        expression=torch.zeros(len(turns), 52), T_world_head=pose, neck=zero,
        gaze=torch.zeros(len(turns), 2, 2), torso=zero, fps=FPS,
    )  # fmt: skip


def waves(amount: list[float], phase: float) -> np.ndarray:
    time = np.linspace(0, 2 * np.pi, COUNT)[:, None]
    return np.sin(time + phase + np.arange(3)) * amount


@cache
def true_motion() -> MotionSequence:
    return motion(waves([0.06, 0.15, 0.04], 0), waves([0.01, 0.006, 0.01], 1) + np.array([0.0, 0.05, 0.8]))


def wrong_motion() -> MotionSequence:
    """As if the landmarks' errors went with the pose: about a degree, 2 mm, and one in a hundred of the distance."""
    true = true_motion()
    pose = true.T_world_head.double().numpy()
    turns = Rotation.from_matrix(pose[:, :3, :3]) * Rotation.from_rotvec(waves([0.02, 0.015, 0.01], 2))
    return motion(turns.as_rotvec(), pose[:, :3, 3] + waves([0.002, 0.002, 0.008], 0.5))


@cache
def frames(patterned: bool = True) -> np.ndarray:
    """A head of soft-edged patches of skin, as skin has them, on grey."""
    rng = np.random.default_rng(0)
    waving = rng.normal(size=(40, 3)) * 160
    colours = np.tile([170.0, 130.0, 110.0], (len(rig().neutral), 1))
    if patterned:
        colours += 14 * np.sin(rig().neutral.numpy() @ waving.T + rng.uniform(0, 6, 40)) @ rng.normal(size=(40, 3)) / 4
    out = np.full((COUNT, *SIZE, 3), 90.0)
    for index in range(COUNT):
        triangle, weights, _ = rasterize_mesh(
            rig().posed(true_motion().frame(index)), rig().faces, CAMERA.focal, CAMERA.center, SIZE
        )
        corners = colours[rig().faces[triangle.clamp(min=0)].numpy()]
        seen = (corners * weights.numpy()[..., None]).sum(-2)
        out[index] = np.where((triangle >= 0).numpy()[..., None], seen, out[index])
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def followed(moved: MotionSequence, confidence: torch.Tensor | None = None) -> FaceTrack:
    return FaceTrack(
        motion=moved, identity=torch.zeros(60), camera=CAMERA, landmarks_px=torch.zeros(len(moved), 478, 2),
        confidence=torch.ones(len(moved)) if confidence is None else confidence,
    )  # fmt: skip


def errors_mm(found: MotionSequence) -> np.ndarray:
    """Mean distance of the face's points from where they are, seen from the camera, in each frame."""
    family, out = AnnyRig.load(), []
    points = family.landmarks.points(rig().neutral, rig().faces)[:468]
    for index in range(len(found)):
        places = []
        for each in (found, true_motion()):
            pose = each.T_world_head[index]
            places.append(points @ pose[:3, :3].T + pose[:3, 3])
        out.append(1e3 * float((places[0] - places[1])[:, :2].norm(dim=1).mean()))
    return np.array(out)


def angles_deg(found: MotionSequence) -> np.ndarray:
    turns = [Rotation.from_matrix(each.T_world_head[:, :3, :3].double().numpy()) for each in (found, true_motion())]
    return np.degrees((turns[0] * turns[1].inv()).magnitude())


def test_wrong_poses_of_a_patterned_head_come_right():
    before, found = wrong_motion(), refine_pose(followed(wrong_motion()), rig(), frames().__getitem__).motion
    assert angles_deg(before).mean() > 1
    assert angles_deg(found).mean() < 0.35 * angles_deg(before).mean()
    assert errors_mm(found).mean() < 0.35 * errors_mm(before).mean()


def test_slow_changes_of_the_light_move_nothing():
    light = 1 + 0.2 * np.sin(np.linspace(0, 5, COUNT))
    slope = 1 + 0.2 * np.linspace(-1, 1, SIZE[1])[None, :, None] * np.cos(np.linspace(0, 5, COUNT))[:, None, None, None]
    lit = np.clip(frames() * light[:, None, None, None] * slope, 0, 255).astype(np.uint8)
    found = refine_pose(followed(wrong_motion()), rig(), lit.__getitem__).motion
    assert angles_deg(found).mean() < 0.4 * angles_deg(wrong_motion()).mean()


def test_a_head_without_any_pattern_stays_where_the_landmarks_have_it():
    found = refine_pose(followed(true_motion()), rig(), frames(False).__getitem__).motion
    assert angles_deg(found).mean() < 0.4
    assert errors_mm(found).mean() < 0.8


def test_frames_without_a_face_are_not_read_and_go_with_their_neighbours():
    confidence = torch.ones(COUNT)
    confidence[10:14] = 0
    asked = []

    def frame(index: int) -> np.ndarray:
        asked.append(index)
        return frames()[index]

    found = refine_pose(followed(wrong_motion(), confidence), rig(), frame).motion
    assert not set(asked) & {10, 11, 12, 13}
    assert angles_deg(found)[10:14].max() < 0.6 * angles_deg(wrong_motion())[10:14].max()


def test_a_cut_is_not_smoothed_over():
    """The landmarks err one way before it and the other way behind it."""
    pose = true_motion().T_world_head.double().numpy()
    jump = np.where(np.arange(COUNT) < COUNT // 2, 0.015, -0.015)[:, None] * [0.0, 1.0, 0.0]
    turns = Rotation.from_matrix(pose[:, :3, :3]) * Rotation.from_rotvec(jump)
    start = followed(motion(turns.as_rotvec(), pose[:, :3, 3]))
    segments = (np.arange(COUNT) >= COUNT // 2).astype(int)
    apart = refine_pose(start, rig(), frames().__getitem__, segments=segments).motion
    across = refine_pose(start, rig(), frames().__getitem__).motion
    near = slice(COUNT // 2 - 2, COUNT // 2 + 2)
    assert angles_deg(apart)[near].mean() < 0.8 * angles_deg(across)[near].mean()


def test_a_rig_of_which_little_goes_with_the_skull_is_left_alone():
    mask = replace(rig(), skin=torch.tensor([[0.5, 0.5, 0.0]]).repeat(len(rig().neutral), 1))
    track = followed(wrong_motion())
    assert refine_pose(track, mask, frames().__getitem__) is track


def test_progress_ends_with_all_frames():
    heard: list[Event] = []
    refine_pose(followed(wrong_motion()), rig(), frames().__getitem__, sink=heard.append)
    last = heard[-1]
    assert isinstance(last, Progress) and last.done == last.total == COUNT
