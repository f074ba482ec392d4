"""Sound in, lips out, as a stream: features and network with their states between pieces."""

import numpy as np
import torch
from jaxtyping import Float

from avatar.speech.hearing import COLUMNS, LOOK_AHEAD, FeatureStream
from avatar.speech.lip_net import CURVES, DELAY, GATES, PHONES, STACK, STYLES, LipNet

LATENCY = LOOK_AHEAD + (DELAY * STACK + STACK - 1) / 100
"""Seconds of sound after a frame's moment that it depends on (153 ms)."""
COLUMNS_OUT = CURVES + GATES + PHONES
"""Curves, then gates and phones as chances."""


class FrameStream:
    """Rows of features in, frames out: frame i is of `STACK` rows and comes with those of frame i + `DELAY`."""

    def __init__(self, net: LipNet):
        self._net, self._state = net, net.start()
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
        with torch.inference_mode():
            raw, self._state = self._net(torch.from_numpy(waiting[:count])[None], torch.zeros(1, STYLES), self._state)
        out = raw[0, self._skip :]
        self._skip = max(self._skip - raw.shape[1], 0)
        self._told += len(out)
        chances = torch.cat(
            [
                out[:, :CURVES].clamp(0.0, 1.0),
                out[:, CURVES : CURVES + GATES].sigmoid(),
                out[:, CURVES + GATES :].softmax(dim=1),
            ],
            dim=1,
        )
        return chances.numpy()

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
