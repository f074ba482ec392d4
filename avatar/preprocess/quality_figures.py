"""Pictures of the quality page: the rig over the face, curves over time, what the clip covers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from avatar.core import FaceTrack
from avatar.face.calibration import LOWER_INNER, LOWER_LIDS, OUTER_LIPS, UPPER_INNER, UPPER_LIDS
from avatar.face.rig import PersonalRig
from avatar.media.page import Panel, Strip
from avatar.media.plots import Plot, bars, boxes, lines, smoothed
from avatar.preprocess.quality import blinks, lip_closures, pose_boxes, shown_actions
from avatar.preprocess.series import Series

_PANEL = 200
"""Side of a picture in pixels."""
_AROUND, _CLOSE = 1.6, 0.75
"""Side of the part of the frame that is shown, in face heights: of the face, of the eyes or the mouth."""
_MESH, _POINTS = (64, 224, 208), (255, 150, 40)
_LID_CURVES = [*UPPER_LIDS.tolist(), *LOWER_LIDS.tolist()]
_LIP_CURVES = [[78, *UPPER_INNER, 308], [78, *LOWER_INNER, 308], [*OUTER_LIPS, OUTER_LIPS[0]]]
_LONGEST = 1200
"""A curve is drawn with at most so many points."""
_APART = 0.4
"""Seconds between two moments of a strip, at least."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Draws the posed rig over frames."""

    frame: Callable[[int], UInt8[np.ndarray, "h w 3"]]
    track: FaceTrack
    rig: PersonalRig
    series: Series

    def picture(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        """The face of a frame with the rig's mesh; and the detector's points where the frame has a weight."""
        import cv2

        points = self.series.seen_px[index]
        part, corner, scale = self._part(index, (points.min(0) + points.max(0)) / 2, _AROUND)
        if self.series.used[index]:
            self._draw_mesh(part, index, corner, scale)
            for x, y in ((points - corner) * scale).round().astype(int):
                cv2.circle(part, (int(x), int(y)), 1, _POINTS, -1, cv2.LINE_AA)
        return cv2.resize(part, (_PANEL, _PANEL), interpolation=cv2.INTER_AREA)

    def closeup(self, index: int, curves: Sequence[Sequence[int]]) -> UInt8[np.ndarray, "s s 3"]:
        """What lies around some points, with the rig's curves through them."""
        import cv2

        drawn = self.series.drawn_px[index]
        middle = np.mean([drawn[list(curve)].mean(0) for curve in curves], 0)
        part, corner, scale = self._part(index, middle, _CLOSE)
        for curve in curves:
            path = ((drawn[list(curve)] - corner) * scale).round().astype(np.int32)
            cv2.polylines(part, [path], False, _MESH, 2, cv2.LINE_AA)
        return cv2.resize(part, (_PANEL, _PANEL), interpolation=cv2.INTER_AREA)

    def _part(self, index: int, middle: np.ndarray, around: float) -> tuple[np.ndarray, np.ndarray, float]:
        """A square of the frame at twice a panel's size, its corner in the frame, and pixels in it for one there."""
        import cv2

        points = self.series.seen_px[index]
        side = max(around * float(np.linalg.norm(points[10] - points[152])), 16.0)
        corner, scale = middle - side / 2, 2 * _PANEL / side
        move = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]], np.float32)
        return cv2.warpAffine(self.frame(index), move, (2 * _PANEL,) * 2, flags=cv2.INTER_CUBIC), corner, scale

    def _draw_mesh(self, part: np.ndarray, index: int, corner: np.ndarray, scale: float) -> None:
        import cv2

        world = self.rig.posed(self.track.motion.frame(index))
        faces = self.rig.faces.numpy()[(self.rig.skin[:, 0] > 0.5).numpy()[self.rig.faces.numpy()].all(1)]
        pixels = ((self.track.camera.project(world).numpy() - corner) * scale).astype(np.float32)
        a, b, c = (pixels[faces[:, k]] for k in range(3))
        area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        front = pixels[faces[area < 0]].round().astype(np.int32)  # counter-clockwise outside; y points down here
        drawn = part.copy()
        cv2.polylines(drawn, list(front), True, _MESH, 1, cv2.LINE_AA)
        part[:] = cv2.addWeighted(drawn, 0.3, part, 0.7, 0)

    def plain(self, index: int) -> UInt8[np.ndarray, "a b 3"]:
        """The whole frame, small."""
        import cv2

        frame = self.frame(index)
        scale = _PANEL / max(frame.shape[:2])
        size = (max(round(frame.shape[1] * scale), 1), max(round(frame.shape[0] * scale), 1))
        return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def strips(overlay: Overlay, covered: Sequence[int], cuts: Sequence[int]) -> list[Strip]:
    """Evenly spaced and worst moments, blinks, closed lips, turns, cuts, covered faces; those that the clip has."""
    series = overlay.series
    used, fps = np.flatnonzero(series.used), overlay.track.motion.fps
    count = max(round(_APART * fps), 1)
    error, turn = np.nanmean(series.error, 1), np.abs(series.turn_deg[:, 0])
    even = used[np.linspace(0, len(used) - 1, 8).round().astype(int)].tolist() if len(used) else []

    def told(index: int) -> str:
        return f"{index / fps:.2f} s, error {error[index]:.1%}"

    def turned(index: int) -> str:
        return f"{index / fps:.2f} s, {series.turn_deg[index, 0]:+.0f} degrees"

    chosen = [
        ("Evenly spaced", list(dict.fromkeys(even)), told, overlay.picture),
        ("Largest errors", _apart(used[np.argsort(-error[used])], count, 6), told, overlay.picture),
        ("Blinks", _spread(blinks(series), 6), told, lambda i: overlay.closeup(i, _LID_CURVES)),
        ("Lips that meet", _spread(lip_closures(series), 6), told, lambda i: overlay.closeup(i, _LIP_CURVES)),
        ("Largest turns", _apart(used[np.argsort(-turn[used])], count, 6), turned, overlay.picture),
    ]
    shown = [
        Strip(title=title, panels=[Panel(caption=say(i), picture=draw(i)) for i in indices])
        for title, indices, say, draw in chosen
        if indices
    ]
    sides = [i for cut in _spread(cuts, 3) for i in (cut - 1, cut)]
    others = (("Before and after cuts", sides), ("Something covers the face", _apart(np.array(covered, int), count, 6)))
    return shown + [
        Strip(title=title, panels=[Panel(caption=f"{i / fps:.2f} s", picture=overlay.plain(i)) for i in indices])
        for title, indices in others
        if indices
    ]


def _apart(ordered: np.ndarray, frames: int, most: int) -> list[int]:
    """The first of these frames that lie apart from each other, in time order."""
    out: list[int] = []
    for index in ordered.tolist():
        if len(out) < most and all(abs(index - other) >= frames for other in out):
            out.append(index)
    return sorted(out)


def _spread(indices: Sequence[int], most: int) -> list[int]:
    if len(indices) <= most:
        return list(indices)
    return [indices[int(k)] for k in np.linspace(0, len(indices) - 1, most).round()]


def plots_of(series: Series) -> list[Plot]:
    """Curves over time and coverage."""
    seconds, step = series.seconds, max(-(-len(series.seconds) // _LONGEST), 1)
    x = "seconds of the clip"

    def known(values: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
        return np.where(series.used, values, np.nan)[::step]

    def curves(title: str, unit: str, values: dict[str, np.ndarray]) -> Plot:
        return lines(title, unit, seconds[::step], values, x)

    yaw, pitch, roll = (known(column) for column in series.turn_deg.T)
    shown = shown_actions(series)
    most = dict(list(shown.items())[:16])
    weight = curves("Weight of the frame", "0 is left out", {"weight": series.confidence[::step]})
    return [
        curves("Head pose", "degrees", {"yaw": yaw, "pitch": pitch, "roll": roll}),
        curves("Lip gap", "% of eye distance", _percent(known, detector=series.seen_gap, rig=series.drawn_gap)),
        curves("Lids", "1 is closed", {"right": known(series.blink[:, 0]), "left": known(series.blink[:, 1])}),
        *([weight] if np.ptp(series.confidence) > 0.01 else []),
        curves("Error of the rig's points", "% of eye distance", _percent(known, error=np.nanmean(series.error, 1))),
        curves("Trembling of the head", "degrees", {"second difference": _trembling(series)[::step]}),
        boxes("Poses, in frames", "yaw, degrees (+ to the person's left)", "pitch, degrees (+ down)", _poses(series)),
        bars("Actions shown most", "range of the coefficient", most),
    ]


def _percent(known: Callable[[np.ndarray], np.ndarray], **values: np.ndarray) -> dict[str, np.ndarray]:
    return {name: 100 * known(column) for name, column in values.items()}


def _trembling(series: Series) -> Float[np.ndarray, "t"]:
    """While the head is still, smoothed."""
    values = np.where(series.still, series.shake_deg, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    out = np.full(len(values), np.nan)
    out[known] = smoothed(values[known].tolist(), 5)
    return out


def _poses(series: Series) -> dict[tuple[float, float], float]:
    """Frames by the middle (yaw, pitch) of each box, degrees."""
    counts = pose_boxes(series)
    return {
        ((column - counts.shape[1] // 2) * 12.0, (row - counts.shape[0] // 2) * 12.0): float(counts[row, column])
        for row in range(counts.shape[0])
        for column in range(counts.shape[1])
    }
