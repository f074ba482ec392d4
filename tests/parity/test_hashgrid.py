import pytest
import torch

from avatar import ops
from avatar.ops import hashgrid, reference_field
from avatar.ops.hashgrid import HashGrid

BAND = 1e-3  # cells: nearer to a vertex, the slope of the neighbouring cell is as right


def small_grid(dimensions=3, features=2):
    """Two dense levels and three hashed ones."""
    return HashGrid(
        dimensions=dimensions,
        features=features,
        levels=5,
        log2_rows=9,
        coarsest=3 if dimensions == 3 else 12,
        finest=100,
    )


def inputs(grid, points, seed=0):
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(points, grid.dimensions, generator=generator) * 1.1 - 0.05  # some are outside
    table = torch.randn(grid.rows, grid.features, generator=generator)
    upstream = torch.randn(points, grid.levels * grid.features, generator=generator)
    return positions, table, upstream


def by_reference(positions, table, grid):
    return reference_field.encode(positions, table, grid.resolutions, grid.log2_rows)


def near_vertex(positions, grid):
    scaled = positions.double()[..., None] * torch.tensor(grid.resolutions)
    return ((scaled - scaled.round()).abs() < BAND).any(-1)


def relative_error(found, expected):
    return ((found.double() - expected).norm() / expected.norm().clamp_min(1e-12)).item()


@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("points", [0, 1, 17, 1000])
def test_features_and_gradients_match_the_float64_reference(build, dimensions, features, points):
    grid = small_grid(dimensions, features)
    assert (grid.resolutions[1] + 1) ** dimensions <= 2**grid.log2_rows < (grid.resolutions[2] + 1) ** dimensions
    positions, table, upstream = inputs(grid, points)
    leaves = [t.clone().requires_grad_() for t in (positions, table)]
    doubles = [t.double().requires_grad_() for t in (positions, table)]
    found, expected = hashgrid.encode(leaves[0], leaves[1], grid), by_reference(doubles[0], doubles[1], grid)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    gradients = torch.autograd.grad(found, leaves, upstream)
    wanted = torch.autograd.grad(expected, doubles, upstream.double())
    kept = ~near_vertex(positions, grid)
    assert points < 100 or kept.float().mean() > 0.98
    assert relative_error(gradients[0] * kept, wanted[0] * kept) < 1e-3
    assert relative_error(gradients[1], wanted[1]) < 1e-3


def test_full_size_grid_matches(build):
    grid = HashGrid(levels=16, log2_rows=15, finest=2048)
    positions, table, upstream = inputs(grid, 2000)
    table *= 0.25  # within 1
    leaf = table.clone().requires_grad_()
    double = table.double().requires_grad_()
    found, expected = hashgrid.encode(positions, leaf, grid), by_reference(positions.double(), double, grid)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    (gradient,) = torch.autograd.grad(found, leaf, upstream)
    (wanted,) = torch.autograd.grad(expected, double, upstream.double())
    assert relative_error(gradient, wanted) < 1e-3


def test_strange_positions_count_as_the_nearest_in_the_cube(build):
    grid = small_grid()
    _, table, upstream = inputs(grid, 6)
    infinity, nan = float("inf"), float("nan")
    strange = torch.tensor([[infinity, 0.3, 0.4], [-infinity, 0.3, 0.4], [nan, 0.3, 0.4], [1e30, 1, 0], [-1, -1e-9, 2]])
    usual = torch.tensor([[1, 0.3, 0.4], [0, 0.3, 0.4], [0, 0.3, 0.4], [1, 1, 0], [0, 0, 1]])
    strange.requires_grad_()
    found = hashgrid.encode(strange, table, grid)
    assert torch.equal(found, hashgrid.encode(usual, table, grid))
    torch.testing.assert_close(found.double(), by_reference(strange.double(), table.double(), grid), rtol=0, atol=1e-4)
    (gradient,) = torch.autograd.grad(found, strange, upstream[:5])
    assert not gradient[:3, 0].any() and gradient[:3, 1:].all() and not gradient[4].any()


def test_results_do_not_depend_on_the_number_of_threads(build):
    grid = small_grid()
    positions, table, upstream = inputs(grid, 40_000)
    leaves = [t.requires_grad_() for t in (positions, table)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found = hashgrid.encode(leaves[0], leaves[1], grid)
            results.append((found, *torch.autograd.grad(found, leaves, upstream)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradient_of_the_reference_equals_finite_differences(dimensions):
    grid = HashGrid(dimensions=dimensions, levels=2, log2_rows=5, coarsest=2, finest=7)
    positions, table, _ = inputs(grid, 30)
    positions = positions[~near_vertex(positions, grid).any(-1)].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: by_reference(p, t, grid), (positions, table.double().requires_grad_()))


def test_registered_operator_keeps_the_laws_of_torch_library(build):
    grid = small_grid()
    positions, table, upstream = inputs(grid, 20)
    levels = (grid.resolutions, grid.log2_rows)
    leaves = [t.clone().requires_grad_() for t in (positions, table)]
    torch.library.opcheck(torch.ops.avatar.hash_encode.default, (*leaves, *levels))
    backward = torch.ops.avatar.hash_encode_backward.default
    for wanted in ([True, True], [False, True], [True, False]):
        torch.library.opcheck(
            backward, (positions, table, upstream, *levels, wanted), test_utils=("test_schema", "test_faketensor")
        )


def test_encoding_compiles_without_a_graph_break():
    grid = small_grid()
    positions, table, upstream = inputs(grid, 33)
    table.requires_grad_()
    compiled = torch.compile(lambda p, t: hashgrid.encode(p, t, grid).sin(), fullgraph=True, backend="aot_eager")
    found, expected = compiled(positions, table), hashgrid.encode(positions, table, grid).sin()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, table, upstream), torch.autograd.grad(expected, table, upstream)
    )


def test_what_does_not_fit_is_refused():
    grid = small_grid()
    positions, table, _ = inputs(grid, 3)
    for bad in (positions[:, :2], positions[0], positions.long()):
        with pytest.raises(ValueError, match="positions must be"):
            hashgrid.encode(bad, table, grid)
    with pytest.raises(ValueError, match="the grid needs"):
        hashgrid.encode(positions, table[1:], grid)
    with pytest.raises(ValueError, match="table is"):
        hashgrid.encode(positions, table.double(), grid)
    for wrong in ({"dimensions": 4}, {"features": 3}, {"levels": 0}, {"log2_rows": 30}, {"coarsest": 0}, {"finest": 8}):
        with pytest.raises(ValueError, match="must"):
            HashGrid(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.skipif(not ops.describe()["cuda_kernels"], reason="the library is built without its CUDA half")
@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_cuda_kernel_encodes_what_the_cpu_kernel_encodes(dimensions, features):
    grid = small_grid(dimensions, features)
    positions, table, upstream = inputs(grid, 3000)
    kept = ~near_vertex(positions, grid)
    results = []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device).requires_grad_() for t in (positions, table)]
        found = hashgrid.encode(leaves[0], leaves[1], grid)
        by_position, by_row = torch.autograd.grad(found, leaves, upstream.to(device))
        results.append([t.detach().cpu() for t in (found, by_position.cpu() * kept, by_row)])
    for found, expected in zip(results[1], results[0], strict=True):
        assert relative_error(found, expected.double()) < 1e-4
