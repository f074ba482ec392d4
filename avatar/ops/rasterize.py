"""Draw a cloud of 3-D Gaussians: project, sort, blend. The rules are written down in `avatar.ops.reference`.

float32 tensors on the CPU, and on a GPU where the library has its CUDA half, are drawn by the compiled kernel (it is
registered as `torch.ops.avatar.rasterize_gaussians`); everything else by the reference.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from avatar.ops import _rasterize_cuda, reference
from avatar.ops._backend import native
from avatar.ops.reference import View

_MAX_PIXELS = 16384
_MAX_SLOTS = 2**31 - 1  # pairs of splat and tile are counted in 32 bits


def rasterize(  # noqa: PLR0913, PLR0917 - five fields of a splat and the four of a pinhole camera
    means: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    colours: Float[Tensor, "n c"],
    T_camera_world: Float[Tensor, "4 4"],
    focal: tuple[float, float],
    center: tuple[float, float],
    size: tuple[int, int],
    background: Float[Tensor, "h w c"] | None = None,
) -> tuple[Float[Tensor, "h w c"], Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Splat Gaussians into a picture (Kerbl et al. 2023); differentiable in all tensors.

    Args:
        means: centres in world space, metres.
        quats: wxyz, any length but zero.
        scales: standard deviations along the splat's own axes, metres.
        opacities: in [0, 1].
        colours: any number of channels.
        T_camera_world: x_camera = T_camera_world @ x_world. Keep it on the CPU, also for splats on a GPU.
        focal: fx, fy in pixels.
        center: cx, cy in pixels.
        size: height, width in pixels.
        background: drawn behind the splats in the same pass.

    Returns:
        Colour premultiplied by alpha (over the background if there is one), alpha, and depth (metres along z)
        premultiplied by alpha.

    Raises:
        ValueError: if shapes, types or devices do not fit together.
    """
    view = _checked_view(T_camera_world, focal, center, size)
    splats = (means, quats, scales, opacities, colours)
    _check_splats(*splats)
    _check_background(background, colours, view.size)
    most = _channels_at_once(means)
    if not most:
        colour, alpha, depth = reference.rasterize(*splats, view=view)
        return colour if background is None else colour + (1 - alpha)[..., None] * background, alpha, depth
    pose, lens = T_camera_world.to("cpu", torch.float32), [*view.focal, *view.center]
    count = colours.shape[1]
    parts = [
        torch.ops.avatar.rasterize_gaussians(
            *splats[:4],
            colours[:, first : first + most],
            pose,
            background if background is None else background[..., first : first + most],
            *(lens, *view.size),
        )
        for first in range(0, count, most)
    ]
    colour = parts[0][0] if len(parts) == 1 else torch.cat([part[0] for part in parts], -1)
    return colour, parts[0][1], parts[0][2]


def _channels_at_once(means: Tensor) -> int:
    """How many channels the compiled kernel for such tensors draws; 0 if there is none."""
    module = native()
    if module is None or means.dtype != torch.float32:
        return 0
    if means.device.type == "cuda":
        return module.CUDA_MAX_CHANNELS if module.CUDA else 0
    return module.MAX_CHANNELS if means.device.type == "cpu" else 0


def _checked_view(
    T_camera_world: Tensor, focal: tuple[float, float], center: tuple[float, float], size: tuple[int, int]
) -> View:
    if tuple(T_camera_world.shape) != (4, 4):
        raise ValueError(f"T_camera_world has shape {tuple(T_camera_world.shape)}, not (4, 4)")
    if T_camera_world.is_meta or not T_camera_world.is_floating_point():
        raise ValueError(f"T_camera_world is {T_camera_world.dtype} on {T_camera_world.device}; it must hold numbers")
    fx, fy, cx, cy = (float(v) for v in (*focal, *center))
    if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        raise ValueError(f"focal {(fx, fy)} must be positive and center {(cx, cy)} finite")
    height, width = (int(v) for v in size)
    if min(height, width) < 0 or max(height, width) > _MAX_PIXELS:
        raise ValueError(f"size {(height, width)} must be within 0 and {_MAX_PIXELS} pixels")
    return View(T_camera_world, (fx, fy), (cx, cy), (height, width))


def _check_splats(*tensors: Tensor) -> None:
    names, widths = ("means", "quats", "scales", "opacities", "colours"), ((3,), (4,), (3,), (), None)
    first = tensors[0]
    for name, tensor, width in zip(names, tensors, widths, strict=True):
        wanted = (*first.shape[:1], *(tensor.shape[1:2] if width is None else width))
        if tuple(tensor.shape) != wanted or (width is None and (tensor.ndim != 2 or not tensor.shape[1])):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {wanted}")
        if tensor.dtype != first.dtype or tensor.device != first.device or not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, means is {first.dtype} on {first.device}")


def _check_background(background: Tensor | None, colours: Tensor, size: tuple[int, int]) -> None:
    if background is None:
        return
    if tuple(background.shape) != (*size, colours.shape[1]):
        raise ValueError(f"background has shape {tuple(background.shape)}, not {(*size, colours.shape[1])}")
    if background.dtype != colours.dtype or background.device != colours.device:
        raise ValueError(f"background is {background.dtype} on {background.device}, colours {colours.dtype}")


def _pointers(tensors: tuple[Tensor, ...] | list[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


_SPLATS = "Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor colours"
_CAMERA = "Tensor pose, {}float[] lens, SymInt height, SymInt width"
_IMAGE = "Tensor colour, Tensor alpha, Tensor depth"
_STATE = "Tensor records, Tensor tile_first, Tensor tile_splats"


torch.library.define(
    "avatar::rasterize_gaussians",
    f"({_SPLATS}, {_CAMERA.format('Tensor? background, ')}) -> ({_IMAGE}, {_STATE})",
)


@torch.library.impl("avatar::rasterize_gaussians", "CPU")
def rasterize_gaussians(means, quats, scales, opacities, colours, pose, background, lens, height, width):  # noqa: PLR0913, PLR0917
    """The compiled kernel; `pose` is T_camera_world on the CPU, `lens` fx, fy, cx, cy. Returns picture and state."""
    module = native()
    if module is None:
        raise RuntimeError("torch.ops.avatar.rasterize_gaussians needs the compiled library; see avatar.ops.describe()")
    splats = tuple(t.contiguous() for t in (means, quats, scales, opacities, colours))
    _check_splats(*splats)
    count, channels, threads = len(means), colours.shape[1], torch.get_num_threads()
    records = means.new_empty(count, module.RECORD_FLOATS)
    where = (pose.flatten().tolist(), lens, (height, width))
    slots = module.rasterize_project(*where, _pointers(splats), count, channels, records.data_ptr(), threads)
    if slots > _MAX_SLOTS:
        raise ValueError(f"{count} splats touch {slots} tiles in all, more than {_MAX_SLOTS}; draw a smaller picture")
    tiles = -(-height // module.TILE) * -(-width // module.TILE)
    tile_first = torch.empty(tiles + 1, dtype=torch.int32)
    tile_splats = torch.empty(slots, dtype=torch.int32)
    image = (means.new_empty(height, width, channels), means.new_empty(height, width), means.new_empty(height, width))
    behind = None if background is None else background.contiguous()
    module.rasterize_draw(
        (height, width),
        *(records.data_ptr(), count, splats[4].data_ptr(), channels, 0 if behind is None else behind.data_ptr()),
        *(tile_first.data_ptr(), tile_splats.data_ptr(), _pointers(image), threads),
    )
    return (*image, records, tile_first, tile_splats)


@torch.library.register_fake("avatar::rasterize_gaussians")
def _(means, quats, scales, opacities, colours, pose, background, lens, height, width):  # noqa: PLR0913, PLR0917
    slots = torch.library.get_ctx().new_dynamic_size()
    side = 32 if means.device.type == "cpu" else 16
    tiles = -(-height // side) * -(-width // side)
    image = (means.new_empty(height, width, colours.shape[1]), *(means.new_empty(height, width) for _ in range(2)))
    lists = (means.new_empty(tiles + 1, dtype=torch.int32), means.new_empty(slots, dtype=torch.int32))
    return (*image, means.new_empty(len(means), 16), *lists)


_SIX = ", ".join(["Tensor"] * 6)
torch.library.define(
    "avatar::rasterize_gaussians_backward",
    f"({_SPLATS}, {_CAMERA.format('')}, {_IMAGE}, {_STATE}, Tensor[] gradient, bool with_pose) -> ({_SIX})",
)


@torch.library.impl("avatar::rasterize_gaussians_backward", "CPU")
def rasterize_gaussians_backward(*inputs):
    """Gradients of the five fields of the splats and of the pose; an empty gradient of the picture stands for zero."""
    module = native()
    if module is None:
        raise RuntimeError("the compiled library is gone between forward and backward; see avatar.ops.describe()")
    splats, (pose, lens, height, width), image = inputs[:5], inputs[5:9], inputs[9:12]
    state, gradient = inputs[12:15], [t.contiguous() for t in inputs[15]]
    count, channels = len(splats[0]), splats[4].shape[1]
    slots = splats[0].new_empty(len(state[2]), module.GEOMETRY_GRADIENTS + channels)
    out = (*(torch.empty_like(t) for t in splats), torch.zeros(4, 4))
    module.rasterize_backward(
        *(pose.flatten().tolist(), lens, (height, width), _pointers(splats), count, channels),
        *(_pointers(state), _pointers(image), _pointers(gradient), slots.data_ptr(), _pointers(out)),
        torch.get_num_threads(),
    )
    return out


@torch.library.register_fake("avatar::rasterize_gaussians_backward")
def _(*inputs):
    return tuple(torch.empty_like(t) for t in inputs[:6])


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*(t.contiguous() for t in inputs[:5]), inputs[5], *output)
    ctx.lens = inputs[7:]
    ctx.mark_non_differentiable(*output[3:])
    ctx.set_materialize_grads(False)


def _backward(ctx, *gradients):
    splats, pose, output = ctx.saved_tensors[:5], ctx.saved_tensors[5], ctx.saved_tensors[6:]
    gradient = [o.new_empty(0) if g is None else g for o, g in zip(output[:3], gradients[:3], strict=True)]
    out = torch.ops.avatar.rasterize_gaussians_backward(
        *(*splats, pose, *ctx.lens, *output, gradient), with_pose=ctx.needs_input_grad[5]
    )
    behind = None
    if ctx.needs_input_grad[6] and gradients[0] is not None:
        behind = (1 - output[1])[..., None] * gradients[0]
    return (*out[:5], out[5] if ctx.needs_input_grad[5] else None, behind, None, None, None)


torch.library.register_autograd("avatar::rasterize_gaussians", _backward, setup_context=_setup_context)
torch.library.impl("avatar::rasterize_gaussians", "CUDA", func=_rasterize_cuda.forward)
torch.library.impl("avatar::rasterize_gaussians_backward", "CUDA", func=_rasterize_cuda.backward)
