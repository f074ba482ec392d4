"""Where a hand, a cup or a microphone hides the face, and where the head is turned too far to be read.

A detector's mesh lies on whatever covers the face as if it were the face. The colours under the mesh's points tell:
they belong to the person, so that lips that have become skin, or a chin that has become wool, are not the face.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_dilation, binary_propagation

from avatar.face.calibration import LOWER_INNER, OUTER_LIPS, UPPER_INNER
from avatar.face.parsing import FACE_OVAL

POINTS = 468
"""Points of the mesh without the irises."""
_HEIGHT, _MARGIN, _BLUR = 64, 8, 1.2
"""A face is scaled to this many pixels, forehead to chin; a border around it; deviation of the blur."""
_FLOOR = np.array([3.0, 1.5, 1.5])
"""Smallest deviation of lightness and of the two colours (CIELAB) that counts as usual."""
_UNUSUAL = 3.0
_ENOUGH = 20
"""Fewer frames do not tell what is usual."""
_MOST = 0.35
"""What lasts for more of the clip than this is no passing hand, and cannot be told from the face."""
_LEVEL = 1.5
"""Nose to ear over half the width of a face: turns the nose's place between the ears into an angle."""
_SURE_DEG, _LOST_DEG = 45.0, 75.0


def face_colours(
    frame: UInt8[np.ndarray, "h w 3"], landmarks_px: Float[np.ndarray, "478 2"]
) -> Float[np.ndarray, "468 3"]:
    """CIELAB colour under each point of the mesh, of the face blurred by a fiftieth of its height."""
    import cv2

    points = landmarks_px[:POINTS]
    scale = _HEIGHT / max(float(np.linalg.norm(points[10] - points[152])), 1.0)
    low = points.min(0)
    width, height = ((points.max(0) - low) * scale + 2 * _MARGIN).clip(2 * _MARGIN, 4 * _HEIGHT)
    move = np.array([[scale, 0, _MARGIN - low[0] * scale], [0, scale, _MARGIN - low[1] * scale]], np.float32)
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    face = cv2.warpAffine(frame, move, (int(width), int(height)), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    lab = cv2.cvtColor(cv2.GaussianBlur(face, (0, 0), _BLUR).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    places = ((points - low) * scale + _MARGIN - 0.5).astype(np.float32)
    return cv2.remap(
        lab, places[:, None, 0], places[:, None, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).reshape(POINTS, 3)


def find_covered(
    colours: Float[np.ndarray, "t 468 3"], landmarks_px: Float[np.ndarray, "t 478 2"], good: Bool[np.ndarray, "t"]
) -> Bool[np.ndarray, "t"]:
    """Frames in which something hides the mouth or a large part of the face.

    Each point's colour is compared with what it usually is in this clip, after taking away the light that the brow
    and forehead show and what the head's turn explains.

    Args:
        colours: of `face_colours`; anything where not `good`.
        good: frames in which the person's face was found.
    """
    if good.sum() < _ENOUGH:
        return np.zeros(len(good), bool)
    zones = _zones(landmarks_px[good])
    # The colours of a pose that the clip shows for a moment only are not known well.
    usual = _UNUSUAL * (1 + (turn_degrees(landmarks_px) / 30) ** 2)
    odd = _oddness(colours, landmarks_px, good, zones["upper"]) > usual[:, None]
    lips, ring, upper, whole = (odd[:, zones[name]].mean(1) for name in ("lips", "ring", "upper", "whole"))
    from_front = np.abs(turn_degrees(landmarks_px)) < 25
    mouth = (lips > 0.25) & (ring > 0.08) & (upper < 0.15)
    large = from_front & (whole > 0.3)
    begun = (mouth | large) & good
    edges = ((ring > 0.04) | (lips > 0.2) | (whole > 0.15)) & (upper < 0.3) & good
    found = binary_propagation(begun, mask=edges | begun)
    found = binary_dilation(found) & good
    return found if found.sum() <= _MOST * good.sum() else np.zeros(len(good), bool)


def turn_degrees(landmarks_px: Float[np.ndarray, "t 478 2"]) -> Float[np.ndarray, "t"]:
    """How far the head is turned, roughly, from where the nose stands between the ears; + is to the picture's right."""
    nose, right, left = (landmarks_px[:, k].astype(np.float64) for k in (1, 234, 454))
    across = left - right
    width = np.maximum(np.linalg.norm(across, axis=-1), 1e-3)
    along = ((nose - (left + right) / 2) * across).sum(-1) / width**2 * 2
    return np.degrees(np.arctan2(along, _LEVEL))


def trust_in_turn(landmarks_px: Float[np.ndarray, "t 478 2"]) -> Float[np.ndarray, "t"]:
    """Weight in [0, 1] of a frame: 1 up to a half profile, nothing for a profile, of which the mesh sees one side."""
    return np.clip((_LOST_DEG - np.abs(turn_degrees(landmarks_px))) / (_LOST_DEG - _SURE_DEG), 0, 1)


def _zones(landmarks_px: Float[np.ndarray, "t 478 2"]) -> dict[str, Bool[np.ndarray, "468"]]:
    """Points of the lips, around the mouth, of the upper face, and all that show the face's surface."""
    points = landmarks_px[:, :POINTS].astype(np.float64)
    across = points[:, 263] - points[:, 33]
    size = np.maximum(np.linalg.norm(across, axis=-1), 1e-3)
    x_axis = across / size[:, None]
    away = points - points[:, 1:2]
    x = np.einsum("tlk,tk->tl", away, x_axis) / size[:, None]
    y = np.einsum("tlk,tk->tl", away, np.stack([-x_axis[:, 1], x_axis[:, 0]], -1)) / size[:, None]
    x, y = np.median(x, 0), np.median(y, 0)
    surface = np.ones(POINTS, bool)
    surface[np.concatenate([FACE_OVAL, UPPER_INNER, LOWER_INNER, [78, 308]])] = False
    lips = np.isin(np.arange(POINTS), OUTER_LIPS)
    middle_x, middle_y = (float(axis[[13, 14]].mean()) for axis in (x, y))
    near = np.hypot(x - middle_x, y - middle_y) < 0.55
    return {"lips": lips, "ring": near & ~lips & surface, "upper": (y < -0.3) & surface, "whole": surface}


def _oddness(
    colours: np.ndarray, landmarks_px: np.ndarray, good: np.ndarray, upper: np.ndarray
) -> Float[np.ndarray, "t 468"]:
    """Distance of each colour from its usual one, in usual deviations."""
    light = np.median(colours[:, upper], 1, keepdims=True)
    values = (colours - light).reshape(len(colours), -1).astype(np.float32)
    turn = np.tan(np.radians(turn_degrees(landmarks_px)))
    nod = np.linalg.norm(landmarks_px[:, 10] - landmarks_px[:, 1], axis=-1)
    nod = nod / np.maximum(np.linalg.norm(landmarks_px[:, 10] - landmarks_px[:, 152], axis=-1), 1e-3)
    known = np.stack([np.ones(len(turn)), turn, turn**2, nod - np.median(nod[good])], 1).astype(np.float32)
    rest, weight, faint = values, good.astype(np.float32), 1e-3 * np.eye(known.shape[1], dtype=np.float32)
    for _ in range(8):  # iteratively reweighted, so that covered frames do not teach
        weighted = known * weight[:, None]
        slope = np.linalg.solve(known.T @ weighted + faint, weighted.T @ values)
        rest = values - known @ slope
        size = np.median(np.abs(rest), 1)
        weight = good / (1 + (size / max(1.5 * float(np.median(size[good])), 1e-6)) ** 4)
        weight = weight.astype(np.float32)
    rest = rest.reshape(colours.shape)
    middle = np.median(rest[good], 0)
    deviation = np.maximum(1.4826 * np.median(np.abs(rest[good] - middle), 0), _FLOOR)
    return np.linalg.norm((rest - middle) / deviation, axis=-1) / np.sqrt(3)
