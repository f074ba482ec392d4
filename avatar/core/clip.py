"""Moving pictures with sound. Frames are lazy: nothing is decoded before it is asked for."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Frames(Protocol):
    """A lazy sequence of pictures, uint8 [h w 3] sRGB, all of one size."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """Mono sound."""

    samples: np.ndarray
    """float32 [s] in [-1, 1]."""
    rate: int
    """Samples a second (Hz)."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise ValueError(f"samples must be float32 [s], got {self.samples.dtype} {self.samples.shape}")
        if self.rate <= 0:
            raise ValueError(f"rate {self.rate} must be positive")

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def between(self, start: float, end: float) -> "AudioTrack":
        """The sound from `start` to `end` seconds; outside of the track is silence."""
        first, last = round(start * self.rate), round(end * self.rate)
        out = np.zeros(max(last - first, 0), np.float32)
        a, b = max(first, 0), min(last, len(self.samples))
        if b > a:
            out[a - first : b - first] = self.samples[a:b]
        return AudioTrack(samples=out, rate=self.rate)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video on a constant frame grid: frame i is shown from i / fps seconds."""

    frames: Frames
    audio: AudioTrack | None
    fps: float

    @property
    def seconds(self) -> float:
        return len(self.frames) / self.fps
