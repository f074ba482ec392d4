"""Soft coverage of a person, and the clean background behind. Needs OpenCV; uint8 sRGB pictures of a static camera."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_KEPT = 15
"""Samples of the background that are kept for each pixel."""
_FEW = 3
"""A pixel that was uncovered in fewer samples counts as never seen."""
_LOOKS = 160
"""Frames of a clip that the plate is made from."""
_SIDE = 512
"""Widths in pixels below are meant for pictures of this size."""


@dataclass(frozen=True, kw_only=True)
class Plate:
    """The background without the person."""

    picture: UInt8[np.ndarray, "h w 3"]
    """sRGB; what was never seen is filled in smoothly."""
    seen: Bool[np.ndarray, "h w"]
    """Where the background was uncovered at some time."""
    noise: Float[np.ndarray, "h w"]
    """Standard deviation of the background over time, levels of 255."""

    @cached_property
    def trust(self) -> Float[np.ndarray, "h w"]:
        """1 well inside of what was seen, falling to 0 outside."""
        import cv2

        return cv2.blur(self.seen.astype(np.float32), (5, 5)) * self.seen

    @cached_property
    def is_sure(self) -> Bool[np.ndarray, "h w"]:
        """Well inside of what was seen."""
        return self.trust > 0.99

    @cached_property
    def same(self) -> UInt8[np.ndarray, "h w"]:
        """A change smaller than this, in levels of 255, is the background's own."""
        return np.ceil(5 + 1.5 * self.noise).clip(0, 255).astype(np.uint8)


def scaled(pixels: float, shape: tuple[int, ...]) -> int:
    """A width meant for a picture of 512 pixels, in this picture; at least 1."""
    return max(round(pixels * max(shape[:2]) / _SIDE), 1)


def guided_alpha(frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """A coarse mask whose soft edge follows the picture's edges (guided filter, He et al. 2010).

    Returns:
        float32 in [0, 1].
    """
    import cv2

    radius = scaled(6, frame.shape)
    coarse = mask.astype(np.float32) / 255
    guide = cv2.GaussianBlur(frame, (0, 0), 0.7)  # noise of the sensor would become noise of the matte
    fine = cv2.ximgproc.guidedFilter(guide, coarse, radius, 40.0, scale=0.5)
    # The filter leaves a veil of some percent where colours repeat on both sides of the edge.
    fine -= np.float32(0.08)
    fine /= np.float32(0.84)
    soft = (mask > 0) & (mask < 255)
    return np.where(soft | _near_edge(mask, 2 * radius), np.clip(fine, 0, 1, out=fine), coarse)


def _near_edge(mask: UInt8[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """Within `width` pixels of the mask's edge."""
    import cv2

    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)  # a rectangle is separable, hence fast
    inside = (mask > 127).astype(np.uint8)
    return cv2.dilate(inside, kernel) != cv2.erode(inside, kernel)


def refined_alpha(
    frame: UInt8[np.ndarray, "h w 3"],
    alpha: Float[np.ndarray, "h w"],
    plate: Plate,
    body: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w"]:
    """Coverage near the edge solved from the known background: I = a F + (1 - a) B (Porter and Duff 1984).

    F is the mean of the sure person nearby. The less F and B differ, the more the first `alpha` is kept. What looks
    just like the background is background, except on the `body`.

    Returns:
        float32 in [0, 1].
    """
    import cv2

    inner, outer = scaled(5, frame.shape), scaled(12, frame.shape)
    person = (alpha > 0.5).astype(np.uint8)
    inside, outside = cv2.distanceTransform(person, cv2.DIST_L2, 3), cv2.distanceTransform(1 - person, cv2.DIST_L2, 3)
    at = np.flatnonzero(plate.seen & (inside < inner) & (outside < outer))  # of few pixels, much is asked
    if not len(at):
        return alpha
    front, amount = _front(frame, inside > 0.6 * inner, inner, at)
    picture, behind = (part.reshape(-1, 3)[at].astype(np.float32) for part in (frame, plate.picture))
    apart, change = front - behind, picture - behind
    square, noise = np.einsum("nc,nc->n", apart, apart), plate.noise.ravel()[at]
    solved = np.clip(np.einsum("nc,nc->n", change, apart) / np.maximum(square, 1), 0, 1)
    solved *= np.clip(np.linalg.norm(change, axis=-1) / (10 + 2 * noise) - 0.5, 0, 1)
    trust = square / (square + (20 + 3 * noise) ** 2) * np.clip(amount / 0.02, 0, 1)
    # Trust ends softly: inside of the person first, since hair and clothes may look like the wall behind them.
    trust *= np.clip(2 - 2 * inside.ravel()[at] / inner, 0, 1) * np.clip(2 - 2 * outside.ravel()[at] / outer, 0, 1)
    trust *= plate.trust.ravel()[at]
    out = np.where(_is_plate(frame, plate) & ~body & (inside < 8 * inner), 0, alpha)
    flat = out.reshape(-1)
    flat[at] += (solved - flat[at]) * trust
    return out


def _is_plate(frame: np.ndarray, plate: Plate) -> Bool[np.ndarray, "h w"]:
    """Patches that look just like the known background: mistakes of the coarse mask, wherever they are."""
    import cv2

    red, green, blue = cv2.split(cv2.blur(cv2.absdiff(frame, plate.picture), (7, 7)))
    change = np.maximum(np.maximum(red, green), blue)  # a reduction over an axis of 3 took 20 times as long
    return (change < plate.same) & plate.is_sure


def _front(
    frame: np.ndarray, sure: np.ndarray, sigma: float, at: Int[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    """Mean colour of the sure person around some pixels, and how much of it there is; at a quarter of the size."""
    import cv2

    height, width = frame.shape[:2]
    size = (max(width // 4, 1), max(height // 4, 1))
    weight = sure.astype(np.float32)
    shown = cv2.bitwise_and(frame, frame, mask=sure.view(np.uint8))
    colour = cv2.resize(shown, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    amount = cv2.GaussianBlur(cv2.resize(weight, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / 4)
    mean = cv2.GaussianBlur(colour, (0, 0), sigma / 4) / np.maximum(amount, 1e-4)[..., None]
    rows, columns = np.divmod(at, width)
    x = ((columns + 0.5) * (size[0] / width) - 0.5).astype(np.float32)
    y = ((rows + 0.5) * (size[1] / height) - 0.5).astype(np.float32)
    both = cv2.merge([mean, amount])
    found = cv2.remap(both, x[:, None], y[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    return found[:, :3], found[:, 3]


class PlateBuilder:
    """Collects uncovered background, a bounded number of samples a pixel, spread over the clip."""

    def __init__(self, size: tuple[int, int], frames: int) -> None:
        self._samples = np.zeros((_KEPT, *size, 3), np.uint8)
        self._count = np.zeros(size, np.int32)
        self._random = np.random.default_rng(0)
        self.indices: list[int] = np.unique(np.linspace(0, frames - 1, min(frames, _LOOKS)).astype(int)).tolist()
        """The frames to be added."""

    def add(self, frame: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"]) -> None:
        """Take what the person leaves free; a margin around the person is not trusted."""
        import cv2

        width = 2 * scaled(4, frame.shape) + 1
        free = cv2.dilate((alpha > 0.03).astype(np.uint8), np.ones((width, width), np.uint8)) == 0
        self._count += free
        # Reservoir sampling (Vitter 1985); one random number serves the whole frame.
        slot = np.where(self._count <= _KEPT, self._count - 1, (self._random.random() * self._count).astype(np.int32))
        rows, columns = np.nonzero(free & (slot < _KEPT))
        self._samples[slot[rows, columns], rows, columns] = frame[rows, columns]

    def finish(self) -> Plate:
        """Median of the samples; the rest is filled in from its surroundings."""
        picture, noise = self._medians()
        seen = self._count >= _FEW
        return Plate(picture=_filled(picture, seen), seen=seen, noise=np.where(seen, noise, 0).astype(np.float32))

    def _medians(self) -> tuple[np.ndarray, np.ndarray]:
        height = self._count.shape[0]
        picture = np.zeros((*self._count.shape, 3), np.uint8)
        noise = np.zeros(self._count.shape, np.float32)
        for row in range(0, height, 32):
            part = slice(row, min(row + 32, height))
            count = np.minimum(self._count[part], _KEPT)
            samples = self._samples[:, part].astype(np.float32)
            unused = np.arange(_KEPT)[:, None, None] >= count
            samples[unused] = np.inf
            samples.sort(axis=0)
            middle = (np.maximum(count, 1) - 1) // 2
            median = np.take_along_axis(samples, middle[None, ..., None], axis=0)[0]
            median[count == 0] = 0
            spread = np.abs(samples - median)
            spread.sort(axis=0)
            deviation = np.take_along_axis(spread, middle[None, ..., None], axis=0)[0].mean(-1)
            picture[part] = median
            noise[part] = np.where(count > 0, 1.48 * deviation, 0)
        return picture, noise


def _filled(picture: np.ndarray, seen: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Unseen pixels from seen ones by pull and push (Gortler et al. 1996), then diffused until the seams are gone."""
    import cv2

    if seen.all() or not seen.any():
        return picture if seen.any() else np.full_like(picture, 128)
    # Pixels beside the hole are the least clean; the fill starts from a little further out.
    width = scaled(2, picture.shape)
    clean = cv2.erode(seen.astype(np.uint8), np.ones((2 * width + 1, 2 * width + 1))) > 0
    clean = clean if clean.any() else seen
    levels: list[tuple[Any, Any]] = [(picture.astype(np.float32) * clean[..., None], clean.astype(np.float32))]
    while min(levels[-1][1].shape) > 2:
        colour, weight = levels[-1]
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        smaller = [cv2.resize(cv2.GaussianBlur(x, (5, 5), 1.0), size, interpolation=cv2.INTER_AREA) for x in levels[-1]]
        levels.append((smaller[0], smaller[1]))
    filled = _normal(*levels[-1])
    for colour, weight in reversed(levels[:-1]):
        coarse = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        known = np.clip(weight, 0, 1)[..., None]
        filled = known * _normal(colour, weight) + (1 - known) * coarse
        for _ in range(20):
            filled = np.where(weight[..., None] > 0.5, filled, cv2.blur(filled, (3, 3)))
    hole = cv2.GaussianBlur(1 - clean.astype(np.float32), (0, 0), width)[..., None]
    keep = np.where(seen[..., None], np.clip(1 - 2 * hole, 0, 1), 0)
    return np.round(keep * picture + (1 - keep) * filled).clip(0, 255).astype(np.uint8)


def _normal(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    mean = colour.reshape(-1, 3).sum(0) / max(float(weight.sum()), 1e-6)
    return np.where(weight[..., None] > 1e-4, colour / np.maximum(weight, 1e-4)[..., None], mean)
