"""Sound in, lips out, as a stream: features and network with their states between pieces."""

import numpy as np
from jaxtyping import Float
from scipy.special import erf, expit
from torch import nn

from avatar.speech.hearing import COLUMNS, LOOK_AHEAD, PHONE, FeatureStream
from avatar.speech.lip_net import CURVES, DELAY, FAINT, GATES, PHONES, STACK, STYLES, Block, LipNet

LATENCY = LOOK_AHEAD + (DELAY * STACK + STACK - 1) / 100
"""Seconds of sound after a frame's moment that it depends on (153 ms)."""
COLUMNS_OUT = CURVES + GATES + PHONES
"""Curves, then gates and phones as chances."""


Rows = Float[np.ndarray, "n c"]


def _heard(features: Rows) -> Rows:
    out = features.copy()
    out[:, PHONE] = np.log(features[:, PHONE] + FAINT)
    return out


class _Dense:
    """A dense layer; of what comes in normalised, gain and offset are in the weights."""

    def __init__(self, layer: nn.Linear, norm: nn.LayerNorm | None = None):
        weight, self._bias = layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()
        if norm is not None:
            self._bias = self._bias + norm.bias.detach().numpy() @ weight
            weight *= norm.weight.detach().numpy()[:, None]
        self._weight = weight

    def __call__(self, x: Rows) -> Rows:
        out = x @ self._weight
        out += self._bias
        return out


class _Block:
    """A block of `LipNet` with its state."""

    def __init__(self, block: Block, past: Rows):
        self._past, self._dilation, self._start = past, block.dilation, block.past - block.future
        self._taps, self._eps = block.taps.detach().numpy(), block.norm.eps
        self._mean = np.full((past.shape[1], 1), 1.0 / past.shape[1], np.float32)
        self._up, self._down = _Dense(block.up, block.norm), _Dense(block.down)

    def __call__(self, x: Rows) -> Rows:
        known, count = np.concatenate([self._past, x]), len(x)
        self._past = known[count:]
        mixed = known[:count] * self._taps[0]
        for i in range(1, len(self._taps)):
            mixed += known[i * self._dilation : i * self._dilation + count] * self._taps[i]
        mixed -= mixed @ self._mean
        mixed /= np.sqrt((mixed * mixed) @ self._mean + self._eps)
        inner = self._up(mixed)
        inner *= 0.5 + 0.5 * erf(inner * _HALF_ROOT)  # GELU
        out = self._down(inner)
        out += known[self._start : self._start + count]
        return out


_HALF_ROOT = np.float32(0.5**0.5)


class FrameStream:
    """Rows of features in, frames out: frame i is of `STACK` rows and comes with those of frame i + `DELAY`.

    The network is computed by numpy: in pieces of a tenth of a second torch takes three times as long, most of it for
    calling.
    """

    def __init__(self, net: LipNet):
        self._mean, self._scale = net.mean.numpy(), net.scale.numpy()
        self._enter, self._leave = _Dense(net.enter), _Dense(net.leave)
        self._blocks = [_Block(b, s[0].numpy()) for b, s in zip(net.residual(), net.start(), strict=True)]
        self._waiting = np.zeros((0, COLUMNS), np.float32)
        self._skip, self._told, self._rows = DELAY, 0, 0

    def push(self, rows: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "m o"]:
        """Frames that can be told now; `rows` are the next ones."""
        self._rows += len(rows)
        waiting = np.concatenate([self._waiting, rows])
        count = len(waiting) // STACK * STACK
        self._waiting = waiting[count:]
        if not count:
            return np.zeros((0, COLUMNS_OUT), np.float32)
        frames = ((_heard(waiting[:count]) - self._mean) / self._scale).reshape(-1, STACK * COLUMNS)
        x = self._enter(np.concatenate([frames, np.zeros((len(frames), STYLES), np.float32)], axis=1))
        for block in self._blocks:
            x = block(x)
        out = self._leave(x)[self._skip :]
        self._skip = max(self._skip - len(x), 0)
        self._told += len(out)
        out[:, :CURVES] = out[:, :CURVES].clip(0.0, 1.0)
        out[:, CURVES : CURVES + GATES] = expit(out[:, CURVES : CURVES + GATES])
        phones = out[:, CURVES + GATES :]
        np.exp(phones - phones.max(axis=1, keepdims=True), out=phones)
        phones /= phones.sum(axis=1, keepdims=True)
        return out

    def finish(self) -> Float[np.ndarray, "n o"]:
        """The last frames, as if the last row went on."""
        missing = -(-self._rows // STACK) - self._told
        last = self._waiting[-1:] if len(self._waiting) else np.zeros((1, COLUMNS), np.float32)
        return self.push(np.repeat(last, STACK * (missing + DELAY), axis=0))[:missing]


class LipStream:
    """Push sound at 16 kHz, get frames (50 Hz): curves, chances of contacts, chances of phones.

    The size of the pieces changes nothing. Frame i belongs to the moment i / 50 s and comes `LATENCY` later.
    """

    def __init__(self, net: LipNet):
        """Raises: InputError if pocketsphinx is not installed."""
        self._features, self._frames = FeatureStream(), FrameStream(net)

    def push(self, samples: Float[np.ndarray, "s"]) -> Float[np.ndarray, "n o"]:
        """Frames that can be told now; `samples` are the next ones."""
        return self._frames.push(self._features.push(samples))

    def finish(self) -> Float[np.ndarray, "n o"]:
        """The last frames, as if what was heard last went on."""
        return np.concatenate([self._frames.push(self._features.finish()), self._frames.finish()])
