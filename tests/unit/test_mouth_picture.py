"""Lips that the picture shows open, where the detector's points are closed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.face import AnnyRig
from avatar.face.arkit import INDEX
from avatar.face.calibration import Frames, calibrate, lip_gap, more_open, touching
from avatar.face.mouth_picture import dark_between_lips
from avatar.face.solver import FREE, Observed, PointModel, State, lip_pairs, normal_equations, point_model, project

SIZE, UNIT = 400, 150.0
LIP, DARK = (190, 110, 105), (60, 25, 25)


@pytest.fixture(scope="module")
def shut() -> np.ndarray:
    """Landmarks (pixels) of a face with closed lips, eyes 150 px apart."""
    rig = AnnyRig.load()
    expression = torch.zeros(52)
    for name in ("mouthRollLower", "mouthRollUpper"):
        expression[INDEX[name]] = 0.1
    vertices = rig.personal(torch.zeros(rig.identity_size)).vertices(expression, torch.zeros(3), torch.zeros(2, 2))
    points = rig.landmarks.points(vertices, rig.faces)[:, :2].numpy()
    scale = UNIT / np.linalg.norm(points[33] - points[263])
    return ((points - points[[13, 14]].mean(0)) * scale + (200, 250)).astype(np.float32)


def mouth(opening: float, light: float = 1.0) -> np.ndarray:
    """A picture of lips' colour with a dark bar where the mouth is, open by so many eye distances."""
    picture = np.full((SIZE, SIZE, 3), LIP, np.float64)
    half = opening * UNIT / 2
    rows = np.arange(SIZE) + 0.5
    inside = np.clip(half - np.abs(rows - 250) + 0.5, 0, 1)[:, None, None]
    return np.round(light * (picture * (1 - inside) + np.array(DARK) * inside)).astype(np.uint8)


@pytest.mark.parametrize("opening", [0.0, 0.02, 0.05])
def test_the_dark_is_as_long_as_the_mouth_is_open(shut, opening):
    assert dark_between_lips(mouth(opening), shut) == pytest.approx(opening, abs=0.006)


def test_a_dark_picture_shows_nothing(shut):
    assert dark_between_lips(mouth(0.05, light=0.1), shut) < 0.006


def test_a_mouth_of_few_pixels_tells_nothing(shut):
    assert dark_between_lips(mouth(0.05), shut * 0.2) < 0


def film(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """True openings of a speaker, and gaps of a detector that holds what is open by less than 0.04 for closed."""
    opening = 0.06 * (1 - np.cos(np.arange(count) * 0.53))
    assert ((opening > 0.027) & (opening < 0.04)).sum() > 3
    return opening, np.where(opening < 0.04, 0.002, opening)


def test_openings_that_the_detector_does_not_see_are_seen():
    opening, gap = film()
    found = gap + more_open(opening + 0.004, gap)
    hidden = (opening > 0.027) & (opening < 0.04)
    assert np.abs(found - opening)[hidden].mean() < 0.5 * np.abs(gap - opening)[hidden].mean()
    assert (found[opening < 0.008] < 0.012).all()


@pytest.mark.parametrize("dark", [np.full(60, -1.0), np.zeros(60), np.random.default_rng(0).random(60) * 0.05])
def test_a_picture_that_does_not_follow_the_detector_is_not_believed(dark):
    assert (more_open(dark, film()[1]) == 0).all()


def test_the_dark_of_a_clip_parts_the_lips_landmarks(shut):
    opening, gap = film()
    track = np.repeat(shut[None].astype(np.float64), len(gap), 0)
    lower, upper = [95, 88, 178, 87, 14, 317, 402, 318, 324], [191, 80, 81, 82, 13, 312, 311, 310, 415]
    middle = (track[:, upper] + track[:, lower]) / 2
    half = np.array([0.0, 0.5]) * UNIT * gap[:, None]
    track[:, upper], track[:, lower] = middle - half[:, None], middle + half[:, None]
    up = np.tile([0.0, -1.0], (len(gap), 1))
    seen = {"up_px": up, "unit_px": np.full(len(gap), UNIT), "good": np.ones(len(gap), bool), "fps": 25.0}
    plain = calibrate(track, Frames(**seen), 0.9).landmarks_px
    parted = calibrate(track, Frames(**seen, dark=opening), 0.9).landmarks_px
    hidden = (opening > 0.027) & (opening < 0.04)
    assert (lip_gap(parted)[hidden] > lip_gap(plain)[hidden] + 0.01 * UNIT).all()
    assert np.array_equal(parted[opening > 0.08], plain[opening > 0.08])


def test_lips_touch_where_detector_and_picture_both_see_no_opening():
    opening, gap = film()
    sure = touching(opening + 0.004, gap)
    assert (sure[opening < 0.008] > 0.9).all()
    assert (sure[opening > 0.027] == 0).all()
    assert ((sure >= 0) & (sure <= 1)).all()


@pytest.mark.parametrize("dark", [np.full(60, -1.0), np.zeros(60), np.random.default_rng(0).random(60) * 0.05])
def test_no_lips_touch_by_the_detector_alone(dark):
    assert (touching(dark, film()[1]) == 0).all()
    assert (touching(np.where(np.arange(60) < 30, film()[0], -1.0), film()[1])[30:] == 0).all()


JAW = FREE.tolist().index(INDEX["jawOpen"])


def observed_mouth(actions: dict[str, float], touch: float) -> tuple[PointModel, State, Observed]:
    """One frame of a mouth that the landmarks show in this shape."""
    rig = AnnyRig.load()
    person = rig.personal(torch.zeros(rig.identity_size))
    model = point_model(rig, person, np.flatnonzero(rig.landmarks.usable.numpy()))
    expression = np.zeros((1, 52))
    for name, value in actions.items():
        expression[:, INDEX[name]] = value
    state = State(
        expression=expression, gaze=np.zeros((1, 4)), rotation=np.eye(3)[None], place=np.zeros((1, 2)),
        log_scale=np.log([1600.0]),
    )  # fmt: skip
    points = project(model, state, 1300.0, 140.0).uv
    weight = np.full(points.shape[:2], 1e3)
    return model, state, Observed(points=points, weight=weight, unit_px=140.0, touching=np.array([touch]))


def test_lips_that_touch_pull_the_jaw_shut_and_overlapping_ones_do_not_push():
    for overlap, is_pulled in ((0.0, True), (0.03, False)):
        model, state, observed = observed_mouth({"jawOpen": 0.15}, 1e4)
        points = model.points.copy()
        points[lip_pairs(model.kept)[1], 1] -= overlap
        model = replace(model, points=points)
        observed = replace(observed, points=project(model, state, 1300.0, 140.0).uv)
        _, gradient = normal_equations(model, state, observed, 1300.0)
        assert (abs(gradient[0, JAW]) > 1) == is_pulled
        _, alone = normal_equations(model, state, replace(observed, touching=np.zeros(1)), 1300.0)
        assert abs(alone[0, JAW]) < 1e-6


def test_the_pull_is_the_derivative_of_the_squared_gap():
    model, state, observed = observed_mouth({"jawOpen": 0.15}, 1e4)
    _, gradient = normal_equations(model, state, observed, 1300.0)
    upper, lower = lip_pairs(model.kept)

    def energy(jaw_open: float) -> float:
        moved = state.expression.copy()
        moved[:, INDEX["jawOpen"]] = jaw_open
        seen = project(model, replace(state, expression=moved), 1300.0, 140.0).uv
        gap = (seen[:, lower] - seen[:, upper])[..., 1]
        return float(0.5 * 1e4 * (np.maximum(gap, 0) ** 2).sum())

    slope = (energy(0.151) - energy(0.149)) / 0.002
    assert gradient[0, JAW] == pytest.approx(slope, rel=0.01)


def test_the_gap_pulls_towards_the_observed_one_whatever_single_points_say():
    model, state, observed = observed_mouth({"jawOpen": 0.15}, 0.0)
    wider = replace(state, expression=np.where(np.arange(52) == INDEX["jawOpen"], 0.25, 0.0)[None])
    seen = project(model, wider, 1300.0, 140.0).uv + np.array([0.05, 0.1])
    gap_alone = replace(observed, points=seen, weight=1e-12 * observed.weight, apart=np.array([1e4]))
    _, gradient = normal_equations(model, state, gap_alone, 1300.0)
    upper, lower = lip_pairs(model.kept)
    wanted = (seen[:, lower] - seen[:, upper])[..., 1]

    def energy(jaw_open: float) -> float:
        moved = state.expression.copy()
        moved[:, INDEX["jawOpen"]] = jaw_open
        uv = project(model, replace(state, expression=moved), 1300.0, 140.0).uv
        return float(0.5 * 1e4 * (((uv[:, lower] - uv[:, upper])[..., 1] - wanted) ** 2).sum())

    slope = (energy(0.151) - energy(0.149)) / 0.002
    assert slope < -1
    assert gradient[0, JAW] == pytest.approx(slope, rel=0.01)


def test_lips_seen_closed_may_overlap():
    model, state, observed = observed_mouth({}, 0.0)
    points, shut = model.points.copy(), observed.points.copy()
    upper, lower = lip_pairs(model.kept)
    points[lower, 1] -= 0.004
    shut[:, lower] = shut[:, upper]
    pressed = replace(observed, points=shut, weight=1e-12 * observed.weight, apart=np.array([1e4]))
    _, gradient = normal_equations(replace(model, points=points), state, pressed, 1300.0)
    assert abs(gradient[0, JAW]) < 1e-6
