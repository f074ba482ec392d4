"""Whether what is heard is a voice, or music, noise, clapping: by Silero's network (in the wheel of `silero-vad`, MIT).

https://github.com/snakers4/silero-vad. Its file alone is read: importing that package would set the number of torch's
threads for the whole process.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import uniform_filter1d

from avatar.errors import InputError
from avatar.speech.features import HOP, activity_near

if TYPE_CHECKING:
    import onnxruntime

PACKAGES = ("silero_vad", "onnxruntime")
CHUNK = 512
"""Samples (16 kHz) that one chance is told for."""
_CONTEXT, _STATE = 64, (1, 1, 128)
_SYLLABLE = 25
"""Hundredths of a second over which chances are averaged."""
_CERTAIN = 0.8
"""Chance that is enough by itself."""
SURE = 0.5
"""Chance from which it is a voice."""
_MODEL = "data/silero_vad_16k_sequence.onnx"


class VoiceDetector:
    """Push sound, get the chance of a voice in every 32 ms, as soon as they are over."""

    def __init__(self) -> None:
        """Nothing is heard yet.

        Raises:
            InputError: if silero-vad or onnxruntime is not installed.
        """
        self._session = _session()
        self._state = [np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)]
        self._context = np.zeros(_CONTEXT, np.float32)
        self._waiting = np.zeros(0, np.float32)

    def push(self, samples: Float[np.ndarray, "s"]) -> Float[np.ndarray, "n"]:
        """Chances of the chunks that the next samples (16 kHz) complete; chunk i begins at sample 512 i."""
        self._waiting = np.concatenate([self._waiting, samples.astype(np.float32)])
        count = len(self._waiting) // CHUNK
        if not count:
            return np.zeros(0, np.float32)
        chunks, self._waiting = np.split(self._waiting, [count * CHUNK])
        chunks = chunks.reshape(count, CHUNK)
        before = np.concatenate([self._context[None], chunks[:-1, -_CONTEXT:]])
        self._context = chunks[-1, -_CONTEXT:].copy()
        inputs = {"input": np.concatenate([before, chunks], axis=1), "h": self._state[0], "c": self._state[1]}
        chances, *self._state = self._session.run(["speech_probs", "hn", "cn"], inputs)
        return np.asarray(chances, np.float32).reshape(-1)


def voice_chances(samples: Float[np.ndarray, "s"]) -> Float[np.ndarray, "n"]:
    """Of every hundredth of a second begun of 16 kHz sound.

    Raises:
        InputError: if silero-vad or onnxruntime is not installed.
    """
    count, block = max(-(-len(samples) // HOP), 1), 600 * CHUNK
    detector, padded = VoiceDetector(), np.pad(samples, (0, CHUNK))
    chances = np.concatenate([detector.push(padded[at : at + block]) for at in range(0, len(padded), block)])
    return chances[np.arange(count) * HOP // CHUNK]


def is_installed() -> bool:
    """Whether voices can be told from other sounds here."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


def speaking(samples: Float[np.ndarray, "s"]) -> Bool[np.ndarray, "n"]:
    """Where somebody speaks, every 10 ms: loud enough, and a voice, not music or noise; see `activity_near`.

    Raises:
        InputError: if silero-vad or onnxruntime is not installed.
    """
    chances = voice_chances(samples)
    voice = uniform_filter1d(chances, _SYLLABLE, mode="nearest") > SURE
    return activity_near(samples, voice, chances > _CERTAIN)


@lru_cache(maxsize=1)
def _session() -> "onnxruntime.InferenceSession":
    found = importlib.util.find_spec("silero_vad")
    try:
        import onnxruntime
    except ImportError:
        found = None
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "telling a voice from music needs silero-vad and onnxruntime: pip install 'avatar[preprocess]'"
        )
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    path = Path(found.submodule_search_locations[0]) / _MODEL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
