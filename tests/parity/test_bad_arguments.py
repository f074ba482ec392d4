"""No argument crashes an operator: it is refused with a ValueError, or the result is defined.

The operators and what they are given stand in tests/parity/operators.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.parity.operator_case import INF, NAN
from tests.parity.operators import OPERATORS

ROOT = Path(__file__).parents[2]
INPUTS = [(operator, name) for operator in OPERATORS for name in operator.tensors()]
EXTREMES = [(o, name, value) for o in OPERATORS for name, values in o.extremes.items() for value in values]
FLOATS = [(operator, name) for operator, name in INPUTS if operator.tensors()[name].is_floating_point()]


def label(value):
    return getattr(value, "name", value) if not isinstance(value, dict) else ",".join(value)


each_input = pytest.mark.parametrize(("operator", "name"), INPUTS, ids=label)
each_float = pytest.mark.parametrize(("operator", "name"), FLOATS, ids=label)


def wider(tensor):
    return torch.cat([tensor, tensor], -1)


def leaves(tensors):
    return {name: t.detach().clone().requires_grad_(t.is_floating_point()) for name, t in tensors.items()}


def with_gradients(operator, tensors, **changes):
    """Outputs, and the gradients of all inputs that get one, by name."""
    kept = {name: tensor for name, tensor in tensors.items() if name not in changes}
    inputs = leaves({**kept, **{k: v for k, v in changes.items() if isinstance(v, torch.Tensor)}})
    outputs = operator.run(inputs, **{k: v for k, v in changes.items() if k not in inputs})
    differentiable = [output for output in outputs if output.requires_grad]
    gradients = {}
    if differentiable:
        names = [name for name, tensor in inputs.items() if tensor.requires_grad]
        total = torch.stack([output.sum() for output in differentiable]).sum()
        found = torch.autograd.grad(total, [inputs[name] for name in names], allow_unused=True)
        gradients = {name: g for name, g in zip(names, found, strict=True) if g is not None}
    return tuple(output.detach() for output in outputs), gradients


def assert_finite(outputs, gradients=None):
    for index, output in enumerate(outputs):
        assert torch.isfinite(output).all(), f"output {index}"
    for name, gradient in (gradients or {}).items():
        assert torch.isfinite(gradient).all(), f"gradient of {name}"


@each_input
def test_another_type_is_refused(build, operator, name):
    tensors = operator.tensors()
    other = torch.float64 if not tensors[name].is_floating_point() else torch.int32
    with pytest.raises(ValueError, match=r"\w{4,}"):
        operator.run({**tensors, name: tensors[name].to(other)})


@each_input
@pytest.mark.parametrize("change", [lambda t: t[None], lambda t: t[..., None], lambda t: t.flatten()[0], wider])
def test_another_shape_is_refused(build, operator, name, change):
    tensors = operator.tensors()
    if change is wider and name in operator.free_width:
        assert_finite(operator.run({**tensors, name: wider(tensors[name])}))
        return
    with pytest.raises(ValueError, match=r"\w{4,}"):
        operator.run({**tensors, name: change(tensors[name])})


@each_input
def test_another_device_is_refused(build, operator, name):
    tensors = operator.tensors()
    with pytest.raises(ValueError, match=r"\w{4,}"):
        operator.run({**tensors, name: tensors[name].to("meta")})


@each_input
def test_strided_memory_gives_the_same_result(build, operator, name):
    tensors = operator.tensors()
    strided = torch.stack([tensors[name], tensors[name]], -1)[..., 0]
    assert not strided.is_contiguous()
    leaf = strided.detach().requires_grad_(strided.is_floating_point())
    outputs, expected = operator.run({**tensors, name: leaf}), operator.run(tensors)
    for found, wanted in zip(outputs, expected, strict=True):
        assert torch.equal(found, wanted)
    if outputs[0].requires_grad:
        (gradient,) = torch.autograd.grad(outputs[0].sum(), leaf, allow_unused=True)
        wanted = with_gradients(operator, tensors)[1]
        assert (gradient is None) == (name not in wanted)
        if gradient is not None:
            assert gradient.shape == leaf.shape and (len(outputs) != 1 or torch.equal(gradient, wanted[name]))


@each_float
@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
def test_what_is_no_number_stays_where_it_belongs(build, operator, name, value):
    tensors = operator.tensors()
    flat = tensors[name].clone()
    flat.view(-1)[flat.numel() // 2] = value
    for bad in (flat, torch.full_like(flat, value)):
        outputs, _ = with_gradients(operator, tensors, **{name: bad})
        spread = operator.spreads.get(name, ())
        assert_finite([output for index, output in enumerate(outputs) if index not in spread])


@pytest.mark.parametrize(("operator", "name", "value"), EXTREMES, ids=label)
def test_extreme_values_give_finite_results_and_gradients(build, operator, name, value):
    tensors = operator.tensors()
    one = tensors[name].clone()
    one[len(one) // 2] = value
    for extreme in (one, torch.full_like(one, value)):
        assert_finite(*with_gradients(operator, tensors, **{name: extreme}))


@pytest.mark.parametrize(
    ("operator", "change"), [(operator, change) for operator in OPERATORS for change in operator.empty], ids=label
)
def test_nothing_to_do_is_done(build, operator, change):
    tensors = operator.tensors()
    assert_finite(*with_gradients(operator, tensors, **change(tensors)))


@pytest.mark.parametrize(
    ("operator", "change"), [(operator, change) for operator in OPERATORS for change in operator.refused], ids=label
)
def test_arguments_that_make_no_sense_are_refused(build, operator, change):
    with pytest.raises(ValueError, match=r"\w{4,}"):
        operator.run(operator.tensors(), **change)


def test_more_work_than_an_index_can_count_is_refused():
    (rasterize,) = [operator for operator in OPERATORS if operator.name == "rasterize"]
    splats = {name: t[:1].repeat(9000, *[1] * (t.ndim - 1)) for name, t in rasterize.tensors().items() if len(t) == 41}
    splats["scales"] = torch.full_like(splats["scales"], 1e3)
    with pytest.raises(ValueError, match="tiles"):
        rasterize.run(splats, T_camera_world=torch.eye(4), size=(16384, 16384))


# Extremes of all inputs at once, many times: what nobody thought of. A crash ends only the child.
FUZZ = """
import random, torch
from tests.parity.operators import OPERATORS
from tests.parity.test_bad_arguments import with_gradients
values = [0.0, 1e-45, 1e-38, 1e-20, 1e-4, 0.01, 1.0, 1e4, 1e10, 1e19, 1e38, 3.4e38, float("nan"), float("inf")]
values += [-v for v in values]
for operator in OPERATORS:
    chance = random.Random(0)
    for draw in range(120):
        tensors = operator.tensors()
        for tensor in tensors.values():
            if tensor.is_floating_point():
                for _ in range(chance.choice([1, 5, tensor.numel()])):
                    tensor.view(-1)[chance.randrange(tensor.numel())] = chance.choice(values)
        with_gradients(operator, tensors)
    print(operator.name, "survived", draw + 1, flush=True)
"""


def test_any_mixture_of_extremes_is_survived(build):
    done = subprocess.run(
        [sys.executable, "-c", FUZZ], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    survived = [line.split()[0] for line in done.stdout.splitlines() if line.endswith("survived 120")]
    assert done.returncode == 0 and survived == [o.name for o in OPERATORS], done.stdout + done.stderr[-3000:]
