"""What the tests of bad arguments know of each operator. A new operator is one more `Operator` in `OPERATORS`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from avatar.ops.image import l1_ssim
from avatar.ops.mesh import rasterize_mesh
from avatar.ops.rasterize import rasterize
from tests.parity.operator_case import HUGE, INF, NAN, TINY, Operator
from tests.parity.operators_field import FIELD
from tests.parity.operators_head import HEAD
from tests.perf.head_scene import head_scene


def _splats() -> dict[str, Tensor]:
    names = ("means", "quats", "scales", "opacities", "colours")
    background = torch.rand(37, 41, 3, generator=torch.Generator().manual_seed(0))
    return {**dict(zip(names, head_scene(41), strict=True)), "T_camera_world": torch.eye(4), "background": background}


def _pictures() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"image": (19, 23, 3), "target": (19, 23, 3), "weight": (19, 23)}
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def _mesh() -> dict[str, Tensor]:
    corners = torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    return {
        "vertices_camera": corners.reshape(-1, 3) + torch.tensor([0.0, 0.0, 0.5]),
        "faces": torch.arange(60).view(-1, 3),
    }


def _no_rows(tensors: dict[str, Tensor]) -> dict[str, Any]:
    whole = ("T_camera_world", "background")
    return {name: tensor if name in whole else tensor[:0] for name, tensor in tensors.items()}


def _no_pixels(height: int, width: int) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    return lambda tensors: {name: tensor[:height, :width] for name, tensor in tensors.items()}


BAD_SIZES = ({"size": (-1, 4)}, {"size": (4, 10**6)}, {"size": (10**9, 10**9)})
NO_PIXELS = ((0, 0), (0, 7), (9, 0))
EMPTY_SIZES = tuple((lambda _, size=size: {"size": size}) for size in NO_PIXELS)
EMPTY_PICTURES = tuple((lambda _, size=size: {"size": size, "background": None}) for size in NO_PIXELS)

OPERATORS = (
    Operator(
        name="rasterize",
        call=rasterize,
        tensors=_splats,
        others={"focal": (60.0, 55.0), "center": (20.0, 17.5), "size": (37, 41)},
        empty=(_no_rows, *EMPTY_PICTURES),
        refused=(
            *BAD_SIZES,
            {"focal": (0.0, 1.0)},
            {"focal": (NAN, 1.0)},
            {"center": (INF, 1.0)},
            {"T_camera_world": torch.eye(3)},
            {"colours": torch.zeros(41, 0)},
        ),
        extremes={
            "means": (0.0, 0.01, -1.0, TINY, HUGE, -HUGE, 1e38),
            "quats": (0.0, TINY, HUGE, -1.0),
            "scales": (0.0, TINY, HUGE, -0.01, 50.0, 1e38),
            "opacities": (0.0, -1.0, 1.0, 2.0, HUGE, TINY),
            "colours": (0.0, -1.0, HUGE),
            "T_camera_world": (0.0, -1.0, HUGE, 1e38),
            "background": (0.0, -1.0, HUGE),
        },
        spreads={"colours": (0,), "background": (0,)},
    ),
    Operator(
        name="l1_ssim",
        call=l1_ssim,
        tensors=_pictures,
        empty=(_no_pixels(0, 0), _no_pixels(0, 23), _no_pixels(19, 0)),
        refused=({"image": torch.zeros(19, 23)}, {"weight": torch.zeros(23, 19)}),
        extremes={
            "image": (0.0, 1.0, -1.0, TINY, 1e4),
            "target": (0.0, 1.0, -1.0, TINY, 1e4),
            "weight": (0.0, 1.0, TINY, HUGE),
        },
        spreads={name: (0, 1) for name in ("image", "target", "weight")},
    ),
    Operator(
        name="rasterize_mesh",
        call=rasterize_mesh,
        tensors=_mesh,
        others={"focal": (60.0, 55.0), "center": (20.0, 17.5), "size": (37, 41)},
        empty=(_no_rows, lambda tensors: {"faces": tensors["faces"][:0]}, *EMPTY_SIZES),
        refused=(
            *BAD_SIZES,
            {"faces": torch.tensor([[0, 1, 60]])},
            {"faces": torch.tensor([[0, -1, 2]])},
            {"focal": (0.0, 1.0)},
            {"focal": (NAN, 1.0)},
            {"center": (INF, 1.0)},
        ),
        extremes={"vertices_camera": (0.0, 0.01, -1.0, TINY, HUGE, 1e38)},
    ),
    *FIELD,
    *HEAD,
)
