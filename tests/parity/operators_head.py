"""What the tests of bad arguments know of posing, binding and the optimiser of splats."""

from typing import Any

import torch
from torch import Tensor

from avatar.ops.binding import Blend, Rest, Seats, Surface, bind_gaussians
from avatar.ops.optimize import adam_step
from avatar.ops.posing import SparseRig, pose_rig, sparse_rig
from tests.parity.operator_case import HUGE, NAN, TINY, Operator

RATES = {"lr": 0.03, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": 3.0}
EVERYWHERE = (0, 1, 2, 3, 4)


def _pose(expression: Tensor, transforms: Tensor, shift: Tensor, **rig: Tensor) -> tuple[Tensor]:
    return (pose_rig(SparseRig(**rig), expression, transforms, shift),)


def _rig() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    moves = torch.randn(7, 37, 3, generator=generator) * (torch.rand(7, 37, 1, generator=generator) < 0.3)
    rig = sparse_rig(torch.randn(37, 3, generator=generator), moves, torch.rand(37, 5, generator=generator))
    shapes = {"expression": (7,), "transforms": (6, 3, 4), "shift": (3,)}
    return {**rig._asdict(), **{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}}


def _no_vertices(tensors: dict[str, Tensor]) -> dict[str, Any]:
    left = {name: tensors[name][:0] for name in ("neutral", "action", "move", "weights")}
    return {**left, "first": tensors["first"][:1]}


def _no_actions(tensors: dict[str, Tensor]) -> dict[str, Any]:
    left = {name: tensors[name][:0] for name in ("action", "move", "expression")}
    return {**left, "first": torch.zeros_like(tensors["first"])}


def _bind(**tensors: Any) -> tuple[Tensor, ...]:
    surface, seats, rest, blend = ([tensors[name] for name in kind._fields] for kind in (Surface, Seats, Rest, Blend))
    return tuple(bind_gaussians(Surface(*surface), Seats(*seats), Rest(*rest), Blend(*blend)))


def _bound() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"offset": (19, 3), "turn": (19, 4), "log_scale": (19, 3), "opacity": (19,), "colour": (19, 3)}
    shapes |= {"basis": (19, 13, 5), "weights": (5,), "extra": (19, 13), "vertices": (12, 3)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors["vertices"] *= 0.1
    tensors["faces"] = torch.arange(12).view(4, 3)
    tensors["triangle"] = torch.arange(19) % 4
    tensors["rest_size"] = torch.full((4,), 0.1)
    tensors["bary"] = torch.rand(19, 3, generator=generator)
    tensors["live"] = torch.arange(19) % 3 > 0
    return tensors


SURFACE = ("vertices", "faces", "rest_size", "weights")


def _no_splats(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor[:0] for name, tensor in tensors.items() if name not in SURFACE}


def _no_surface(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor if name == "weights" else tensor[:0] for name, tensor in tensors.items()}


def _no_terms(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {"basis": tensors["basis"][:, :, :0], "weights": tensors["weights"][:0]}


def _adam(parameter: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, **others: Any) -> tuple[Tensor, ...]:
    parameter, mean, square = (tensor.detach().clone() for tensor in (parameter, mean, square))
    others["terms"] = None if others.get("terms") is None else others["terms"].detach()
    adam_step(parameter, gradient.detach(), (mean, square), **others)
    return parameter, mean, square


def _moved(shape: tuple[int, ...], terms: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    whole = (*shape, terms) if terms else shape
    tensors = {name: torch.randn(whole, generator=generator) for name in ("parameter", "mean", "square")}
    tensors |= {"square": tensors["square"].square(), "gradient": torch.randn(shape, generator=generator)}
    return {**tensors, "terms": torch.randn(terms, generator=generator)} if terms else tensors


def _adam_case(terms: int) -> Operator:
    wrong = ({"step": 0.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"beta2": 1.5}, {"eps": 0.0}, {"lr": NAN}, {"step": NAN})
    shapes = ({"gradient": torch.zeros(19, 13, 1)}, {"gradient": torch.zeros(())}, {"gradient": torch.zeros(0, 13)})
    missing = {"rates": {"lr": 0.1}}
    return Operator(
        name=f"adam_step{terms}",
        call=_adam,
        tensors=lambda: _moved((19, 13), terms),
        others={"rates": RATES, "skip": True},
        empty=(lambda tensors: {name: t if name == "terms" else t[:0] for name, t in tensors.items()},),
        refused=(*({"rates": {**RATES, **one}} for one in wrong), *shapes, missing),
        extremes={
            "parameter": (0.0, TINY, HUGE, 1e38),
            "mean": (0.0, TINY, HUGE),
            "square": (0.0, TINY, HUGE, 1e38),
            "gradient": (0.0, TINY, HUGE),
            **({"terms": (0.0, TINY, HUGE)} if terms else {}),
        },
        spreads={"parameter": (0,), "mean": (0, 1), "square": (0, 2), "gradient": (0, 1, 2), "terms": (0, 1, 2)},
    )


HEAD = (
    Operator(
        name="pose_rig",
        call=_pose,
        tensors=_rig,
        empty=(_no_vertices, _no_actions),
        refused=(
            {"expression": torch.zeros(6)},
            {"expression": torch.zeros(0)},
            {"first": torch.full((38,), -1, dtype=torch.int32)},
            {"first": torch.arange(38, 0, -1, dtype=torch.int32)},
            {"first": torch.full((38,), 2**31 - 1, dtype=torch.int32)},
        ),
        extremes={name: (0.0, -1.0, TINY, HUGE) for name in _rig() if name not in ("first", "action")},
        free_width=("expression",),
        spreads={name: (0,) for name in _rig()},
    ),
    Operator(
        name="bind_gaussians",
        call=_bind,
        tensors=_bound,
        empty=(_no_splats, _no_surface, _no_terms),
        refused=(
            {"triangle": torch.full((19,), 4)},
            {"triangle": torch.full((19,), -1)},
            {"triangle": torch.full((19,), 2**62)},
            {"faces": torch.tensor([[0, 1, 12]] * 4)},
            {"faces": torch.tensor([[0, -1, 2]] * 4)},
            {"faces": torch.zeros(0, 3, dtype=torch.int64), "rest_size": torch.zeros(0)},
        ),
        extremes={
            "vertices": (0.0, 0.1, -1.0, TINY, HUGE),
            "rest_size": (0.0, -1.0, TINY, HUGE, 1e38),
            "bary": (0.0, -1.0, HUGE),
            "offset": (0.0, HUGE),
            "turn": (0.0, TINY, HUGE),
            "log_scale": (0.0, -100.0, 100.0, HUGE, -HUGE),
            "opacity": (0.0, 1e4, HUGE, -HUGE, 1e38),
            "colour": (0.0, 1e4, HUGE, -HUGE, 1e38),
            "basis": (0.0, TINY, 1e4, HUGE),
            "weights": (0.0, TINY, 1e4, HUGE),
            "extra": (0.0, TINY, 1e4, HUGE),
        },
        spreads={
            "vertices": (0, 1, 2),
            "rest_size": (0, 2),
            "bary": (0,),
            "offset": (0,),
            "turn": (1,),
            "log_scale": (2,),
            "opacity": (3,),
            "colour": (4,),
            **dict.fromkeys(("basis", "weights", "extra"), EVERYWHERE),
        },
    ),
    _adam_case(0),
    _adam_case(5),
)
