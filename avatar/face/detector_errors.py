"""What MediaPipe's mesh is off by in all pictures of a person, made by `avatar.synthetic.detector_errors`.

The points of a person are drawn towards faces that the detector expects, so their errors agree between pictures and go
together. Whoever fits a head to them must not take that for the head's form or its pose.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

FILE = Path(__file__).parent / "data" / "detector_errors.safetensors"


@dataclass(frozen=True, kw_only=True)
class StaticErrors:
    """A Gaussian of displacements (metres, axes of the head) of the detector's points from where they belong."""

    mean: Float[np.ndarray, "478 3"]
    modes: Float[np.ndarray, "m 478 3"]
    """Independent directions in which people differ from it, one deviation long."""


@lru_cache(maxsize=1)
def mediapipe_errors() -> StaticErrors:
    """Those of the detector that is looked at both ways (`both_ways`)."""
    tensors = load_file(FILE)
    return StaticErrors(mean=_flat(tensors["mean"]), modes=_flat(tensors["modes"]))


def _flat(across: Float[np.ndarray, "*m 478 2"]) -> Float[np.ndarray, "*m 478 3"]:
    """Nothing is known along the view."""
    return np.concatenate([across, np.zeros_like(across[..., :1])], -1).astype(np.float64)
