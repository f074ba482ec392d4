"""Numbers that compare a drawn picture with the true one. Pictures are uint8 [h w 3] sRGB, points are (x, y) in px."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, UInt8

from avatar.errors import InputError

Picture = UInt8[np.ndarray, "h w 3"]
Points = Float[np.ndarray, "l 2"]

LIP_REFERENCE_PX = 512
"""Lip distances are stated for a picture of this height, whatever the working size is."""

OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LIPS = OUTER_LIPS + INNER_LIPS
"""The 40 lip points among the 478 of MediaPipe's face mesh."""
_GAP_PAIRS = ((82, 87), (13, 14), (312, 317))
"""Upper and lower point of the inner lips, at and beside the middle."""
_EXACT = 1e-12
_STILL, _STILL_AROUND = 2.0, 0.01
"""Grey levels, on average over a Gaussian of this part of the height, below which a region stands still."""
_RADIUS = 5
"""Of the 11x11 window of SSIM."""


def psnr(drawn: Picture, true: Picture, where: Bool[np.ndarray, "h w"] | None = None) -> float:
    """Peak signal-to-noise ratio in dB, peak 255, over all pixels or over those of a mask.

    Equal pictures give infinity; an empty mask gives NaN.
    """
    error = squared_error(drawn, true)
    kept = error if where is None else error[where]
    return decibels(kept, kept.size)


def squared_error(drawn: Picture, true: Picture) -> Int32[np.ndarray, "h w"]:
    """Of each pixel, summed over the channels."""
    red, green, blue = np.moveaxis(np.subtract(drawn, true, dtype=np.int16), -1, 0).astype(np.int32)
    return red * red + green * green + blue * blue


def decibels(error: Int32[np.ndarray, "..."], pixels: int) -> float:
    """PSNR of a picture of so many pixels with this `squared_error`; pixels that are not given are without one."""
    if pixels == 0:
        return float("nan")
    mean = float(error.sum(dtype=np.int64)) / (3 * pixels)
    return float("inf") if mean < _EXACT else float(10.0 * np.log10(255.0**2 / mean))


def ssim(drawn: Picture, true: Picture) -> float:
    """Structural similarity (Wang et al. 2004), mean over channels and over all whole 11x11 Gaussian windows."""
    if np.array_equal(drawn, true):
        return 1.0
    from avatar.ops import image

    a, b = (torch.from_numpy(p.astype(np.float32) / 255.0) for p in (drawn, true))
    whole = torch.zeros(a.shape[:2])
    whole[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS] = 1.0
    with torch.no_grad():
        return float(image.l1_ssim(a, b, whole)[1])


def lpips(drawn: Picture, true: Picture) -> float:
    """How unlike both look to a trained network, see `avatar.ops.lpips`.

    Raises:
        InputError: where this machine has not its weights, or damaged ones.
    """
    from avatar.ops import lpips as network

    files = network.weight_files()
    if files is None:
        raise InputError(f"the weights of LPIPS are missing; {network.HOW_TO}")
    a, b = (torch.from_numpy(p.astype(np.float32) / 255.0) for p in (drawn, true))
    with torch.no_grad():
        return float(network.load(files)(a, b))


def flip(drawn: Picture, true: Picture) -> float:
    """Mean LDR-FLIP error in [0, 1] at 67 px a degree, NVIDIA's implementation (Andersson et al. 2020).

    Raises:
        ImportError: when the package flip-evaluator is not installed.
    """
    if np.array_equal(drawn, true):
        return 0.0
    import flip_evaluator

    a, b = (np.ascontiguousarray(p.astype(np.float32) / 255.0) for p in (drawn, true))
    return float(flip_evaluator.evaluate(b, a, "LDR", applyMagma=False, computeMeanError=True)[1])


def still_region(before: Picture, now: Picture, where: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """255 where a film stands still from one frame to the next and `where` holds, 0 elsewhere."""
    import cv2

    moved = cv2.transform(cv2.absdiff(before, now).astype(np.float32), np.full((1, 3), 1 / 3, np.float32))
    around = cv2.GaussianBlur(moved, (0, 0), _STILL_AROUND * len(moved))
    return np.where(where & (around < _STILL), np.uint8(255), np.uint8(0))


def change(before: Picture, now: Picture, where: UInt8[np.ndarray, "h w"]) -> float:
    """Mean change (grey levels) from one frame to the next where a mask is not 0; NaN where it is 0 all over.

    Noise of a film is change too, so that of drawn frames is told by that of the true ones at the same place.
    """
    import cv2

    return float(np.mean(cv2.mean(cv2.absdiff(before, now), mask=where)[:3])) if where.any() else float("nan")


def lip_distance_px(drawn: Points, true: Points, height: int) -> float:
    """Landmark distance of the mouth (LMD, Chen et al. 2018), in px of a picture that is 512 px high.

    Both sets of lip points are moved to their own centre first, so that a wrong head pose is not counted here.

    Args:
        drawn: all face points [478 2] found on the drawn picture; `true` the same on the true one.
        height: of the picture in px.
    """
    a, b = (points[list(LIPS)] - points[list(LIPS)].mean(axis=0) for points in (drawn, true))
    return float(np.linalg.norm(a - b, axis=1).mean() * LIP_REFERENCE_PX / height)


def lip_gap_px(points: Points, height: int) -> float:
    """Opening between the inner lips, in px of a picture that is 512 px high; mean of three pairs in the middle."""
    pairs = [np.linalg.norm(points[upper] - points[lower]) for upper, lower in _GAP_PAIRS]
    return float(np.mean(pairs) * LIP_REFERENCE_PX / height)


def lip_gap_agreement(drawn: Float[np.ndarray, "t"], true: Float[np.ndarray, "t"]) -> tuple[float, float]:
    """Pearson correlation, and slope of the least-squares line of the drawn gap over the true one.

    NaN is skipped in pairs. Fewer than three pairs, or a mouth that never moves, give (NaN, NaN).
    """
    known = np.isfinite(drawn) & np.isfinite(true)
    a, b = drawn[known].astype(np.float64), true[known].astype(np.float64)
    if len(a) < 3 or b.std() < _EXACT:
        return float("nan"), float("nan")
    covariance = float(np.mean((a - a.mean()) * (b - b.mean())))
    r = covariance / (a.std() * b.std()) if a.std() > _EXACT else 0.0
    return float(r), covariance / float(b.var())


def mouth_window(points: Points, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the mouth: the box of the lip points, larger by a quarter of its width on each side."""
    lips = points[list(LIPS)]
    low, high = lips.min(axis=0), lips.max(axis=0)
    margin = 0.25 * (high[0] - low[0])
    left, top = np.floor(low - margin).astype(int)
    right, bottom = np.ceil(high + margin).astype(int)
    return slice(max(top, 0), min(bottom, size[0])), slice(max(left, 0), min(right, size[1]))


def pose_jitter_deg(rotations: Float[np.ndarray, "t 3 3"]) -> float:
    """Shake of a tracked head in degrees: root mean square of the second difference of its rotation.

    Only the stiller half of the frames counts (angular speed, averaged over 9 frames, at or below its median), so
    that real head movement is left out as far as possible. Fewer than 3 frames give NaN.
    """
    if len(rotations) < 3:
        return float("nan")
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_matrix(np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:]).as_rotvec()
    second = np.linalg.norm(np.diff(turns, axis=0), axis=1)
    window = min(9, len(turns))
    mean_turn = np.stack([np.convolve(axis, np.full(window, 1.0 / window), mode="same") for axis in turns.T], axis=1)
    speed = np.linalg.norm(mean_turn, axis=1)[1:]
    still = second[speed <= np.median(speed)]
    return float(np.degrees(np.sqrt(np.mean(np.square(still)))))
