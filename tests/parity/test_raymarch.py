import math

import pytest
import torch

from avatar import ops
from avatar.ops import raymarch, reference_field
from avatar.ops.raymarch import Marching

BAND = 1e-3  # cells and steps: nearer to a border, a sample may fall to the other side
LOW, HIGH = (-1.0, -0.5, 0.0), (1.0, 0.75, 1.5)
NAN, INF = math.nan, math.inf


def head_grid(shape=(24, 17, 20)):
    """A hollow ellipsoid."""
    axes = [torch.linspace(-1, 1, n) for n in shape]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)
    return (radius > 0.6) & (radius < 0.9)


def bundle(rays, seed=0):
    """Rays from around the box towards points in and near it, of different lengths; jitter."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(rays, 3, generator=generator) * 2
    targets = torch.rand(rays, 3, generator=generator) * 2 - torch.tensor([1.0, 0.75, 0.3])
    directions = (targets - origins) * (0.5 + torch.rand(rays, 1, generator=generator))
    return origins, directions, torch.rand(rays, generator=generator)


def by_reference(rays, occupied, marching):
    origins, directions, jitter = (t.double() for t in rays)
    spacing = [marching.near, marching.far, marching.step, marching.cone]
    return reference_field.march(origins, directions, occupied, jitter, [*marching.low, *marching.high], spacing)


def candidates(rays, occupied, marching):
    """All samples, whether they are in an occupied cell, and whether they are too near a border to tell."""
    origins, directions, _ = (t.double() for t in rays)
    _, ray, starts, ends = by_reference(rays, torch.ones_like(occupied), marching)
    low, high = torch.tensor(marching.low).double(), torch.tensor(marching.high).double()
    points = origins[ray] + ((starts + ends) / 2)[:, None] * directions[ray]
    cell = (points - low) / (high - low) * torch.tensor(occupied.shape)
    inside = cell.floor().long().clamp(min=0).minimum(torch.tensor(occupied.shape) - 1)
    last = reference_field.inside_box(origins, directions, low, high)[1].clamp(max=marching.far)
    uncertain = ((cell - cell.round()).abs() < BAND).any(-1)
    uncertain |= (last[ray] - (starts + ends) / 2) / (ends - starts) < BAND
    return ray, starts, ends, occupied[tuple(inside.T)], uncertain


@pytest.mark.parametrize("cone", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("rays", [0, 1, 300])
def test_samples_match_the_float64_reference(build, rays, cone):
    lines, occupied = bundle(rays), head_grid()
    marching = Marching(step=0.02, near=0.1, far=1.5, cone=cone, low=LOW, high=HIGH)
    packed, ray, starts, ends = raymarch.march(*lines[:2], occupied, marching, lines[2])
    assert packed.shape == (rays, 2) and int(packed[:, 1].sum()) == len(ray)
    assert torch.equal(ray, torch.arange(rays).repeat_interleave(packed[:, 1]))
    assert torch.equal(packed[:, 0], packed[:, 1].cumsum(0) - packed[:, 1])
    if not rays:
        return

    all_rays, all_starts, all_ends, hit, uncertain = candidates(lines, occupied, marching)
    assert rays == 1 or (uncertain.float().mean() < 0.02 and hit.sum() > 100)
    middles = all_rays * 100 + (all_starts + all_ends) / 2
    edges = (middles[1:] + middles[:-1]) / 2
    place = torch.searchsorted(edges, ray * 100 + (starts.double() + ends) / 2)
    found = torch.zeros_like(hit)
    found[place] = True
    assert found.sum() == len(ray)
    assert torch.equal(found[~uncertain], hit[~uncertain])
    torch.testing.assert_close(starts.double(), all_starts[place], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ends.double(), all_ends[place], rtol=1e-4, atol=1e-5)


def test_march_of_the_reference_is_what_stepping_by_hand_finds():
    marching = Marching(step=0.25, cone=0.5, low=(0.0, 0.0, 0.0), high=(4.0, 1.0, 1.0))
    occupied = torch.tensor([True, False, True, True])[:, None, None]
    rays = (torch.tensor([[-0.25, 0.5, 0.5]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(1))
    expected, start = [], 0.25
    while True:
        end = start + max(0.25, 0.5 * start)
        cell = math.floor((start + end) / 2 - 0.25)
        if cell >= 4:
            break
        if occupied[cell]:
            expected.append((start, end))
        start = end
    _, _, starts, ends = by_reference(rays, occupied, marching)
    torch.testing.assert_close(torch.stack([starts, ends], -1), torch.tensor(expected).double())


def test_strange_rays_have_no_samples_and_flat_ones_do(build):
    occupied, marching = torch.ones(2, 3, 4, dtype=torch.bool), Marching(step=0.125)
    origins = torch.tensor(
        [[NAN, 0.5, 0.5], [0.5, 0.5, INF], [0.5, 0.5, 0.5], [0.5, 1.5, 0.5], [0.5, 0.5, -1], [1, 1, 0]]
    )
    directions = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1e-31], [0, 0, 1]])
    packed = raymarch.march(origins, directions, occupied, marching)[0]
    assert packed[:, 1].tolist() == [0, 0, 0, 0, 0, 8]
    assert torch.equal(packed, by_reference((origins, directions, torch.zeros(6)), occupied, marching)[0])


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 4, 8), (32, 1, 3)])
def test_every_cell_is_found_where_it_is(build, shape):
    generator = torch.Generator().manual_seed(0)
    occupied = torch.rand(shape, generator=generator) < 0.5
    cells = torch.cartesian_prod(*[torch.arange(n) for n in shape])
    origins = torch.cat([(cells[:, :2] + 0.5) / torch.tensor(shape[:2]), torch.zeros(len(cells), 1)], -1)
    marching = Marching(step=1 / shape[2])
    _, ray, starts, _ = raymarch.march(origins, torch.tensor([[0.0, 0, 1]]).expand_as(origins), occupied, marching)
    found = torch.zeros(len(cells), shape[2], dtype=torch.bool)
    found[ray, (starts * shape[2]).round().long()] = True
    assert torch.equal(found, occupied[cells[:, 0], cells[:, 1]])


def scene(counts, channels, seed=0):
    """Samples of rays, some of which become opaque on the way."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(counts, dtype=torch.int64)
    packed = torch.stack([counts.cumsum(0) - counts, counts], -1)
    total = int(counts.sum())
    starts = torch.rand(total, generator=generator).cumsum(0) * 0.1
    ends = starts + 0.02 + 0.05 * torch.rand(total, generator=generator)
    densities = torch.randn(total, generator=generator) * 8 + 1  # negative ones too
    return densities, torch.rand(total, channels, generator=generator), starts, ends, packed


@pytest.mark.parametrize("channels", [1, 3, 20])
@pytest.mark.parametrize("counts", [[], [0], [1], [0, 5, 0, 16, 17, 1, 400], [3] * 200])
def test_blending_and_its_gradients_match_the_float64_reference(build, counts, channels):
    samples = scene(counts, channels)
    results = []
    for dtype in (torch.float32, torch.float64):
        densities, values = (t.to(dtype).requires_grad_() for t in samples[:2])
        out = raymarch.composite(densities, values, samples[2].to(dtype), samples[3].to(dtype), samples[4])
        upstream = [
            torch.randn(o.shape, generator=torch.Generator().manual_seed(i)).to(dtype) for i, o in enumerate(out)
        ]
        gradients = torch.autograd.grad(out, (densities, values), upstream)
        results.append([t.detach().double() for t in (*out, *gradients)])
    assert len(counts) != 7 or (results[1][1].max() > 0.999 and (results[1][3] == 0).sum() > 100)
    for found, expected in zip(results[0][:4], results[1][:4], strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    for found, expected in zip(results[0][4:], results[1][4:], strict=True):
        assert (found - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("output", [0, 1, 2, 3])
def test_each_output_alone_carries_gradients(build, output):
    samples = scene([0, 5, 33], 3)
    results = []
    for dtype in (torch.float32, torch.float64):
        densities = samples[0].to(dtype).requires_grad_()
        rest = [t.to(dtype) for t in samples[1:4]]
        out = raymarch.composite(densities, rest[0], rest[1], rest[2], samples[4])[output]
        results.append(torch.autograd.grad(out.square().sum(), densities)[0].double())
    assert (results[0] - results[1]).norm() <= 1e-3 * results[1].norm() and results[1].any()


def test_gradient_of_the_reference_equals_finite_differences(monkeypatch):
    monkeypatch.setattr(reference_field, "MIN_LIGHT", 0.0)
    densities, values, starts, ends, packed = scene([0, 4, 9], 2)
    inputs = [densities.abs().double().requires_grad_(), values.double().requires_grad_()]
    rest = (starts.double(), ends.double(), packed)
    assert torch.autograd.gradcheck(lambda d, v: reference_field.composite(d, v, *rest), inputs)


def test_samples_that_end_before_they_start_are_empty(build):
    densities, values, starts, ends, packed = scene([5, 33], 2)
    ends = torch.where(torch.arange(38) % 3 > 0, ends, starts - 1)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaf = densities.abs().to(dtype).requires_grad_()
        out = raymarch.composite(leaf, values.to(dtype), starts.to(dtype), ends.to(dtype), packed)
        results.append([t.double() for t in (*out, *torch.autograd.grad(out[0].sum(), leaf))])
    assert not results[0][3][::3].any() and not results[0][4][::3].any()
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_jitter_outside_of_a_step_is_clamped(build):
    origins, directions, _ = (t[:1].expand(4, *t.shape[1:]) for t in bundle(1))
    marching, occupied = Marching(step=0.02, low=LOW, high=HIGH), head_grid()
    wild = raymarch.march(origins, directions, occupied, marching, torch.tensor([-1e38, INF, NAN, 7.0]))
    tame = raymarch.march(origins, directions, occupied, marching, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert len(wild[1]) and all(torch.equal(a, b) for a, b in zip(wild, tame, strict=True))
    exact = by_reference((origins, directions, torch.tensor([-1e38, INF, NAN, 7.0])), occupied, marching)
    assert ((exact[0][:, 1] - wild[0][:, 1]).abs() <= 1).all()


def test_more_samples_than_memory_holds_are_refused(build, monkeypatch):
    monkeypatch.setattr(raymarch, "_MAX_SAMPLES", 10)
    with pytest.raises(ValueError, match="too many"):
        raymarch.march(*bundle(9)[:2], head_grid(), Marching(step=0.001, low=LOW, high=HIGH))


def test_opaque_and_undefined_samples_end_a_ray(build):
    densities = torch.tensor([INF, 1.0, NAN, 1.0, 0.5])
    values, starts, packed = torch.ones(5, 1), torch.arange(5.0), torch.tensor([[0, 2], [2, 2], [4, 1]])
    densities.requires_grad_()
    colour, alpha, _, weights = raymarch.composite(densities, values, starts, starts + 1, packed)
    assert alpha[0] == 1 and weights[1] == 0 and alpha[1].isnan() and weights[3] == 0
    torch.testing.assert_close(colour[2, 0], 1 - torch.exp(torch.tensor(-0.5)))
    (gradient,) = torch.autograd.grad(colour[2], densities)
    torch.testing.assert_close(gradient[4], torch.exp(torch.tensor(-0.5)))


def test_results_do_not_depend_on_the_number_of_threads(build):
    rays, before, results = bundle(2000), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            packed, _, starts, ends = raymarch.march(*rays[:2], head_grid(), Marching(step=0.01, low=LOW, high=HIGH))
            densities = torch.sin(starts * 40).requires_grad_()
            out = raymarch.composite(densities, starts[:, None], starts, ends, packed)
            gradient = torch.autograd.grad(out[0].sum() + out[2].sum(), densities)
            results.append((packed, starts, ends, *out, *gradient))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_registered_operators_keep_the_laws_of_torch_library(build):
    origins, directions, jitter = bundle(9)
    call = (origins, directions, head_grid(), jitter, [-1.0, -0.5, 0, 1, 0.75, 1.5], [0.0, INF, 0.05, 0.0])
    laws = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.avatar.march_rays.default, call, test_utils=laws)
    samples = scene([0, 5, 17], 3)
    leaves = [t.requires_grad_() for t in samples[:2]]
    torch.library.opcheck(torch.ops.avatar.composite.default, (*leaves, *samples[2:]))


def test_blending_compiles_without_a_graph_break():
    samples = scene([4, 30], 3)
    densities = samples[0].requires_grad_()

    def picture(densities):
        return raymarch.composite(densities, *samples[1:])[0].sin()

    found = torch.compile(picture, fullgraph=True, backend="aot_eager")(densities)
    torch.testing.assert_close(found, picture(densities))
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), densities), torch.autograd.grad(picture(densities).sum(), densities)
    )


def test_marching_compiles_without_a_graph_break(monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "capture_dynamic_output_shape_ops", True)
    rays, occupied, marching = bundle(7), head_grid(), Marching(step=0.05, low=LOW, high=HIGH)

    def lengths(origins, directions):
        _, _, starts, ends = raymarch.march(origins, directions, occupied, marching)
        return (ends - starts).sum()

    found = torch.compile(lengths, fullgraph=True, backend="aot_eager")(*rays[:2])
    torch.testing.assert_close(found, lengths(*rays[:2]))


def test_what_does_not_fit_is_refused():
    origins, directions, jitter = bundle(3)
    occupied, marching = head_grid(), Marching(step=0.1)
    for rays in (
        (origins, directions[:2], jitter),
        (origins[:, :2], directions, jitter),
        (origins, directions, jitter[:1]),
    ):
        with pytest.raises(ValueError, match="not torch"):
            raymarch.march(*rays[:2], occupied, marching, rays[2])
    for grid in (occupied.float(), occupied[0], torch.ones(0, 1, 1, dtype=torch.bool)):
        with pytest.raises(ValueError, match="occupied"):
            raymarch.march(origins, directions, grid, marching)
    for wrong in ({"step": 0.0}, {"step": NAN}, {"cone": -1.0}, {"near": 2.0, "far": 1.0}, {"high": (1.0, 0.0, 1.0)}):
        with pytest.raises(ValueError, match="must be"):
            Marching(**{"step": 0.1, **wrong})
    samples = scene([2, 3], 3)
    for packed in ([[0, 2], [2, 4]], [[0, 2], [1, 3]], [[-1, 2], [2, 3]], [[0, -1], [0, 5]], [[2**62, 2**62], [0, 1]]):
        with pytest.raises(ValueError, match="packed must name"):
            raymarch.composite(samples[0], samples[1], samples[2], samples[3], torch.tensor(packed))
    with pytest.raises(ValueError, match="packed must be"):
        raymarch.composite(samples[0], samples[1], samples[2], samples[3], samples[4].int())
    with pytest.raises(ValueError, match="ends is"):
        raymarch.composite(samples[0], samples[1], samples[2], samples[3][:2], samples[4])


def test_occupancy_follows_the_densities():
    dense = torch.zeros(3, 3, 3)
    dense[1, 1, 1], dense[0, 0, 0] = 10.0, NAN
    level, occupied = raymarch.update_occupancy(torch.zeros(3, 3, 3), dense, threshold=5.0)
    assert occupied.sum() == 1 and occupied[1, 1, 1]
    for _ in range(80):
        level, occupied = raymarch.update_occupancy(level, torch.full_like(level, 0.5), threshold=0.4)
    assert occupied.all() and level[1, 1, 1] == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.skipif(not ops.describe()["cuda_kernels"], reason="the library is built without its CUDA half")
@pytest.mark.parametrize("channels", [1, 3, 20])
def test_cuda_kernels_march_and_blend_as_the_cpu_kernels_do(channels):
    rays, occupied, marching = bundle(1000), head_grid(), Marching(step=0.02, cone=0.01, low=LOW, high=HIGH)
    counts = []
    for device in ("cpu", "cuda"):
        origins, directions = (t.to(device) for t in rays[:2])
        counts.append(raymarch.march(origins, directions, occupied.to(device), marching)[0][:, 1])
    assert ((counts[0] - counts[1].cpu()).abs() <= 1).float().mean() > 0.95
    samples, results = scene([0, 5, 0, 16, 17, 1, 400], channels), []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in samples[:2]]
        starts, ends, packed = (t.to(device) for t in samples[2:])
        out = raymarch.composite(leaves[0], leaves[1], starts, ends, packed)
        upstream = [torch.randn(o.shape, generator=torch.Generator().manual_seed(0)).to(device) for o in out]
        results.append([t.detach().cpu() for t in (*out, *torch.autograd.grad(out, leaves, upstream))])
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
