"""Registration of the compiled `bind_gaussians`; see `avatar.ops.binding` for what it computes."""

from typing import Any

import torch

from avatar.ops._backend import native, on_cuda

NUMBERS = 13
_RECORD, _STATE = 16, 6
_INPUTS = (
    "Tensor vertices, Tensor faces, Tensor rest_size, Tensor triangle, Tensor bary, Tensor? live, "
    "Tensor offset, Tensor turn, Tensor log_scale, Tensor opacity, Tensor colour, "
    "Tensor basis, Tensor weights, Tensor? extra"
)
_DRAWN = "Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor colours"
# Places in _INPUTS of what has a gradient, in the order in which the way back returns it.
_REST, _BASIS, _WEIGHTS, _EXTRA, _VERTICES = (6, 7, 8, 9, 10), 11, 12, 13, 0

torch.library.define(
    "avatar::bind_gaussians", f"({_INPUTS}, bool activate) -> ({_DRAWN}, Tensor records, Tensor state)"
)
torch.library.define(
    "avatar::bind_gaussians_backward",
    f"({_INPUTS}, bool activate, {_DRAWN}, Tensor records, Tensor state, Tensor?[] gradient, bool[] wanted) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def _module():
    module = native()
    if module is None:
        raise RuntimeError("torch.ops.avatar.bind_gaussians needs the compiled library; see avatar.ops.describe()")
    return module


def _pointers(tensors) -> list[int]:
    return [0 if t is None else t.data_ptr() for t in tensors]


def _contiguous(inputs) -> list[Any]:
    return [None if t is None else t.contiguous() for t in inputs]


def _sizes(inputs, activate) -> tuple[int, ...]:
    return (len(inputs[0]), len(inputs[1]), len(inputs[3]), len(inputs[12]), int(activate))


def _outputs(inputs):
    """Empty tensors of the shapes of means, quats, scales, opacities, colours, records and state."""
    vertices, n = inputs[0], len(inputs[3])
    shapes = ((n, 3), (n, 4), (n, 3), (n,), (n, 3), (len(inputs[1]), _RECORD), (_STATE, n))
    return tuple(vertices.new_empty(shape) for shape in shapes)


def _forward(*inputs):
    """The compiled kernel. `records` and `state` are for the way back."""
    module, activate = _module(), inputs[14]
    tensors = _contiguous(inputs[:14])
    out = _outputs(tensors)
    arguments = (_pointers(tensors), _sizes(tensors, activate), _pointers(out[5:]), _pointers(out[:5]))
    if on_cuda(out[0]):
        with torch.cuda.device(out[0].device):
            module.cuda_bind_gaussians(*arguments, torch.cuda.current_stream().cuda_stream)
    elif not module.bind_gaussians(*arguments, torch.get_num_threads()):
        raise ValueError(
            f"faces or splats name what does not exist: there are {len(tensors[0])} vertices, {len(tensors[1])} faces"
        )
    return out


def _gradients(inputs, wanted):
    """Empty tensors for the gradients of the rest state, basis, extra, weights and vertices; empty if not wanted."""
    nothing = inputs[0].new_empty(0)
    basis, weights, vertices = (
        torch.empty_like(inputs[at]) if want else nothing
        for at, want in zip((_BASIS, _WEIGHTS, _VERTICES), wanted, strict=True)
    )
    extra = inputs[0].new_empty(len(inputs[3]), NUMBERS)
    return (*(torch.empty_like(inputs[i]) for i in _REST), basis, extra, weights, vertices)


def _backward(*inputs):
    """Gradients of the five parts of the rest state, of basis, extra, weights and vertices.

    `gradient` is that of the five outputs, None for zero; `wanted` says whether basis, weights and vertices have one.
    """
    module, activate, gradient, wanted = _module(), inputs[14], inputs[22], inputs[23]
    tensors, drawn, kept = _contiguous(inputs[:14]), inputs[15:20], inputs[20:22]
    upstream = [torch.zeros_like(d) if g is None else g.contiguous() for g, d in zip(gradient, drawn, strict=True)]
    out = _gradients(tensors, wanted)
    targets = [0 if not t.numel() else t.data_ptr() for t in out]
    arguments = (_pointers(tensors), _sizes(tensors, activate), _pointers(kept), _pointers(drawn), _pointers(upstream))
    if on_cuda(drawn[0]):
        with torch.cuda.device(drawn[0].device):
            sums = kept[0].new_zeros(len(tensors[1]), _RECORD)
            stream = torch.cuda.current_stream().cuda_stream
            module.cuda_bind_gaussians_backward(*arguments, targets, sums.data_ptr(), stream)
    else:
        module.bind_gaussians_backward(*arguments, targets, torch.get_num_threads())
    return out


for _device in ("CPU", "CUDA"):
    torch.library.impl("avatar::bind_gaussians", _device, func=_forward)
    torch.library.impl("avatar::bind_gaussians_backward", _device, func=_backward)


@torch.library.register_fake("avatar::bind_gaussians")
def _(*inputs):
    return _outputs(inputs)


@torch.library.register_fake("avatar::bind_gaussians_backward")
def _(*inputs):
    return _gradients(inputs, inputs[23])


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:14], *output)
    ctx.activate = inputs[14]
    ctx.mark_non_differentiable(*output[5:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, *gradients):
    inputs, output = ctx.saved_tensors[:14], ctx.saved_tensors[14:]
    wanted = [ctx.needs_input_grad[at] for at in (_BASIS, _WEIGHTS, _VERTICES)]
    found = torch.ops.avatar.bind_gaussians_backward(*inputs, ctx.activate, *output, list(gradients[:5]), wanted)
    out = [None] * 15
    for at, gradient in zip((*_REST, _BASIS, _EXTRA, _WEIGHTS, _VERTICES), found, strict=True):
        if ctx.needs_input_grad[at]:
            out[at] = gradient
    return tuple(out)


torch.library.register_autograd("avatar::bind_gaussians", _differentiate, setup_context=_setup_context)
