"""Arrays on disk: .safetensors, whole or not at all, damage found when reading."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from avatar.errors import InputError
from avatar.media.files import interrupts_wait, replacing


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Arrays and text metadata of a .safetensors file.

    Raises:
        InputError: when the file is missing, cut off or otherwise damaged, or holds numbers that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with interrupts_wait(), safe_open(str(path), framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; run the step that makes it again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: file is damaged ({error}); delete it and run the step that makes it again") from None
    for name, tensor in found.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: {name} holds numbers that are not finite; delete it and run its step again")
    return found, metadata


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a .safetensors file whole or not at all.

    Raises:
        InputError: when the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(plain, metadata=dict(metadata or {})))
