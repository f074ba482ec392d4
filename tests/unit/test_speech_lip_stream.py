"""The network of the lips as a stream, and the motion that it makes together with phones."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.speech.acoustics import acoustic_tables
from avatar.speech.features import RATE, speech_samples
from avatar.speech.learned_motion import Heard, LearnedMotion, hear_lips
from avatar.speech.lip_net import CURVES, GATES, PHONES, WEIGHTS, LipNet, load_net, shipped_net
from avatar.speech.lip_stream import LATENCY, LipStream
from avatar.speech.phones import Phone
from avatar.speech.visemes import CLOSURES, LIP_GAP_MM
from avatar.speech.voices import EspeakVoice
from tests.unit.test_speech_hearing import voice


@pytest.fixture(scope="module")
def net() -> LipNet:
    torch.manual_seed(0)
    return LipNet().eval()


def frames(net: LipNet, samples: np.ndarray, size: int = 10**9) -> np.ndarray:
    stream = LipStream(net)
    parts = [stream.push(samples[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate([*parts, stream.finish()])


@pytest.mark.parametrize("size", [333, 640, 5000])
def test_lips_of_a_stream_are_those_of_the_whole(net, size):
    samples = voice(1.3)
    whole = frames(net, samples)
    assert whole.shape[0] == 65
    np.testing.assert_allclose(frames(net, samples, size), whole, atol=1e-4)


def test_frame_depends_on_no_sound_after_its_latency(net):
    samples, moment = voice(1.5), 0.8
    other = samples.copy()
    other[round((moment + LATENCY) * RATE) + 1 :] *= -0.3
    a, b = frames(net, samples), frames(net, other)
    last = round(moment * 50)
    np.testing.assert_allclose(a[: last + 1], b[: last + 1], atol=1e-5)
    assert np.abs(a[last + 1 : last + 4] - b[last + 1 : last + 4]).max() > 1e-4


def test_latency_is_within_its_budget():
    assert LATENCY <= 0.160


def test_weights_come_back_from_their_file(net, tmp_path):
    save_file({n: v.half().contiguous() for n, v in net.state_dict().items()}, tmp_path / "lips.safetensors")
    np.testing.assert_allclose(
        frames(load_net(tmp_path / "lips.safetensors"), voice(0.5)), frames(net, voice(0.5)), atol=5e-3
    )


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_file_without_weights_is_named(tmp_path, content):
    path = tmp_path / "lips.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="no weights of the lips"):
        load_net(path)


@pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="a voice is needed")
def test_shipped_weights_are_small_and_hear_what_is_said():
    assert WEIGHTS.stat().st_size < 10e6
    assert load_file(WEIGHTS).keys() == dict(shipped_net().named_parameters()).keys() | {"mean", "scale"}
    net, names = shipped_net(), acoustic_tables().phones
    utterance = EspeakVoice().say("She knows that a lazy summer is a happy time.", "en+f3")
    told = frames(net, speech_samples(utterance.audio))
    moments = np.arange(len(told)) / 50
    spans = [(p.start, p.end) for p in utterance.phones if p.symbol in CLOSURES]
    away = np.min([np.maximum(start - moments, moments - end) for start, end in spans], axis=0)
    assert told[away < -0.02, CURVES].mean() > 0.5 > 0.1 > told[away > 0.1, CURVES].mean()
    assert told[:, CURVES + GATES :].shape[1] == len(names)


def heard() -> Heard:
    """Two seconds: a wide open mouth that shuts from 1.0 to 1.1 s."""
    moments = np.arange(100) / 50
    said = [acoustic_tables().phones.index("M" if 1.0 <= moment < 1.1 else "AA") for moment in moments]
    shut = ((moments >= 1.0) & (moments <= 1.1)).astype(np.float32)
    phones = (Phone("AA", 0.0, 1.0), Phone("M", 1.0, 1.1), Phone("AA", 1.1, 2.0))
    return Heard(hearings=[phones], phones=np.eye(PHONES, dtype=np.float32)[said], shut=shut, bite=0 * shut)


def gap(found: Heard, fps: float = 25.0) -> np.ndarray:
    motion = LearnedMotion(hear=lambda _: found)(AudioTrack(samples=voice(2.0), rate=RATE), fps)
    return motion.expression.numpy() @ LIP_GAP_MM


@pytest.mark.parametrize("fps", [23.976, 25.0, 60.0])
def test_mouth_opens_and_shuts_at_its_contact(fps):
    opening = gap(heard(), fps)
    assert opening[round(0.6 * fps)] > 8
    assert opening[round(0.98 * fps) : round(1.12 * fps) + 1].min() < 0.5


def test_lips_rest_where_nobody_speaks():
    silent = replace(heard(), hearings=[(Phone("SIL", 0.0, 2.0),)])
    assert np.abs(gap(silent)).max() < 0.5


def test_lips_depend_on_the_sound_and_not_on_the_seed(net):
    audio = AudioTrack(samples=voice(1.0), rate=RATE)
    found = hear_lips(audio, net)
    one, two = (LearnedMotion(hear=lambda _: found)(audio, 25.0, seed).expression for seed in (0, 1))
    mouth = torch.arange(52) >= 17
    mouth[43:46] = False
    torch.testing.assert_close(one[:, mouth], two[:, mouth])


def test_outputs_are_in_their_ranges(net):
    out = frames(net, voice(0.5))
    assert (out >= 0).all() and (out <= 1).all()
    np.testing.assert_allclose(out[:, CURVES + GATES :].sum(1), 1.0, atol=1e-5)
