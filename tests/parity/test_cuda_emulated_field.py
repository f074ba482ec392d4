"""The CUDA sources of posing, binding, Adam, hash grid and ray marching, run on the CPU, against float64 references.

Their logic, not speed; see tests/cuda_on_cpu. Values are held to 1e-4, gradients to 1e-3.
"""

import pytest
import torch

from avatar.ops import hashgrid, raymarch
from avatar.ops.binding import bind_gaussians
from avatar.ops.optimize import adam_step
from avatar.ops.posing import SparseRig, pose_rig
from avatar.ops.raymarch import Marching
from tests.cuda_on_cpu import device
from tests.parity import test_binding, test_hashgrid, test_posing, test_raymarch
from tests.parity.test_adam import RATES, tensors
from tests.parity.test_cuda_emulated import library as library  # noqa: PLC0414 - the fixture, for this module too

NAN = float("nan")


def compare(work, inputs, registered, upstream_seed=0, kept=None):
    """Values and gradients of work(*inputs) by the CUDA kernels and by the float64 reference."""
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.detach().to(dtype).requires_grad_() for t in inputs]
        if dtype == torch.float32:
            with device.cuda_on_cpu() as calls:
                out, gradients = differentiated(work, leaves, upstream_seed)
            assert calls == [f"avatar::{registered}", f"avatar::{registered}_backward"], "another one was tested"
        else:
            out, gradients = differentiated(work, leaves, upstream_seed)
        results.append((out, gradients))
    (found, found_gradients), (wanted, wanted_gradients) = results
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)
    for index, (a, b) in enumerate(zip(found_gradients, wanted_gradients, strict=True)):
        mask = kept.get(index, 1) if kept else 1
        assert a.shape == b.shape and ((a.double() - b) * mask).norm() <= 1e-3 * (b * mask).norm() + 1e-12, index
    return wanted, wanted_gradients


def differentiated(work, leaves, seed):
    out = work(*leaves)
    generator = torch.Generator().manual_seed(seed)
    upstream = [torch.randn(o.shape, generator=generator).to(o.dtype) for o in out]
    return [o.detach() for o in out], torch.autograd.grad(out, leaves, upstream)


@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("points", [0, 1, 300])
def test_hash_grid_matches(dimensions, features, points):
    grid = test_hashgrid.small_grid(dimensions, features)
    positions, table, _ = test_hashgrid.inputs(grid, points)
    kept = {0: ~test_hashgrid.near_vertex(positions, grid)}
    _, gradients = compare(
        lambda p, t: [hashgrid.encode(p, t, grid)], (positions, table), "hash_encode", points, kept=kept
    )
    assert points < 2 or all(g.any() for g in gradients)


@pytest.mark.parametrize("cone", [0.0, 0.05])
@pytest.mark.parametrize("rays", [0, 1, 130])
def test_marched_samples_match(rays, cone):
    """Sample for sample, but for those whose middle is so near to a border that rounding decides."""
    lines, occupied = test_raymarch.bundle(rays), test_raymarch.head_grid()
    marching = Marching(step=0.02, near=0.1, far=1.5, cone=cone, low=test_raymarch.LOW, high=test_raymarch.HIGH)
    with device.cuda_on_cpu() as calls:
        packed, ray, starts, ends = raymarch.march(*lines[:2], occupied, marching, lines[2])
    assert calls == ["avatar::march_rays"]
    assert torch.equal(ray, torch.arange(rays).repeat_interleave(packed[:, 1]))
    assert torch.equal(packed[:, 0], packed[:, 1].cumsum(0) - packed[:, 1])
    if not rays:
        return
    all_rays, all_starts, all_ends, hit, uncertain = test_raymarch.candidates(lines, occupied, marching)
    assert rays == 1 or (uncertain.float().mean() < 0.02 and hit.sum() > 100)
    middles = all_rays * 100 + (all_starts + all_ends) / 2
    place = torch.searchsorted((middles[1:] + middles[:-1]) / 2, ray * 100 + (starts.double() + ends) / 2)
    found = torch.zeros_like(hit)
    found[place] = True
    assert found.sum() == len(ray) and torch.equal(found[~uncertain], hit[~uncertain])
    torch.testing.assert_close(starts.double(), all_starts[place], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ends.double(), all_ends[place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 20])
@pytest.mark.parametrize("counts", [[], [0], [1], [0, 5, 0, 16, 17, 1, 400], [3] * 150])
def test_blending_matches(counts, channels):
    densities, values, starts, ends, packed = test_raymarch.scene(counts, channels)

    def work(d, v):
        return raymarch.composite(d, v, starts.to(d), ends.to(d), packed)

    wanted, _ = compare(work, (densities, values), "composite")
    assert len(counts) != 7 or (wanted[1].max() > 0.999 and (wanted[3] == 0).sum() > 100)


def test_rays_whose_samples_are_not_there_are_empty():
    densities, values, starts, ends, _ = test_raymarch.scene([4, 4], 2)
    packed = torch.tensor([[0, 4], [6, 4], [-1, 2], [2**62, 2**62], [0, -1]])
    leaf = densities.abs().requires_grad_()
    with device.cuda_on_cpu():
        colour, alpha, depth, weights = raymarch.composite(leaf, values, starts, ends, packed)
        (gradient,) = torch.autograd.grad(colour.sum() + weights.sum(), leaf)
    assert alpha[0] > 0 and not any(t[1:].any() for t in (colour, alpha, depth))
    assert weights[:4].all() and not weights[4:].any() and not gradient[4:].any()


@pytest.mark.parametrize("vertices", [0, 1, 31, 33, 400])
def test_posing_matches(vertices):
    rig, motion = test_posing.random_rig(vertices), test_posing.random_motion()

    def work(neutral, *motion):
        like = SparseRig(neutral, rig.first, rig.action, rig.move.to(neutral), rig.weights.to(neutral))
        return [pose_rig(like, *motion)]

    compare(work, (rig.neutral, *motion), "pose_rig")


def test_actions_that_do_not_exist_move_their_vertices_to_nowhere():
    rig, (expression, transforms, shift) = test_posing.random_rig(40), test_posing.random_motion()
    action = rig.action.clone()
    action[0], action[-1] = 10**9, -1
    lost = torch.zeros(40, dtype=torch.bool)
    lost[torch.searchsorted(rig.first, torch.tensor([0, len(action) - 1], dtype=torch.int32), right=True) - 1] = True
    leaf = expression.requires_grad_()
    with device.cuda_on_cpu():
        expected = pose_rig(rig, leaf, transforms, shift)
        found = pose_rig(rig._replace(action=action), leaf, transforms, shift)
        beyond = pose_rig(rig._replace(first=rig.first * 10**6), leaf, transforms, shift)
        torch.autograd.grad(found.sum() + beyond.sum(), leaf)
    assert found[lost].isnan().all() and torch.equal(found[~lost], expected[~lost])
    assert torch.isfinite(beyond).all()


@pytest.mark.parametrize(("splats", "terms"), [(0, 5), (1, 1), (33, 0), (33, 33), (260, 20)])
@pytest.mark.parametrize("activate", [True, False])
def test_binding_matches(splats, terms, activate):
    leaves, (surface, seats, *_) = test_binding.scene(splats, terms)

    def work(vertices, *parts):
        here = surface._replace(vertices=vertices, rest_size=surface.rest_size.to(vertices))
        rest, blend = test_binding.Rest(*parts[:5]), test_binding.Blend(*parts[5:])
        return bind_gaussians(here, seats._replace(bary=seats.bary.to(vertices)), rest, blend, activate=activate)

    compare(work, leaves, "bind_gaussians")


def test_splats_on_triangles_that_do_not_exist_are_nowhere_and_leave_the_others_alone():
    leaves, (surface, seats, rest, blend) = test_binding.scene(40, 5)
    triangle, faces = seats.triangle.clone(), surface.faces.clone()
    triangle[3], triangle[17] = -1, 2**40
    faces[triangle[5]] = torch.tensor([0, 10**9, -5])
    lost = torch.isin(triangle, triangle[5]) | torch.isin(torch.arange(40), torch.tensor([3, 17]))
    with device.cuda_on_cpu():
        expected = bind_gaussians(surface, seats, rest, blend)
        found = bind_gaussians(surface._replace(faces=faces), seats._replace(triangle=triangle), rest, blend)
        gradients = torch.autograd.grad(found.means[~lost].sum(), leaves)
        nothing = bind_gaussians(surface._replace(faces=faces[:0], rest_size=surface.rest_size[:0]), seats, rest, blend)
        torch.autograd.grad(nothing.opacities.sum(), leaves)
    assert found.means[lost].isnan().any(1).all() and torch.equal(found.means[~lost], expected.means[~lost])
    assert nothing.means.isnan().any(1).all() and torch.isfinite(gradients[4]).all()


SHAPES = [(0, 3), (1,), (300,), (17, 3), (65, 4), (33, 13), (5, 13, 20), ()]


# Outer products are of rows: only shapes of two axes have terms.
@pytest.mark.parametrize(("shape", "terms"), [(s, n) for s in SHAPES for n in (0, 7) if not n or len(s) == 2])
@pytest.mark.parametrize("skip", [True, False])
def test_adam_matches(shape, skip, terms):
    value, mean, square, gradient = tensors((*shape, terms) if terms else shape)
    weights = tensors((terms,), 1)[0] if terms else None
    gradient = tensors(shape, 2)[3] if terms else gradient
    truth = [t.double() for t in (value, mean, square)]
    with device.cuda_on_cpu() as calls:
        adam_step(value, gradient, (mean, square), RATES, terms=weights, skip=skip)
    assert calls == ["avatar::adam"]
    wide = None if weights is None else weights.double()
    adam_step(truth[0], gradient.double(), (truth[1], truth[2]), RATES, terms=wide, skip=skip)
    for found, expected in zip((value, mean, square), truth, strict=True):
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)
