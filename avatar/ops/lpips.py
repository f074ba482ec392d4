"""LPIPS: how unlike two pictures look to a network that was trained to see (Zhang et al. 2018, version 0.1, AlexNet).

Its weights are not ours to ship: they are used where the machine has them, see `weight_files`.
"""

import hashlib
import pickle
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from avatar.errors import InputError

HOW_TO = (
    "pip install --no-deps lpips, and put torchvision's alexnet-owt-7be5be79.pth (233 MB, from "
    "download.pytorch.org/models) into torch's folder of models"
)
SMALLEST = 64
"""Height and width in px below which the deeper layers see almost nothing."""
_BACKBONE = "alexnet-owt-*.pth"
_HEADS = Path("weights/v0.1/alex.pth")
_LAYERS = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
"""Number in torchvision's AlexNet, stride, padding."""
_POOLED = (1, 2)
"""Layers whose input is halved first."""
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of pictures in [-1, 1], as the published heads were trained."""
_EPS = 1e-10


class WeightFiles(NamedTuple):
    """Where the weights lie."""

    backbone: Path
    """AlexNet's state as torchvision publishes it."""
    heads: Path
    """Weights of the channels as the package `lpips` publishes them."""


class Lpips(NamedTuple):
    """The network, ready to compare."""

    filters: list[Float[Tensor, "o i k k"]]
    biases: list[Float[Tensor, "o"]]
    heads: list[Float[Tensor, "o"]]

    def to(self, device: torch.device) -> "Lpips":
        """The same on another device."""
        return Lpips(*([tensor.to(device) for tensor in part] for part in self))

    def __call__(self, a: Float[Tensor, "h w 3"], b: Float[Tensor, "h w 3"]) -> Float[Tensor, ""]:
        """Distance of two pictures, sRGB in [0, 1]; 0 is equal. Differentiable in both.

        Raises:
            ValueError: if they are smaller than `SMALLEST`.
        """
        if min(a.shape[:2]) < SMALLEST:
            raise ValueError(f"pictures of {tuple(a.shape)}: LPIPS needs at least {SMALLEST} px each way")
        layer = torch.stack([a, b]).movedim(-1, 1) * 2 - 1
        layer = (layer - layer.new_tensor(_SHIFT)[:, None, None]) / layer.new_tensor(_SCALE)[:, None, None]
        total = a.new_zeros(())
        for number, (_, stride, padding) in enumerate(_LAYERS):
            layer = max_pool2d(layer, 3, 2) if number in _POOLED else layer
            layer = conv2d(layer, self.filters[number], self.biases[number], stride, padding).relu()
            unit = layer / (layer.square().sum(1, keepdim=True).add(1e-20).sqrt() + _EPS)
            apart = (unit[0] - unit[1]).square()
            total = total + (apart * self.heads[number][:, None, None]).sum(0).mean()
        return total


def weight_files() -> WeightFiles | None:
    """The weights on this machine; None if some are missing.

    AlexNet lies in torch's folder of models, where torchvision downloads it to, and the heads in the installed package
    `lpips`, which is not imported.
    """
    found = sorted((Path(torch.hub.get_dir()) / "checkpoints").glob(_BACKBONE))
    package = find_spec("lpips")
    heads = Path(package.origin).parent / _HEADS if package and package.origin else None
    return WeightFiles(found[-1], heads) if found and heads and heads.exists() else None


@cache
def load(files: WeightFiles) -> Lpips:
    """The network of these files.

    Raises:
        InputError: if a file is damaged, or not what its name says.
    """
    digits = files.backbone.stem.rpartition("-")[2]
    if not hashlib.sha256(files.backbone.read_bytes()).hexdigest().startswith(digits):
        raise InputError(
            f"{files.backbone}: damaged, its SHA-256 does not begin with {digits}; delete it, or load it anew"
        )
    backbone, heads = _state(files.backbone), _state(files.heads)
    try:
        filters = [backbone[f"features.{number}.weight"] for number, _, _ in _LAYERS]
        biases = [backbone[f"features.{number}.bias"] for number, _, _ in _LAYERS]
        weights = [heads[f"lin{index}.model.1.weight"].flatten() for index in range(len(_LAYERS))]
    except KeyError as error:
        raise InputError(f"{files.backbone}, {files.heads}: not the weights of LPIPS, {error} is missing") from error
    return Lpips(*([tensor.float() for tensor in part] for part in (filters, biases, weights)))


def _state(path: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not a file of weights, or damaged; delete it, or load it anew") from error
    if not isinstance(state, Mapping):
        raise InputError(f"{path}: holds no weights by name")
    return state
