"""Adam for splats (Kingma and Ba 2015): one pass over memory, and rows that a step did not see are left alone.

A step sees half of a head or less. Rows without gradient keep their values and their memory (a "sparse" or "lazy" Adam,
as in 3D Gaussian Splatting's accelerated trainers); their moments do not decay until they are seen again.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from avatar.ops._backend import compiled_for, native, on_cuda


@dataclass
class OuterGradient:
    """The gradient of a parameter [n, a, k] as the outer product of `rows.grad` [n, a] and `terms` [k].

    Writing and reading it whole would cost more than everything else that a step does with the parameter.
    """

    rows: Float[Tensor, "n a"]
    """A leaf that collects the rows."""
    terms: Float[Tensor, "k"] | None = field(default=None)
    """Set by whoever draws; one backward pass a step."""


def adam_step(
    parameter: Tensor,
    gradient: Tensor,
    memory: tuple[Tensor, Tensor],
    rates: dict[str, float],
    *,
    terms: Tensor | None = None,
    skip: bool = False,
) -> None:
    """One step of Adam, in place.

    Args:
        parameter: [n ...]; changed.
        gradient: like the parameter; or [n a] when there are `terms`.
        memory: running means of the gradient and of its square; changed.
        rates: `lr`, `beta1`, `beta2`, `eps` and the count `step` of steps, this one included.
        terms: [k]; the gradient of a parameter [n a k] is gradient[:, :, None] * terms.
        skip: leave rows alone whose gradient is zero.

    Raises:
        ValueError: if shapes, types or devices do not fit together, a tensor that changes is not contiguous, or rates
            make no sense.
    """
    numbers = _checked_rates(rates)
    whole = (parameter, *memory)
    if terms is not None and (terms.ndim != 1 or gradient.ndim != 2):
        raise ValueError(f"gradient {tuple(gradient.shape)} with terms {tuple(terms.shape)} must be [n a] and [k]")
    wanted = parameter.shape if terms is None else torch.Size([*gradient.shape, *terms.shape])
    for name, tensor in zip(("parameter", "mean", "square"), whole, strict=True):
        if tensor.shape != wanted or not tensor.is_contiguous():
            raise ValueError(f"{name} is {tuple(tensor.shape)}, must be contiguous and {tuple(wanted)}")
    if terms is None and gradient.shape != parameter.shape:
        raise ValueError(f"gradient is {tuple(gradient.shape)}, parameter {tuple(parameter.shape)}")
    if not parameter.is_floating_point():
        raise ValueError(f"parameter is {parameter.dtype}, must be of a floating type")
    for tensor in (gradient, *memory, *(() if terms is None else (terms,))):
        if tensor.dtype != parameter.dtype or tensor.device != parameter.device:
            raise ValueError(f"{tensor.dtype} on {tensor.device} does not fit {parameter.dtype} on {parameter.device}")
    if compiled_for(parameter):
        torch.ops.avatar.adam(*whole, gradient, terms, numbers, skip)
    else:
        _reference(whole, gradient, terms, numbers, skip)


_LEAST_EPS = 1e-30
"""Below it, a number that never had a gradient would be divided by zero."""


def _checked_rates(rates: dict[str, float]) -> list[float]:
    """Learning rate, decays, eps and step.

    Raises:
        ValueError: if one is missing or out of range; corrections of the bias would divide by zero.
    """
    names = ("lr", "beta1", "beta2", "eps", "step")
    if missing := [name for name in names if name not in rates]:
        raise ValueError(f"rates lack {', '.join(missing)}")
    lr, beta1, beta2, eps, step = (float(rates[name]) for name in names)
    if not (math.isfinite(lr) and 0 <= beta1 < 1 and 0 <= beta2 < 1 and _LEAST_EPS <= eps < math.inf and step >= 1):
        raise ValueError(
            f"rates {rates} must have a finite lr, beta1 and beta2 in [0, 1), eps of at least {_LEAST_EPS}, step >= 1"
        )
    return [lr, beta1, beta2, eps, step]


def _reference(whole: tuple[Tensor, ...], gradient: Tensor, terms: Tensor | None, rates: list[float], skip: bool):
    lr, beta1, beta2, eps, step = rates
    if terms is not None:
        gradient = gradient[..., None] * terms
    moves = torch.ones_like(gradient, dtype=torch.bool)
    if skip and gradient.numel():
        rows = gradient.reshape(len(gradient) if gradient.ndim else 1, -1).ne(0).any(1)
        moves = rows.reshape([*rows.shape[: gradient.ndim], *[1] * (gradient.ndim - 1)]).expand_as(gradient)
    value, mean, square = whole
    new_mean = torch.lerp(gradient, mean, beta1)
    new_square = torch.lerp(gradient.square(), square, beta2)
    root = (new_square / (1 - beta2**step)).sqrt() + eps
    new_value = value - lr * (new_mean / (1 - beta1**step)) / root
    for old, new in zip(whole, (new_value, new_mean, new_square), strict=True):
        old.copy_(torch.where(moves, new, old))


torch.library.define(
    "avatar::adam",
    "(Tensor(a!) parameter, Tensor(b!) mean, Tensor(c!) square, Tensor gradient, Tensor? terms, float[] rates, "
    "bool skip) -> ()",
)


def _step(parameter, mean, square, gradient, terms, rates, skip):  # noqa: PLR0917 - the schema above
    """The compiled kernel; `rates` are lr, beta1, beta2, eps and the step."""
    module = native()
    if module is None:
        raise RuntimeError("torch.ops.avatar.adam needs the compiled library; see avatar.ops.describe()")
    if not parameter.numel():
        return
    gradient, terms = gradient.contiguous(), None if terms is None else terms.contiguous()
    lr, beta1, beta2, eps, step = rates
    rows = len(parameter) if parameter.ndim else 1
    pointers = [t.data_ptr() for t in (parameter, mean, square, gradient)] + [0 if terms is None else terms.data_ptr()]
    numbers = (beta1, beta2, lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step), eps)
    arguments = (pointers, rows, parameter.numel() // rows, 0 if terms is None else len(terms), numbers, skip)
    if on_cuda(parameter):
        with torch.cuda.device(parameter.device):
            module.cuda_adam_step(*arguments, torch.cuda.current_stream().cuda_stream)
    else:
        module.adam_step(*arguments, torch.get_num_threads())


for _device in ("CPU", "CUDA"):
    torch.library.impl("avatar::adam", _device, func=_step)


@torch.library.register_fake("avatar::adam")
def _(*inputs):
    return None


class SplatAdam(Optimizer):
    """Adam whose groups may have `rows=True`: then rows of the group's tensors that have no gradient are left alone.

    The state has torch.optim.Adam's names (`step`, `exp_avg`, `exp_avg_sq`), so either can take up the other's.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        betas: Sequence[float] = (0.9, 0.99),
        outer: dict[Parameter, OuterGradient] | None = None,
    ):
        """Args: groups with `params`, `lr`, `eps` and `rows`; parameters whose gradient comes as an outer product.

        Raises: ValueError for decays outside of [0, 1).
        """
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"decays {betas} must lie within [0, 1)")
        super().__init__(groups, {"lr": 1e-3, "eps": 1e-8, "rows": False, "betas": tuple(betas)})
        self.outer = dict(outer or {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, terms = parameter.grad, None
                if parameter in self.outer:
                    gradient, terms = self.outer[parameter].rows.grad, self.outer[parameter].terms
                if gradient is not None:
                    self._move(parameter, gradient, terms, group)

    def _move(self, parameter: Tensor, gradient: Tensor, terms: Tensor | None, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        state["step"] += 1
        rates = {name: group[name] for name in ("lr", "eps")} | dict(
            zip(("beta1", "beta2"), group["betas"], strict=True)
        )
        memory = (state["exp_avg"], state["exp_avg_sq"])
        rates["step"] = float(state["step"])
        adam_step(parameter, gradient, memory, rates, terms=terms, skip=group["rows"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, outer products among them."""
        super().zero_grad(set_to_none)
        for gradient in self.outer.values():
            gradient.rows.grad = gradient.terms = None
