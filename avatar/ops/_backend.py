"""Find the compiled library once, and say what was found.

`AVATAR_OPS=reference` forces the plain torch operators, `AVATAR_OPS=native` makes a missing library an error;
`AVATAR_OPS_ISA=avx2` or `portable` forces a lower instruction set, which tests use, and `AVATAR_OPS_LIBRARY=FILE` loads
another build of the library, such as the one of `make sanitize`.
"""

import importlib
import importlib.util
import os
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch

from avatar.errors import InputError

_MEND = (
    "install a C++17 compiler (for example: apt install g++), then in the clone: "
    "pip install nanobind setuptools && python setup.py build_ext --inplace"
)
_OLDEST = (7, 5)
"""Compute capability from which on the CUDA sources compile."""


@lru_cache(maxsize=1)
def _load() -> tuple[ModuleType | None, str]:
    """The compiled module, or None and why there is none."""
    try:
        if file := os.environ.get("AVATAR_OPS_LIBRARY"):
            return _load_file(file), ""
        return importlib.import_module("avatar._ops"), ""
    except ImportError as error:
        return None, str(error)


def _load_file(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("avatar._ops", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"AVATAR_OPS_LIBRARY={file} is no extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def native() -> ModuleType | None:
    """The compiled library, or None when the plain torch operators are to be used.

    Raises:
        RuntimeError: if `AVATAR_OPS=native` and the library cannot be loaded.
    """
    wanted = os.environ.get("AVATAR_OPS", "")
    if wanted == "reference":
        return None
    module, reason = _load()
    if module is None and wanted == "native":
        raise RuntimeError(f"AVATAR_OPS=native, but the compiled operators do not load ({reason}); {_MEND}")
    return module


# What torch.compiler.assume_constant_result does, without its import of the compiler (a second): torch.compile asks
# for the library once instead of tracing how it is found, which it cannot.
vars(native)["_dynamo_marked_constant"] = True


def compiled_for(tensor: torch.Tensor) -> bool:
    """Whether operators on tensors like this one run compiled: float32, on a device that the library was built for."""
    module = native()
    if module is None or tensor.dtype != torch.float32:
        return False
    return tensor.device.type == "cpu" or (tensor.device.type == "cuda" and bool(module.CUDA))


def on_cuda(tensor: torch.Tensor) -> bool:
    """Whether operators on tensors like this one run as CUDA kernels."""
    return tensor.device.type == "cuda"


def device(wanted: str = "auto", number: int = 0) -> torch.device:
    """Where to compute: "cpu", "cuda", or "auto", which is the GPU where there is one that the compiled library serves.

    Args:
        number: of the GPU, where there are several.

    Raises:
        InputError: if "cuda" cannot be had, or there is no GPU of that number; it says why, and what to do.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {wanted!r} is unknown; choose auto, cpu or cuda")
    why = "" if wanted == "cpu" else without_gpu()
    if why and wanted == "cuda":
        raise InputError(f"--device cuda: {why}; or leave the option out to compute on the CPU")
    if why or wanted == "cpu":
        return torch.device("cpu")
    if number >= (count := torch.cuda.device_count()):
        raise InputError(f"process {number + 1} of this machine has no GPU: start {count}, or all with --device cpu")
    return torch.device("cuda", number)


def without_gpu() -> str:
    """Why nothing can be computed on a GPU, and what to do; nothing if it can."""
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            return f"this torch ({torch.__version__}) is built without CUDA; install one with it (pytorch.org)"
        return "torch finds no GPU; see whether `nvidia-smi` does"
    if torch.cuda.get_device_capability() < _OLDEST:
        return f"{torch.cuda.get_device_name()} is too old for the CUDA kernels; they need sm_75 or newer"
    facts = describe()
    if facts["backend"] != "native":
        return f"the compiled operators are missing ({facts['why']}); {facts['mend']}"
    if not facts["cuda_kernels"]:
        return (
            "the compiled operators have no CUDA half; install the CUDA toolkit (nvcc), then in the clone: "
            "AVATAR_CUDA=1 python setup.py build_ext --inplace"
        )
    return ""


def describe() -> dict[str, Any]:
    """Which operators are used here: backend, instruction set, threads, cuda, and how to mend a missing library."""
    module = native()
    facts: dict[str, Any] = {
        "backend": "reference" if module is None else "native",
        "instruction_set": "torch" if module is None else module.instruction_set(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
        "cuda_kernels": module is not None and bool(module.CUDA),
    }
    if module is None:
        forced = os.environ.get("AVATAR_OPS") == "reference"
        facts["why"] = "AVATAR_OPS=reference is set" if forced else _load()[1]
        facts["mend"] = "unset AVATAR_OPS" if forced else _MEND
    return facts
