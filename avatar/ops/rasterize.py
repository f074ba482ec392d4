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
) -> tuple[Float[Tensor, "h w c"], Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Splat Gaussians into a picture (Kerbl et al. 2023); differentiable in the first five arguments.

    Args:
        means: centres in world space, metres.
        quats: wxyz, any length but zero.
        scales: standard deviations along the splat's own axes, metres.
        opacities: in [0, 1].
        colours: any number of channels.
        T_camera_world: x_camera = T_camera_world @ x_world; no gradient.
        focal: fx, fy in pixels.
        center: cx, cy in pixels.
        size: height, width in pixels.

    Returns:
        Colour premultiplied by alpha, alpha, and depth (metres along z) premultiplied by alpha.

    Raises:
        ValueError: if shapes, types or devices do not fit together.
    """
    view = _checked_view(T_camera_world, focal, center, size)
    splats = (means, quats, scales, opacities, colours)
    _check_splats(*splats)
    most = _channels_at_once(means)
    if not most:
        return reference.rasterize(*splats, view=view)
    pose = view.T_camera_world.detach().to("cpu", torch.float64).flatten().tolist()
    camera = [*pose, *view.focal, *view.center]
    parts = [
        torch.ops.avatar.rasterize_gaussians(*splats[:4], some, camera, *view.size)
        for some in colours.split(most, dim=1)
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


def _pointers(tensors: tuple[Tensor, ...] | list[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


_SPLATS = "Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor colours"
_CAMERA = "float[] camera, SymInt height, SymInt width"
_IMAGE = "Tensor colour, Tensor alpha, Tensor depth"
_STATE = "Tensor records, Tensor tile_first, Tensor tile_splats"


torch.library.define(
    "avatar::rasterize_gaussians",
    f"({_SPLATS}, {_CAMERA}) -> ({_IMAGE}, {_STATE})",
)


@torch.library.impl("avatar::rasterize_gaussians", "CPU")
def rasterize_gaussians(means, quats, scales, opacities, colours, camera, height, width):  # noqa: PLR0913, PLR0917
    """The compiled kernel; `camera` is T_camera_world row after row, then fx, fy, cx, cy. Returns picture and state."""
    module = native()
    if module is None:
        raise RuntimeError("torch.ops.avatar.rasterize_gaussians needs the compiled library; see avatar.ops.describe()")
    splats = tuple(t.contiguous() for t in (means, quats, scales, opacities, colours))
    _check_splats(*splats)
    count, channels, threads = len(means), colours.shape[1], torch.get_num_threads()
    records = means.new_empty(count, module.RECORD_FLOATS)
    slots = module.rasterize_project(
        camera[:16], camera[16:], (height, width), _pointers(splats), count, channels, records.data_ptr(), threads
    )
    tiles = -(-height // module.TILE) * -(-width // module.TILE)
    tile_first = torch.empty(tiles + 1, dtype=torch.int32)
    tile_splats = torch.empty(slots, dtype=torch.int32)
    image = (means.new_empty(height, width, channels), means.new_empty(height, width), means.new_empty(height, width))
    module.rasterize_draw(
        (height, width),
        *(records.data_ptr(), count, splats[4].data_ptr(), channels),
        *(tile_first.data_ptr(), tile_splats.data_ptr(), _pointers(image), threads),
    )
    return (*image, records, tile_first, tile_splats)


@torch.library.register_fake("avatar::rasterize_gaussians")
def _(means, quats, scales, opacities, colours, camera, height, width):  # noqa: PLR0913, PLR0917
    slots = torch.library.get_ctx().new_dynamic_size()
    side = 32 if means.device.type == "cpu" else 16
    tiles = -(-height // side) * -(-width // side)
    image = (means.new_empty(height, width, colours.shape[1]), *(means.new_empty(height, width) for _ in range(2)))
    lists = (means.new_empty(tiles + 1, dtype=torch.int32), means.new_empty(slots, dtype=torch.int32))
    return (*image, means.new_empty(len(means), 16), *lists)


torch.library.define(
    "avatar::rasterize_gaussians_backward",
    f"({_SPLATS}, {_CAMERA}, {_IMAGE}, {_STATE}, Tensor[] gradient) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("avatar::rasterize_gaussians_backward", "CPU")
def rasterize_gaussians_backward(*inputs):
    """Gradients of means, quats, scales, opacities and colours; an empty gradient of the picture stands for zero."""
    module = native()
    if module is None:
        raise RuntimeError("the compiled library is gone between forward and backward; see avatar.ops.describe()")
    splats, (camera, height, width), image = inputs[:5], inputs[5:8], inputs[8:11]
    state, gradient = inputs[11:14], [t.contiguous() for t in inputs[14]]
    count, channels = len(splats[0]), splats[4].shape[1]
    slots = splats[0].new_empty(len(state[2]), module.GEOMETRY_GRADIENTS + channels)
    out = tuple(torch.empty_like(t) for t in splats)
    module.rasterize_backward(
        *(camera[:16], camera[16:], (height, width), _pointers(splats), count, channels),
        *(_pointers(state), _pointers(image), _pointers(gradient), slots.data_ptr(), _pointers(out)),
        torch.get_num_threads(),
    )
    return out


@torch.library.register_fake("avatar::rasterize_gaussians_backward")
def _(*inputs):
    return tuple(torch.empty_like(t) for t in inputs[:5])


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*(t.contiguous() for t in inputs[:5]), *output)
    ctx.camera = inputs[5:]
    ctx.mark_non_differentiable(*output[3:])
    ctx.set_materialize_grads(False)


def _backward(ctx, *gradients):
    splats, output = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
    gradient = [o.new_empty(0) if g is None else g for o, g in zip(output[:3], gradients[:3], strict=True)]
    out = torch.ops.avatar.rasterize_gaussians_backward(*splats, *ctx.camera, *output, gradient)
    return (*out, None, None, None)


torch.library.register_autograd("avatar::rasterize_gaussians", _backward, setup_context=_setup_context)
torch.library.impl("avatar::rasterize_gaussians", "CUDA", func=_rasterize_cuda.forward)
torch.library.impl("avatar::rasterize_gaussians_backward", "CUDA", func=_rasterize_cuda.backward)
