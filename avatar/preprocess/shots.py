"""Cuts in a film, and which of its shots show the person of the avatar from the same camera."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, UInt8

from avatar.face.landmarks import FollowedPerson

_SIDE = 96
"""Pictures are compared at this longest side."""
_CUT = 0.05
"""Share of the picture that no motion explains. People talking stay below 0.013, cuts between films lie above 0.19,
another person before the same wall at 0.12."""
_ISOLATED = 2.0
"""A cut changes the picture this much more than the frames around it do; a fast turn lasts."""
_RETURNS = 5
"""Frames within which a flash is over and the picture is back."""
_NOISE = 6.0
"""Deviation in 8-bit steps that is no structure."""
_OTHER_FACE = 7.5
"""Median difference (CIELAB) of the colours of two faces; one person's in two parts of a clip differ by up to 5.6, two
people's by 9 or more."""
_OTHER = "another person"
_ZOOM, _AWAY = 1.22, 0.75
"""Ratio of face heights, and shift in face heights, from which it is another framing."""
_PLACE_STEPS, _PLACE_SHARE = 28.0, 0.3
"""A pixel of the background has changed by so many steps; so much of the background has."""
_JUMP, _JUMP_ISOLATED, _STILL = 0.035, 3.2, 0.004
"""Mean step of a face's points, in face heights, and how much larger it is than the three steps before and after (which
count as no smaller than the last number). Steps of people who talk reach 0.07 but are no more than 2.6 times as large
as those around them; two moments of one take that are joined differ more in 60 to 90 % of all cases."""
_NEAR = 3
"""Frames around a cut in which a covered face makes it a hand."""
_LOOKED_AT = 9
"""Frames of a shot that are looked at for its background."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Frames `first` to before `end` between two cuts."""

    first: int
    end: int
    why: str = ""
    """Why the shot is left out, or an empty text."""

    def __len__(self) -> int:
        return self.end - self.first


class CutFinder:
    """Compares each frame with the one before, with the motion between them taken out (DIS flow, Kroeger et al. 2016).

    What is compared is structure (the contrast term of SSIM, Wang et al. 2004), so that light may change.
    """

    def __init__(self) -> None:
        import cv2

        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(0)
        self._small: list[UInt8[np.ndarray, "a b 3"]] = []
        self._gray: list[UInt8[np.ndarray, "a b"]] = []
        self._change: list[float] = []

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> bool:
        """Take the next frame; True where it may begin another shot, which only the frames after it will tell."""
        import cv2

        scale = min(1.0, _SIDE / max(frame.shape[:2]))
        size = (max(round(frame.shape[1] * scale), 8), max(round(frame.shape[0] * scale), 8))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        self._gray.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        self._small.append(cv2.resize(small, (size[0] // 2, size[1] // 2), interpolation=cv2.INTER_AREA))
        last = len(self._gray) - 1
        change = _unlike(self._gray[last - 1], self._gray[last]) if last else 0.0
        self._change.append(self._unexplained(last - 1, last) if change > _CUT else change)
        return self._change[-1] > _CUT

    def small(self, index: int) -> UInt8[np.ndarray, "a b 3"]:
        """Frame `index` in colour, half as large as it is compared."""
        return self._small[index]

    def cuts(self) -> list[int]:
        """First frame of each shot but the first."""
        found = [index for index, change in enumerate(self._change) if change > _CUT]
        return [index for index in found if self._is_isolated(index) and self._stays(index)]

    def _is_isolated(self, index: int) -> bool:
        around = [k for k in (index - 2, index - 1, index + 1, index + 2) if 0 < k < len(self._gray)]
        return all(self._change[index] >= _ISOLATED * self._unexplained(k - 1, k) for k in around)

    def _stays(self, index: int) -> bool:
        """Whether the picture does not come back to what it was: a flash does."""
        count = len(self._gray)
        later = [(index - 1, b) for b in range(index + 1, min(index + 1 + _RETURNS, count))]
        earlier = [(a, index) for a in range(max(index - 1 - _RETURNS, 0), index - 1)]
        return all(self._unexplained(a, b) > _CUT for a, b in later + earlier)

    def _unexplained(self, a: int, b: int) -> float:
        """Share of frame b whose structure is not that of frame a moved."""
        import cv2

        before, after = self._gray[a], self._gray[b]
        flow = self._flow.calc(after, before, None)
        y, x = np.mgrid[: after.shape[0], : after.shape[1]].astype(np.float32)
        moved = cv2.remap(before, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return _unlike(moved, after)


def _unlike(a: UInt8[np.ndarray, "a b"], b: UInt8[np.ndarray, "a b"]) -> float:
    """Share of two pictures in which their structure differs."""
    import cv2

    one, two = a.astype(np.float32), b.astype(np.float32)

    def mean(picture: np.ndarray) -> np.ndarray:
        return cv2.blur(picture, (7, 7))

    m, n = mean(one), mean(two)
    alike = 2 * (mean(one * two) - m * n) + _NOISE**2
    return float((alike < 0.5 * (mean(one * one) - m * m + mean(two * two) - n * n + _NOISE**2)).mean())


def find_jumps(landmarks_px: Float[np.ndarray, "t 478 2"], good: Bool[np.ndarray, "t"]) -> list[int]:
    """Frames at which a face is suddenly elsewhere: one take of which a piece was cut out, before the same wall.

    Args:
        good: where the face was found and is not covered; nothing is said about the frames around others.
    """
    size = np.maximum(np.linalg.norm(landmarks_px[:, 10] - landmarks_px[:, 152], axis=-1), 1e-3)
    step = np.linalg.norm(np.diff(landmarks_px, axis=0), axis=-1).mean(1) / size[1:]
    out = []
    for index in (np.flatnonzero(step > _JUMP) + 1).tolist():
        around = np.concatenate([step[max(index - 4, 0) : index - 1], step[index : index + 3]])
        known = good[max(index - 4, 0) : index + 4].all()
        if known and step[index - 1] > _JUMP_ISOLATED * around.max(initial=_STILL):
            out.append(index)
    return out


def split_at(shots: Sequence[Shot], jumps: Sequence[int]) -> list[Shot]:
    """The shots with those that a jump lies in cut in two."""
    out = []
    for shot in shots:
        edges = [shot.first, *(j for j in jumps if shot.first < j < shot.end), shot.end]
        out += [replace(shot, first=a, end=b) for a, b in pairwise(edges)]
    return out


def joined(shots: Sequence[Shot], covered: Bool[np.ndarray, "t"]) -> list[Shot]:
    """The shots without the cuts between two that show the person at which something covers the face.

    A hand that comes near fast changes as much of the picture as a cut does.
    """
    out: list[Shot] = []
    for shot in shots:
        is_hand = covered[max(shot.first - _NEAR, 0) : shot.first + _NEAR].any()
        if out and is_hand and not shot.why and not out[-1].why:
            out[-1] = replace(out[-1], end=shot.end)
        else:
            out.append(shot)
    return out


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What of a clip's frames tells one shot from another."""

    person: FollowedPerson
    colours: Float[np.ndarray, "t 468 3"]
    """Under the mesh; see `face.covering.face_colours`."""
    finder: CutFinder
    masks: dict[int, UInt8[np.ndarray, "h w"]]
    """Person masks of the frames of `looked_at`, 255 is person."""


def looked_at(shot: Shot) -> list[int]:
    """Frames that show a shot's background when taken together."""
    return np.unique(np.linspace(shot.first, shot.end - 1, _LOOKED_AT).round().astype(int)).tolist()


def judge_shots(shots: Sequence[Shot], seen: Seen) -> list[Shot]:
    """The same shots; all that do not show the person of the one with the most faces, in its place, have a `why`."""
    found = [int((seen.person.confidence[s.first : s.end] > 0).sum()) for s in shots]
    main = shots[int(np.argmax(found))]
    judged = [shot if shot is main else replace(shot, why=_difference(main, shot, seen)) for shot in shots]
    for before, index, after in zip(judged, range(1, len(judged)), judged[2:], strict=False):
        if judged[index].why == _OTHER and not before.why and not after.why:
            judged[index] = replace(judged[index], why=f"{_OTHER}, or something over the face")
    return judged


def _difference(main: Shot, other: Shot, seen: Seen) -> str:
    a, b = _Look.of(main, seen), _Look.of(other, seen)
    if a is None or b is None:
        return "nobody is seen"
    ratio = max(a.height, b.height) / max(min(a.height, b.height), 1e-3)
    if ratio > _ZOOM or np.linalg.norm(a.centre - b.centre) > _AWAY * a.height:
        return "another framing"
    if np.median(np.linalg.norm(a.colours - b.colours, axis=1)) > _OTHER_FACE:
        return _OTHER
    return "another background" if _is_elsewhere(a, b) else ""


@dataclass(frozen=True, kw_only=True)
class _Look:
    height: float
    centre: Float[np.ndarray, "2"]
    colours: Float[np.ndarray, "468 3"]
    picture: Float[np.ndarray, "a b 3"]
    free: Bool[np.ndarray, "a b"]
    """Where no person was in any of the frames."""

    @classmethod
    def of(cls, shot: Shot, seen: Seen) -> "_Look | None":
        import cv2

        used = shot.first + np.flatnonzero(seen.person.confidence[shot.first : shot.end] > 0)
        if len(used) < max(2, 0.2 * len(shot)):
            return None
        points = seen.person.landmarks_px[used]
        frames = looked_at(shot)
        pictures = np.stack([seen.finder.small(i) for i in frames]).astype(np.float32)
        size = pictures.shape[2:0:-1]
        masks = [cv2.resize(seen.masks[i], size, interpolation=cv2.INTER_AREA) for i in frames]
        return cls(
            height=float(np.median(np.linalg.norm(points[:, 10] - points[:, 152], axis=-1))),
            centre=np.median(points.mean(1), 0),
            colours=np.median(seen.colours[used], 0),
            picture=np.median(pictures, 0),
            free=cv2.dilate(np.max(masks, 0), np.ones((5, 5), np.uint8)) < 64,
        )


def _is_elsewhere(a: _Look, b: _Look) -> bool:
    free = a.free & b.free
    if free.mean() < 0.05:
        return False
    away = (a.picture - b.picture)[free]
    away = away - np.median(away, 0)
    return bool((np.abs(away).max(-1) > _PLACE_STEPS).mean() > _PLACE_SHARE)


def sentence(shots: Sequence[Shot], fps: float) -> str:
    """What happened at the cuts, for the user; empty where there are none."""
    if len(shots) < 2:
        return ""
    times = [f"{shot.first / fps:.1f} s" for shot in shots[1:]]
    shown = ", ".join(times[:6]) + (f" and {len(times) - 6} more" if len(times) > 6 else "")
    said = f"cut at {shown}" if len(times) == 1 else f"cuts at {shown}"
    left = [shot for shot in shots if shot.why]
    if not left:
        return f"{said}; all shots show the same person in the same place, motion is not smoothed across"
    reasons = " and ".join(dict.fromkeys(shot.why for shot in left))
    which = "another shot" if len(left) == 1 else "other shots"
    return f"{said}; {sum(map(len, left))} frames of {which} are left out ({reasons})"
