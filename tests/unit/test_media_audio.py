"""Sound from any layout and rate, mono at the asked rate."""

from fractions import Fraction

import av
import numpy as np
import pytest

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.media import is_silent, read_audio, resampled, write_audio


def tone(rate, seconds=1.0, hertz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def encode(path, codec, channels, layout, rate):
    """`channels` float32 [c s] through a codec."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels.T.reshape(1, -1)), format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        fit = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 1024)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_tone_keeps_its_time_pitch_and_level_through_resampling(tmp_path, rate):
    write_audio(tmp_path / "a.wav", AudioTrack(samples=tone(rate), rate=rate))
    track = read_audio(tmp_path / "a.wav")
    assert (track.rate, len(track.samples)) == (16000, pytest.approx(16000, abs=1))
    middle = slice(2000, 14000)
    assert np.abs(track.samples[middle] - tone(16000)[: len(track.samples)][middle]).max() < 0.01


@pytest.mark.parametrize(("layout", "front"), [("7.1", 2), ("5.1", 2), ("stereo", 0), ("mono", 0)])
def test_speech_in_any_layout_is_heard_and_never_clips(tmp_path, layout, front):
    count = {"7.1": 8, "5.1": 6, "stereo": 2, "mono": 1}[layout]
    channels = np.zeros((count, 48000), np.float32)
    channels[front] = tone(48000, level=0.9)
    codec, name = ("aac", "a.m4a") if count < 8 else ("flac", "a.flac")
    track = read_audio(encode(tmp_path / name, codec, channels, layout, 48000))
    level = np.abs(track.samples[4000:12000]).max()
    assert 0.15 < level <= 1.0
    assert not is_silent(track)
    every = np.tile(tone(48000, level=0.7), (count, 1))
    loud = read_audio(encode(tmp_path / f"loud-{name}", codec, every, layout, 48000))
    assert np.abs(loud.samples).max() < 0.9


def test_priming_of_the_encoder_is_dropped(tmp_path):
    click = np.zeros((1, 32000), np.float32)
    click[0, 8000] = 0.9
    track = read_audio(encode(tmp_path / "a.m4a", "aac", click, "mono", 16000))
    assert np.argmax(np.abs(track.samples)) == pytest.approx(8000, abs=16)


def test_silence_is_told_from_a_quiet_voice():
    hiss = np.random.default_rng(0).normal(0, 10 ** (-70 / 20), 16000).astype(np.float32)
    assert is_silent(AudioTrack(samples=np.zeros(16000, np.float32), rate=16000))
    assert is_silent(AudioTrack(samples=hiss, rate=16000))
    assert not is_silent(AudioTrack(samples=tone(16000, level=0.02), rate=16000))


def test_resampled_keeps_duration():
    assert resampled(AudioTrack(samples=tone(16000), rate=16000), 48000).seconds == pytest.approx(1.0)


def test_files_without_sound_are_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF nonsense")
    with pytest.raises(InputError, match=r"a\.wav"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(InputError, match="wav only"):
        write_audio(tmp_path / "a.mp3", AudioTrack(samples=tone(8000), rate=8000))
