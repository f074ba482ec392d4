"""March rays through an occupancy grid, and blend what is found there. The rules: `avatar.ops.reference_field`.

Rays are origin + t * direction. Samples of all rays lie one after the other; `packed` says where each ray's are.
float32 tensors on the CPU, and on a GPU where the library has its CUDA half, go through the compiled kernels
(registered as `torch.ops.avatar.march_rays` and `torch.ops.avatar.composite`); everything else through the reference.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar.ops import reference_field
from avatar.ops._backend import compiled_for, native, on_cuda

_MAX_CELLS = 1024
_MAX_SAMPLES = 2**30  # 16 GB of them; a ray with a direction of nearly no length alone has 2^20
_LEAST, _MOST = 1e-30, 1e30  # of lengths; the kernels' float32 has no others


@dataclass(frozen=True, kw_only=True)
class Marching:
    """Where samples are taken along rays; lengths in units of the ray's direction, corners in scene units."""

    step: float
    near: float = 0.0
    far: float = math.inf
    cone: float = 0.0
    """Samples grow with t: they are cone * t long where that is more than the step."""
    low: tuple[float, float, float] = (0.0, 0.0, 0.0)
    high: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Corners of the box that the occupancy grid fills."""

    def __post_init__(self) -> None:
        if not _LEAST <= self.step <= _MOST or not (self.cone == 0 or _LEAST <= self.cone <= _MOST):
            raise ValueError(f"step {self.step} must be {_LEAST} to {_MOST}, cone {self.cone} must be so or zero")
        if not 0 <= self.near <= self.far:
            raise ValueError(f"near {self.near} must be at least 0 and at most far {self.far}")
        finite = all(-_MOST <= corner <= _MOST for corner in (*self.low, *self.high))
        if not finite or not all(b - a >= _LEAST for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"box from {self.low} to {self.high} must be finite and not empty, within {_MOST}")


def march(
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    occupied: Bool[Tensor, "x y z"],
    marching: Marching,
    jitter: Float[Tensor, "r"] | None = None,
) -> tuple[Int[Tensor, "r 2"], Int[Tensor, "s"], Float[Tensor, "s"], Float[Tensor, "s"]]:
    """Samples of which the middle is in an occupied cell (as in Müller et al. 2022); no gradient.

    A ray ends after 2^20 steps, those in empty cells counted too.

    Args:
        directions: of any length; a ray without one has no samples.
        jitter: in [0, 1]; each ray's first sample starts so many steps behind the ray's entry. Others are clamped to
            it, NaN counts as 0.

    Returns:
        (first sample, number of samples) of each ray; each sample's ray; its start and its end along the ray.

    Raises:
        ValueError: if shapes, types or devices do not fit together, or there would be more than 2^30 samples.
    """
    if origins.ndim != 2 or not origins.is_floating_point():
        raise ValueError(f"origins is {origins.dtype} {tuple(origins.shape)}, not torch.float32 [r 3]")
    for name, tensor, wanted in (("origins", origins, 3), ("directions", directions, 3), ("jitter", jitter, None)):
        if tensor is None:
            continue
        shape = (len(origins), *([wanted] if wanted else []))
        if tuple(tensor.shape) != shape or tensor.dtype != origins.dtype or tensor.device != origins.device:
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {origins.dtype} {shape}")
    _check_occupied(occupied, origins)
    jitter = origins.new_zeros(len(origins)) if jitter is None else jitter
    box = [*map(float, marching.low), *map(float, marching.high)]
    spacing = [float(v) for v in (marching.near, marching.far, marching.step, marching.cone)]
    rays = [t.detach() for t in (origins, directions)]
    if not compiled_for(origins):
        return reference_field.march(rays[0], rays[1], occupied, jitter.detach(), box, spacing)
    return torch.ops.avatar.march_rays(*rays, occupied, jitter.detach(), box, spacing)


def update_occupancy(
    level: Float[Tensor, "x y z"], densities: Float[Tensor, "x y z"], threshold: float, decay: float = 0.95
) -> tuple[Float[Tensor, "x y z"], Bool[Tensor, "x y z"]]:
    """Largest density seen of late in each cell, and whether it is occupied (Müller et al. 2022, appendix).

    Args:
        level: what the last call returned, zeros at first; it fades by `decay`.
        densities: of a point in each cell.
        threshold: above it, a cell is occupied; and above the mean level, if that is lower.

    Raises:
        ValueError: if the grids differ in shape.
    """
    if level.shape != densities.shape or level.ndim != 3:
        raise ValueError(f"grids {tuple(level.shape)} and {tuple(densities.shape)} must be [x y z] and equal in shape")
    level = torch.maximum(level * decay, densities.detach().nan_to_num(0.0))
    return level, level > level.mean().clamp(max=threshold)


def composite(
    densities: Float[Tensor, "s"],
    values: Float[Tensor, "s c"],
    starts: Float[Tensor, "s"],
    ends: Float[Tensor, "s"],
    packed: Int[Tensor, "r 2"],
) -> tuple[Float[Tensor, "r c"], Float[Tensor, "r"], Float[Tensor, "r"], Float[Tensor, "s"]]:
    """Blend samples front to back (Max 1995); differentiable in `densities` and `values`.

    Args:
        densities: per unit of t; below 0 they count as 0.
        starts, ends: along the ray; a sample that ends before it starts is empty.
        packed: (first sample, number of samples) of each ray, one ray after the other.

    Returns:
        Values premultiplied by alpha, alpha, depth premultiplied by alpha, and each sample's weight. Behind a
        transmittance of 1e-4 nothing counts.

    Raises:
        ValueError: if shapes, types or devices do not fit together, or (on the CPU) if rays' samples overlap or are
            not there. On a GPU nobody waits to look: a ray with samples that are not there has none, and samples that
            rays share keep the weight and the gradients of one of these rays, any.
    """
    if densities.ndim != 1:
        raise ValueError(f"densities has shape {tuple(densities.shape)}, not [s]")
    count = len(densities)
    for name, tensor, shape in (
        ("densities", densities, (count,)),
        ("values", values, (count, *values.shape[1:2])),
        ("starts", starts, (count,)),
        ("ends", ends, (count,)),
    ):
        if tuple(tensor.shape) != shape or tensor.dtype != densities.dtype or tensor.device != densities.device:
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {densities.dtype} {shape}")
    if values.ndim != 2 or not densities.is_floating_point():
        raise ValueError(f"values {tuple(values.shape)} must be [s c] and densities float, not {densities.dtype}")
    if packed.ndim != 2 or packed.shape[1] != 2 or packed.dtype != torch.int64 or packed.device != densities.device:
        raise ValueError(f"packed must be int64 [r 2] on {densities.device}, is {packed.dtype} {tuple(packed.shape)}")
    samples = (densities, values, starts.detach(), ends.detach(), packed)
    if not compiled_for(densities):
        if densities.device.type == "cpu":
            _check_packed(packed, count)
        return reference_field.composite(*samples)
    return torch.ops.avatar.composite(*samples)


def _check_occupied(occupied: Tensor, origins: Tensor) -> None:
    if occupied.dtype != torch.bool or occupied.ndim != 3 or occupied.device != origins.device:
        raise ValueError(f"occupied must be bool [x y z] on {origins.device}, is {occupied.dtype} {occupied.ndim}-D")
    if not 1 <= min(occupied.shape) <= max(occupied.shape) <= _MAX_CELLS:
        raise ValueError(f"occupied has {tuple(occupied.shape)} cells; an axis must have 1 to {_MAX_CELLS}")


def _check_packed(packed: Tensor, samples: int) -> None:
    first, count = packed.unbind(-1)
    end = torch.cat([first.new_zeros(1), first + count])
    beyond = (first > samples) | (count > samples - first)
    if bool(((count < 0) | (first < end[:-1]) | beyond).any()):
        raise ValueError(f"packed must name samples of one ray after the other, within the {samples} that there are")


def _call(name: str, like: Tensor, *arguments) -> bool | None:
    """Run a kernel on the tensor's device: with all of torch's threads, or queued on the current stream.

    Raises:
        RuntimeError: if there is no compiled library for such tensors.
    """
    module = native()
    if module is None or not compiled_for(like):
        raise RuntimeError(f"{name} needs float32 and the compiled library; see avatar.ops.describe()")
    if not on_cuda(like):
        return getattr(module, name)(*arguments, torch.get_num_threads())
    with torch.cuda.device(like.device):
        return getattr(module, f"cuda_{name}")(*arguments, torch.cuda.current_stream().cuda_stream)


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


torch.library.define(
    "avatar::march_rays",
    "(Tensor origins, Tensor directions, Tensor occupied, Tensor jitter, float[] box, float[] spacing)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("avatar::march_rays", ("CPU", "CUDA"))
def _march_rays(origins, directions, occupied, jitter, box, spacing):  # noqa: PLR0917
    """The compiled kernel: count the samples, make room, fill it. See `march`."""
    rays = [t.contiguous() for t in (origins, directions, jitter)]
    count, grid = len(origins), occupied.contiguous()
    where = (box[:3], box[3:], tuple(grid.shape), spacing)
    _check_occupied(occupied, origins)
    if count != len(directions) or count != len(jitter) or origins.shape[1] != 3 or directions.shape != origins.shape:
        raise ValueError(f"directions {tuple(directions.shape)} and jitter {tuple(jitter.shape)} must fit {count} rays")
    if not on_cuda(origins):
        module, words = native(), torch.empty(-(-grid.numel() // 32), dtype=torch.int32)
        if module is None:
            raise RuntimeError("march_rays needs the compiled library; see avatar.ops.describe()")
        module.march_pack(grid.data_ptr(), grid.numel(), words.data_ptr())
        grid = words
    counts = torch.empty(count, dtype=torch.int64, device=origins.device)
    _call("march_count", origins, *where, grid.data_ptr(), _pointers(*rays), count, counts.data_ptr())
    ends = counts.cumsum(0)
    packed = torch.stack([ends - counts, counts], -1)
    total = int(ends[-1]) if count else 0
    if total > _MAX_SAMPLES:
        raise ValueError(f"{total} samples on {count} rays are too many; take larger steps or longer directions")
    ray = torch.empty(total, dtype=torch.int64, device=origins.device)
    spans = origins.new_empty(2, total)
    out = _pointers(ray, spans[0], spans[1])
    _call("march_fill", origins, *where, grid.data_ptr(), _pointers(*rays), count, packed.data_ptr(), out)
    return packed, ray, spans[0].clone(), spans[1].clone()


@torch.library.register_fake("avatar::march_rays")
def _(origins, directions, occupied, jitter, box, spacing):  # noqa: PLR0917
    samples = torch.library.get_ctx().new_dynamic_size()
    ints = [origins.new_empty(shape, dtype=torch.int64) for shape in ((origins.shape[0], 2), (samples,))]
    return (*ints, origins.new_empty(samples), origins.new_empty(samples))


torch.library.define(
    "avatar::composite",
    "(Tensor densities, Tensor values, Tensor starts, Tensor ends, Tensor packed) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "avatar::composite_backward",
    "(Tensor densities, Tensor values, Tensor starts, Tensor ends, Tensor packed, Tensor weights, Tensor[] gradient)"
    " -> (Tensor, Tensor)",
)


@torch.library.impl("avatar::composite", ("CPU", "CUDA"))
def _composite(*samples):
    """The compiled kernel; see `composite`."""
    samples = [t.contiguous() for t in samples]
    densities, values, packed = samples[0], samples[1], samples[4]
    size = (len(densities), len(packed), values.shape[1])
    out = (values.new_empty(size[1:]), *(densities.new_empty(size[1]) for _ in range(2)), torch.zeros_like(densities))
    if not _call("composite", densities, _pointers(*samples), size, _pointers(*out)):
        _check_packed(packed, len(densities))
    return out


@torch.library.register_fake("avatar::composite")
def _(densities, values, starts, ends, packed):
    rays = packed.shape[0]
    colour = values.new_empty(rays, values.shape[1])
    return colour, densities.new_empty(rays), densities.new_empty(rays), densities.new_empty(densities.shape)


@torch.library.impl("avatar::composite_backward", ("CPU", "CUDA"))
def _composite_backward(*inputs):
    """Gradients of densities and values; an empty gradient of an output stands for zero."""
    samples, weights = [t.contiguous() for t in inputs[:5]], inputs[5].contiguous()
    upstream = [t.contiguous() for t in inputs[6]]
    densities, values, packed = samples[0], samples[1], samples[4]
    size = (len(densities), len(packed), values.shape[1])
    out = torch.zeros_like(densities), torch.zeros_like(values)
    where = (_pointers(*samples), size, weights.data_ptr(), _pointers(*upstream), _pointers(*out))
    if not _call("composite_backward", densities, *where):
        _check_packed(packed, len(densities))
    return out


@torch.library.register_fake("avatar::composite_backward")
def _(*inputs):
    return inputs[0].new_empty(inputs[0].shape), inputs[1].new_empty(inputs[1].shape)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs, output[3])
    ctx.set_materialize_grads(False)


def _backward(ctx, *gradients):
    like = ctx.saved_tensors[0]
    gradient = [like.new_empty(0) if g is None else g for g in gradients]
    by_density, by_value = torch.ops.avatar.composite_backward(*ctx.saved_tensors, gradient)
    return by_density, by_value, None, None, None


torch.library.register_autograd("avatar::composite", _backward, setup_context=_setup_context)
