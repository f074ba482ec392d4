"""What the tests of bad arguments know of the radiance field's operators."""

from typing import Any

import torch
from torch import Tensor

from avatar.ops.hashgrid import HashGrid, encode
from avatar.ops.raymarch import Marching, composite, march
from tests.parity.operator_case import HUGE, INF, NAN, TINY, Operator

GRIDS = {d: HashGrid(dimensions=d, levels=4, log2_rows=7, coarsest=3, finest=40) for d in (2, 3)}
SAMPLES = (3, 0, 17, 1)


def _encode(**arguments: Any) -> tuple[Tensor]:
    return (encode(**arguments),)


def _points(dimensions: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(GRIDS[dimensions].rows, 2, generator=generator)
    return {"positions": torch.rand(19, dimensions, generator=generator), "table": table}


def _rays() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(5, 3, generator=generator) * 2
    directions = 0.5 - origins + 0.1 * torch.randn(5, 3, generator=generator)
    occupied = torch.rand(7, 5, 6, generator=generator) < 0.5
    return {
        "origins": origins,
        "directions": directions,
        "occupied": occupied,
        "jitter": torch.rand(5, generator=generator),
    }


def _samples() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    counts, total = torch.tensor(SAMPLES), sum(SAMPLES)
    starts = torch.rand(total, generator=generator).cumsum(0) * 0.1
    return {
        "densities": torch.rand(total, generator=generator) * 8,
        "values": torch.rand(total, 3, generator=generator),
        "starts": starts,
        "ends": starts + 0.05,
        "packed": torch.stack([counts.cumsum(0) - counts, counts], -1),
    }


def _no_samples(tensors: dict[str, Tensor]) -> dict[str, Any]:
    empty = {name: tensor[:0] for name, tensor in tensors.items()}
    return {**empty, "packed": torch.zeros_like(tensors["packed"])}


def _packed(*rows: tuple[int, int]) -> dict[str, Any]:
    return {"packed": torch.tensor(rows)}


def _encoder(dimensions: int) -> Operator:
    return Operator(
        name=f"encode{dimensions}",
        call=_encode,
        tensors=lambda: _points(dimensions),
        others={"grid": GRIDS[dimensions]},
        empty=(lambda tensors: {"positions": tensors["positions"][:0]},),
        refused=({"grid": GRIDS[5 - dimensions]}, {"table": torch.zeros(0, 2)}, {"positions": torch.zeros(0, 4)}),
        extremes={
            "positions": (0.0, 1.0, -1.0, TINY, HUGE, -HUGE, 1e38, NAN, INF, -INF),
            "table": (0.0, TINY, HUGE),
        },
        spreads={"table": (0,)},
    )


FIELD = (
    _encoder(2),
    _encoder(3),
    Operator(
        name="march",
        call=march,
        tensors=_rays,
        others={"marching": Marching(step=0.05, near=0.1, cone=0.01)},
        empty=(lambda tensors: {name: t if name == "occupied" else t[:0] for name, t in tensors.items()},),
        refused=(
            {"occupied": torch.ones(0, 3, 3, dtype=torch.bool)},
            {"occupied": torch.ones(1, 1, 1025, dtype=torch.bool)},
            {"origins": torch.zeros(5, 2), "directions": torch.zeros(5, 2)},
            {name: torch.zeros(5, 3, dtype=torch.int64) for name in ("origins", "directions")},
        ),
        extremes={
            "origins": (0.0, 0.5, TINY, HUGE, -HUGE, 1e38, NAN, INF),
            "directions": (0.0, TINY, 1e-38, HUGE, 1e38, NAN, INF),
            "jitter": (1.0, -1.0, -1e38, 1e38, NAN, INF, -INF),
        },
        free_width=("occupied",),
    ),
    Operator(
        name="composite",
        call=composite,
        tensors=_samples,
        empty=(
            _no_samples,
            lambda tensors: {**_no_samples(tensors), "packed": tensors["packed"][:0]},
            lambda tensors: {"packed": torch.zeros_like(tensors["packed"])},
            lambda tensors: {"values": tensors["values"][:, :0]},
        ),
        refused=(
            _packed((0, 3), (3, 0), (3, 17), (20, 2)),
            _packed((0, 3), (2, 4)),
            _packed((3, 3), (0, 3)),
            _packed((-1, 2)),
            _packed((0, -1)),
            _packed((2**62, 2**62)),
            _packed((-(2**63), 2**63 - 1)),
            {"packed": torch.zeros(4, 3, dtype=torch.int64)},
        ),
        extremes={
            "densities": (0.0, -1.0, TINY, HUGE, 1e38, INF),
            "values": (0.0, -1.0, TINY, HUGE),
            "starts": (0.0, -1.0, TINY, HUGE, -HUGE),
            "ends": (0.0, -1.0, TINY, HUGE, -HUGE),
        },
        free_width=("values",),
        spreads={"densities": (0, 1, 2, 3), "values": (0,), "starts": (0, 1, 2, 3), "ends": (0, 1, 2, 3)},
    ),
)
