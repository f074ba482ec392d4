"""Videos read on a constant grid, written with exact duration and sync."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.events import Notice
from avatar.media import VideoWriter, open_clip
from avatar.media.container import constant_grid


def numbered(count, height=48, width=64):
    """Frames whose brightness says their number (step 3)."""
    for i in range(count):
        yield np.full((height, width, 3), 10 + 3 * i, np.uint8)


def number_of(frame):
    return round((float(frame.mean()) - 10) / 3)


def write_mkv(path, times_ms, rotation=0, gop=12):
    """A film with the given frame times, encoded without B-frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "4", "bf": "0", "g": str(gop)})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for time, pixels in zip(times_ms, numbered(len(times_ms)), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def written(path, count=60, fps=25.0, audio=None, size=(48, 64)):
    with VideoWriter(path, size, fps, audio, quality=4) as film:
        for frame in numbered(count, *size):
            film.write(frame)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_film_comes_back_with_its_frames_duration_and_sound_in_sync(tmp_path, suffix):
    samples = np.zeros(40000, np.float32)
    samples[16000] = 0.9  # a click as frame 30 of 30 fps begins
    path = written(tmp_path / f"a{suffix}", 66, 30000 / 1001, AudioTrack(samples=samples, rate=16000))
    clip = open_clip(path)
    assert len(clip.frames) == 66
    assert clip.fps == pytest.approx(30000 / 1001)
    assert [number_of(f) for f in clip.frames] == list(range(66))
    assert clip.audio is not None
    assert clip.audio.seconds == pytest.approx(clip.seconds, abs=1e-3)
    assert np.argmax(np.abs(clip.audio.samples)) == pytest.approx(16000, abs=16)
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(clip.seconds, abs=0.07)


def test_sound_that_starts_late_in_the_file_is_shifted_to_the_frames_clock(tmp_path):
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25, options={"g": "12"})
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for i, pixels in enumerate(numbered(50)):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = i + 10, Fraction(1, 25)  # the picture starts at 0.4 s
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        data = np.zeros((1, 8000), np.int16)
        data[0, 0] = 20000
        frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 12000, Fraction(1, 8000)  # the click is at 1.5 s
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    clip = open_clip(path)
    assert clip.audio is not None
    assert np.argmax(np.abs(clip.audio.samples)) == pytest.approx(1.1 * 16000, abs=32)


def test_any_order_of_access_gives_the_frames_of_sequential_access(tmp_path):
    path = tmp_path / "gop.mkv"
    write_mkv(path, np.arange(80) * 40, gop=10)
    clip = open_clip(path)
    for i in [70, 3, 4, 5, 79, 0, 41, 40, 78, -1]:
        assert number_of(clip.frames[i]) == i % 80
    with pytest.raises(IndexError):
        clip.frames[80]


def test_uneven_frame_times_become_a_constant_grid_of_the_nearest_frames(tmp_path):
    steps = np.where(np.arange(80) % 20 == 10, 300, 33)  # a phone that stalls now and then
    times = np.cumsum(steps) - steps[0]
    path = tmp_path / "vfr.mkv"
    write_mkv(path, times)
    clip = open_clip(path)
    assert clip.fps == pytest.approx(30, rel=0.02)
    shown = np.array([times[number_of(frame)] for frame in clip.frames]) / 1000
    grid = np.arange(len(clip.frames)) / clip.fps
    nearest = np.abs(times[None] / 1000 - grid[:, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(shown - grid), nearest, atol=1e-9)
    assert clip.seconds == pytest.approx(times[-1] / 1000, abs=0.05)


@pytest.mark.parametrize(("rate", "expected"), [(60, 30), (50, 25), (48, 24), (120, 30), (60000 / 1001, 30000 / 1001)])
def test_fast_films_are_thinned_by_a_whole_number(rate, expected):
    fps, source = constant_grid(np.round(np.arange(240) / rate, 3))  # as a container with millisecond ticks has it
    assert fps == pytest.approx(expected, abs=1e-6)
    assert set(np.diff(source)) == {round(rate / expected)}


@pytest.mark.parametrize("rate", [10, 15, 23.976, 24, 25, 29.97, 30])
def test_regular_films_are_taken_frame_by_frame(rate):
    fps, source = constant_grid(np.round(np.arange(200) / rate, 3))
    assert fps == pytest.approx(rate, rel=1e-4)
    np.testing.assert_array_equal(source, np.arange(200))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_tags_are_honoured(tmp_path, rotation):
    path = tmp_path / "turned.mp4"
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[:16, :16] = [250, 20, 20]  # red in the upper left corner of the stored picture
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)  # counter-clockwise
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = open_clip(path).frames[0]
    expected = np.rot90(picture, rotation // 90)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 6


def test_odd_sizes_are_padded_by_a_repeated_edge(tmp_path):
    frame = open_clip(written(tmp_path / "odd.mp4", 5, size=(47, 63))).frames[2]
    assert frame.shape == (48, 64, 3)
    assert abs(int(frame[-1, -1, 0]) - 16) <= 3


def test_transparency_survives_in_webm_and_mov_and_is_refused_in_mp4(tmp_path):
    frame = np.full((32, 32, 4), 200, np.uint8)
    frame[:16, :, 3] = 0
    for suffix, decoder in ((".mov", "prores"), (".webm", "libvpx-vp9")):
        with VideoWriter(tmp_path / f"a{suffix}", (32, 32), 25, alpha=True) as film:
            for _ in range(3):
                film.write(frame)
        with av.open(str(tmp_path / f"a{suffix}")) as container:
            context: Any = av.CodecContext.create(decoder, "r")
            context.extradata = container.streams.video[0].codec_context.extradata
            packets = list(container.demux(video=0))
            pictures = [picture for packet in packets[:3] for picture in context.decode(packet)]
            pictures += context.decode(None)
        assert "a" in pictures[0].format.name.replace("rgba", "a").split("yuv")[1]
        alpha = pictures[0].to_ndarray(format="rgba")[..., 3]
        assert alpha[:14].mean() < 8
        assert alpha[18:].mean() > 190
    with pytest.raises(InputError, match="cannot hold transparency"):
        VideoWriter(tmp_path / "a.mp4", (32, 32), 25, alpha=True)
    with VideoWriter(tmp_path / "b.png", (32, 32), 25, alpha=True) as film:
        film.write(frame)
    assert [p.name for p in sorted(tmp_path.glob("b*"))] == ["b_000000.png"]


def test_a_failed_film_leaves_the_old_one_and_no_litter(tmp_path):
    path = written(tmp_path / "a.mp4", 5)
    before = path.read_bytes()
    for suffix in (".mp4", ".png"):
        with pytest.raises(KeyboardInterrupt), VideoWriter(path.with_suffix(suffix), (48, 64), 25) as film:
            film.write(next(numbered(1)))
            raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_cut_off_film_gives_the_frames_that_decode_and_says_so(tmp_path):
    whole = written(tmp_path / "whole.mp4", 75, audio=AudioTrack(samples=np.zeros(48000, np.float32), rate=16000))
    rng = np.random.default_rng(0)
    with VideoWriter(whole, (48, 64), 25, AudioTrack(samples=np.zeros(48000, np.float32), rate=16000)) as film:
        for frame in numbered(75):
            film.write(frame // 2 + rng.integers(0, 128, frame.shape, np.uint8))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.75)])
    said = []
    clip = open_clip(cut, said.append)
    assert 35 <= len(clip.frames) <= 65
    assert any(isinstance(event, Notice) and "cut off" in event.message for event in said)
    assert clip.frames[len(clip.frames) - 1].shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no video"), (b"hello " * 1000, "no video"), (b"\0\0\0\x20ftypisom" + b"\0" * 99, "cut off")],
)
def test_files_that_are_no_video_are_named(tmp_path, content, words):
    path = tmp_path / "thing.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        open_clip(path)
    assert "thing.mp4" in str(error.value)


def test_missing_files_and_folders_and_songs_are_named(tmp_path):
    with pytest.raises(InputError, match="missing"):
        open_clip(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="folder"):
        open_clip(tmp_path)
    from avatar.media import write_audio

    write_audio(tmp_path / "song.wav", AudioTrack(samples=np.zeros(100, np.float32), rate=8000))
    with pytest.raises(InputError, match="holds no video"):
        open_clip(tmp_path / "song.wav")


def test_unwritable_places_are_named_before_work_starts(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="choose another"):
        VideoWriter(tmp_path / "file" / "a.mp4", (48, 64), 25)
    with pytest.raises(InputError, match="unknown kind of film"):
        VideoWriter(tmp_path / "a.txt", (48, 64), 25)


def test_memory_does_not_grow_with_the_clip(tmp_path):
    import tracemalloc

    path = written(tmp_path / "long.mp4", 80, size=(256, 256))
    peaks = []
    for count in (20, 80):
        frames = open_clip(Path(path)).frames
        tracemalloc.start()
        for i in range(count):
            frames[i]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 256 * 256 * 3
