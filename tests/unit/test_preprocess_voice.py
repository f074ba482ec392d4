"""What the sound's offset was told by is written down, so that learning the voice listens to the rest only."""

import numpy as np
import pytest

from avatar.core import AudioTrack
from avatar.media import Workspace
from avatar.preprocess import voice
from avatar.preprocess.tools import Sync
from avatar.speech.phones import Phone

RATE, SECONDS = 100, 30.0
SPOKEN = [Phone("AA" if i % 2 else "M", 0.5 * i, 0.5 * (i + 1)) for i in range(60)]
HEARINGS = 3


def sound(first: float, last: float) -> AudioTrack:
    """A sound whose samples say when they were."""
    return AudioTrack(samples=(np.arange(first * RATE, last * RATE) / RATE / 100).astype(np.float32), rate=RATE)


@pytest.fixture
def listened(monkeypatch) -> list[float]:
    """Seconds that were listened to, by an ear that knows what was spoken and is wrong at both ends of a piece."""
    lengths: list[float] = []

    def listen(audio: AudioTrack) -> list[list[Phone]]:
        lengths.append(audio.seconds)
        first = round(float(audio.samples[0]) * 100, 3)
        last = first + audio.seconds
        there = [Phone(p.symbol, max(p.start, first) - first, min(p.end, last) - first) for p in SPOKEN]
        there = [p for p in there if p.end > p.start]
        wrong = [Phone("UW", there[0].start, there[0].end), *there[1:-1], Phone("UW", there[-1].start, there[-1].end)]
        return [wrong] * HEARINGS

    monkeypatch.setattr(voice, "listen", listen)
    return lengths


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    film = tmp_path / "me.mp4"
    film.write_bytes(b"film")
    return Workspace.create(tmp_path / "me", film)


def test_without_notes_the_whole_sound_is_listened_to(workspace, listened):
    voice.keep_phones(workspace, Sync(delay=0.0, confidence=0.0, reason="the mouth hardly follows the sound"))
    assert len(voice.heard(workspace, sound(0, 12))) == HEARINGS
    assert listened == [pytest.approx(12)]


def test_what_was_written_down_is_not_listened_to_again(workspace, listened):
    voice.keep_phones(workspace, Sync(delay=0.0, confidence=1.0, hearings=[SPOKEN] * HEARINGS))
    for hearing in voice.heard(workspace, sound(0, 12.2)):
        assert hearing == [*SPOKEN[:24], Phone("M", 12.0, 12.2)]
    assert listened == []


def test_what_follows_is_listened_to_and_joined_without_the_ends_of_either_piece(workspace, listened):
    begun = [*SPOKEN[:39], Phone("UW", 19.5, 20.0)]
    voice.keep_phones(workspace, Sync(delay=0.0, confidence=1.0, hearings=[begun] * HEARINGS))
    for hearing in voice.heard(workspace, sound(0, SECONDS)):
        assert [p.symbol for p in hearing] == [p.symbol for p in SPOKEN[:-1]] + ["UW"]
        np.testing.assert_allclose([p.start for p in hearing], [p.start for p in SPOKEN], atol=0.01)
        assert hearing[-1].end == pytest.approx(SECONDS)
    assert listened == [pytest.approx(12, abs=0.1)]


@pytest.mark.parametrize("delay", [0.12, -0.12])
def test_phones_are_in_time_with_the_frames(workspace, listened, delay):
    voice.keep_phones(workspace, Sync(delay=delay, confidence=1.0, hearings=[SPOKEN] * HEARINGS))
    for hearing in voice.heard(workspace, sound(0, 12)):
        assert (hearing[0].start, hearing[-1].end) == (0, 12)
        np.testing.assert_allclose([p.end for p in hearing[:-1]], np.arange(1, len(hearing)) * 0.5 + delay)
    assert listened == []
