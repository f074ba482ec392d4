"""Lips by sound against filmed lips of the same person later on: with what a build learns from the beginning of a film.

The first 60 % of each clip, or only its first 10 s if those are less, are learned from as `avatar build` does: the
track that `avatar preprocess` left in a workspace, and the sound, brought into time as in `tests.perf.speech`. Of the
frames after the first 60 % the mouth is told, as MediaPipe's face mesh sees it; their track is not looked at.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from avatar.core import AudioTrack
from avatar.face.track_io import load_track
from avatar.media import Workspace, read_audio
from avatar.speech.adapt import fit_style
from avatar.speech.features import RATE, speech_samples
from avatar.speech.learned_motion import Heard, LearnedMotion, hear_lips
from avatar.speech.lip_net import LipNet
from avatar.speech.live_motion import DELAY, LiveMotion
from avatar.speech.offset import estimate
from avatar.speech.style import SpeechStyle, lips_only
from tests.perf.mouths import measured

LEARNED = 0.6
SHORT_SECONDS = 10.0

Curves = dict[str, Float[np.ndarray, "t"]]


class LaterLips:
    """The rest of a clip, by an average speaker and by what was learned from the beginning."""

    def __init__(self, clip: Path, workspace: Path, net: LipNet, cache: Path | None) -> None:
        mouth, audio = measured(clip, cache), read_audio(clip)
        self._audio = estimate(audio, mouth.opening, mouth.width, mouth.fps).corrected(audio)
        self._heard: Heard = hear_lips(self._audio, net)
        self._track = load_track(Workspace.open(workspace).path("track.safetensors"))
        self.fps, self.first = mouth.fps, int(LEARNED * len(mouth.opening))
        if (len(self._track.motion), self._track.motion.fps) != (len(mouth.opening), mouth.fps):
            raise SystemExit(f"{workspace}: not made from {clip}; its frames differ")
        self.moments = np.arange(self.first, len(mouth.opening)) / mouth.fps
        self.filmed = {name: getattr(mouth, name)[self.first :] for name in ("opening", "width")}

    def styles(self) -> Mapping[str, SpeechStyle]:
        """Of an average speaker; learned, without and with what is particular at single phones."""
        long, short = self._learned(self.first), self._learned(min(self.first, round(SHORT_SECONDS * self.fps)))
        return {
            "average speaker": SpeechStyle(),
            "60 %, no habits": replace(long, habits=()),
            "60 %": long,
            "10 s, no habits": replace(short, habits=()),
            "10 s": short,
        }

    def moved(self, style: SpeechStyle, fps: float, *, live: bool = False) -> Float[np.ndarray, "t 52"]:
        """The lips beyond the resting face, for the whole sound or as it comes from a microphone."""
        if live:
            samples = np.pad(speech_samples(self._audio), (0, 2 * round(DELAY * RATE)))
            motion = LiveMotion(lips_only(style), fps).push(samples)
            assert motion is not None
        else:
            motion = LearnedMotion(lips_only(style), hear=lambda _: self._heard)(self._audio, fps)
        return motion.expression.numpy() - np.asarray(style.rest, np.float32)

    def _learned(self, count: int) -> SpeechStyle:
        sound: AudioTrack = self._audio.between(0.0, count / self.fps)
        motion = self._track.motion.select(slice(0, count))
        return fit_style(motion, sound, confidence=self._track.confidence[:count].numpy())
