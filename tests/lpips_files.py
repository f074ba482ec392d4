"""Files of weights for LPIPS, as torchvision and the package `lpips` lay them out, filled with noise."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from avatar.ops.lpips import WeightFiles

SHAPES = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
"""AlexNet as torchvision publishes it: number, filters, channels, width."""


def states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """AlexNet and the heads by name."""
    random = torch.Generator().manual_seed(0)
    state = {}
    for number, filters, channels, width in SHAPES:
        state[f"features.{number}.weight"] = (torch.rand(filters, channels, width, width, generator=random) - 0.5) * 0.1
        state[f"features.{number}.bias"] = torch.rand(filters, generator=random) - 0.5
    heads = {f"lin{i}.model.1.weight": torch.rand(1, s[1], 1, 1, generator=random) for i, s in enumerate(SHAPES)}
    return state, heads


def write(state: dict[str, Tensor], heads: dict[str, Tensor], folder: Path) -> WeightFiles:
    """Both files in one folder, the first with the begin of its digest in its name."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "state.pth")
    digits = hashlib.sha256((folder / "state.pth").read_bytes()).hexdigest()[:8]
    backbone = (folder / "state.pth").rename(folder / f"alexnet-owt-{digits}.pth")
    torch.save(heads, folder / "alex.pth")
    return WeightFiles(backbone, folder / "alex.pth")
