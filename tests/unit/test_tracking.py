"""Heads of known motion are followed; what was not seen has no confidence."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar.core import FaceTrack, MotionSequence
from avatar.errors import InputError
from avatar.face import AnnyRig, PersonalRig
from avatar.face.arkit import INDEX
from avatar.face.calibration import LOWER_LIDS, UPPER_LIDS, Frames, calibrate
from avatar.face.gaze import with_looks
from avatar.face.solver import FREE, Observed, State, point_model, project
from avatar.face.solver_noise import USUAL, Noise, measure
from avatar.face.solver_prior import lowered, make_prior
from avatar.face.solver_sequence import Banded, box_step
from avatar.face.tracking import Footage, _relaxed, _Tracker, fit, load_track, neck_angles, save_track

FRAMES, FOCAL, SIZE = 60, 1300.0, (512, 512)


@dataclass(frozen=True)
class Scene:
    motion: MotionSequence
    landmarks_px: np.ndarray
    track: FaceTrack
    person: PersonalRig
    missing: slice


def _waves() -> MotionSequence:
    time = torch.arange(FRAMES) / FRAMES
    expression = torch.zeros(FRAMES, 52)
    expression[:, INDEX["jawOpen"]] = 0.35 * (1 - (12 * torch.pi * time).cos()) / 2
    blink = (1 - (time - 0.3).abs() * 20).clamp(0, 1) + (1 - (time - 0.8).abs() * 20).clamp(0, 1)
    expression[:, INDEX["eyeBlinkLeft"]] = expression[:, INDEX["eyeBlinkRight"]] = blink
    turns = torch.stack([0.08 * (9 * time).sin(), 0.25 * (7 * time).sin(), 0.05 * (5 * time).cos()], 1)
    pose = torch.eye(4).repeat(FRAMES, 1, 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.from_rotvec(turns.numpy()).as_matrix()).float()
    pose[:, :3, 3] = torch.stack([0.02 * (6 * time).sin(), 0.05 + 0 * time, 0.9 + 0.02 * (4 * time).sin()], 1)
    eye = torch.stack([0.2 * (8 * time).sin(), 0.1 * (6 * time).cos()], 1)
    gaze = eye[:, None].repeat(1, 2, 1)
    return MotionSequence(
        expression=with_looks(expression, gaze), T_world_head=pose, neck=torch.zeros(FRAMES, 3), gaze=gaze, fps=25.0
    )


@pytest.fixture(scope="module")
def rig() -> AnnyRig:
    return AnnyRig.load()


@pytest.fixture(scope="module")
def scene(rig) -> Scene:
    head, motion, missing = rig.personal(rig.sample(1, seed=5)[0]), _waves(), slice(40, 44)
    points = torch.stack([rig.landmarks.points(head.posed(motion.frame(i)), head.faces) for i in range(FRAMES)])
    landmarks_px = (points[..., :2] / points[..., 2:] * FOCAL + 256).numpy()
    landmarks_px[missing] = np.nan
    confidence = np.ones(FRAMES, np.float32)
    confidence[missing] = 0
    track, person = fit(landmarks_px, confidence, rig, SIZE, fps=25.0)
    return Scene(motion=motion, landmarks_px=landmarks_px, track=track, person=person, missing=missing)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.numpy(), b.numpy())[0, 1])


def seen(scene: Scene) -> list[int]:
    return [i for i in range(FRAMES) if not scene.missing.start <= i < scene.missing.stop]


def test_rotation_is_found_within_a_degree_and_a_half(scene):
    found = Rotation.from_matrix(scene.track.motion.T_world_head[:, :3, :3].numpy())
    true = Rotation.from_matrix(scene.motion.T_world_head[:, :3, :3].numpy())
    assert np.degrees((found * true.inv()).magnitude())[seen(scene)].mean() < 1.5


def test_the_jaw_opens_as_it_did(scene):
    jaw = [m.expression[seen(scene), INDEX["jawOpen"]] for m in (scene.track.motion, scene.motion)]
    assert correlation(*jaw) > 0.95
    assert abs(float(jaw[0].max() - jaw[1].max())) < 0.12


def test_blinks_close_the_eyes_and_open_eyes_are_open(scene):
    found, true = (m.expression[seen(scene), INDEX["eyeBlinkLeft"]] for m in (scene.track.motion, scene.motion))
    assert float(found[true > 0.95].min()) > 0.8
    assert float(found[true == 0].mean()) < 0.12


def test_gaze_is_followed(scene):
    open_eyes = [i for i in seen(scene) if scene.motion.expression[i, INDEX["eyeBlinkLeft"]] < 0.3]
    for axis, limit in ((0, 0.97), (1, 0.8)):
        found, true = (m.gaze[open_eyes, 0, axis] for m in (scene.track.motion, scene.motion))
        assert correlation(found, true) > limit


def test_the_projected_rig_lies_on_the_landmarks(scene, rig):
    usable = rig.landmarks.usable
    errors: list[Tensor] = []
    for i in seen(scene)[::5]:
        points = rig.landmarks.points(scene.person.posed(scene.track.motion.frame(i)), scene.person.faces)
        errors.append((scene.track.camera.project(points) - scene.track.landmarks_px[i])[usable].norm(dim=1).mean())
    eyes = np.linalg.norm(scene.landmarks_px[:, 33] - scene.landmarks_px[:, 263], axis=1)[seen(scene)].max()
    assert float(torch.stack(errors).mean()) < 0.012 * eyes


def _noise_of(errors: Tensor, scene: Scene, rig: AnnyRig) -> Noise:
    """What is measured when the points of the true motion are off by `errors` [t 478 2], in eye distances."""
    kept = np.flatnonzero(rig.landmarks.usable.numpy())
    model = point_model(rig, scene.person, kept)
    count = len(errors)
    state = State(
        expression=np.zeros((count, 52)),
        gaze=np.zeros((count, 4)),
        rotation=np.tile(np.eye(3), (count, 1, 1)),
        place=np.zeros((count, 2)),
        log_scale=np.full(count, np.log(1000.0)),
    )
    flat = Observed(points=np.zeros((count, len(kept), 2)), weight=np.ones((count, len(kept))), unit_px=100.0)
    points = project(model, state, FOCAL, 100.0).uv + errors[:, kept].numpy()
    observed = Observed(points=points, weight=flat.weight, unit_px=flat.unit_px)
    return measure(model, state, observed, FOCAL, Noise(information=USUAL, sigma=np.full(len(kept), 0.02)))


def test_errors_of_single_points_count_as_information(scene, rig):
    noise = _noise_of(0.005 * torch.randn(40, 478, 2, generator=torch.Generator().manual_seed(1)), scene, rig)
    assert noise.information > 0.8
    assert abs(float(np.median(noise.sigma)) - 0.005) < 0.001


def test_errors_of_whole_parts_of_the_face_count_as_a_detectors(scene, rig):
    points = rig.landmarks.points(scene.person.neutral, scene.person.faces)
    waves = torch.randn(40, 6, 2, generator=torch.Generator().manual_seed(2))
    shapes = torch.stack([torch.sin(60 * points[:, k % 2] + k) for k in range(6)])
    noise = _noise_of(0.01 * torch.einsum("tkc,kl->tlc", waves, shapes), scene, rig)
    assert noise.information == USUAL
    assert (noise.sigma == 0.02).all()


def test_missing_frames_have_no_confidence_and_motion_in_between(scene):
    assert (scene.track.confidence[scene.missing] == 0).all()
    assert (scene.track.confidence[seen(scene)] > 0.5).all()
    depth = scene.track.motion.T_world_head[:, 2, 3]
    low, high = sorted([float(depth[39]), float(depth[44])])
    assert all(low - 1e-4 <= float(d) <= high + 1e-4 for d in depth[scene.missing])


def test_a_jump_of_the_detector_gets_no_weight(scene, rig):
    landmarks_px = scene.landmarks_px[:24].copy()
    landmarks_px[12] = landmarks_px[12] * 0.4 + 200
    track, _ = fit(landmarks_px, np.ones(24), rig, SIZE, fps=25.0)
    assert float(track.confidence[12]) == 0
    assert float(track.confidence[[i for i in range(24) if i != 12]].min()) > 0.5


def test_three_frames_are_enough(scene, rig):
    track, _ = fit(scene.landmarks_px[:3], np.ones(3), rig, SIZE, fps=10.0)
    assert torch.isfinite(track.motion.T_world_head).all()
    assert len(track.motion) == 3


def test_a_clip_without_a_face_is_refused(rig):
    with pytest.raises(InputError, match="face"):
        fit(np.zeros((5, 478, 2)), np.zeros(5), rig, SIZE, fps=25.0)


def test_points_that_form_no_face_are_refused(scene, rig):
    scrambled = np.random.default_rng(3).permutation(scene.landmarks_px[:6], axis=1)
    with pytest.raises(InputError, match="no face"):
        fit(scrambled, np.ones(6), rig, SIZE, fps=25.0)


def test_the_neck_follows_the_head_and_is_at_rest_on_average():
    yaw = 0.3 * np.sin(np.arange(200) / 5)
    neck = neck_angles(Rotation.from_rotvec(np.stack([0.2 + 0 * yaw, yaw, 0 * yaw], 1)).as_matrix(), 25.0)
    assert np.corrcoef(neck[:, 1], yaw)[0, 1] > 0.99
    assert np.abs(neck.mean(0)).max() < 0.02


def test_eyes_that_the_detector_leaves_half_open_are_closed_by_calibration():
    landmarks = np.zeros((100, 478, 2))
    gap = np.where(np.arange(100) % 30 < 3, 3.4, 10.0)
    for side in (0, 1):
        landmarks[:, LOWER_LIDS[side], 1] = 50.0
        landmarks[:, UPPER_LIDS[side], 1] = 50.0 - gap[:, None]
    up, good = np.tile([0.0, -1.0], (100, 1)), np.ones(100, bool)
    out = calibrate(landmarks, Frames(up_px=up, unit_px=np.full(100, 100.0), good=good, fps=25.0), 0.9)
    closed = out.landmarks_px[0, LOWER_LIDS[0], 1] - out.landmarks_px[0, UPPER_LIDS[0], 1]
    assert np.abs(closed).max() < 0.5
    assert out.blink[0].min() > 0.95
    assert out.blink[10].max() == 0


def test_a_box_step_is_the_minimum_of_the_quadratic_model_in_the_box():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 5, 5))
    system = Banded(blocks=root @ root.transpose(0, 2, 1) + np.eye(5), first=np.full(5, 0.7), second=np.full(5, 0.4))
    gradient, x = rng.normal(size=(6, 5)) * 3, rng.uniform(size=(6, 3))
    step = box_step(system, gradient, x, rounds=20)
    pull = system.times(step) + gradient
    reached = x + step[:, :3]
    inside = (reached > 1e-9) & (reached < 1 - 1e-9)
    np.testing.assert_allclose(pull[:, 3:], 0, atol=1e-8)
    np.testing.assert_allclose(pull[:, :3][inside], 0, atol=1e-8)
    assert (pull[:, :3][reached <= 1e-9] >= -1e-8).all()
    assert (pull[:, :3][reached >= 1 - 1e-9] <= 1e-8).all()


def test_a_track_survives_the_disk(scene, tmp_path):
    save_track(scene.track, tmp_path / "track.safetensors")
    again = load_track(tmp_path / "track.safetensors")
    for field in fields(MotionSequence):
        kept, read = getattr(scene.track.motion, field.name), getattr(again.motion, field.name)
        assert torch.equal(torch.as_tensor(kept), torch.as_tensor(read))
    assert torch.equal(again.landmarks_px, scene.track.landmarks_px)
    assert again.camera.focal == pytest.approx(scene.track.camera.focal)
    assert again.camera.size == SIZE


def test_a_damaged_track_is_named(tmp_path):
    path = tmp_path / "track.safetensors"
    path.write_bytes(b"no track")
    with pytest.raises(InputError, match=r"track\.safetensors"):
        load_track(path)


def test_points_without_any_error_are_believed(scene, rig):
    noise = _noise_of(torch.zeros(40, 478, 2), scene, rig)
    assert noise.information == 1
    assert float(noise.sigma.max()) < 0.005


def test_a_brow_that_is_never_lowered_is_form_and_a_lasting_smile_is_not(scene, rig):
    tracker = _Tracker(scene.landmarks_px, np.ones(FRAMES), (rig, Footage()), SIZE, 25.0)
    nobody = tracker._solver.nobody()
    person, model = tracker._person(nobody)
    expression = np.zeros((3, 52))
    brow, smile = INDEX["browInnerUp"], INDEX["mouthSmileLeft"]
    expression[:, brow], expression[:, smile] = (0.3, 0.3, 0.5), 0.4
    state = State(
        expression=expression, gaze=np.zeros((3, 4)), rotation=np.tile(np.eye(3), (3, 1, 1)), place=np.zeros((3, 2)),
        log_scale=np.zeros(3),
    )  # fmt: skip
    tracker.confidence = np.ones(3)
    least = tracker._least(state)
    shared, after = _relaxed(nobody, person, (model, state), least)
    assert after.expression[:, brow] == pytest.approx([0, 0, 0.2])
    assert after.expression[:, smile] == pytest.approx(0.4)
    assert shared.rest.points == pytest.approx(0.3 * model.actions[:, :, brow], abs=1e-9)
    assert shared.rest.offsets == pytest.approx(0.3 * person.actions[brow].numpy(), abs=1e-7)


def test_what_little_the_lids_of_an_open_eye_tremble_is_no_blink():
    measured = np.array([[0.0, 0.0], [0.005, 0.005], [0.9, 0.9]])
    prior = make_prior(measured, np.zeros((3, 4)), 25.0)
    assert (lowered(prior, np.full(52, 0.05)).centre <= prior.centre).all()
    lids = [list(FREE).index(INDEX[name]) for name in ("eyeBlinkRight", "eyeBlinkLeft")]
    pull = -prior.centre[:, lids] @ prior.precision[np.ix_(lids, lids)] + prior.linear[:, lids]
    assert (pull[:2] > 0).all(), "at 0 the prior pushes down"
    assert (pull[2] < 0).all()
