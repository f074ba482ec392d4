"""A person's own form of an action is told by a clip that shows it; nothing else changes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from avatar.face import AnnyRig, PersonalRig
from avatar.face.arkit import INDEX, MIRROR, NAMES
from avatar.face.rig import Piece
from avatar.face.solver import Observed, PointModel, State, lip_pairs, point_model, project
from avatar.face.solver_actions import ActionKernel
from avatar.face.solver_prior import held, make_prior
from avatar.face.solver_sequence import solve_sequence

FRAMES, FOCAL, UNIT = 40, 1300.0, 100.0
SMILES = [INDEX["mouthSmileLeft"], INDEX["mouthSmileRight"]]


@dataclass(frozen=True)
class Scene:
    person: PersonalRig
    model: PointModel
    state: State
    observed: Observed
    change: np.ndarray
    kept: np.ndarray
    kernel: ActionKernel


def still_head(expression: np.ndarray) -> State:
    """Seen from the front."""
    return State(
        expression=expression,
        gaze=np.zeros((FRAMES, 4)),
        rotation=np.tile(np.diag([1.0, -1.0, -1.0]), (FRAMES, 1, 1)),
        place=np.zeros((FRAMES, 2)),
        log_scale=np.full(FRAMES, np.log(FOCAL / 0.9)),
    )


@pytest.fixture(scope="module")
def rig() -> AnnyRig:
    return AnnyRig.load()


@pytest.fixture(scope="module")
def scene(rig) -> Scene:
    """Somebody whose smile goes up where the rig's goes outward, in a clip that shows the left one more."""
    kept = np.flatnonzero(rig.landmarks.usable.numpy())
    person = rig.personal(torch.zeros(rig.identity_size))
    model = point_model(rig, person, kept)
    own = np.zeros_like(model.actions)  # what this person's smiles add
    own[:, 1, SMILES] = 0.3 * np.linalg.norm(model.actions[..., SMILES], axis=1)
    expression = np.zeros((FRAMES, len(NAMES)))
    expression[:, SMILES[0]] = 0.5 - 0.5 * np.cos(np.arange(FRAMES) / 5)
    expression[:, SMILES[1]] = 0.7 * expression[:, SMILES[0]]
    state = still_head(expression)
    seen = project(replace(model, actions=model.actions + own), state, FOCAL, UNIT)
    observed = Observed(points=seen.uv, weight=np.full(seen.uv.shape[:2], 0.1 / 0.008**2), unit_px=UNIT)
    kernel = ActionKernel(rig, kept)
    change = kernel.change(person, model, state, observed, FOCAL)
    return Scene(person, model, state, observed, change, kept, kernel)


def _error(scene: Scene, model: PointModel) -> float:
    uv = project(model, scene.state, FOCAL, UNIT).uv
    off = uv - scene.observed.points
    return float(np.linalg.norm(off - off.mean((0, 1)), axis=-1).mean())


def _at_points(scene: Scene, rig: AnnyRig) -> np.ndarray:
    change = torch.from_numpy(scene.change)
    return rig.landmarks.points(change, scene.person.faces)[:, scene.kept].permute(1, 2, 0).numpy()


def test_the_form_of_a_smile_is_told_by_frames_that_show_it(scene, rig):
    found = replace(scene.model, actions=scene.model.actions + _at_points(scene, rig))
    assert _error(scene, found) < 0.5 * _error(scene, scene.model)


def test_frames_that_differ_are_looked_at_however_few_they_are(scene, rig):
    """A film of a still mouth smiles for three frames."""
    still = np.zeros(400, int)
    still[200:203] = [16, 15, 14]
    film = scene.state.select(still)
    observed = scene.observed.select(still)
    change = scene.kernel.change(scene.person, scene.model, film, observed, FOCAL)
    at_points = rig.landmarks.points(torch.from_numpy(change), scene.person.faces)[:, scene.kept]
    found = replace(scene.model, actions=scene.model.actions + at_points.permute(1, 2, 0).numpy())
    assert _error(scene, found) < 0.7 * _error(scene, scene.model)


def test_what_is_told_of_the_lips_gap_counts(rig):
    """The jaw of somebody opens the lips less than the rig's; their points say so, faintly, and their gap aloud."""
    kept = np.flatnonzero(rig.landmarks.usable.numpy())
    person = rig.personal(torch.zeros(rig.identity_size))
    model = point_model(rig, person, kept)
    jaw, lower = INDEX["jawOpen"], lip_pairs(kept)[1]
    own = model.actions.copy()
    own[lower, :, jaw] *= 0.7
    expression = np.zeros((FRAMES, len(NAMES)))
    expression[:, jaw] = 0.25 - 0.25 * np.cos(np.arange(FRAMES) / 5)
    state = still_head(expression)
    seen = project(replace(model, actions=own), state, FOCAL, UNIT)
    faint = Observed(points=seen.uv, weight=np.full(seen.uv.shape[:2], 0.005 / 0.008**2), unit_px=UNIT)
    told = replace(faint, apart=np.full(FRAMES, 0.1 / 0.004**2))
    kernel, errors = ActionKernel(rig, kept), []
    for observed in (faint, told):
        change = torch.from_numpy(kernel.change(person, model, state, observed, FOCAL))
        at_points = rig.landmarks.points(change, person.faces)[:, kept].permute(1, 2, 0).numpy()
        uv = project(replace(model, actions=model.actions + at_points), state, FOCAL, UNIT).uv
        upper, under = lip_pairs(kept)
        gap, true = (at[:, under, 1] - at[:, upper, 1] for at in (uv, seen.uv))
        errors.append(np.abs(gap - true).mean())
    assert errors[1] < 0.5 * errors[0]


def test_both_sides_change_alike(scene, rig):
    left, right = (_at_points(scene, rig)[:, 1, k] for k in SMILES)
    assert left.max() > 0.001
    assert 0.5 < right.max() / left.max() < 1.5


def test_actions_that_the_clip_does_not_show_stay_as_they_are(scene):
    shown = [*SMILES, *(MIRROR[k] for k in SMILES)]
    assert np.abs(np.delete(scene.change, shown, 0)).max() == 0
    assert np.abs(scene.change[SMILES]).max() > 0.001


def test_a_change_is_not_more_or_less_of_the_action(scene, rig):
    at_points = _at_points(scene, rig)
    for k in SMILES:
        action = scene.model.actions[..., k]
        assert abs((at_points[..., k] * action).sum()) < 0.02 * (action**2).sum()


def test_eyeballs_teeth_and_tongue_keep_their_form(scene, rig):
    hard = torch.isin(
        rig.pieces,
        torch.tensor([Piece.TONGUE, Piece.UPPER_TEETH, Piece.LOWER_TEETH, Piece.RIGHT_EYE, Piece.LEFT_EYE]).to(
            rig.pieces
        ),
    )
    vertices = rig.faces[hard].unique().numpy()
    assert len(vertices) > 100
    assert np.abs(scene.change[:, vertices]).max() == 0


def test_frames_that_do_not_vary_change_nothing(scene):
    still = scene.state.select(np.zeros(FRAMES, int))
    change = scene.kernel.change(scene.person, scene.model, still, scene.observed, FOCAL)
    assert np.abs(change).max() == 0


def test_lids_meet_whatever_became_of_the_blink(rig):
    person = rig.personal(rig.sample(1, seed=4)[0])
    blink = INDEX["eyeBlinkRight"]
    changed = person.actions.clone()
    changed[blink] = 0.7 * changed[blink]
    upper, lower = rig.lids_upper[0], rig.lids_lower[0]
    apart = []
    for actions in (changed, rig.shutting(person.neutral, changed)):
        shut = person.neutral + actions[blink]
        share = (rig.mean[upper, 0] - rig.mean[lower[:, 0], 0]) / (rig.mean[lower[:, 1], 0] - rig.mean[lower[:, 0], 0])
        edge = torch.lerp(shut[lower[:, 0], 1], shut[lower[:, 1], 1], share.clamp(0, 1))
        apart.append(float((edge - shut[upper, 1]).max()))
    assert apart[0] > 0.001
    assert apart[1] < 0.0005


def test_held_coefficients_stay_while_the_head_moves(scene):
    moved = replace(scene.state, place=scene.state.place + 0.05)
    prior = held(make_prior(np.zeros((FRAMES, 2)), np.zeros((FRAMES, 4)), 25.0), moved)
    observed = replace(scene.observed, points=project(scene.model, scene.state, FOCAL, UNIT).uv)
    found = solve_sequence(scene.model, observed, prior, moved, focal=FOCAL, iterations=2)
    np.testing.assert_allclose(found.expression, moved.expression, atol=0.01)
    assert np.abs(found.place).max() < 0.005
