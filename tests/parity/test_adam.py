"""Fused Adam against torch's, and against the float64 reference where rows are skipped."""

import pytest
import torch

from avatar.ops.optimize import OuterGradient, SplatAdam, adam_step

RATES = {"lr": 0.03, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": 3.0}


def tensors(shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    value, mean, gradient = (torch.randn(shape, generator=generator).to(dtype) for _ in range(3))
    if gradient.ndim and gradient.numel():
        gradient[torch.rand(len(gradient), generator=generator) < 0.5] = 0
    return value, mean, torch.rand(shape, generator=generator).to(dtype), gradient


@pytest.mark.parametrize("shape", [(0, 3), (1,), (1, 3), (17, 3), (5000, 4), (30, 13, 20), (7,), ()])
@pytest.mark.parametrize("skip", [True, False])
def test_step_matches_the_float64_reference(build, shape, skip):
    value, mean, square, gradient = tensors(shape)
    truth = [t.double() for t in (value, mean, square, gradient)]
    before = value.clone()
    adam_step(value, gradient, (mean, square), RATES, skip=skip)
    adam_step(truth[0], truth[3], (truth[1], truth[2]), RATES, skip=skip)
    for found, expected in zip((value, mean, square), truth, strict=False):
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)
    if len(shape) > 1 and shape[0] > 4:
        still = (gradient == 0).flatten(1).all(1)
        assert still.any() and torch.equal((value == before).flatten(1).all(1), still if skip else still & False)


@pytest.mark.parametrize("terms", [1, 3, 16, 20])
def test_gradient_as_an_outer_product_moves_like_the_whole_one(build, terms):
    value, mean, square, _ = tensors((50, 13, terms))
    rows, weights = tensors((50, 13), 1)[3], tensors((terms,), 2)[0]
    whole = [value.clone(), mean.clone(), square.clone()]
    adam_step(value, rows, (mean, square), RATES, terms=weights, skip=True)
    adam_step(whole[0], rows[:, :, None] * weights, (whole[1], whole[2]), RATES, skip=True)
    torch.testing.assert_close([value, mean, square], whole, atol=1e-6, rtol=1e-6)


def test_without_skipping_it_is_torchs_adam_and_takes_up_its_state(build):
    runs = []
    for kind in (torch.optim.Adam, SplatAdam):
        parameter = torch.nn.Parameter(tensors((40, 3))[0])
        optimizer = kind([{"params": [parameter], "lr": 0.01, "eps": 1e-7}], betas=(0.9, 0.99))
        for step in range(5):
            parameter.grad = tensors((40, 3), step)[0]
            optimizer.step()
        runs.append((parameter, optimizer))
    torch.testing.assert_close(runs[0][0], runs[1][0], atol=1e-6, rtol=1e-5)
    runs[1][1].load_state_dict({**runs[1][1].state_dict(), "state": runs[0][1].state_dict()["state"]})
    assert float(runs[1][1].state[runs[1][0]]["step"]) == 5


def test_optimizer_takes_rows_and_outer_products_and_forgets_them(build):
    basis, colour = (torch.nn.Parameter(tensors(shape)[0]) for shape in ((9, 13, 4), (9, 3)))
    outer = OuterGradient(torch.zeros(9, 13, requires_grad=True))
    optimizer = SplatAdam([{"params": [basis, colour], "lr": 0.1, "rows": True}], outer={basis: outer})
    outer.rows.grad, outer.terms = torch.zeros(9, 13), torch.ones(4)
    colour.grad = torch.zeros(9, 3)
    outer.rows.grad[2], colour.grad[5] = 1.0, 1.0
    before = basis.detach().clone(), colour.detach().clone()
    optimizer.step()
    assert (basis != before[0]).flatten(1).any(1).nonzero().tolist() == [[2]]
    assert (colour != before[1]).any(1).nonzero().tolist() == [[5]]
    torch.testing.assert_close(basis[2], before[0][2] - 0.1)
    optimizer.zero_grad()
    assert outer.rows.grad is None and outer.terms is None and colour.grad is None


def test_registered_operator_keeps_the_laws_of_torch_library(build):
    rates = list(RATES.values())
    torch.library.opcheck(torch.ops.avatar.adam.default, (*tensors((9, 3)), None, rates, True))


@pytest.mark.parametrize("terms", [0, 20])
def test_result_does_not_depend_on_the_number_of_threads(build, terms):
    """More numbers than one task takes, in stretches of rows that move and rows that do not."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            value, mean, square, gradient = tensors((9000, 13, 20) if terms else (60000, 4))
            weights = tensors((terms,), 1)[0] if terms else None
            rows = tensors((9000, 13), 2)[3] if terms else gradient
            adam_step(value, rows, (mean, square), RATES, terms=weights, skip=True)
            found.append((value, mean, square))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_step_compiles_without_a_graph_break():
    whole = [tensors((17, 3))[:3] for _ in range(2)]
    gradient = tensors((17, 3))[3]

    def step(value, mean, square, gradient):
        adam_step(value, 2 * gradient, (mean, square), RATES, skip=True)
        return value.sum()

    found = torch.compile(step, fullgraph=True, backend="aot_eager")(*whole[0], gradient)
    torch.testing.assert_close(found, step(*whole[1], gradient))
    torch.testing.assert_close(whole[0], whole[1])


def test_bad_arguments_give_an_error(build):
    value, mean, square, gradient = tensors((6, 4))
    with pytest.raises(ValueError, match="gradient is"):
        adam_step(value, gradient[:3], (mean, square), RATES)
    with pytest.raises(ValueError, match="contiguous"):
        adam_step(value.T, gradient.T, (mean.T, square.T), RATES)
    with pytest.raises(ValueError, match="does not fit"):
        adam_step(value, gradient.double(), (mean, square), RATES)
    with pytest.raises(ValueError, match="parameter is"):
        adam_step(value, gradient, (mean, square), RATES, terms=torch.ones(3))
    with pytest.raises(ValueError, match="decays"):
        SplatAdam([{"params": [torch.nn.Parameter(value)]}], betas=(0.9, 1.0))
