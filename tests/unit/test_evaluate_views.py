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


def _plain(camera: Camera) -> dict:
    return {
        "T_world_camera": camera.T_world_camera.tolist(),
        "focal": list(camera.focal),
        "center": list(camera.center),
        "size": list(camera.size),
    }


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
    facts = {"fps": 25.0, "camera": _plain(_side(0, z))}
    write_tensors(folder / "truth.safetensors", tensors, {"facts": json.dumps(facts)})
    (folder / "views").mkdir()
    listed = []
    for yaw in (-30, 30):
        camera = _side(yaw, z)
        alpha = (_Dots(rig).draw(SimpleNamespace(camera=camera, motion=motion.frame(1))).alpha * 255).byte().numpy()
        names = {"file": f"views/{yaw}.png", "alpha": f"views/{yaw}_alpha.png"}
        write_image(folder / names["file"], np.repeat(alpha[..., None], 3, axis=2))
        write_image(folder / names["alpha"], alpha)
        listed.append({**names, "frame": 1, "yaw_deg": yaw, "camera": _plain(camera)})
    write_json(folder / "views.json", listed)


def _subject(rig: PersonalRig, z: float, focal: float = 250.0) -> Subject:
    camera = replace(_side(0, z), focal=(focal, focal))
    track = FaceTrack(
        motion=_motion(z), identity=torch.zeros(1), camera=camera, landmarks_px=torch.zeros(2, 478, 2),
        confidence=torch.ones(2),
    )  # fmt: skip
    return Subject(workspace=None, track=track, avatar=_Dots(rig), train=[0], test=[1])  # type: ignore[arg-type]


def _moved(subject: Subject, T: torch.Tensor) -> Subject:
    """The same subject with its head moved by T in the world."""
    motion = subject.track.motion
    return replace(subject, track=replace(subject.track, motion=replace(motion, T_world_head=T @ motion.T_world_head)))


def _scores(subject: Subject, truth: Path) -> dict[str, float]:
    table = views.views_table(views.evaluate_views(subject, truth))
    assert list(table["psnr"]) == ["-30", "30"]
    return table["psnr_head"]


def test_a_head_tracked_larger_and_farther_away_is_seen_from_the_same_sides(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    larger = replace(rig, neutral=rig.neutral * 1.2, actions=rig.actions * 1.2)
    exact = _scores(_subject(rig, 1.0), tmp_path)
    assert min(exact.values()) > 25  # a dot on the border of a pixel may fall into the next one
    assert min(_scores(_subject(larger, 1.2), tmp_path).values()) > 25
    # With another focal length the head's own perspective differs a little, its place does not.
    assert min(_scores(_subject(rig, 1.3, focal=250.0 * 1.3), tmp_path).values()) > 10


def test_a_tracked_world_that_is_turned_with_its_camera_scores_the_same(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    turn = torch.eye(4)
    turn[:3, :3] = torch.from_numpy(Rotation.from_euler("yx", [40, 7], degrees=True).as_matrix()).float()
    moved = _moved(_subject(rig, 1.0), turn)
    camera = replace(moved.track.camera, T_world_camera=turn @ moved.track.camera.T_world_camera)
    assert min(_scores(replace(moved, track=replace(moved.track, camera=camera)), tmp_path).values()) > 25


def test_other_axes_of_the_head_do_not_matter_but_a_head_that_looks_elsewhere_does(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    pitch = torch.eye(4)
    pitch[:3, :3] = torch.from_numpy(Rotation.from_euler("x", 6, degrees=True).as_matrix()).float()
    back = pitch[:3, :3].T
    leaning = replace(
        rig, neutral=rig.neutral @ back.T, actions=rig.actions @ back.T, neck_pivots=rig.neck_pivots @ back.T,
        eye_pivots=rig.eye_pivots @ back.T,
    )  # fmt: skip
    subject = _subject(leaning, 1.0)
    pose = subject.track.motion.T_world_head @ pitch
    same = replace(subject, track=replace(subject.track, motion=replace(subject.track.motion, T_world_head=pose)))
    exact = _scores(_subject(rig, 1.0), tmp_path)
    assert min(_scores(same, tmp_path).values()) > 25
    wrong = replace(same, avatar=_Dots(rig))  # type: ignore[arg-type]
    assert all(score < exact[yaw] - 3 for yaw, score in _scores(wrong, tmp_path).items())


def test_a_wrong_shape_scores_lower(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    flat = replace(rig, neutral=rig.neutral * torch.tensor([1.0, 1.0, 0.4]))
    good, bad = (views.views_table(views.evaluate_views(_subject(r, 1.0), tmp_path)) for r in (rig, flat))
    assert all(math.isfinite(value) for value in bad["psnr"].values())
    assert all(bad["psnr_head"][yaw] < good["psnr_head"][yaw] - 3 for yaw in bad["psnr_head"])
    # Grey that both stand before is equal: the whole picture loses less than the person.
    assert all(bad["psnr"][yaw] < bad["psnr_frame"][yaw] < good["psnr_frame"][yaw] for yaw in bad["psnr"])


def test_a_camera_is_carried_about_the_axis_that_the_front_picture_shows():
    """Turned about an axis beside and behind the face, and lifted; the tracked head is larger and farther."""
    front, middle = _side(0, 1.0), torch.tensor([0.05, -0.02, 1.1])
    side = _side(20, 1.2)
    side.T_world_camera[1, 3] += 0.1
    zoom = replace(front, focal=(400.0, 400.0), center=(40.0, 50.0))
    here = views.Seen(camera=zoom, middle=torch.tensor([0.06, -0.03, 1.9]))
    found = views.carried(side, views.Seen(camera=front, middle=middle), here)
    torch.testing.assert_close(found.T_world_camera[:3, :3], side.T_world_camera[:3, :3], atol=1e-6, rtol=0)
    assert (found.focal, found.center, found.size) == (zoom.focal, zoom.center, zoom.size)
    larger = (1.9 / 400) / (1.1 / 250)
    axis = torch.tensor([(48.0 - 40) / 400, (48.0 - 50) / 400, 1.0]) * (1.9 + larger * 0.1)
    lift = torch.tensor([0.0, larger * 0.1, 0.0])
    turn = found.T_world_camera[:3, :3]
    expected = (torch.eye(3) - turn) @ axis + lift
    torch.testing.assert_close(found.T_world_camera[:3, 3], expected, atol=2e-3, rtol=0)


def test_a_film_of_another_size_is_refused_with_advice(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    subject = _subject(rig, 1.0)
    camera = subject.track.camera.resized(2 * SIZE, 2 * SIZE)
    with pytest.raises(InputError, match="preprocess with --size 96"):
        views.evaluate_views(replace(subject, track=replace(subject.track, camera=camera)), tmp_path)


def test_damaged_truth_is_refused_with_advice(tmp_path, rig):
    _write_truth(tmp_path, rig, z=1.0)
    (tmp_path / "views.json").write_text("[{}]")
    with pytest.raises(InputError, match="draw the speaker again"):
        views.evaluate_views(_subject(rig, 1.0), tmp_path)
