"""A device that is not there: `with elsewhere() as device: ...` gives one whose tensors compute on the CPU, but meet no
others, as those of a GPU would not. Together with `cuda_on_cpu` whole trainings run through the CUDA kernels."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from avatar.ops import _backend, binding, hashgrid, optimize, posing, raymarch

DEVICE = torch.device("lazy")
"""One that torch knows, that nobody uses, and that needs no driver to differentiate."""
_CROSSING = ("aten::_to_copy", "aten::copy_")
_WITH_POSE = ("avatar::rasterize_gaussians", "avatar::rasterize_gaussians_backward")
"""They take the camera's pose from the CPU."""
_CHOOSING = (binding, hashgrid, optimize, posing, raymarch)


class _Far(Tensor):
    """A tensor elsewhere; `near` holds its numbers."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> "_Far":
        layout = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
        made = Tensor._make_wrapper_subclass(cls, near.size(), device=DEVICE, **layout)  # type: ignore[attr-defined]
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()


class _Factories(TorchDispatchMode):
    """Brings there what is asked to be made, or taken, there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    far = [tensor for tensor in tensors if isinstance(tensor, _Far)]
    wanted = kwargs.get("device")
    stays = bool(far) if wanted is None else wanted.type == DEVICE.type
    if far and func.name().split(".")[0] not in _CROSSING:
        # A number without axes may come from anywhere.
        strangers = [t for t in tensors if not isinstance(t, _Far) and t.ndim]
        strangers = strangers[1:] if func.name() in _WITH_POSE else strangers
        assert not strangers, f"{func.name()}: {len(strangers)} of {len(tensors)} tensors are on the CPU"
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu") if stays else wanted}
    near_args, near_kwargs = tree_map(lambda leaf: leaf.near if isinstance(leaf, _Far) else leaf, (args, kwargs))
    if func.name().split(".")[0] == "aten::_to_copy" and bool(far) != stays:
        # On one device it would be no copy, and both would share their numbers.
        near_args = (near_args[0].clone(), *near_args[1:])
    out = func(*near_args, **near_kwargs)
    if "out" in kwargs:
        return kwargs["out"]
    if args and isinstance(args[0], Tensor) and _changes_first(func):
        if stays and torch.Tag.inplace_view in func.tags:  # the shape that it shows changes, too
            return return_and_correct_aliasing(func, args, kwargs, args[0])
        return args[0]
    return tree_map(lambda leaf: _Far(leaf) if stays and isinstance(leaf, Tensor) else leaf, out)


def _changes_first(func: Any) -> bool:
    first, returned = func._schema.arguments[0].alias_info, func._schema.returns
    return first is not None and first.is_write and len(returned) == 1


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """A device that `avatar.ops.device` chooses in this context, and that the compiled operators serve."""
    with ExitStack() as patches:
        for module in _CHOOSING:
            patches.enter_context(mock.patch.object(module, "compiled_for", lambda t: t.dtype == torch.float32))
        patches.enter_context(mock.patch.object(_backend, "device", lambda *_: DEVICE))
        # So that torch.tensor and new_tensor make theirs on the CPU and move it in sight of the mode.
        patches.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())  # type: ignore[attr-defined]
        torch._C._set_only_lift_cpu_tensors(True)  # type: ignore[attr-defined]
        patches.enter_context(_Factories())
        yield DEVICE
