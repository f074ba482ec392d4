"""A detector's errors that stay the same in all pictures of a person are told from the head's form and pose."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.face import AnnyRig
from avatar.face.both_ways import mirror_points
from avatar.face.calibration import LOWER_INNER, LOWER_LIDS, UPPER_INNER, UPPER_LIDS
from avatar.face.detector_errors import StaticErrors, mediapipe_errors
from avatar.face.tracking import Footage, fit
from avatar.synthetic.detector_errors import gaussian

FRAMES, FOCAL, SIZE = 10, 1100.0, (384, 384)


@pytest.fixture(scope="module")
def errors() -> StaticErrors:
    return mediapipe_errors()


def _rotation_error(person_seed: int, errors: StaticErrors, known: StaticErrors | None) -> float:
    """Degrees by which the head of a film is off whose points err as drawn from `errors`."""
    rig, rng = AnnyRig.load(), np.random.default_rng(person_seed)
    person = rig.personal(0.8 * rig.sample(1, seed=person_seed)[0])
    static = errors.mean + np.tensordot(rng.normal(size=len(errors.modes)), errors.modes, 1)
    points = rig.landmarks.points(person.neutral, person.faces).double().numpy() + static
    # x to the picture's right and y down, as the camera's: a frontal head is not turned
    true = Rotation.from_rotvec(np.stack([0.1 * np.sin(np.arange(FRAMES) / 2), 0.3 * np.sin(np.arange(FRAMES) / 3),
                                          np.zeros(FRAMES)], 1))  # fmt: skip
    placed = true.as_matrix() @ points.T + np.array([0.0, 0.05, 0.9])[:, None]
    seen = (placed[:, :2] / placed[:, 2:] * FOCAL + SIZE[0] / 2).transpose(0, 2, 1)
    track, _ = fit(
        seen.astype(np.float32), np.ones(FRAMES, np.float32), rig, SIZE, fps=25.0, footage=Footage(errors=known)
    )
    found = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].double().numpy())
    return float(np.degrees((found * true.inv()).magnitude()).mean())


def test_who_knows_the_detectors_errors_finds_the_head_better(errors):
    """Two people, whose points err as drawn from the table."""
    blind, told = (np.mean([_rotation_error(seed, errors, known) for seed in range(2)]) for known in (None, errors))
    assert told < 0.8 * blind


def test_the_table_is_the_same_in_a_mirror(errors):
    mirrored = errors.mean[mirror_points()] * np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(mirrored, errors.mean, atol=1e-7)


def test_the_tables_errors_are_a_hundredth_of_the_eye_distance(errors):
    rig = AnnyRig.load()
    eyes = float(rig.landmarks.points(rig.mean, rig.faces)[[33, 263]].diff(dim=0).norm())
    people = np.sqrt((errors.modes**2).sum(0).sum(-1))
    for size in (np.linalg.norm(errors.mean, axis=-1), people):
        assert 0.005 < np.median(size) / eyes < 0.03


def test_the_directions_give_back_how_people_differ():
    rng = np.random.default_rng(0)
    two = rng.normal(size=(2, 478, 2)) * 1e-3
    people = np.tensordot(rng.normal(size=(60, 2)), two, 1)
    people = (people + people[:, mirror_points()] * np.array([-1.0, 1.0])) / 2
    for upper, lower in ((UPPER_LIDS.ravel(), LOWER_LIDS.ravel()), (UPPER_INNER, LOWER_INNER)):
        people[:, upper] = people[:, lower] = (people[:, upper] + people[:, lower]) / 2
    found = gaussian(people, 4)["modes"].reshape(4, -1)
    covariance = found.T @ found
    centred = (people - people.mean(0)).reshape(60, -1)
    np.testing.assert_allclose(covariance, centred.T @ centred / 60, atol=1e-9)


def test_lids_and_lips_are_not_parted():
    people = np.random.default_rng(1).normal(size=(8, 478, 2)) * 1e-3
    for table in gaussian(people, 3).values():
        for upper, lower in ((UPPER_LIDS.ravel(), LOWER_LIDS.ravel()), (UPPER_INNER, LOWER_INNER)):
            np.testing.assert_allclose(table[..., upper, :], table[..., lower, :], atol=1e-12)


def test_nobody_is_shifted_where_nothing_is_known_of_the_detector():
    rig = AnnyRig.load()
    person = rig.personal(torch.zeros(rig.identity_size))
    points = rig.landmarks.points(person.neutral, person.faces).double().numpy() + np.array([0.0, 0.05, 0.9])
    seen = np.tile((points[:, :2] / points[:, 2:] * FOCAL + SIZE[0] / 2)[None], (4, 1, 1)).astype(np.float32)
    track, found = fit(seen, np.ones(4, np.float32), rig, SIZE, fps=25.0)
    assert float((found.neutral - person.neutral).norm(dim=1).mean()) < 0.0015
    assert np.degrees(Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].numpy()).magnitude()).max() < 1.0
