"""Held-out views: the true world is carried over into the tracked one, and a perfect avatar scores high."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.core import Camera, FaceTrack, MotionSequence, RenderOutput
from avatar.errors import InputError
from avatar.evaluate import views
from avatar.evaluate.rows import Subject
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.media import write_image, write_json, write_tensors

SIZE = 96


@pytest.fixture(scope="module")
def rig() -> PersonalRig:
    family = AnnyRig.load()
    return family.personal(torch.zeros(family.identity_size))


def _motion(z: float) -> MotionSequence:
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[:, 2, 3] = z
    return MotionSequence(
        expression=torch.zeros(2, 52), T_world_head=pose, neck=torch.zeros(2, 3), gaze=torch.zeros(2, 2, 2), fps=25.0
    )


def _side(yaw: float, z: float) -> Camera:
    turn = torch.from_numpy(Rotation.from_euler("y", -yaw, degrees=True).as_matrix()).float()
    pose, middle = torch.eye(4), torch.tensor([0.0, 0.0, z])
    pose[:3, :3], pose[:3, 3] = turn, middle - turn @ middle
    return Camera(T_world_camera=pose, focal=(250.0, 250.0), center=(48.0, 48.0), size=(SIZE, SIZE))


class _Dots:
    """Draws the rig's vertices as white dots, black elsewhere, where the person is."""

    def __init__(self, rig: PersonalRig) -> None:
        self.rig = rig

    def draw(self, request) -> RenderOutput:
        at = request.camera.project(self.rig.posed(request.motion)).floor().long()
        at = at[((at >= 0) & (at < SIZE)).all(1)]
        alpha = torch.zeros(SIZE, SIZE)
        alpha[at[:, 1], at[:, 0]] = 1.0
        return RenderOutput(rgb=alpha[..., None].expand(-1, -1, 3) * 1.0, alpha=alpha)


def _write_truth(folder: Path, rig: PersonalRig, z: float) -> None:
    motion = _motion(z)
    tensors = {name: getattr(motion, name) for name in ("expression", "T_world_head", "neck", "gaze")}
    tensors |= {f"rig.{name}": value for name, value in rig.to_tensors().items()}
    write_tensors(folder / "truth.safetensors", tensors, {"facts": json.dumps({"fps": 25.0})})
    (folder / "views").mkdir()
    listed = []
    for yaw in (-30, 30):
        camera = _side(yaw, z)
        alpha = (_Dots(rig).draw(SimpleNamespace(camera=camera, motion=motion.frame(1))).alpha * 255).byte().numpy()
        names = {"file": f"views/{yaw}.png", "alpha": f"views/{yaw}_alpha.png"}
        write_image(folder / names["file"], np.repeat(alpha[..., None], 3, axis=2))
        write_image(folder / names["alpha"], alpha)
        known = {"T_world_camera": camera.T_world_camera.tolist(), "focal": [250.0, 250.0], "center": [48.0, 48.0]}
        listed.append({**names, "frame": 1, "yaw_deg": yaw, "camera": {**known, "size": [SIZE, SIZE]}})
    write_json(folder / "views.json", listed)


def _subject(rig: PersonalRig, z: float) -> Subject:
    track = FaceTrack(
        motion=_motion(z), identity=torch.zeros(1), camera=_side(0, z), landmarks_px=torch.zeros(2, 478, 2),
        confidence=torch.ones(2),
    )  # fmt: skip
    return Subject(workspace=None, track=track, avatar=_Dots(rig), train=[0], test=[1])  # type: ignore[arg-type]


def test_a_head_tracked_larger_and_farther_away_is_seen_from_the_same_sides(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    larger = replace(rig, neutral=rig.neutral * 1.2, actions=rig.actions * 1.2)
    for person, z in ((rig, 1.0), (larger, 1.2), (larger, 1.7)):
        table = views.views_table(views.evaluate_views(_subject(person, z), tmp_path))
        assert list(table["psnr"]) == ["-30", "30"]
        # dots on the border of a pixel may fall into the next one
        assert min(table["psnr_head"].values()) > 10, (z, table)
    turned = _side(40, 1.0)
    wrong = _subject(rig, 1.0)
    pose = wrong.track.motion.T_world_head.clone()
    pose[:, :3, :3] = turned.T_world_camera[:3, :3]
    skewed = replace(wrong, track=replace(wrong.track, motion=replace(wrong.track.motion, T_world_head=pose)))
    table = views.views_table(views.evaluate_views(skewed, tmp_path))
    assert min(table["psnr_head"].values()) > 10  # the similarity undoes a rigid error of the tracked world as well


def test_a_wrong_shape_scores_lower(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    flat = replace(rig, neutral=rig.neutral * torch.tensor([1.0, 1.0, 0.4]))
    good, bad = (views.views_table(views.evaluate_views(_subject(r, 1.0), tmp_path)) for r in (rig, flat))
    assert all(math.isfinite(value) for value in bad["psnr"].values())
    assert all(bad["psnr_head"][yaw] < good["psnr_head"][yaw] - 3 for yaw in bad["psnr_head"])


def test_similarity_finds_scale_rotation_and_shift():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    turn = torch.from_numpy(Rotation.from_rotvec([0.3, -0.8, 0.1]).as_matrix()).float()
    scale, found, shift = views.similarity(points, 1.7 * points @ turn.T + torch.tensor([1.0, 2.0, 3.0]))
    assert scale == pytest.approx(1.7, abs=1e-5)
    torch.testing.assert_close(found, turn, atol=1e-5, rtol=0)
    torch.testing.assert_close(shift, torch.tensor([1.0, 2.0, 3.0]), atol=1e-5, rtol=0)


def test_damaged_truth_is_refused_with_advice(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    (tmp_path / "views.json").write_text("[{}]")
    with pytest.raises(InputError, match="draw the speaker again"):
        views.evaluate_views(_subject(rig, 1.0), tmp_path)
