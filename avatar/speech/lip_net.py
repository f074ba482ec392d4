"""A small streaming network from what is heard to what the lips do, 50 times a second.

Residual blocks of a convolution over time, one weight for each tap and channel, and two dense layers (Bai et al. 2018
and Liu et al. 2022 in small). Everything is causal; `DELAY` frames of future are had by answering that much later.
"""

from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.errors import InputError
from avatar.speech.hearing import COLUMNS, PHONE

WEIGHTS = Path(__file__).with_name("lips.safetensors")
"""The network that is shipped; `docs/lips.md` tells what it was made from."""
STACK = 2
"""Rows of features (100 Hz) in one frame (50 Hz)."""
FRAME_HZ = 100 // STACK
CURVES, GATES, PHONES = 5, 2, 42
"""Outputs: for training only, jaw, part, round, pucker, spread; lips shut, lip on teeth; the phone."""
STYLES = 1
"""Inputs about the speaker: log of how far a sound's influence reaches against the average."""
_TAPS = 5
_DILATIONS = (1, 1, 2, 4, 8, 2, 4, 8)
_FUTURE = (1, 1, 0, 0, 0, 0, 0, 0)
FAINT = 0.01
"""Chance of a phone below which it makes no difference how small it is."""
DELAY = sum(_FUTURE)
"""Frames by which an answer comes after its features."""

State = list[Float[Tensor, "b p c"]]


class Block(nn.Module):
    """One residual block; `past` frames are remembered."""

    def __init__(self, channels: int, dilation: int, future: int):
        super().__init__()
        self.dilation, self.future, self.past = dilation, future, (_TAPS - 1) * dilation
        self.taps = nn.Parameter(torch.randn(_TAPS, channels) / _TAPS**0.5)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)

    def forward(self, x: Float[Tensor, "b t c"], state: Float[Tensor, "b p c"]) -> tuple[Tensor, Tensor]:
        known = torch.cat([state, x], dim=1)
        count = x.shape[1]
        # Shifted sums: the backward pass of a depthwise convolution is several times slower on a CPU.
        mixed = sum(known[:, i * self.dilation : i * self.dilation + count] * self.taps[i] for i in range(_TAPS))
        inner = self.down(nn.functional.gelu(self.up(self.norm(mixed))))
        start = self.past - self.future
        return known[:, start : start + count] + inner, known[:, count:]


class LipNet(nn.Module):
    """Features and style in, lips out; the caller keeps the state between pieces of a stream."""

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int = 96):
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(COLUMNS))
        self.register_buffer("scale", torch.ones(COLUMNS))
        self.enter = nn.Linear(STACK * COLUMNS + STYLES, channels)
        self.blocks = nn.ModuleList(Block(channels, d, f) for d, f in zip(_DILATIONS, _FUTURE, strict=True))
        self.leave = nn.Linear(channels, CURVES + GATES + PHONES)

    def start(self, batch: int = 1) -> State:
        """The state before any sound."""
        device = self.enter.weight.device
        return [torch.zeros(batch, block.past, self.channels, device=device) for block in self.residual()]

    def forward(
        self, features: Float[Tensor, "b t f"], style: Float[Tensor, "b s"], state: State
    ) -> tuple[Float[Tensor, "b u o"], State]:
        """Raw outputs of t / STACK frames, those of the frames `DELAY` earlier, and the state after them."""
        return self.answer(self.normal(features), style, state)

    def normal(self, features: Float[Tensor, "b t f"]) -> Float[Tensor, "b t f"]:
        """Features as the first layer wants them: around 0, and 0 where nothing is known."""
        return (heard(features) - self.mean) / self.scale

    def answer(
        self, normal: Float[Tensor, "b t f"], style: Float[Tensor, "b s"], state: State
    ) -> tuple[Float[Tensor, "b u o"], State]:
        """As `forward`, from normal features."""
        frames = normal.reshape(len(normal), -1, STACK * COLUMNS)
        x = self.enter(torch.cat([frames, style[:, None].expand(-1, frames.shape[1], -1)], dim=2))
        after = []
        for block, before in zip(self.residual(), state, strict=True):
            x, kept = block(x, before)
            after.append(kept)
        return self.leave(x), after

    def residual(self) -> list[Block]:
        """Its blocks in order."""
        return [block for block in self.blocks if isinstance(block, Block)]


def heard(features: Float[Tensor, "... f"]) -> Float[Tensor, "... f"]:
    """Features with logarithms in place of the chances of phones: the second guess counts, too."""
    out = features.clone()
    out[..., PHONE] = (features[..., PHONE] + FAINT).log()
    return out


def load_net(path: Path) -> LipNet:
    """A network as `avatar.recipes.speech` leaves it.

    Raises:
        InputError: if the file is missing or holds something else.
    """
    net = LipNet()
    try:
        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError):
        raise InputError(f"{path}: no weights of the lips; make them with: python -m avatar.recipes.speech") from None
    return net.eval()


@lru_cache(maxsize=1)
def shipped_net() -> LipNet:
    """The network that comes with the package."""
    return load_net(WEIGHTS)
