"""A torso that turns, leans and comes nearer by itself is followed in the pictures."""

import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from avatar.core import Camera, FaceTrack, MotionSequence
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.face.torso import follow_torso
from avatar.ops.mesh import rasterize_mesh

pytest.importorskip("cv2", reason="needs OpenCV, as following does")

SIZE, COUNT = (288, 288), 40
CAMERA = Camera(T_world_camera=torch.eye(4), focal=(560.0, 560.0), center=(144.0, 144.0), size=SIZE)


@cache
def rig() -> PersonalRig:
    family = AnnyRig.load()
    return family.personal(torch.zeros(family.identity_size))


def motion(neck: np.ndarray, torso: np.ndarray) -> MotionSequence:
    pose = torch.eye(4).repeat(len(neck), 1, 1)
    pose[:, :3, 3] = torch.tensor([0.0, -0.08, 0.9])
    return MotionSequence(
        expression=torch.zeros(len(neck), 52), T_world_head=pose, neck=torch.from_numpy(neck).float(),
        gaze=torch.zeros(len(neck), 2, 2), torso=torch.from_numpy(torso).float(), fps=25.0,
    )  # fmt: skip


@cache
def true_motion() -> MotionSequence:
    time = np.linspace(0, 2 * np.pi, COUNT)[:, None]
    return motion(np.sin(time) * [0.04, 0.08, 0.03], np.cos(time) * [0.01, 0.004, 0.015])


@cache
def frames() -> list[np.ndarray]:
    """Clothes of small squares of random colours, so that there are corners."""
    squares = np.random.default_rng(0).integers(40, 220, (4000, 3)).astype(np.uint8)
    place = (rig().neutral[rig().faces].mean(1).numpy() / 0.012).astype(int)
    colours = squares[np.unique(place, axis=0, return_inverse=True)[1].ravel() % len(squares)]
    out = []
    for index in range(COUNT):
        seen = rasterize_mesh(
            rig().posed(true_motion().frame(index)), rig().faces, (560.0, 560.0), (144.0, 144.0), SIZE
        )
        triangle = seen[0].numpy()
        out.append(np.where((triangle >= 0)[..., None], colours[triangle.clip(0)], 90).astype(np.uint8))
    return out


def mask(index: int) -> np.ndarray:
    return np.where((frames()[index] != 90).any(-1), 255, 0).astype(np.uint8)


def unaware() -> FaceTrack:
    """The same head on a torso that is thought to hold still."""
    landmarks = CAMERA.project(AnnyRig.load().landmarks.points(rig().posed(true_motion().frame(0)), rig().faces))
    return FaceTrack(
        motion=motion(np.zeros((COUNT, 3)), np.zeros((COUNT, 3))), identity=torch.zeros(60), camera=CAMERA,
        landmarks_px=landmarks.repeat(COUNT, 1, 1), confidence=torch.ones(COUNT),
    )  # fmt: skip


def errors_px(found: MotionSequence) -> np.ndarray:
    """Of the torso's vertices in the picture, after what is off in all frames alike, [t]."""
    torso = (rig().skin[:, 2] > 0.9).nonzero()[:, 0]
    places = []
    for each in (found, true_motion()):
        pixels = [CAMERA.project(rig().posed(each.frame(i))[torso]).numpy() for i in range(COUNT)]
        places.append(np.stack(pixels) - np.median(pixels, 0))
    inside = (rig().neutral[torso, 1] < 0.3).numpy()
    return np.linalg.norm(places[0] - places[1], axis=-1)[:, inside].mean(1)


@pytest.fixture(scope="module")
def found():
    return follow_torso(unaware(), rig(), frames().__getitem__, mask)


def test_a_torso_that_turns_and_comes_nearer_is_followed(found):
    before = errors_px(unaware().motion)
    after = errors_px(found.motion)
    assert before.mean() > 4
    assert after.mean() < 0.3 * before.mean()
    assert after.max() < 3


def test_the_turn_and_the_distance_are_told_apart_from_a_shift(found):
    moved, true = found.motion, true_motion()
    assert np.corrcoef(moved.neck[:, 1], true.neck[:, 1])[0, 1] > 0.9
    assert np.corrcoef(moved.torso[:, 2], true.torso[:, 2])[0, 1] > 0.8


def test_the_head_stays_and_the_middle_of_the_clip_is_no_shift(found):
    torch.testing.assert_close(found.motion.T_world_head, unaware().motion.T_world_head)
    assert np.abs(np.median(found.motion.torso.numpy(), 0)).max() < 1e-4


def test_frames_that_show_nothing_get_the_motion_between_their_neighbours(found):
    hidden = list(range(10, 14))
    blank = [np.full_like(f, 90) if i in hidden else f for i, f in enumerate(frames())]
    other = follow_torso(unaware(), rig(), blank.__getitem__, mask).motion
    assert torch.isfinite(other.torso).all()
    gap = (other.torso[hidden] - found.motion.torso[hidden]).norm(dim=1).max()
    assert gap < 0.006


def test_a_plain_cloth_leaves_the_torso_to_head_and_neck():
    plain = np.full((*SIZE, 3), 90, np.uint8)
    track = unaware()
    assert follow_torso(track, rig(), lambda _: plain, mask) is track


def test_a_far_turn_is_held_within_what_necks_do():
    track = replace(unaware(), confidence=torch.ones(COUNT))
    moved = follow_torso(track, rig(), lambda i: frames()[i][:, ::-1].copy() if i > 20 else frames()[i], mask).motion
    assert moved.neck.norm(dim=1).max() < 0.6


def test_an_interrupt_ends_following_at_once():
    read = []

    def slow(index: int) -> np.ndarray:
        read.append(index)
        time.sleep(0.05)
        return frames()[index]

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow_torso(unaware(), rig(), slow, mask, sink=interrupt)
    assert len(read) < 0.75 * COUNT


def test_clothes_that_lay_otherwise_once_do_not_make_the_torso_tremble():
    """The frame from which corners are followed shows a raised sleeve, which is hidden in every other frame: what lies
    elsewhere must not pull the torso to and fro."""
    later, left = frames()[0], slice(0, SIZE[1] // 2)
    raised, hidden = later.copy(), later.copy()
    raised[197:-3, left] = later[200:, left]
    hidden[197:, left] = 90
    shown = [raised, *(hidden if i % 2 else later for i in range(1, COUNT))]
    moved = follow_torso(unaware(), rig(), shown.__getitem__, mask).motion
    torso = (rig().skin[:, 2] > 0.9).nonzero()[:, 0]
    pixels = np.stack([CAMERA.project(rig().posed(moved.frame(i))[torso]).numpy() for i in range(4, COUNT)])
    assert np.abs(np.diff(pixels, 2, axis=0)).mean() < 0.02
