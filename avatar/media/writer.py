"""Films to disk, frame by frame: H.264 + AAC, or with transparency ProRes 4444, VP9 or numbered PNGs."""

import contextlib
import errno
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.media.audio import resampled, write_audio
from avatar.media.files import make_folder, replacing, write_error
from avatar.media.image import write_image


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What a suffix stands for."""

    codec: str
    pixels: str
    sound: str = "aac"
    sound_rate: int | None = None
    """Opus knows only 48 kHz."""
    options: tuple[tuple[str, str], ...] = ()
    file_options: tuple[tuple[str, str], ...] = ()


_FAST_START = (("movflags", "faststart"),)
_H264 = _Kind(codec="libx264", pixels="yuv420p", options=(("preset", "veryfast"),), file_options=_FAST_START)
_VP9_OPTIONS = (("deadline", "realtime"), ("cpu-used", "6"), ("b", "0"))
_OPAQUE = {
    ".mp4": _H264,
    ".m4v": _H264,
    ".mov": _H264,
    ".mkv": _Kind(codec="libx264", pixels="yuv420p", options=(("preset", "veryfast"),)),
    ".webm": _Kind(codec="libvpx-vp9", pixels="yuv420p", sound="libopus", sound_rate=48000, options=_VP9_OPTIONS),
}
_TRANSPARENT = {
    ".mov": _Kind(
        codec="prores_ks",
        pixels="yuva444p10le",
        options=(("profile", "4"), ("vendor", "apl0"), ("alpha_bits", "16")),
        file_options=_FAST_START,
    ),
    ".webm": _Kind(
        codec="libvpx-vp9",
        pixels="yuva420p",
        sound="libopus",
        sound_rate=48000,
        options=(*_VP9_OPTIONS, ("auto-alt-ref", "0")),  # libvpx cannot carry alpha in alternate reference frames
    ),
}
_HAS_QUALITY = {"libx264", "libvpx-vp9"}


def check_output(path: Path, *, alpha: bool = False) -> None:
    """See early that a film can be written under this name.

    Raises:
        InputError: on a suffix that cannot hold the film, or a folder that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".png" and suffix not in (_TRANSPARENT if alpha else _OPAQUE):
        if alpha and suffix in _OPAQUE:
            raise InputError(f"{path}: {suffix} cannot hold transparency; end the name in .mov, .webm or .png")
        known = ", ".join([*(_TRANSPARENT if alpha else _OPAQUE), ".png"])
        raise InputError(f"{path}: unknown kind of film {suffix!r}; end the name in one of {known}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a film, for example {path / 'talk.mp4'}")
    make_folder(path.parent)


class VideoWriter:
    """Writes a film as a context manager; the file appears under its name only when all went well.

    Frames are shown from i / fps. Sound starts with the first frame and ends with the last. Odd sizes are padded by
    one repeated row or column, which H.264 needs. `name.png` becomes name_000000.png ... and name.wav.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: float,
        audio: AudioTrack | None = None,
        *,
        alpha: bool = False,
        quality: int = 18,
    ) -> None:
        """Nothing is opened yet.

        Args:
            size: height, width.
            alpha: frames have a fourth channel, straight (not premultiplied) opacity.
            quality: constant rate factor; lower is better and larger.

        Raises:
            InputError: see `check_output`.
        """
        self._path, self._size, self._alpha = Path(path), size, alpha
        check_output(self._path, alpha=alpha)
        self._audio = audio
        self._fps = Fraction(fps).limit_denominator(1001)
        self._quality = quality
        self._stack = contextlib.ExitStack()
        self._sink: _Encoder | _Pictures | None = None

    def __enter__(self) -> "VideoWriter":
        suffix = self._path.suffix.lower()
        if suffix == ".png":
            self._sink = _Pictures(self._path, self._audio, self._fps)
            return self
        kind = (_TRANSPARENT if self._alpha else _OPAQUE)[suffix]
        with self._stack:
            temporary = self._stack.enter_context(replacing(self._path))
            self._sink = encoder = _Encoder(temporary, kind, self._size, self._fps, self._quality)
            if self._audio is not None:
                encoder.add_sound(self._audio)
            self._stack = self._stack.pop_all()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 [h w 3], or [h w 4] for a film with alpha.

        Raises:
            InputError: when the disk is full.
        """
        channels = 4 if self._alpha else 3
        if frame.shape != (*self._size, channels) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype} {frame.shape}, not uint8 {(*self._size, channels)}")
        assert self._sink is not None, "VideoWriter is used without `with`"
        with _disk_errors(self._path):
            self._sink.write(frame)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        assert self._sink is not None

        def close(late: Any, late_error: Any, late_trace: Any) -> None:
            outcome = (kind, error, trace) if late is None else (late, late_error, late_trace)
            self._stack.__exit__(*outcome)

        with contextlib.ExitStack() as last:
            last.push(close)  # the file is kept only if neither the caller nor the encoder's end went wrong
            with _disk_errors(self._path):
                self._sink.finish() if error is None else self._sink.abandon()


@contextlib.contextmanager
def _disk_errors(path: Path) -> Any:
    """FFmpeg reports a full disk as any of several errors."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        number = getattr(error, "errno", None)
        known = number if number in errno.errorcode else errno.EIO
        raise write_error(path, OSError(known, getattr(error, "strerror", str(error)))) from error
    except OSError as error:
        raise write_error(path, error) from error


class _Encoder:
    """One container file."""

    def __init__(self, path: Path, kind: _Kind, size: tuple[int, int], fps: Fraction, quality: int) -> None:
        import av

        self._kind, self._fps, self._count, self._sent = kind, fps, 0, 0
        with _disk_errors(path):
            self._container = av.open(str(path), "w", options=dict(kind.file_options))
        options = dict(kind.options) | ({"crf": str(quality)} if kind.codec in _HAS_QUALITY else {})
        stream: Any = self._container.add_stream(kind.codec, rate=fps, options=options)
        stream.height, stream.width = (n + n % 2 for n in size)
        stream.pix_fmt = kind.pixels
        context = stream.codec_context
        context.time_base = 1 / fps
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # limited
        self._video = stream
        self._sound: Any = None
        self._samples = np.zeros(0, np.float32)

    def add_sound(self, audio: AudioTrack) -> None:
        """Before the first frame."""
        track = audio if self._kind.sound_rate is None else resampled(audio, self._kind.sound_rate)
        self._samples = track.samples
        self._sound = self._container.add_stream(self._kind.sound, rate=track.rate)
        self._sound.layout = "mono"
        self._sound.bit_rate = 128_000 if track.rate > 16000 else 96_000
        self._block = 1024 if self._kind.sound == "aac" else 960

    def write(self, frame: np.ndarray) -> None:
        import av

        height, width = frame.shape[:2]
        padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), "rgba" if frame.shape[2] == 4 else "rgb24")
        picture = picture.reformat(format=self._kind.pixels, dst_colorspace="ITU709", dst_color_range="MPEG")
        picture.pts, picture.time_base = self._count, 1 / self._fps
        self._container.mux(self._video.encode(picture))
        self._count += 1
        self._send_sound(self._count / self._fps, last=False)

    def _send_sound(self, until: Fraction, *, last: bool) -> None:
        """Sound goes into the file beside the pictures of its time, so the muxer need not hold either back."""
        import av

        if self._sound is None:
            return
        end = min(int(until * self._sound.rate), len(self._samples))
        while self._sent + self._block <= end or (last and self._sent < end):
            piece = self._samples[self._sent : min(self._sent + self._block, end)]
            frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
            frame = frame if self._kind.sound == "aac" else _packed(frame, self._sound.rate)
            frame.sample_rate, frame.pts = self._sound.rate, self._sent
            frame.time_base = Fraction(1, self._sound.rate)
            self._container.mux(self._sound.encode(frame))
            self._sent += len(piece)

    def finish(self) -> None:
        self._send_sound(self._count / self._fps, last=True)
        self._container.mux(self._video.encode(None))
        if self._sound is not None:
            self._container.mux(self._sound.encode(None))
        self._container.close()

    def abandon(self) -> None:
        from av.error import FFmpegError

        with contextlib.suppress(FFmpegError, OSError):
            self._container.close()


def _packed(frame: Any, rate: int) -> Any:
    """libopus wants interleaved samples, which for mono are the same numbers under another name."""
    import av

    return av.AudioFrame.from_ndarray(frame.to_ndarray(), format="flt", layout="mono")


class _Pictures:
    """Numbered PNGs, made in a hidden folder and moved to their names at the end."""

    def __init__(self, path: Path, audio: AudioTrack | None, fps: Fraction) -> None:
        self._path, self._audio, self._fps, self._count = path, audio, fps, 0
        self._folder = path.with_name(f".part-{path.stem}")
        shutil.rmtree(self._folder, ignore_errors=True)
        make_folder(self._folder)

    def write(self, frame: np.ndarray) -> None:
        write_image(self._folder / f"{self._path.stem}_{self._count:06d}.png", frame)
        self._count += 1

    def finish(self) -> None:
        if self._audio is not None:
            sound = self._audio.between(0, float(self._count / self._fps))
            write_audio(self._folder / f"{self._path.stem}.wav", sound)
        for file in sorted(self._folder.iterdir()):
            file.replace(self._path.with_name(file.name))
        self._folder.rmdir()

    def abandon(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
