"""Opening files of any container that PyAV knows, and the exact times of their frames."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar.errors import InputError

_RATES = (5, 8, 10, 12, 12.5, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60)
_FAST_RATES = (72, 75, 90, 100, 120000 / 1001, 120, 240000 / 1001, 240)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open container; FFmpeg's complaints become one sentence.

    Raises:
        InputError: when the file is missing, unreadable or nothing that FFmpeg knows.
    """
    import av
    from av.error import FFmpegError

    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a video or audio file")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; check the name") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read it; change its permissions") from None
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{path}: no video or audio file, or cut off before its index ({reason}); copy or export it again"
        ) from None
    try:
        yield container
    finally:
        container.close()


def video_stream(container: Any) -> Any | None:
    """The main video stream, or None; the cover picture of a song is no video."""
    from av.stream import Disposition

    attached = Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & attached]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


@dataclass(frozen=True, kw_only=True)
class FrameIndex:
    """When each frame of a stream is shown, in the order of showing."""

    pts: np.ndarray | None
    """int64 [n] in ticks, strictly increasing; None when the stream has no times and is only counted."""
    times: np.ndarray
    """float64 [n] seconds from the first frame."""
    keys: np.ndarray
    """int64, sorted: the frames at which decoding can start."""
    start: float
    """Time of the first frame in seconds of the container's clock."""
    is_cut: bool
    """Reading ended with an error before the end of the file, or the container announces more than it holds."""


def index_frames(container: Any, stream: Any, path: Path) -> FrameIndex:
    """Read the packets' times without decoding.

    Raises:
        InputError: when the stream has no frames.
    """
    pts, keys, missing, cut = _packet_times(container, stream)
    if not pts:
        raise InputError(f"{path}: holds no video frames; copy or export it again")
    if missing:
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        times = np.arange(len(pts)) / rate
        return FrameIndex(pts=None, times=times, keys=np.zeros(1, np.int64), start=0.0, is_cut=cut)
    order = np.unique(np.array(pts, np.int64))
    times = (order - order[0]) * float(stream.time_base)
    found = np.searchsorted(order, np.unique(np.array(keys or pts[:1], np.int64)))
    start = float(order[0] * stream.time_base)
    cut = cut or _is_short(container, stream, len(pts), times)
    return FrameIndex(pts=order, times=times, keys=found, start=start, is_cut=cut)


def _is_short(container: Any, stream: Any, count: int, times: np.ndarray) -> bool:
    """Whether the header promises clearly more than the file holds (half a second and 2 %)."""
    if stream.frames and count < stream.frames - max(12, 0.02 * stream.frames):
        return True
    if stream.duration is None or len(times) < 2:
        return False
    promised = float(stream.duration * stream.time_base)
    return promised - times[-1] > 0.5 + 0.02 * promised + (times[1] - times[0])


def _packet_times(container: Any, stream: Any) -> tuple[list[int], list[int], bool, bool]:
    from av.error import FFmpegError

    pts: list[int] = []
    keys: list[int] = []
    missing = cut = False
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            cut |= packet.is_corrupt
            missing |= packet.pts is None
            pts.append(packet.pts if packet.pts is not None else len(pts))
            if packet.is_keyframe:
                keys.append(pts[-1])
    except (FFmpegError, OSError):
        cut = True
    return pts, keys, missing, cut


def constant_grid(times: np.ndarray, limit: float = 30.0) -> tuple[float, np.ndarray]:
    """A constant frame grid for frames shown at `times`.

    Regular streams are taken frame by frame; for others grid frame i is the source frame nearest to i / fps.
    Rates above `limit` are divided by the smallest whole number that brings them below it.

    Args:
        times: float64 [n] seconds, increasing, the first is 0.

    Returns:
        fps, and int64 [m] the source frame of each grid frame.
    """
    if len(times) < 2 or times[-1] <= 0:
        return 25.0, np.zeros(len(times), np.int64)
    steps = np.diff(times)
    mean = (len(times) - 1) / times[-1]
    regular = _snapped(mean, 3e-4)
    if np.abs(times * regular - np.arange(len(times))).max() < 0.5:
        rate, source = regular, np.arange(len(times))
    else:
        middle = float(np.median(steps))
        rate = _snapped(1 / float(steps[np.abs(steps - middle) <= 0.3 * middle].mean()), 0.01)
        grid = np.arange(int(np.floor((times[-1] + 1e-6) * rate)) + 1) / rate
        after = np.searchsorted(times, grid).clip(1, len(times) - 1)
        source = np.where(grid - times[after - 1] <= times[after] - grid, after - 1, after)
    divisor = max(int(np.ceil(rate / limit - 1e-3)), 1)
    return rate / divisor, source[::divisor].astype(np.int64)


def _snapped(rate: float, tolerance: float) -> float:
    """The usual frame rate within a relative tolerance, or the rate itself."""
    nearest = min(_RATES + _FAST_RATES, key=lambda usual: abs(usual - rate))
    return float(nearest) if abs(nearest - rate) <= tolerance * rate else float(rate)
