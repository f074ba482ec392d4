"""Run the operators' CUDA implementations on CPU tensors: `with cuda_on_cpu(): ...` around calls of `avatar.ops`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from avatar.ops import _backend, _binding_native, hashgrid, optimize, posing, raymarch
from avatar.ops import rasterize as rasterizer
from tests.cuda_on_cpu.build import load

_CHOOSING = (_binding_native, hashgrid, optimize, posing, raymarch)
"""Modules of which one function serves both kinds of devices, and asks `on_cuda` for the kernel to call."""


class _CudaHalf:
    """The library without its kernels for the CPU, so that none of them passes for a CUDA kernel."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str):
        assert not hasattr(self._module, f"cuda_{name}"), f"{name} would run on the CPU"
        return getattr(self._module, name)


class _AsIfOnCuda(TorchDispatchMode):
    """Sends each of our operators to what is registered for CUDA, whatever the device of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace != "avatar":
            return func(*args, **(kwargs or {}))
        self.calls.append(func.name())
        return func._op_dk(torch._C.DispatchKey.CUDA, *args, **(kwargs or {}))


@contextmanager
def cuda_on_cpu() -> Iterator[list[str]]:
    """The names of the operators that were called, in order; they run in the kernels of the CUDA sources."""
    module, mode = _CudaHalf(load()), _AsIfOnCuda()
    with (
        ExitStack() as patches,
        mock.patch.object(_backend, "_load", lambda: (module, "")),
        mock.patch.object(rasterizer, "_channels_at_once", lambda _: module.CUDA_MAX_CHANNELS),
        mock.patch.object(torch.cuda, "device", lambda _: nullcontext()),
        mock.patch.object(torch.cuda, "current_stream", lambda *_: SimpleNamespace(cuda_stream=0)),
        mode,
    ):
        for chooser in _CHOOSING:
            patches.enter_context(mock.patch.object(chooser, "on_cuda", lambda _: True))
        yield mode.calls
