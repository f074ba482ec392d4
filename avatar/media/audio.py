"""Sound from any file as mono float32, resampled once, on the clock of its video."""

import io
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.media.files import write_bytes

SPEECH_RATE = 16000
_GAP = 0.03
"""Seconds by which a packet's time may differ from the samples counted so far before it is believed."""
_DOWNMIX = {"FC": 1.0, "FL": 0.7071, "FR": 0.7071, "LFE": 0.0, "LFE2": 0.0}
"""ITU-R BS.775 weights; all other channels count 0.5."""


def read_audio(path: Path, rate: int = SPEECH_RATE, *, origin: float | None = None) -> AudioTrack:
    """Read the sound of an audio or video file.

    Time 0 is the first video frame if the file has video, so the track is in sync with `open_clip(path).frames`;
    else it is the first sample. The encoder's priming samples are dropped, holes in the stream become silence.

    Args:
        rate: samples a second of the result.
        origin: time 0 in seconds of the file's own clock, when it is known already.

    Raises:
        InputError: when the file is missing, damaged or has no sound.
    """
    from avatar.media.container import opened, video_stream

    with opened(path) as container:
        if not container.streams.audio:
            raise InputError(f"{path}: has no sound; give a file with an audio track")
        stream = container.streams.audio[0]
        video = video_stream(container)
        if origin is None and video is not None:
            origin = _first_time(container, video)
            container.seek(0) if origin is not None else None
        samples, native, start = _decode(container, stream, path)
    shift = 0.0 if origin is None else start - origin
    sound = _resample(_shifted(samples, round(shift * native)), native, rate)
    return AudioTrack(samples=sound.clip(-1, 1), rate=rate)  # codecs and filters overshoot


def _first_time(container: Any, video: Any) -> float | None:
    for packet in container.demux(video):
        if packet.pts is not None and not packet.is_discard:
            start = video.start_time
            pts = packet.pts if start is None else min(packet.pts, start)
            return float(pts * packet.time_base)
    return None


def _decode(container: Any, stream: Any, path: Path) -> tuple[np.ndarray, int, float]:
    """All samples at the native rate as mono float32, and the time of the first one in seconds."""
    import av

    rate = stream.codec_context.sample_rate
    layout = stream.codec_context.layout
    weights = np.array([_DOWNMIX.get(channel.name, 0.5) for channel in layout.channels] or [1.0], np.float32)
    weights /= max(float(weights.sum()), 1e-6)
    convert = av.AudioResampler(format="flt", layout=layout, rate=rate)
    pieces: list[np.ndarray] = []
    start, count = None, 0
    for frame in _frames(container, stream):
        time = None if frame.pts is None else float(frame.pts * frame.time_base)
        for plain in convert.resample(frame):
            mono = plain.to_ndarray().reshape(-1, len(weights)) @ weights
            start = (time or 0.0) if start is None else start
            hole = 0 if time is None else round((time - start) * rate) - count
            if abs(hole) > _GAP * rate:
                pieces.append(np.zeros(max(hole, 0), np.float32))
                mono = mono[max(-hole, 0) :]
                count += max(hole, 0)
            pieces.append(mono)
            count += len(mono)
    if start is None:
        raise InputError(f"{path}: the audio track holds no sound that decodes; record or convert the file again")
    return np.concatenate(pieces), rate, start


def _frames(container: Any, stream: Any) -> Any:
    from av.error import InvalidDataError

    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except InvalidDataError:
                continue  # one damaged packet: the hole is filled with silence by its time
    except (InvalidDataError, EOFError):
        return  # cut off in the middle of a packet: what came before is good


def _shifted(samples: np.ndarray, shift: int) -> np.ndarray:
    """Samples that start `shift` later; the front is filled with silence or cut off."""
    return np.concatenate([np.zeros(shift, np.float32), samples]) if shift > 0 else samples[-shift:]


def _resample(samples: np.ndarray, native: int, rate: int) -> np.ndarray:
    """Polyphase filtering with zero delay (scipy's Kaiser window)."""
    from scipy.signal import resample_poly

    if native == rate or len(samples) == 0:
        return np.ascontiguousarray(samples, np.float32)
    ratio = Fraction(rate, native)
    return resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32)


def resampled(track: AudioTrack, rate: int) -> AudioTrack:
    """The same sound at another rate."""
    return AudioTrack(samples=_resample(track.samples, track.rate, rate), rate=rate)


class SoundStream:
    """Sound that comes in pieces, at another rate (libswresample): the same whatever the size of the pieces."""

    def __init__(self, rate: int) -> None:
        import av

        self._convert = av.AudioResampler(format="flt", layout="mono", rate=rate)

    def push(self, piece: AudioTrack) -> np.ndarray:
        """What can be told after this piece, float32; all pieces have the same rate."""
        import av

        if not len(piece.samples):
            return np.zeros(0, np.float32)
        frame = av.AudioFrame.from_ndarray(piece.samples[None], format="flt", layout="mono")
        frame.sample_rate = piece.rate
        parts = [plain.to_ndarray()[0] for plain in self._convert.resample(frame)]
        return np.concatenate([np.zeros(0, np.float32), *parts])


def is_silent(track: AudioTrack, decibels: float = -55.0) -> bool:
    """Whether even the loudest twentieth of all 50 ms windows stays below a level (dB of full scale, RMS)."""
    window = max(track.rate // 20, 1)
    count = len(track.samples) // window
    if count == 0:
        return True
    power = np.square(track.samples[: count * window].reshape(count, window)).mean(axis=1)
    return bool(np.quantile(power, 0.95) < 10 ** (decibels / 10))


def write_audio(path: Path, track: AudioTrack) -> None:
    """Write mono 16-bit PCM; samples beyond [-1, 1] are clipped.

    Raises:
        InputError: when the name does not end in .wav or the disk refuses.
    """
    if path.suffix.lower() != ".wav":
        raise InputError(f"{path}: sound is written as .wav only; end the name in .wav")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(track.rate)
        file.writeframes(np.round(np.clip(track.samples, -1, 1) * 32767).astype("<i2").tobytes())
    write_bytes(path, buffer.getvalue())
