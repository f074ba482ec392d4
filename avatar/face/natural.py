"""How actions go together in natural faces: mean and covariance, made by `avatar.synthetic.natural`."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

_FILE = Path(__file__).parent / "data" / "natural.safetensors"


@dataclass(frozen=True, kw_only=True)
class Natural:
    """A Gaussian of coefficients."""

    mean: Float[np.ndarray, "52"]
    covariance: Float[np.ndarray, "52 52"]


@lru_cache(maxsize=1)
def natural() -> Natural:
    """The one that comes with the package."""
    tensors = load_file(_FILE)
    return Natural(mean=tensors["mean"].astype(float), covariance=tensors["covariance"].astype(float))
