"""Clothes that slide on a torso are followed in the pictures."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from avatar.core import Camera, FaceTrack, MotionSequence
from avatar.core.motion import CLOTHES
from avatar.face.clothes import follow_clothes
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.face.track_io import load_track, save_track
from avatar.ops.mesh import rasterize_mesh

pytest.importorskip("cv2", reason="needs OpenCV, as following does")

SIZE, COUNT, FPS = (288, 288), 30, 12.0
FOCAL, CENTRE = (560.0, 560.0), (144.0, 100.0)
CAMERA = Camera(T_world_camera=torch.eye(4), focal=FOCAL, center=CENTRE, size=SIZE)
CUT = np.repeat([0, 1], COUNT // 2)


@cache
def rig() -> PersonalRig:
    family = AnnyRig.load()
    return family.personal(torch.zeros(family.identity_size))


def motion(clothes: np.ndarray) -> MotionSequence:
    pose = torch.eye(4).repeat(COUNT, 1, 1)
    pose[:, :3, 3] = torch.tensor([0.0, -0.08, 0.9])
    return MotionSequence(
        expression=torch.zeros(COUNT, 52), T_world_head=pose, neck=torch.zeros(COUNT, 3),
        gaze=torch.zeros(COUNT, 2, 2), clothes=torch.from_numpy(clothes).float(), fps=FPS,
    )  # fmt: skip


@cache
def true_motion() -> MotionSequence:
    """Slides aside and shrinks by and by; at the cut the clothes are put on anew."""
    time, clothes = np.linspace(0, np.pi, COUNT), np.zeros((COUNT, CLOTHES))
    clothes[:, 0], clothes[:, 3], clothes[:, 4] = 0.006 * np.cos(time), 0.004 * np.sin(time), -0.006 * np.sin(time)
    clothes[COUNT // 2 :, 7] = 0.005
    return motion(clothes)


@cache
def frames() -> list[np.ndarray]:
    """Clothes of squares of random colours."""
    squares = np.random.default_rng(0).integers(40, 220, (4000, 3)).astype(np.uint8)
    place = (rig().neutral[rig().faces].mean(1).numpy() / 0.03).astype(int)
    colours = squares[np.unique(place, axis=0, return_inverse=True)[1].ravel() % len(squares)]
    out = []
    for index in range(COUNT):
        seen = rasterize_mesh(rig().posed(true_motion().frame(index)), rig().faces, FOCAL, CENTRE, SIZE)
        triangle = seen[0].numpy()
        out.append(np.where((triangle >= 0)[..., None], colours[triangle.clip(0)], 90).astype(np.uint8))
    return out


def mask(index: int) -> np.ndarray:
    return np.where((frames()[index] != 90).any(-1), 255, 0).astype(np.uint8)


@cache
def unaware() -> FaceTrack:
    landmarks = CAMERA.project(
        AnnyRig.load().landmarks.points(rig().posed(motion(np.zeros((COUNT, 20))).frame(0)), rig().faces)
    )
    return FaceTrack(
        motion=motion(np.zeros((COUNT, CLOTHES))), identity=torch.zeros(60), camera=CAMERA,
        landmarks_px=landmarks.repeat(COUNT, 1, 1), confidence=torch.ones(COUNT),
    )  # fmt: skip


@cache
def drawn() -> torch.Tensor:
    """Vertices of the torso that the first frame shows."""
    triangle = rasterize_mesh(rig().posed(true_motion().frame(0)), rig().faces, FOCAL, CENTRE, SIZE)[0]
    seen = rig().faces[triangle[triangle >= 0]].unique()
    return seen[rig().skin[seen, 2] > 0.9]


def errors_px(found: MotionSequence) -> np.ndarray:
    """Of the torso's vertices in the picture, after what is off in all frames alike, [t]."""
    places = []
    for each in (found, true_motion()):
        pixels = [CAMERA.project(rig().posed(each.frame(i))[drawn()]).numpy() for i in range(COUNT)]
        places.append(np.stack(pixels) - np.mean(pixels, 0))
    return np.linalg.norm(places[0] - places[1], axis=-1).mean(1)


@pytest.fixture(scope="module")
def found():
    return follow_clothes(unaware(), rig(), lambda i: frames()[i], mask, segments=CUT)


def test_clothes_that_slide_are_followed(found):
    before, after = errors_px(unaware().motion), errors_px(found.motion)
    assert before.mean() > 1.5
    assert after.mean() < 0.35 * before.mean()


def test_clothes_that_were_put_on_anew_jump_at_the_cut(found):
    put_on = found.motion.clothes[:, 7].numpy()
    assert np.diff(put_on)[COUNT // 2 - 1] == pytest.approx(0.005, abs=0.0015)


def test_all_but_the_clothes_stays_and_they_mostly_lie_at_zero(found):
    for name in ("expression", "T_world_head", "neck", "gaze", "torso"):
        torch.testing.assert_close(getattr(found.motion, name), getattr(unaware().motion, name))
    assert np.abs(np.median(found.motion.clothes.numpy(), 0)).max() < 2e-3


def test_frames_without_a_face_are_not_asked_for_and_lie_between_their_neighbours(found):
    hidden = [5, 6]
    confidence = torch.ones(COUNT)
    confidence[hidden] = 0.0

    def frame(index: int) -> np.ndarray:
        assert index not in hidden
        return frames()[index]

    other = follow_clothes(replace(unaware(), confidence=confidence), rig(), frame, mask, segments=CUT).motion
    assert errors_px(other)[hidden].max() < 1.5 * errors_px(found.motion)[hidden].max()


def test_a_plain_cloth_does_not_slide():
    plain = np.full((*SIZE, 3), 90, np.uint8)
    still = follow_clothes(unaware(), rig(), lambda _: plain, mask).motion.clothes
    assert still.abs().max() < 1e-6


def test_where_no_torso_is_seen_the_track_is_kept():
    assert follow_clothes(unaware(), rig(), lambda i: frames()[i], lambda _: np.zeros(SIZE, np.uint8)) is unaware()


def test_clothes_move_the_torso_and_leave_the_head(found):
    still, moved = rig().posed(motion(np.zeros((COUNT, CLOTHES))).frame(0)), rig().posed(true_motion().frame(0))
    away, skin = (moved - still).norm(dim=1), rig().skin
    assert away[skin[:, 0] > 0.5].max() == 0
    torso = skin[:, 2] > 0.999
    assert away[torso].min() == pytest.approx(0.006, abs=1e-5)


def test_clothes_are_kept_with_the_track_and_zero_in_older_ones(found, tmp_path):
    save_track(found, tmp_path / "track.safetensors")
    again = load_track(tmp_path / "track.safetensors")
    torch.testing.assert_close(again.motion.clothes, found.motion.clothes)
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(tmp_path / "track.safetensors", framework="pt") as file:
        facts, names = file.metadata(), [name for name in file.keys() if name != "clothes"]  # noqa: SIM118
        old = {name: file.get_tensor(name) for name in names}
    save_file(old, tmp_path / "old.safetensors", facts)
    assert load_track(tmp_path / "old.safetensors").motion.clothes.abs().max() == 0
