"""Pose a rig: actions, skinning, a rigid correction of the body, the pose of the head. Metres, any right-handed axes.

float32 tensors are posed by the compiled kernel (registered as `torch.ops.avatar.pose_rig`), everything else by the
plain torch version below, which says what is computed.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.ops._backend import compiled_for, native, on_cuda

JOINTS = ("neck", "torso", "right eye", "left eye", "rigid", "head")
_FIXED = 12 * len(JOINTS) + 3


class SparseRig(NamedTuple):
    """A rig made ready for posing: an action moves few vertices, so each vertex has the list of its own actions."""

    neutral: Float[Tensor, "v 3"]
    first: Int[Tensor, "v+1"]
    """int32; entries first[i] ... first[i + 1] - 1 of `action` and `move` belong to vertex i."""
    action: Int[Tensor, "m"]
    """int32."""
    move: Float[Tensor, "m 3"]
    """Displacement at coefficient 1."""
    weights: Float[Tensor, "v 5"]
    """Skin weights of neck, torso, right and left eye (the rest is the head's), and how far the body's correction and
    shift take the vertex along."""


def sparse_rig(
    neutral: Float[Tensor, "v 3"], actions: Float[Tensor, "e v 3"], weights: Float[Tensor, "v 5"]
) -> SparseRig:
    """Sort the displacements that are not zero by vertex."""
    vertex, action = (actions != 0).any(-1).T.nonzero().unbind(1)
    counts = torch.bincount(vertex, minlength=len(neutral))
    first = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
    move = actions[action, vertex]
    return SparseRig(neutral.contiguous(), first, action.int(), move.contiguous(), weights.contiguous())


def pose_rig(
    rig: SparseRig,
    expression: Float[Tensor, "e"],
    transforms: Float[Tensor, "6 3 4"],
    shift: Float[Tensor, "3"],
) -> Float[Tensor, "v 3"]:
    """The surface in the world; differentiable in the neutral surface and in the last three arguments.

    p = neutral + sum_a expression_a move_a (blendshapes); q = p + sum_j weight_j (T_j p - p) over neck, torso and eyes
    (linear blend skinning, Magnenat-Thalmann et al. 1988); r = q + below (T_rigid q - q); T_head r + below shift.

    Args:
        expression: coefficients, one for each action.
        transforms: x -> R x + t as [R t], in the order of `JOINTS`; all but the last in the head frame.
        shift: of all that is below the head, world axes.

    Raises:
        ValueError: if shapes, types or devices do not fit together, or an action has no coefficient (on a GPU, the
            vertices that it moves become NaN instead, and what leads out of the lists is left out).
    """
    _check(rig, expression, transforms, shift)
    if not compiled_for(rig.neutral):
        return _reference(rig, expression, transforms, shift)
    return torch.ops.avatar.pose_rig(*rig, expression, transforms, shift)


def _check(rig: SparseRig, expression: Tensor, transforms: Tensor, shift: Tensor) -> None:
    for name, tensor, ndim in (("neutral", rig.neutral, 2), ("action", rig.action, 1), ("expression", expression, 1)):
        if tensor.ndim != ndim:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {ndim} axes")
    if not rig.neutral.is_floating_point():
        raise ValueError(f"neutral is {rig.neutral.dtype}, must be of a floating type")
    count, entries = len(rig.neutral), len(rig.action)
    wanted = {
        "neutral": (rig.neutral, (count, 3)),
        "first": (rig.first, (count + 1,)),
        "move": (rig.move, (entries, 3)),
        "weights": (rig.weights, (count, 5)),
        "expression": (expression, tuple(expression.shape)),
        "transforms": (transforms, (6, 3, 4)),
        "shift": (shift, (3,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {shape}")
        kind = torch.int32 if name == "first" else rig.neutral.dtype
        if tensor.dtype != kind or tensor.device != rig.neutral.device:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, not {kind} on {rig.neutral.device}")
    if rig.action.dtype != torch.int32 or rig.action.device != rig.neutral.device:
        raise ValueError(f"action is {rig.action.dtype} on {rig.action.device}, not int32 on {rig.neutral.device}")


def _reference(rig: SparseRig, expression: Tensor, transforms: Tensor, shift: Tensor) -> Tensor:
    vertex = torch.repeat_interleave(torch.arange(len(rig.neutral), device=rig.first.device), rig.first.diff().long())
    p = rig.neutral.index_add(0, vertex, expression[rig.action.long()][:, None] * rig.move)

    def moved(joint: int, points: Tensor) -> Tensor:
        return points @ transforms[joint, :, :3].T + transforms[joint, :, 3]

    below = rig.weights[:, 4:]
    q = p + sum((rig.weights[:, j, None] * (moved(j, p) - p) for j in range(4)), torch.zeros_like(p))
    r = q + below * (moved(4, q) - q)
    return moved(5, r) + below * shift


_RIG = "Tensor neutral, Tensor first, Tensor action, Tensor move, Tensor weights"
_MOTION = "Tensor expression, Tensor transforms, Tensor shift"
torch.library.define("avatar::pose_rig", f"({_RIG}, {_MOTION}) -> Tensor")
torch.library.define(
    "avatar::pose_rig_backward", f"({_RIG}, {_MOTION}, Tensor gradient) -> (Tensor, Tensor, Tensor, Tensor)"
)


def _forward(*inputs):
    """The compiled kernel; inputs as in `pose_rig`, flat."""
    module = native()
    if module is None:
        raise RuntimeError("torch.ops.avatar.pose_rig needs the compiled library; see avatar.ops.describe()")
    tensors = [t.contiguous() for t in inputs]
    out = torch.empty_like(tensors[0])
    pointers, sizes = [t.data_ptr() for t in tensors], (len(out), len(inputs[5]), len(inputs[2]))
    if on_cuda(out):
        with torch.cuda.device(out.device):
            module.cuda_pose_rig(pointers, sizes, out.data_ptr(), torch.cuda.current_stream().cuda_stream)
    elif not module.pose_rig(pointers, sizes, out.data_ptr(), torch.get_num_threads()):
        raise ValueError(f"rig's lists of actions are out of order or name one of more than {len(inputs[5])}")
    return out


def _backward(*inputs):
    """Gradients of neutral, expression, transforms and shift."""
    module, gradient = native(), inputs[8].contiguous()
    if module is None:
        raise RuntimeError("the compiled library is gone between forward and backward; see avatar.ops.describe()")
    tensors, actions = [t.contiguous() for t in inputs[:8]], len(inputs[5])
    neutral, sums = torch.empty_like(tensors[0]), tensors[0].new_empty(_FIXED + actions)
    pointers, sizes = [t.data_ptr() for t in tensors], (len(neutral), actions, len(inputs[2]))
    out = (gradient.data_ptr(), neutral.data_ptr(), sums.data_ptr())
    if on_cuda(gradient):
        with torch.cuda.device(gradient.device):
            stream = torch.cuda.current_stream().cuda_stream
            module.cuda_pose_rig_backward(pointers, sizes, out, stream)
    else:
        module.pose_rig_backward(pointers, sizes, out, torch.get_num_threads())
    transforms, shift, expression = sums.split([_FIXED - 3, 3, actions])
    return neutral, expression.clone(), transforms.clone().view(6, 3, 4), shift.clone()


for _device in ("CPU", "CUDA"):
    torch.library.impl("avatar::pose_rig", _device, func=_forward)
    torch.library.impl("avatar::pose_rig_backward", _device, func=_backward)


@torch.library.register_fake("avatar::pose_rig")
def _(*inputs):
    return torch.empty_like(inputs[0])


@torch.library.register_fake("avatar::pose_rig_backward")
def _(*inputs):
    return tuple(torch.empty_like(inputs[i]) for i in (0, 5, 6, 7))


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, gradient):
    neutral, *motion = torch.ops.avatar.pose_rig_backward(*ctx.saved_tensors, gradient)
    return neutral, None, None, None, None, *motion


torch.library.register_autograd("avatar::pose_rig", _differentiate, setup_context=_setup_context)
