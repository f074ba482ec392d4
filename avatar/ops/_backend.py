"""Find the compiled library once, and say what was found.

`AVATAR_OPS=reference` forces the plain torch operators, `AVATAR_OPS=native` makes a missing library an error;
`AVATAR_OPS_ISA=avx2` or `portable` forces a lower instruction set, which tests use.
"""

import importlib
import os
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch

_MEND = (
    "build it with `python setup.py build_ext --inplace` (needs a C++17 compiler and `pip install nanobind setuptools`)"
)


@lru_cache(maxsize=1)
def _load() -> tuple[ModuleType | None, str]:
    """The compiled module, or None and why there is none."""
    try:
        return importlib.import_module("avatar._ops"), ""
    except ImportError as error:
        return None, str(error)


_AT_IMPORT = _load()[0]
"""What torch.compile sees: it cannot trace an import."""


def native() -> ModuleType | None:
    """The compiled library, or None when the plain torch operators are to be used.

    Raises:
        RuntimeError: if `AVATAR_OPS=native` and the library cannot be loaded.
    """
    wanted = os.environ.get("AVATAR_OPS", "")
    if wanted == "reference":
        return None
    module, reason = (_AT_IMPORT, "") if torch.compiler.is_compiling() else _load()
    if module is None and wanted == "native":
        raise RuntimeError(f"AVATAR_OPS=native, but the compiled operators do not load ({reason}); {_MEND}")
    return module


def compiled_for(tensor: torch.Tensor) -> bool:
    """Whether operators on tensors like this one run compiled: float32, on a device that the library was built for."""
    module = native()
    if module is None or tensor.dtype != torch.float32:
        return False
    return tensor.device.type == "cpu" or (tensor.device.type == "cuda" and bool(module.CUDA))


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
