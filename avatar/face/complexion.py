"""What skin, hair and clothes of one person look like: colour histograms (Jones and Rehg 1999), read as tables."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

_BINS = 32
_SHIFT = 3
"""256 levels in 32 bins."""
_TAKEN = 4000
"""Pixels of a class that one frame may add."""
_FEW = 100
"""A kind with fewer pixels is unknown."""
KINDS = ("skin", "hair", "cloth")


def _bins(pixels: UInt8[np.ndarray, "*n 3"]) -> np.ndarray:
    quantised = (pixels >> _SHIFT).astype(np.int32)
    return (quantised[..., 0] * _BINS + quantised[..., 1]) * _BINS + quantised[..., 2]


class Complexion:
    """Collects sure pixels of each kind, then tells how much more likely one kind is than another."""

    def __init__(self) -> None:
        self._counts = {kind: np.zeros(_BINS**3, np.float64) for kind in KINDS}
        self._tables: dict[tuple[str, str], np.ndarray] = {}

    def add(self, frame: UInt8[np.ndarray, "h w 3"], sure: dict[str, Bool[np.ndarray, "h w"]]) -> None:
        """Take pixels whose kind is known from where they lie."""
        for kind, mask in sure.items():
            pixels = frame[mask]
            step = max(len(pixels) // _TAKEN, 1)
            np.add.at(self._counts[kind], _bins(pixels[::step]), 1)
        self._tables.clear()

    def evidence(self, frame: UInt8[np.ndarray, "h w 3"], *pairs: tuple[str, str]) -> list[Float[np.ndarray, "h w"]]:
        """Log of the likelihood ratio of the two kinds of each pair, averaged over neighbours.

        0 when either kind was never seen.
        """
        import cv2

        bins = _bins(frame)
        return [cv2.blur(self._table(*pair)[bins], (5, 5)) for pair in pairs]

    def divergence(self, kind: str, against: str) -> float:
        """How well one kind is told from another: mean `evidence` over its own pixels (Kullback and Leibler 1951)."""
        return float(self._density(kind) @ self._table(kind, against))

    def _table(self, kind: str, against: str) -> np.ndarray:
        if (kind, against) not in self._tables:
            known = min(self._counts[kind].sum(), self._counts[against].sum()) >= _FEW
            ratio = self._log_density(kind) - self._log_density(against) if known else np.zeros(_BINS**3)
            self._tables[kind, against] = ratio.astype(np.float32)
        return self._tables[kind, against]

    def _density(self, kind: str) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        counts = self._counts[kind]
        smooth = gaussian_filter(counts.reshape(_BINS, _BINS, _BINS), 1.5, mode="nearest").ravel()
        return smooth / max(counts.sum(), 1)

    def _log_density(self, kind: str) -> np.ndarray:
        density = self._density(kind)
        if kind == "cloth" and self._counts["hair"].sum() >= _FEW:
            # Long hair lies over the clothes: take out the largest share of hair's colours that fits in.
            hair = self._density("hair")
            common = hair > np.quantile(hair[hair > 0], 0.9)
            share = min(float(np.median(density[common] / hair[common])), 0.9)
            density = np.maximum(density - share * hair, 0.05 * density)
        return np.log(density + 2e-5)
