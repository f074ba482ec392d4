"""The inner lips of the landmark table lie where the edges of the mouth are seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.face import AnnyRig
from avatar.face.arkit import INDEX
from avatar.face.calibration import lip_gap
from avatar.face.mouth_edge import on_mouth_edges
from avatar.face.rig import Piece
from avatar.face.solver_shape import ShapeKernel
from avatar.ops.mesh import rasterize_mesh

UNSEEN = 900
"""Seed of heads that the table was not made from."""


@pytest.fixture(scope="module")
def rig() -> AnnyRig:
    return AnnyRig.load()


def gap_and_seen(rig: AnnyRig, seed: int, **actions: float) -> tuple[float, float]:
    """Opening between the landmarks, and of the mouth as drawn below the nose, in eye distances."""
    person = rig.personal(rig.sample(1, seed=seed)[0])
    expression = torch.zeros(52)
    for name, value in actions.items():
        expression[INDEX[name]] = value
    vertices = person.vertices(expression, torch.zeros(3), torch.zeros(2, 2))
    points = rig.landmarks.points(vertices, rig.faces)
    eyes = float((points[33] - points[263]).norm())
    away = vertices - points[[13, 14]].mean(0) + torch.tensor([0.0, 0.0, 0.8])
    drawn, _, _ = rasterize_mesh(away, rig.faces, (8000.0, 8000.0), (5.0, 500.0), (1000, 10))
    column = drawn[:, 5]
    inside = (column >= 0) & (rig.pieces[column.clamp_min(0)] != int(Piece.SKIN))
    return float(lip_gap(points[None].numpy())[0]) / eyes, int(inside.sum()) * 1e-4 / eyes


@pytest.mark.parametrize("jaw", [0.0, 0.05, 0.15, 0.4])
def test_the_gap_of_the_points_is_the_gap_that_is_seen(rig, jaw):
    pairs = np.array([gap_and_seen(rig, UNSEEN + seed, jawOpen=jaw) for seed in range(8)])
    assert np.abs(pairs[:, 0] - pairs[:, 1]).mean() < 0.01
    assert np.abs(pairs[:, 0] - pairs[:, 1]).max() < 0.015


def test_pressed_lips_have_no_gap(rig):
    pressed = {"mouthRollLower": 0.6, "mouthRollUpper": 0.4, "mouthPressLeft": 0.4, "mouthPressRight": 0.4}
    pairs = np.array([gap_and_seen(rig, UNSEEN + seed, **pressed) for seed in range(8)])
    assert pairs.max() < 0.004


def test_points_that_lie_outside_are_moved_onto_the_edges(rig):
    table = rig.landmarks
    outer = replace(table, triangles=table.triangles.clone(), barycentric=table.barycentric.clone())
    for inner, outside in ((13, 12), (14, 15), (82, 38), (87, 86), (312, 268), (317, 316)):
        outer.triangles[inner], outer.barycentric[inner] = table.triangles[outside], table.barycentric[outside]
    made = on_mouth_edges(rig, outer, heads=5)
    ours, kept = (t.points(rig.mean, rig.faces)[[13, 14, 82, 87, 312, 317]] for t in (made, table))
    assert float((outer.points(rig.mean, rig.faces)[[13, 14]] - kept[:2]).norm(dim=1).min()) > 0.002
    assert float((ours - kept).norm(dim=1).max()) < 0.0015


def test_offsets_do_not_part_the_lips_at_rest(rig):
    kept = np.flatnonzero(rig.landmarks.usable.numpy())
    kernel = ShapeKernel(rig, kept, np.full(len(kept), 0.004), 0.09)
    coefficients = np.random.default_rng(0).normal(size=(20, len(kernel.mesh_modes)))
    offsets = torch.from_numpy(np.tensordot(coefficients, kernel.mesh_modes, 1)).float()
    gaps = lip_gap(rig.landmarks.points(rig.neutral(torch.zeros(rig.identity_size)) + offsets, rig.faces).numpy())
    moved = rig.landmarks.points(offsets, rig.faces)[:, [13, 14], 1]
    assert gaps.max() < 0.0012
    assert float(moved.std()) > 0.0008
