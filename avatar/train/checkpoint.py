"""The state of a training on disk: one .safetensors file, whole or not at all, tied to what it was trained from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from avatar import __version__
from avatar import config as configs
from avatar.errors import InputError
from avatar.media import read_tensors, write_tensors
from avatar.media.files import make_folder, sha256
from avatar.ops import lpips
from avatar.train.config import TrainConfig

_REVISION = 4
"""Counts up when the same training gives another avatar, or a checkpoint holds other things."""
_SOURCES = ("track.safetensors", "rig.safetensors", "split.json", "plate.png")


def training_key(folder: Path, config: TrainConfig) -> str:
    """A digest of the version, the configuration, the workspace files and the weights that a training depends on."""
    digest = hashlib.sha256(json.dumps([__version__, _REVISION, configs.to_dict(config)], sort_keys=True).encode())
    if config.loss.lpips:
        digest.update(f"lpips {lpips.weight_files() is not None}\n".encode())
    for name in _SOURCES:
        digest.update(f"{name} {sha256(folder / name)}\n".encode())
    return digest.hexdigest()


def save(path: Path, key: str, parts: dict[str, dict[str, Tensor]], facts: dict[str, float]) -> None:
    """Write the tensors of each part, and a few numbers.

    Raises:
        InputError: when the disk is full or the folder cannot be written.
    """
    make_folder(path.parent)
    tensors = {f"{part}|{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    tensors["random|state"] = torch.get_rng_state()
    write_tensors(path, tensors, {"key": key, "facts": json.dumps(facts)})


def load(path: Path, key: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]] | None:
    """What `save` wrote, or None if there is nothing of this key; sets the random state."""
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path)
    except InputError:
        return None  # a damaged checkpoint costs time, not the result
    if metadata.get("key") != key:
        return None
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, inner = name.partition("|")
        parts.setdefault(part, {})[inner] = tensor
    torch.set_rng_state(parts.pop("random")["state"])
    return parts, json.loads(metadata["facts"])


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The memory of an optimiser; its rates belong to the configuration."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(value) for i, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, _, inner = name.partition(".")
        state.setdefault(int(index), {})[inner] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
