"""Videos as lazy frames on a constant grid: nothing is decoded before it is asked for, nothing is kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avatar.core import Clip
from avatar.errors import InputError
from avatar.events import Notice, Sink, silent
from avatar.media.audio import SPEECH_RATE, read_audio
from avatar.media.container import FrameIndex, constant_grid, index_frames, opened, video_stream

_READ_ON = 48
"""Frames that are rather decoded than jumped over by a seek."""


def open_clip(path: Path, sink: Sink = silent, *, with_audio: bool = True) -> Clip:
    """Open a video of any container and codec that PyAV reads.

    Frames are turned by the rotation tag, have square pixels, and lie on a constant grid of at most 30 frames a second
    (faster films are thinned by a whole number). Sound is mono at 16 kHz on the same clock. Reading in order
    streams; any other order seeks. Memory does not grow with the length but for the sound (64 kB a second).

    Args:
        sink: gets a `Notice` for what the user should know: cut-off file, no sound, thinned frames.

    Raises:
        InputError: when the file is missing, damaged or holds no video.
    """
    path = Path(path)
    with opened(path) as container:
        stream = video_stream(container)
        if stream is None:
            raise InputError(f"{path}: holds no video (only {_kinds(container)}); give a video of a person")
        index = index_frames(container, stream, path)
        has_audio = bool(container.streams.audio)
    if index.is_cut:
        index = _decodable(path, index)
        sink(Notice(message=f"{path.name}: the file is cut off; using the first {index.times[-1]:.1f} s that decode"))
    fps, source = constant_grid(index.times)
    if len(source) and (thinned := round(_source_rate(index.times) / fps)) > 1:
        sink(Notice(message=f"{path.name}: every {_ordinal(thinned)} frame is used ({fps:.4g} frames a second)"))
    audio = None
    if with_audio and has_audio:
        try:
            track = read_audio(path, SPEECH_RATE, origin=index.start)
            audio = track.between(0.0, len(source) / fps)
        except InputError as error:
            sink(Notice(message=f"{error} - going on without sound"))
    return Clip(frames=VideoFrames(path, index, source), audio=audio, fps=fps)


def _kinds(container: Any) -> str:
    return " and ".join(sorted({s.type for s in container.streams})) or "nothing"


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _source_rate(times: np.ndarray) -> float:
    return (len(times) - 1) / times[-1] if len(times) > 1 and times[-1] > 0 else 1.0


def _decodable(path: Path, index: FrameIndex) -> FrameIndex:
    """The part of a cut-off stream up to the last frame that decodes."""
    reader = _Reader(path, index)
    last = -1
    for key in index.keys[::-1]:
        for number, _ in reader.decode_from(int(key)):
            last = max(last, number)
        if last >= key:
            break
    reader.close()
    if last < 0:
        raise InputError(f"{path}: no frame of the video decodes; copy or export it again")
    pts = None if index.pts is None else index.pts[: last + 1]
    keys = index.keys[index.keys <= last]
    return FrameIndex(pts=pts, times=index.times[: last + 1], keys=keys, start=index.start, is_cut=True)


class _Reader:
    """Decodes one stream; knows the number of each frame by its time."""

    def __init__(self, path: Path, index: FrameIndex) -> None:
        self.path, self.index = path, index
        self.aspect = 1.0
        """Width of a pixel by its height."""
        self._opened: Any = None

    def close(self) -> None:
        if self._opened is not None:
            self._opened.__exit__(None, None, None)
        self._opened = None

    def __del__(self) -> None:
        self.close()

    def _open(self) -> tuple[Any, Any]:
        self.close()
        self._opened = opened(self.path)
        container = self._opened.__enter__()
        stream = video_stream(container)
        assert stream is not None
        stream.thread_type = "AUTO"
        self.aspect = float(stream.sample_aspect_ratio or 1)
        return container, stream

    def decode_from(self, number: int) -> Iterator[tuple[int, Any]]:
        """(frame number, decoded frame) from the key frame at or before `number` on."""
        container, stream = self._open()
        key = int(self.index.keys[max(np.searchsorted(self.index.keys, number, side="right") - 1, 0)])
        if self.index.pts is None or key == 0:
            yield from self._decoded(container, stream)
            return
        container.seek(int(self.index.pts[key]), stream=stream, backward=True, any_frame=False)
        frames = self._decoded(container, stream)
        first = next(frames, None)
        if first is None or first[0] > number:  # a seek that overshoots: some containers have no usable index
            container, stream = self._open()
            yield from self._decoded(container, stream)
            return
        yield first
        yield from frames

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
        count = 0
        for frame in _frames(container, stream):
            if self.index.pts is None:
                number, count = count, count + 1
            elif frame.pts is None:
                continue
            else:
                number = int(np.searchsorted(self.index.pts, frame.pts))
            if number < len(self.index.times):
                yield number, frame


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    from av.error import InvalidDataError

    try:
        for packet in container.demux(stream):
            if packet.is_discard:
                continue
            try:
                yield from packet.decode()
            except InvalidDataError:
                continue  # a damaged packet: the frame before it is shown longer
    except (EOFError, InvalidDataError):
        return  # the end, or cut off; frames that are missing are noticed by the caller


class VideoFrames:
    """Lazy frames of a file, uint8 [h w 3] sRGB, upright, all of the size of the first one."""

    def __init__(self, path: Path, index: FrameIndex, source: np.ndarray) -> None:
        """`source` is the number in the stream of each frame."""
        self._reader = _Reader(path, index)
        self._source = source
        self._stream: Iterator[tuple[int, Any]] | None = None
        self._pending: tuple[int, Any] | None = None
        self._current: tuple[int, Any] | None = None
        self._picture: tuple[int, np.ndarray] | None = None
        self._size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int, /) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        if index < 0:
            index += len(self)
        number = int(self._source[index])
        if self._picture is None or self._picture[0] != number:
            self._picture = number, self._upright(self._frame(number))
        return self._picture[1].copy()

    def _frame(self, number: int) -> Any:
        """The frame shown at the time of `number`: itself, or the one before when it does not decode."""
        if self._stream is None or self._must_seek(number):
            self._stream = self._reader.decode_from(number)
            self._current = self._pending = None
        while self._pending is None or self._pending[0] <= number:
            if self._pending is not None:
                self._current = self._pending
            self._pending = next(self._stream, (len(self._reader.index.times), None))
        found = self._current or self._pending
        if found[1] is None:
            raise InputError(f"{self._reader.path}: frame {number} does not decode; copy or export the video again")
        return found[1]

    def _must_seek(self, number: int) -> bool:
        at = -1 if self._current is None else self._current[0]
        if number < at:
            return True
        keys = self._reader.index.keys
        between = np.searchsorted(keys, number, side="right") - np.searchsorted(keys, at, side="right")
        return number - at > _READ_ON and int(between) > 0

    def _upright(self, frame: Any) -> np.ndarray:
        picture = _oriented(_squared(frame, self._reader.aspect), frame)
        height, width = self._size = self._size or (picture.shape[0], picture.shape[1])
        if picture.shape[:2] != self._size:  # streams from video calls change their size on the way
            from PIL import Image

            picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
        return picture


def _squared(frame: Any, aspect: float) -> np.ndarray:
    """RGB with square pixels."""
    width = max(round(frame.width * aspect), 1)
    return frame.to_ndarray(format="rgb24", width=width, height=frame.height)


def _oriented(picture: np.ndarray, frame: Any) -> np.ndarray:
    """Turned (and mirrored) as the display matrix of the file says: one of the 8 symmetries of a square."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return picture
    a, b, _, c, d = np.sign(np.frombuffer(bytes(data), np.int32)[:5]).astype(int)
    if abs(a) == abs(d) == 1 and b == c == 0:
        return np.ascontiguousarray(picture[::d, ::a])
    if abs(b) == abs(c) == 1 and a == d == 0:  # x' = c y, y' = b x: transposed, then mirrored
        return np.ascontiguousarray(picture.transpose(1, 0, 2)[::b, ::c])
    return picture
