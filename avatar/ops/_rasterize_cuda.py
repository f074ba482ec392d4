"""The Gaussian rasteriser on a CUDA device: memory and launches for `avatar.ops.rasterize`."""

import torch
from torch import Tensor

from avatar.ops._backend import native


def forward(means, quats, scales, opacities, colours, pose, background, lens, height, width):  # noqa: PLR0913, PLR0917
    """Picture and state; see `rasterize_gaussians`."""
    module = _module()
    splats = tuple(t.contiguous() for t in (means, quats, scales, opacities, colours))
    count, channels = len(means), colours.shape[1]
    with torch.cuda.device(means.device):
        stream = torch.cuda.current_stream().cuda_stream
        records = means.new_empty(count, module.RECORD_FLOATS)
        ends = torch.empty(count, dtype=torch.int32, device=means.device)
        state = [records.data_ptr(), ends.data_ptr()]
        scratch = _bytes(means, module.cuda_scratch_bytes(count, 0))
        where = (pose.flatten().tolist(), lens, (height, width))
        pointers = [t.data_ptr() for t in splats]
        slots = module.cuda_project(
            *(*where, pointers, count, channels, state, scratch.data_ptr(), scratch.numel(), stream)
        )
        keys = torch.empty(2, slots, dtype=torch.int64, device=means.device)
        lists = torch.empty(2, slots, dtype=torch.int32, device=means.device)
        tile_first = torch.zeros(module.cuda_tiles(height, width) + 1, dtype=torch.int32, device=means.device)
        buffers = [t.data_ptr() for t in (keys[0], keys[1], lists[0], lists[1], tile_first)]
        scratch = _bytes(means, module.cuda_scratch_bytes(count, slots))
        behind = None if background is None else background.contiguous()
        image = tuple(means.new_empty(height, width, *more) for more in ((channels,), (), ()))
        module.cuda_draw(
            *((height, width), state, count, splats[4].data_ptr(), channels),
            *(0 if behind is None else behind.data_ptr(), slots, buffers),
            *(scratch.data_ptr(), scratch.numel(), [t.data_ptr() for t in image], stream),
        )
    return (*image, records, tile_first, lists[1].clone())


def backward(*inputs):
    """Gradients of the splats and of the pose (on the CPU, zero if not asked for)."""
    module = _module()
    splats, (pose, lens, height, width), image = inputs[:5], inputs[5:9], inputs[9:12]
    state, gradient, with_pose = inputs[12:15], [t.contiguous() for t in inputs[15]], inputs[16]
    count, channels = len(splats[0]), splats[4].shape[1]
    with torch.cuda.device(splats[0].device):
        sums = splats[0].new_zeros(count, module.GEOMETRY_GRADIENTS + channels)
        out = tuple(torch.empty_like(t) for t in splats)
        turned = splats[0].new_zeros(4, 4)
        pointers = [[t.data_ptr() for t in some] for some in (splats, state, image, gradient, out)]
        pointers[4].append(turned.data_ptr() if with_pose else 0)
        module.cuda_backward(
            *(pose.flatten().tolist(), lens, (height, width), pointers[0], count, channels, *pointers[1:4]),
            *(sums.data_ptr(), pointers[4], torch.cuda.current_stream().cuda_stream),
        )
    return (*out, turned.cpu() if with_pose else torch.zeros(4, 4))


def _module():
    module = native()
    if module is None or not module.CUDA:
        raise RuntimeError("the compiled library has no CUDA half; see avatar.ops.describe()")
    return module


def _bytes(like: Tensor, count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8, device=like.device)
