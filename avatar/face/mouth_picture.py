"""How far the mouth is open in the picture, where a detector says that it is closed.

MediaPipe's lips stay together until the mouth is open by several hundredths of the eye distance. What lies between
the lips tells: the dark of the mouth has neither lip's colour. Teeth and tongue may have, so the picture only opens.
"""

import numpy as np
from jaxtyping import Float, UInt8

from avatar.face.calibration import LOWER_INNER, UPPER_INNER

UNTOLD = -1.0
_ABOVE, _BELOW = np.array([40, 39, 37, 0, 267, 269, 270]), np.array([91, 181, 84, 17, 314, 405, 321])
"""Outer edges of the lips over and under the inner pairs but the outermost."""
_REACH, _SAMPLES = 0.13, 41
"""Half length (eye distances) of the columns across the mouth, and their samples."""
_MIDDLE = slice(2, 5)
_LIP, _INSIDE = (0.3, 0.75), 0.65
"""Parts of the way from a lip's outer to its inner edge: what is surely lip, and from where the mouth may begin."""
_ALIKE, _OTHER = 10.0, 20.0
"""Distances in CIELAB up to which a colour is the lip's, and from which on it is not."""
_LEAST_PX = 40.0
"""Eyes nearer to each other show too small a mouth."""
_FEW = 5
"""Samples of a lip that are needed to know its colour."""


def dark_between_lips(frame: UInt8[np.ndarray, "h w 3"], landmarks_px: Float[np.ndarray, "478 2"]) -> float:
    """Length (eye distances) of what has neither lip's colour between the lips' middles; negative if it is not told."""
    import cv2

    points = landmarks_px.astype(np.float64)
    unit = float(np.linalg.norm(points[33] - points[263]))
    if not unit >= _LEAST_PX:
        return UNTOLD
    upper, lower = points[UPPER_INNER[1:-1]], points[LOWER_INNER[1:-1]]
    down = (points[152] - points[10]) / max(float(np.linalg.norm(points[152] - points[10])), 1e-6)
    middle = (upper + lower) / 2
    along = np.linspace(-_REACH, _REACH, _SAMPLES)
    places = (middle[:, None] + unit * along[:, None] * down - 0.5).astype(np.float32)
    seen = cv2.remap(frame, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lab = cv2.cvtColor(seen.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    ends = [((at - middle) @ down / unit)[:, None] for at in (points[_ABOVE], upper, lower, points[_BELOW])]
    far, inside = np.full(lab.shape[:2], np.inf), np.ones(lab.shape[:2], bool)
    for outer, inner, sign in ((ends[0], ends[1], 1.0), (ends[3], ends[2], -1.0)):
        part = (along - outer) / (sign * np.maximum(sign * (inner - outer), 1e-6))
        lip = (part > _LIP[0]) & (part < _LIP[1])
        if lip.sum() < _FEW:
            return UNTOLD
        far = np.minimum(far, np.linalg.norm(lab - np.median(lab[lip], 0), axis=-1))
        inside &= part > _INSIDE
    other = np.clip((far - _ALIKE) / (_OTHER - _ALIKE), 0, 1) * inside
    return float(other[_MIDDLE].sum(-1).mean() * (along[1] - along[0]))
