"""FLAME and Basel Face Models: files of strangers are read without running them, and become rigs to follow."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from avatar.core import Camera, FaceTrack, MotionSequence, Region
from avatar.errors import InputError
from avatar.face.arkit import INDEX
from avatar.face.bfm import read_bfm, thinned
from avatar.face.flame import read_embedding, read_flame
from avatar.face.gaze import with_looks
from avatar.face.morphable import MorphableModel, MorphableRig, as_rig
from avatar.face.torso import follow_torso
from avatar.face.tracking import fit
from tests import face_files
from tests.face_files import Drawn


@dataclass(frozen=True)
class Made:
    drawn: Drawn
    rig: MorphableRig


@pytest.fixture(scope="module")
def flame(tmp_path_factory) -> Made:
    drawn = face_files.draw(eyeballs=True, mask=False)
    path = tmp_path_factory.mktemp("flame") / "generic_model.pkl"
    face_files.write_flame_pickle(path, face_files.flame_arrays(drawn))
    return Made(drawn=drawn, rig=as_rig(read_flame(path), drawn.anny))


@pytest.fixture(scope="module")
def basel(tmp_path_factory) -> Made:
    drawn = face_files.draw(eyeballs=False, mask=True)
    path = tmp_path_factory.mktemp("bfm") / "01_MorphableModel.mat"
    savemat(path, face_files.bfm_2009(drawn))
    return Made(drawn=drawn, rig=as_rig(read_bfm(path), drawn.anny))


def mean_landmarks(rig: MorphableRig) -> np.ndarray:
    nobody = torch.zeros(rig.identity_size)
    return rig.landmarks.points(rig.neutral(nobody), rig.personal(nobody).faces).double().numpy()


def landmark_error(made: Made) -> np.ndarray:
    """Millimetres between usable landmarks and their true places, after moving one set rigidly onto the other."""
    person = made.drawn.anny.personal(made.drawn.identity)
    usable = made.rig.landmarks.usable.numpy()
    true = made.drawn.anny.landmarks.points(person.neutral, person.faces).double().numpy()[usable]
    found = mean_landmarks(made.rig)[usable]
    true, found = true - true.mean(0), found - found.mean(0)
    turn = Rotation.align_vectors(true, found)[0]
    return 1e3 * np.linalg.norm(turn.apply(found) - true, axis=1)


def check_pose(rig: MorphableRig) -> None:
    """Landmarks drawn from the rig itself give its pose back."""
    count = 20
    time = torch.arange(count) / 60
    expression = torch.zeros(count, 52)
    expression[:, INDEX["jawOpen"]] = 0.3 * (1 - (12 * time).cos()) / 2
    pose = torch.eye(4).repeat(count, 1, 1)
    turns = torch.stack([0.08 * (9 * time).sin(), 0.3 * (7 * time).sin(), 0.05 * (5 * time).cos()], 1).numpy()
    pose[:, :3, :3] = torch.from_numpy(Rotation.from_rotvec(turns).as_matrix()).float()
    pose[:, :3, 3] = torch.tensor([0.01, 0.05, 0.9])
    gaze = (0.2 * (8 * time).sin())[:, None, None].expand(-1, 2, 2) * torch.tensor([1.0, 0.3])
    motion = MotionSequence(
        expression=with_looks(expression, gaze), T_world_head=pose, neck=torch.zeros(count, 3), gaze=gaze, fps=25.0
    )
    head = rig.personal(rig.sample(1, seed=5, spread=0.7)[0])
    points = torch.stack([rig.landmarks.points(head.posed(motion.frame(i)), head.faces) for i in range(count)])
    landmarks_px = (points[..., :2] / points[..., 2:] * 1300 + 256).numpy()
    track, person = fit(landmarks_px, np.ones(count), rig, (512, 512), fps=25.0)
    found = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].numpy())
    assert np.degrees((found * Rotation.from_rotvec(turns).inv()).magnitude()).mean() < 1
    jaw = track.motion.expression[:, INDEX["jawOpen"]]
    assert float((jaw - motion.expression[:, INDEX["jawOpen"]]).abs().mean()) < 0.05
    assert person.neutral.shape == rig.neutral(torch.zeros(rig.identity_size)).shape


def test_landmarks_of_flame_lie_where_they_do_on_the_head_it_was_made_of(flame):
    error = landmark_error(flame)
    assert len(error) > 440
    assert error.mean() < 0.5
    assert error.max() < 2


def test_flame_is_followed_within_a_degree(flame):
    check_pose(flame.rig)


def test_a_basel_face_is_followed_within_a_degree(basel):
    check_pose(basel.rig)


def test_landmarks_of_a_basel_face_lie_where_they_do_on_the_head_it_was_made_of(basel):
    error = landmark_error(basel)
    assert len(error) > 400
    assert error.mean() < 0.6


def test_flame_moves_as_its_own_expressions_do_where_it_has_them(flame):
    actions = flame.rig.personal(torch.zeros(flame.rig.identity_size)).actions.double().numpy()
    for name in ("jawOpen", "mouthSmileLeft", "mouthPucker"):
        assert flame.rig.explained[name] > 0.85
    for name in ("mouthSmileLeft", "mouthPucker", "eyeBlinkRight"):  # the last one is carried over
        true, found = flame.drawn.actions[INDEX[name]].ravel(), actions[INDEX[name]].ravel()
        assert true @ found / np.linalg.norm(true) / np.linalg.norm(found) > 0.98
        assert 0.9 < true @ found / (true @ true) < 1.1
    assert flame.rig.explained["eyeBlinkRight"] < 0.5


def test_eyeballs_turn_about_their_own_middle_and_do_not_take_part_in_actions(flame, basel):
    for made in (flame, basel):
        person = made.rig.personal(torch.zeros(made.rig.identity_size))
        for side in (0, 1):
            ball = person.eye_weights[:, side] > 0.5
            radius = (person.neutral[ball] - person.eye_pivots[side]).norm(dim=1)
            assert ball.sum() > 20
            assert 0.009 < float(radius.median()) < 0.018
            assert float(person.actions[:, ball].abs().max()) < 1e-6
        assert person.eye_pivots[0, 0] < 0 < person.eye_pivots[1, 0]


def test_a_rig_has_regions_weights_and_an_outside(flame, basel):
    for made in (flame, basel):
        person = made.rig.personal(made.rig.sample(1, seed=2)[0])
        assert {int(Region.LIPS), int(Region.NOSE), int(Region.EYES), int(Region.SKIN)} <= set(person.regions.tolist())
        torch.testing.assert_close(person.skin.sum(1), torch.ones(len(person.skin)), atol=1e-4, rtol=0)
        corners = person.neutral[person.faces]
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        nose = person.regions == int(Region.NOSE)
        assert float((normal[nose, 2] < 0).float().mean()) > 0.8
        assert float(person.uv.min()) >= 0
        assert float(person.uv.max()) <= 1


def test_a_blink_closes_narrow_and_wide_eyes(flame):
    rig = flame.rig
    for seed in (1, 2, 3):
        person = rig.personal(rig.sample(1, seed=seed)[0])
        closed = rig.landmarks.points(person.neutral + person.actions[INDEX["eyeBlinkLeft"]], person.faces)
        opened = rig.landmarks.points(person.neutral, person.faces)
        assert abs(float(closed[374, 1] - closed[386, 1])) < 0.3 * float(opened[374, 1] - opened[386, 1])


def test_flame_as_npz_and_as_a_newer_pickle_is_the_same(flame, tmp_path):
    arrays = face_files.flame_arrays(flame.drawn)
    np.savez(tmp_path / "flame.npz", **arrays)  # type: ignore[arg-type]
    first = read_flame(tmp_path / "flame.npz")
    face_files.write_flame_pickle(tmp_path / "flame.pkl", arrays, 4)
    again = read_flame(tmp_path / "flame.pkl")
    np.testing.assert_array_equal(first.mean, again.mean)
    np.testing.assert_array_equal(first.expressions, again.expressions)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("shapedirs", lambda a: a[:-1], "shapedirs of another shape"),
        ("weights", lambda a: a[:, :4], "weights of another shape"),
        ("f", lambda a: a + np.uint32(10**6), "do not belong"),
        ("v_template", lambda a: a * np.nan, "not finite"),
        ("v_template", lambda a: a * 1000, "metres"),
        ("J_regressor", None, "J_regressor missing"),
    ],
)
def test_what_is_wrong_in_a_flame_file_is_said(flame, tmp_path, name, change, said):
    arrays = face_files.flame_arrays(flame.drawn)
    arrays = {**arrays, name: change(arrays[name])} if change else {k: v for k, v in arrays.items() if k != name}
    path = tmp_path / "flame.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=re.escape(said)):
        read_flame(path)


def test_a_body_that_is_no_face_is_refused(flame):
    sphere = np.random.default_rng(0).normal(size=(600, 3))
    sphere = 0.11 * sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    from scipy.spatial import ConvexHull

    hull = ConvexHull(sphere).simplices
    flip = np.einsum("fi,fi->f", sphere[hull[:, 0]], np.cross(sphere[hull[:, 1]], sphere[hull[:, 2]])) < 0
    faces = np.where(flip[:, None], hull[:, [0, 2, 1]], hull)
    ball = MorphableModel(
        name="ball.mat", mean=sphere, modes=np.zeros((1, 600, 3)), expressions=np.zeros((0, 600, 3)), faces=faces
    )
    with pytest.raises(InputError, match=r"ball\.mat"):
        as_rig(ball, flame.drawn.anny)


def test_an_embedding_of_the_authors_is_taken_in_place_of_carried_points(flame, tmp_path):
    path = tmp_path / "mediapipe_landmark_embedding.npz"
    arrays = {
        "landmark_indices": np.array([276, 61, 13]),
        "lmk_face_idx": np.array([5, 60, 700], np.int32),
        "lmk_b_coords": np.array([[1.0, 0, 0], [0.2, 0.3, 0.5], [0, 1, 0]]),
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]
    face_files.write_flame_pickle(tmp_path / "flame.pkl", face_files.flame_arrays(flame.drawn))
    rig = as_rig(read_flame(tmp_path / "flame.pkl"), flame.drawn.anny, read_embedding(path))
    assert rig.landmarks.triangles[[276, 61, 13]].tolist() == [5, 60, 700]
    assert torch.equal(rig.landmarks.triangles[1:13], flame.rig.landmarks.triangles[1:13])
    np.savez(path, **{**arrays, "landmark_indices": np.array([276, 61, 900])})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="MediaPipe does not have"):
        read_embedding(path)
    np.savez(path, **{**arrays, "lmk_face_idx": np.array([5, 60, 10**7])})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="triangles that the head model lacks"):
        as_rig(read_flame(tmp_path / "flame.pkl"), flame.drawn.anny, read_embedding(path))


def test_a_face_of_another_kind_than_any_anny_head_is_laid_over_too(basel):
    """Stretched, and deformed smoothly by several millimetres: what published means may differ by."""
    drawn, random = basel.drawn, np.random.default_rng(0)
    person = drawn.anny.personal(drawn.identity)
    head = person.neutral.double().numpy()
    other = head.copy()
    for _ in range(12):
        away = ((head - head[random.integers(len(head))]) ** 2).sum(1)
        other += 0.0035 * random.normal(size=3) * np.exp(-away / (2 * 0.035**2))[:, None]
    other *= np.array([1.04, 0.97, 1.03])
    changed = replace(drawn, mean=other[drawn.index])
    model = MorphableModel(
        name="other",
        mean=changed.mean,
        modes=changed.modes,
        expressions=np.zeros((0, *changed.mean.shape)),
        faces=changed.faces,
    )
    rig = as_rig(model, drawn.anny)
    usable = rig.landmarks.usable.numpy()
    true = drawn.anny.landmarks.points(torch.from_numpy(other).float(), person.faces).double().numpy()[usable]
    found = mean_landmarks(rig)[usable]
    true, found = true - true.mean(0), found - found.mean(0)
    error = 1e3 * np.linalg.norm(Rotation.align_vectors(true, found)[0].apply(found) - true, axis=1)
    assert np.abs(other - head)[drawn.index].max() > 0.004
    assert usable.sum() > 380
    assert error.mean() < 1.2
    assert error.max() < 8


def test_what_is_wrong_in_a_basel_file_is_said(basel, tmp_path):
    path, arrays = tmp_path / "01_MorphableModel.mat", face_files.bfm_2009(basel.drawn)
    path.write_bytes(b"no matlab file " * 20)
    with pytest.raises(InputError, match="no readable MATLAB file"):
        read_bfm(path)
    for change, said in (
        ({"shapeEV": arrays["shapeEV"][:-1]}, "do not belong together"),
        ({"tl": arrays["tl"] + 10**6}, "points that it lacks"),
        ({"shapeMU": arrays["shapeMU"] / 1000}, "unscaled"),
        ({"shapePC": np.array(["text"])}, "finite numbers"),
    ):
        savemat(path, {**arrays, **change})
        with pytest.raises(InputError, match=said):
            read_bfm(path)
    savemat(path, {"shapeMU": arrays["shapeMU"]})
    with pytest.raises(InputError, match="shapePC, shapeEV, tl missing"):
        read_bfm(path)
    with pytest.raises(InputError, match=r"01_MorphableModel\.mat or model2017"):
        read_bfm(tmp_path / "face.obj")
    with pytest.raises(InputError, match="missing"):
        read_bfm(tmp_path / "model2017-1_bfm_nomouth.h5")


def test_a_basel_face_of_2017_has_its_own_expressions(basel, tmp_path):
    pytest.importorskip("h5py", reason="h5py, which reads the models of 2017, is not installed")
    path = tmp_path / "model2017-1_face12_nomouth.h5"
    face_files.write_bfm_2017(path, basel.drawn)
    rig = as_rig(read_bfm(path), basel.drawn.anny)
    assert landmark_error(Made(drawn=basel.drawn, rig=rig)).mean() < 0.6
    assert min(rig.explained[name] for name in ("jawOpen", "mouthSmileLeft", "browInnerUp")) > 0.95
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="HDF5"):
        read_bfm(path)


def test_thinning_keeps_points_of_the_file_and_lips_apart(basel):
    drawn = basel.drawn
    model = MorphableModel(
        name="fine",
        mean=drawn.mean,
        modes=drawn.modes,
        expressions=drawn.actions,
        faces=drawn.faces,
    )
    few = thinned(model, 1500)
    assert 700 < len(few.mean) <= 1500
    assert len(few.faces) > 1.5 * len(few.mean)
    assert {tuple(p) for p in few.mean.round(9)} <= {tuple(p) for p in model.mean.round(9)}
    jaw = few.expressions[INDEX["jawOpen"]][few.faces]
    assert np.ptp(jaw[..., 1], axis=1).max() < 0.6 * few.expressions[INDEX["jawOpen"]][:, 1].max()


def test_a_mask_without_a_torso_keeps_its_track_as_it_is(basel):
    person = basel.rig.personal(torch.zeros(basel.rig.identity_size))
    count = 3
    motion = MotionSequence(
        expression=torch.zeros(count, 52),
        T_world_head=torch.eye(4).repeat(count, 1, 1),
        neck=torch.zeros(count, 3),
        gaze=torch.zeros(count, 2, 2),
        fps=25.0,
    )
    camera = Camera(T_world_camera=torch.eye(4), focal=(300.0, 300.0), center=(64.0, 64.0), size=(128, 128))
    track = FaceTrack(
        motion=motion,
        identity=torch.zeros(basel.rig.identity_size),
        camera=camera,
        landmarks_px=torch.zeros(count, 478, 2),
        confidence=torch.ones(count),
    )

    def never(index: int) -> np.ndarray:
        raise AssertionError(f"frame {index} was looked at")

    assert follow_torso(track, person, never, never) is track
