"""Multiresolution hash grid over the unit square or cube. The rules are written down in `avatar.ops.reference_field`.

float32 tensors on the CPU, and on a GPU where the library has its CUDA half, go through the compiled kernel (registered
as `torch.ops.avatar.hash_encode`); everything else through the reference. Neither is differentiable twice, but the
reference.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.ops import reference_field
from avatar.ops._backend import compiled_for, native, on_cuda

_MAX_LEVELS, _MAX_RESOLUTION, _MAX_LOG2_ROWS = 32, 2**20, 24


@dataclass(frozen=True, kw_only=True)
class HashGrid:
    """What a table of features means (Müller et al. 2022): `levels` grids, from coarse to fine in equal ratios."""

    dimensions: int = 3
    levels: int = 16
    features: int = 2
    log2_rows: int = 19
    """A level has at most 2^log2_rows rows; finer ones share them by a hash."""
    coarsest: int = 16
    finest: int = 1024
    """Cells along an axis of the first and of the last level."""

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3) or self.features not in (1, 2, 4, 8):
            raise ValueError(f"{self.dimensions} dimensions must be 2 or 3, {self.features} features 1, 2, 4 or 8")
        if not 1 <= self.levels <= _MAX_LEVELS or not 1 <= self.log2_rows <= _MAX_LOG2_ROWS:
            raise ValueError(
                f"{self.levels} levels must be 1 to {_MAX_LEVELS}, log2_rows {self.log2_rows} 1 to {_MAX_LOG2_ROWS}"
            )
        if not 1 <= self.coarsest <= self.finest <= _MAX_RESOLUTION:
            raise ValueError(f"resolutions {self.coarsest} to {self.finest} must grow, within 1 and {_MAX_RESOLUTION}")

    @property
    def resolutions(self) -> list[int]:
        """Cells along an axis, of each level."""
        ratio = self.finest / self.coarsest
        return [round(self.coarsest * ratio ** (i / max(self.levels - 1, 1))) for i in range(self.levels)]

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return _rows(self.resolutions, self.dimensions, self.log2_rows)


def _rows(resolutions: list[int], dimensions: int, log2_rows: int) -> int:
    return sum(min((resolution + 1) ** dimensions, 2**log2_rows) for resolution in resolutions)


def encode(
    positions: Float[Tensor, "n d"], table: Float[Tensor, "rows f"], grid: HashGrid
) -> Float[Tensor, "n levels*f"]:
    """Features of points, level after level; differentiable in both tensors.

    Args:
        positions: in [0, 1]; others are clamped to it, and get no gradient there; NaN counts as 0.
        table: [grid.rows, grid.features].

    Raises:
        ValueError: if shapes, types or devices do not fit together.
    """
    if positions.ndim != 2 or positions.shape[1] != grid.dimensions or not positions.is_floating_point():
        raise ValueError(
            f"positions must be float [n {grid.dimensions}], are {positions.dtype} {tuple(positions.shape)}"
        )
    if table.ndim != 2 or tuple(table.shape) != (grid.rows, grid.features):
        raise ValueError(f"table has shape {tuple(table.shape)}, the grid needs {(grid.rows, grid.features)}")
    if table.dtype != positions.dtype or table.device != positions.device:
        raise ValueError(
            f"table is {table.dtype} on {table.device}, positions are {positions.dtype} on {positions.device}"
        )
    if not compiled_for(positions):
        return reference_field.encode(positions, table, grid.resolutions, grid.log2_rows)
    return torch.ops.avatar.hash_encode(positions, table, grid.resolutions, grid.log2_rows)


torch.library.define(
    "avatar::hash_encode", "(Tensor positions, Tensor table, int[] resolutions, int log2_rows) -> Tensor"
)
torch.library.define(
    "avatar::hash_encode_backward",
    "(Tensor positions, Tensor table, Tensor gradient, int[] resolutions, int log2_rows, bool[2] wanted)"
    " -> (Tensor, Tensor)",
)


def _checked(positions: Tensor, table: Tensor, resolutions: list[int], log2_rows: int) -> tuple[Tensor, Tensor]:
    """Positions axis after axis, and the table, both as the kernel reads them.

    Raises:
        RuntimeError: if there is no compiled library.
        ValueError: if the tensors do not fit to the levels; the kernel would read beyond them.
    """
    if not compiled_for(positions) or not compiled_for(table):
        raise RuntimeError("hash_encode needs float32 and the compiled library; see avatar.ops.describe()")
    dimensions = positions.shape[-1]
    if positions.ndim != 2 or dimensions not in (2, 3) or table.ndim != 2 or table.shape[1] not in (1, 2, 4, 8):
        raise ValueError(f"positions {tuple(positions.shape)} or table {tuple(table.shape)} have no known shape")
    known = 1 <= len(resolutions) <= _MAX_LEVELS and 1 <= log2_rows <= _MAX_LOG2_ROWS
    if not known or not all(1 <= r <= _MAX_RESOLUTION for r in resolutions):
        raise ValueError(f"no grid has resolutions {resolutions} and 2^{log2_rows} rows")
    rows = _rows(resolutions, dimensions, log2_rows)
    if len(table) != rows or table.device != positions.device:
        raise ValueError(f"table has {len(table)} rows on {table.device}, not {rows} on {positions.device}")
    return positions.t().contiguous(), table.contiguous()


def _fresh(like: Tensor, *shape: int) -> Tensor:
    """Uninitialised memory, in large pages on the CPU (4 KB pages would take as long as the kernel itself)."""
    out, module = like.new_empty(shape), native()
    if module is not None and not on_cuda(like):
        module.advise_huge_pages(out.data_ptr(), out.numel() * out.element_size())
    return out


@torch.library.impl("avatar::hash_encode", ("CPU", "CUDA"))
def _hash_encode(positions, table, resolutions, log2_rows):
    """The compiled kernel; see `encode`."""
    points, rows = _checked(positions, table, resolutions, log2_rows)
    count, (dimensions, features) = len(positions), (positions.shape[1], table.shape[1])
    width = len(resolutions) * features
    out = _fresh(positions, count, width) if on_cuda(positions) else _fresh(positions, width, count).t()
    call = ([points.data_ptr(), rows.data_ptr(), 0], count, (dimensions, features, log2_rows), resolutions)
    _run("hash_encode", positions, (*call, out.data_ptr()))
    return out


@torch.library.impl("avatar::hash_encode_backward", ("CPU", "CUDA"))
def _hash_encode_backward(positions, table, gradient, resolutions, log2_rows, wanted):  # noqa: PLR0917
    """Gradients of positions and table; empty where not wanted."""
    points, rows = _checked(positions, table, resolutions, log2_rows)
    count, (dimensions, features) = len(positions), (positions.shape[1], table.shape[1])
    if tuple(gradient.shape) != (count, len(resolutions) * features) or not compiled_for(gradient):
        raise ValueError(f"gradient {gradient.dtype} {tuple(gradient.shape)} is not that of the encoded points")
    upstream = gradient.contiguous() if on_cuda(gradient) else _feature_major(gradient)
    by_axis = _fresh(points, *points.shape) if wanted[0] else points.new_empty(0)
    by_row = _fresh(rows, *rows.shape) if wanted[1] else rows.new_empty(0)
    inputs, outputs = (points, rows, upstream), (by_axis, by_row)
    call = ([t.data_ptr() for t in inputs], count, (dimensions, features, log2_rows), resolutions)
    _run("hash_encode_backward", positions, (*call, [t.data_ptr() * w for t, w in zip(outputs, wanted, strict=True)]))
    return by_axis.t().contiguous() if wanted[0] else by_axis, by_row


def _feature_major(gradient: Tensor) -> Tensor:
    """[n, c] to [c, n], without copying what lies in memory like that already."""
    turned = gradient.t()
    return turned if turned.is_contiguous() else _fresh(turned, *turned.shape).copy_(turned)


def _run(name: str, like: Tensor, call: tuple) -> None:
    """Call the kernel on the tensor's device: with all of torch's threads, or queued on the current stream."""
    module = native()
    if not on_cuda(like):
        getattr(module, name)(*call, torch.get_num_threads())
        return
    with torch.cuda.device(like.device):
        getattr(module, f"cuda_{name}")(*call, torch.cuda.current_stream().cuda_stream)


@torch.library.register_fake("avatar::hash_encode")
def _(positions, table, resolutions, log2_rows):
    shape = (positions.shape[0], len(resolutions) * table.shape[1])
    if positions.device.type == "cpu":  # levels one after the other in memory, as the kernel makes them
        return positions.new_empty(shape[::-1]).t()
    return positions.new_empty(shape)


@torch.library.register_fake("avatar::hash_encode_backward")
def _(positions, table, gradient, resolutions, log2_rows, wanted):  # noqa: PLR0917
    by_position = positions.new_empty(positions.shape if wanted[0] else 0)
    return by_position, table.new_empty(table.shape if wanted[1] else 0)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:2])
    ctx.levels = inputs[2:]


def _backward(ctx, gradient):
    wanted = list(ctx.needs_input_grad[:2])
    out = torch.ops.avatar.hash_encode_backward(*ctx.saved_tensors, gradient, *ctx.levels, wanted)
    return (*(g if w else None for g, w in zip(out, wanted, strict=True)), None, None)


torch.library.register_autograd("avatar::hash_encode", _backward, setup_context=_setup_context)
