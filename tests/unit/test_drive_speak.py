"""What an avatar is asked to do: say a sound or a text, listen, feel; motion and sound of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.core import AudioTrack
from avatar.drive.sources import from_voice, placed
from avatar.drive.speak import Script, acted
from avatar.errors import InputError
from avatar.events import Notice
from avatar.face.arkit import INDEX
from avatar.face.gaze import LOOK_INDEX, look_actions
from avatar.media import write_audio
from avatar.models.avatar_model import AvatarModel
from avatar.speech.emotion import Feeling
from avatar.speech.features import speech_samples
from avatar.speech.phones import Phone
from avatar.speech.style import Direction
from avatar.speech.visemes import LIP_GAP_MM
from tests.contract import toy
from tests.unit.test_speech_rule_motion import buzz


@pytest.fixture(scope="module")
def avatar():
    return toy.avatar()


def sound(*parts: float) -> AudioTrack:
    """Seconds of voice and of silence in turn, voice first."""
    pieces = [buzz(s) if i % 2 == 0 else np.zeros(round(16_000 * s), np.float32) for i, s in enumerate(parts)]
    return AudioTrack(samples=np.concatenate(pieces), rate=16_000)


def talked(*parts: float) -> AudioTrack:
    """As `sound`, by a voice that is one."""
    pytest.importorskip("espeakng_loader", reason="a voice is needed")
    from avatar.speech.voices import EspeakVoice

    voice = speech_samples(EspeakVoice().say("My mother bought a big umbrella before the movie.", "en").audio)
    count = [round(16_000 * seconds) for seconds in parts]
    pieces = [np.resize(voice, n) if i % 2 == 0 else np.zeros(n, np.float32) for i, n in enumerate(count)]
    return AudioTrack(samples=np.concatenate(pieces), rate=16_000)


def babble(audio: AudioTrack) -> list[Phone]:
    ends = np.arange(0.1, audio.seconds, 0.1)
    return [Phone(("AA", "T", "OW", "M")[i % 4], end - 0.1, end) for i, end in enumerate(ends)]


def test_eyelids_follow_the_eyes(avatar):
    audio = sound(4.0)
    motion = placed(from_voice(audio, avatar, phones=babble(audio)), avatar)
    torch.testing.assert_close(motion.expression[:, list(LOOK_INDEX)], look_actions(motion.gaze), atol=1e-5, rtol=0)
    assert motion.gaze.std() > 0.001


def test_a_feeling_is_shown_beyond_what_the_film_has_shown(avatar):
    meta = replace(avatar.meta, speech={"ceiling": [0.2] * 52})
    shy = AvatarModel(avatar.backbone, avatar.plate, meta)
    direction, audio = Direction(feelings=(Feeling(emotion="joy", intensity=0.5),)), sound(1.0)
    moves = from_voice(audio, shy, direction=direction, phones=babble(audio))
    shown = placed(moves, shy, direction).expression[:, INDEX["mouthSmileLeft"]]
    assert shown.min() > 0.35


def test_listening_keeps_the_lips_closed_and_answers(avatar):
    mine, other = sound(0.01, 60.0), talked(*([4.0, 1.5] * 10))
    listening = from_voice(mine, avatar, other=other, phones=[Phone("SIL", 0.0, 60.0)])
    alone = from_voice(mine, avatar, phones=[Phone("SIL", 0.0, 60.0)])
    gap = (listening.expression - avatar.meta.rest.expression) @ torch.from_numpy(LIP_GAP_MM)
    assert gap[5:].max() < 0.05
    smile = INDEX["mouthSmileLeft"]
    assert listening.expression[:, smile].max() > alone.expression[:, smile].max() + 0.1
    assert listening.neck[:, 0].diff().abs().max() > 1.3 * alone.neck[:, 0].diff().abs().max()


def test_a_conversation_lasts_as_long_as_the_longer_voice_and_both_are_heard(avatar, tmp_path):
    pytest.importorskip("pocketsphinx", reason="a sound is heard")
    write_audio(tmp_path / "mine.wav", sound(1.0))
    write_audio(tmp_path / "other.wav", sound(0.01, 1.5, 0.5))
    script = Script(audio=tmp_path / "mine.wav", listen=tmp_path / "other.wav")
    motion, heard = acted(script, avatar)
    assert len(motion) == round(2.01 * avatar.meta.fps)
    loud = [np.abs(heard.between(a, b).samples).max() > 0.1 for a, b in ((0.2, 0.8), (1.1, 1.4), (1.6, 1.9))]
    assert loud == [True, False, True]


def test_an_avatar_that_only_listens_needs_no_voice_of_its_own(avatar, tmp_path):
    write_audio(tmp_path / "other.wav", sound(2.0))
    motion, heard = acted(Script(listen=tmp_path / "other.wav"), avatar)
    assert len(motion) == round(2.0 * avatar.meta.fps)
    assert np.abs(heard.samples).max() > 0.1


def test_a_text_is_said_with_the_engines_own_timing(avatar, monkeypatch):
    pytest.importorskip("espeakng_loader", reason="a voice is needed")
    from avatar.speech import learned_motion, rule_motion

    def listen(_):
        raise AssertionError("nobody had to listen")

    for listener in (learned_motion, rule_motion):
        monkeypatch.setattr(listener, "listen", listen)
    motion, heard = acted(Script(text="Papa bought a big umbrella.", language="en-us"), avatar)
    assert heard.rate == 48_000 and len(motion) == pytest.approx(heard.seconds * avatar.meta.fps, abs=1)
    assert motion.expression[:, INDEX["jawOpen"]].max() > 0.1


def test_a_voice_that_tells_no_timing_is_listened_to(avatar, monkeypatch):
    pytest.importorskip("pocketsphinx", reason="a sound is heard")
    from avatar.drive import speak
    from avatar.speech.voices import Utterance

    class Mute:
        def say(self, text, language):
            return Utterance(audio=sound(1.0), phones=(), words=())

    monkeypatch.setattr(speak, "voice_named", lambda _: Mute())
    told = []
    acted(Script(text="hello"), avatar, told.append)
    assert any(isinstance(event, Notice) and "heard" in event.message for event in told)


@pytest.mark.parametrize(
    ("given", "words"), [({}, "nothing to say"), ({"text": "  "}, "nothing to say"), ({"both": True}, "one of them")]
)
def test_scripts_that_make_no_sense_are_refused(given, words, tmp_path):
    with pytest.raises(InputError, match=words):
        Script(**({"audio": tmp_path / "a.wav", "text": "hello"} if given.pop("both", None) else given))
