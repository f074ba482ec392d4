"""The stage that learns how this person speaks: rest face, gains of the lips, blinks and sway."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from avatar import config
from avatar.face.track_io import load_track
from avatar.media import is_silent
from avatar.preprocess.stage import Run
from avatar.speech.adapt import fit_style

STYLE = "style.json"


def learn_voice(run: Run) -> Mapping[str, Any]:
    """Fit the speech style on the training part only; a film without a voice leaves no file."""
    workspace = run.workspace
    audio, train = workspace.audio(), workspace.json("split.json")["train"]
    run.progress(0, 1, "steps")
    if audio is None or is_silent(audio):
        return {"style": "average speaker"}
    if importlib.util.find_spec("pocketsphinx") is None:
        run.notice("lips move like an average speaker's: pocketsphinx is missing; run pip install 'avatar[preprocess]'")
        return {"style": "average speaker"}
    track = load_track(workspace.path("track.safetensors"))
    end = max(train) + 1
    confidence = track.confidence[:end].numpy()
    style = fit_style(track.motion.select(slice(0, end)), audio.between(0, end / workspace.fps), confidence=confidence)
    workspace.write_json(STYLE, config.to_dict(style))
    run.progress(1, 1, "steps")
    return {"style": "own"}
