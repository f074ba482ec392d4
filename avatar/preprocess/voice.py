"""The stage that learns how this person speaks: rest face, gains of the lips, blinks and sway."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from avatar import config
from avatar.core import AudioTrack
from avatar.face.track_io import load_track
from avatar.media import Workspace, is_silent
from avatar.preprocess.stage import Run
from avatar.preprocess.tools import Sync
from avatar.speech import vad
from avatar.speech.adapt import fit_style
from avatar.speech.phones import Phone, contiguous, listen

STYLE, PHONES = "style.json", "phones.json"
HEARD = ("track.safetensors", "audio.wav", PHONES, "split.json")
"""What `learn_voice` depends on."""
_CONTEXT = 2.0
"""Seconds at the end of what was heard that are heard once more with what follows; it counts from their middle on."""


def keep_phones(workspace: Workspace, sync: Sync) -> None:
    """Write down what was heard, in time with the frames, if anything was."""
    if sync.hearings:
        moved = [
            [(phone.symbol, round(phone.start + sync.delay, 4), round(phone.end + sync.delay, 4)) for phone in hearing]
            for hearing in sync.hearings
        ]
        workspace.write_json(PHONES, {"hearings": moved})


def heard(workspace: Workspace, sound: AudioTrack) -> list[list[Phone]]:
    """The hearings of a sound that is in time with the frames; only what was not written down is listened to."""
    if not workspace.path(PHONES).exists():
        return listen(sound)
    known = [[Phone(*phone) for phone in hearing] for hearing in workspace.json(PHONES)["hearings"]]
    until = min(hearing[-1].end for hearing in known)
    if until < sound.seconds:
        first = max(until - _CONTEXT, 0.0)
        rest = listen(sound.between(first, sound.seconds))
        if len(rest) != len(known):  # written down by another version, which heard differently often
            return listen(sound)
        joint = (first + until) / 2
        known = [_joined(a, b, first, joint) for a, b in zip(known, rest, strict=True)]
    return [_up_to(hearing, sound.seconds) for hearing in known]


def _joined(before: Sequence[Phone], after: Sequence[Phone], first: float, joint: float) -> list[Phone]:
    """The one up to `joint`, the other, which begins at `first`, from there on; seconds."""
    later = [Phone(phone.symbol, phone.start + first, phone.end + first) for phone in after]
    return [*_up_to(before, joint), *(phone for phone in later if phone.end > joint)]


def _up_to(phones: Sequence[Phone], seconds: float) -> list[Phone]:
    begun = [Phone(phone.symbol, phone.start, min(phone.end, seconds)) for phone in phones if phone.start < seconds]
    return contiguous(begun, seconds)


def learn_voice(run: Run) -> Mapping[str, Any]:
    """Fit the speech style on the training part only; a film without a voice leaves no file."""
    workspace = run.workspace
    audio, train = workspace.audio(), workspace.json("split.json")["train"]
    run.progress(0, 1, "steps")
    if audio is None or is_silent(audio):
        return {"style": "average speaker"}
    missing = [name for name in ("pocketsphinx", *vad.PACKAGES) if importlib.util.find_spec(name) is None]
    if missing:
        lacking = f"{' and '.join(missing)} missing; run pip install 'avatar[preprocess]'"
        run.notice(f"lips move like an average speaker's: {lacking}")
        return {"style": "average speaker"}
    track = load_track(workspace.path("track.safetensors"))
    end = max(train) + 1
    confidence = track.confidence[:end].numpy()
    style = fit_style(
        track.motion.select(slice(0, end)),
        audio.between(0, end / workspace.fps),
        confidence=confidence,
        hear=lambda sound: heard(workspace, sound),
    )
    workspace.write_json(STYLE, config.to_dict(style))
    run.progress(1, 1, "steps")
    return {"style": "own"}
