"""The Gaussian rasteriser on a CUDA device: memory and launches for `avatar.ops.rasterize`."""

import torch
from torch import Tensor

from avatar.ops._backend import native


def forward(means, quats, scales, opacities, colours, pose, background, lens, height, width):  # noqa: PLR0913, PLR0917
    """Picture and state; see `rasterize_gaussians`. Waits for the device once, for the length of the lists."""
    module, device, size = _module(), means.device, (height, width)
    splats = tuple(t.contiguous() for t in (means, quats, scales, opacities, colours))
    behind = None if background is None else background.contiguous()
    count, channels = len(means), colours.shape[1]
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream().cuda_stream
        records = means.new_empty(count, module.CUDA_RECORD_FLOATS)
        projected = _bytes(module.cuda_project_bytes(count), device)
        where = (pose.flatten().tolist(), lens, size)
        pairs = module.cuda_project(
            *(*where, _pointers(splats), count, channels),
            *(records.data_ptr(), projected.data_ptr(), stream),
        )
        tile_first = torch.empty(module.cuda_tiles(*size) + 1, dtype=torch.int32, device=device)
        buffers = [torch.empty(pairs, dtype=torch.int32, device=device) for _ in range(2)]
        workspace = _bytes(module.cuda_list_bytes(pairs, *size), device)
        sorted_into = module.cuda_list(
            *(size, records.data_ptr(), count, pairs, _pointers(buffers), tile_first.data_ptr()),
            *(_pointers((projected, workspace)), stream),
        )
        state = (records, tile_first, buffers[sorted_into])
        image = tuple(means.new_empty(*size, *more) for more in ((channels,), (), ()))
        module.cuda_draw(
            *(size, _pointers(state), splats[4].data_ptr(), channels),
            *(0 if behind is None else behind.data_ptr(), _pointers(image), stream),
        )
    return (*image, *state)


def backward(*inputs):
    """Gradients of the splats and of the pose (on the CPU, zero if not asked for)."""
    module = _module()
    splats, (pose, lens, height, width), image = inputs[:5], inputs[5:9], inputs[9:12]
    state, gradient, with_pose = inputs[12:15], [t.contiguous() for t in inputs[15]], inputs[16]
    count, channels, pairs, device = len(splats[0]), splats[4].shape[1], len(state[2]), splats[0].device
    with torch.cuda.device(device):
        workspace = _bytes(module.cuda_backward_bytes(count, channels, pairs, height, width), device)
        out = tuple(torch.empty_like(t) for t in splats)
        turned = splats[0].new_zeros(4, 4)
        module.cuda_backward(
            *(pose.flatten().tolist(), lens, (height, width), _pointers(splats), count, channels),
            *(_pointers(state), pairs, _pointers(image), _pointers(gradient)),
            [*_pointers(out), turned.data_ptr() if with_pose else 0],
            *(workspace.data_ptr(), torch.cuda.current_stream().cuda_stream),
        )
    return (*out, turned.cpu() if with_pose else torch.zeros(4, 4))


def _module():
    module = native()
    if module is None or not module.CUDA:
        raise RuntimeError("the compiled library has no CUDA half; see avatar.ops.describe()")
    return module


def _pointers(tensors: tuple[Tensor, ...] | list[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _bytes(count: int, device: torch.device) -> Tensor:
    return torch.empty(count, dtype=torch.uint8, device=device)
