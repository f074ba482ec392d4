"""What the page is told when it opens: names, groups, limits, presets."""

import importlib.util
from typing import Any

from avatar.drive.sources import speech_style
from avatar.face.arkit import MIRROR, NAMES
from avatar.media import Workspace
from avatar.models.avatar_model import AvatarModel
from avatar.speech import vad
from avatar.speech.emotion import EMOTIONS
from avatar.viewer import desk
from avatar.viewer.performance import LONGEST, LONGEST_RECORDING, STYLES
from avatar.viewer.protocol import LONGEST_TEXT, said

GROUPS: dict[str, tuple[str, ...]] = {
    "Jaw and mouth": ("jaw", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight", "tongue"),
    "Lips": ("mouth",),
    "Eyes": ("eye",),
    "Brows": ("brow",),
    "Cheeks and nose": ("cheek", "nose"),
}
"""Beginnings of the actions' names; the first group that fits takes an action."""

POSES: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.7, "cheekSquint": 0.3},
    "laugh": {"mouthSmile": 0.9, "jawOpen": 0.25, "cheekSquint": 0.6, "mouthUpperUp": 0.3, "eyeSquint": 0.4},
    "wink": {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.4, "cheekSquintLeft": 0.5},
    "kiss": {"mouthPucker": 0.9, "mouthFunnel": 0.2},
    "ah": {"jawOpen": 0.6},
    "oh": {"jawOpen": 0.3, "mouthFunnel": 0.6},
    "oo": {"jawOpen": 0.08, "mouthFunnel": 0.3, "mouthPucker": 0.8},
    "ee": {"jawOpen": 0.1, "mouthSmile": 0.4, "mouthStretch": 0.5},
    "eyes shut": {"eyeBlink": 1.0},
    "raised brows": {"browInnerUp": 0.8, "browOuterUp": 0.8},
    "frown": {"browDown": 0.8, "mouthFrown": 0.6},
    "puffed cheeks": {"cheekPuff": 0.8},
    "tongue out": {"jawOpen": 0.4, "tongueOut": 0.8},
}
"""Faces to begin with; a name without its side stands for both."""


def hello(avatar: AvatarModel, workspace: Workspace | None, name: str) -> str:
    """The first message."""
    meta = avatar.meta
    facts: dict[str, Any] = {
        "client": name,
        "facts": avatar.backbone.facts(),
        "size": list(meta.size),
        "fps": meta.fps,
        "actions": list(NAMES),
        "mirror": list(MIRROR),
        "groups": groups(),
        "rest": [round(value, 4) for value in meta.expression],
        "ceiling": [round(value, 4) for value in speech_style(avatar).ceiling],
        "emotions": {emotion: _coefficients(parts) for emotion, parts in EMOTIONS.items()},
        "poses": {pose: _coefficients(parts) for pose, parts in POSES.items()},
        "styles": list(STYLES),
        "takes": sorted(desk.KINDS),
        "longest": {"sound": LONGEST, "text": LONGEST_TEXT, "recording": LONGEST_RECORDING},
        "reads": importlib.util.find_spec("espeakng_loader") is not None,
        "hears": importlib.util.find_spec("pocketsphinx") is not None and vad.is_installed(),
        "follows": importlib.util.find_spec("mediapipe") is not None,
        "source": workspace is not None,
    }
    return said("hello", **facts)


def groups() -> dict[str, list[int]]:
    """Indices of the actions in each group; every action is in one."""
    out: dict[str, list[int]] = {group: [] for group in GROUPS}
    for i, name in enumerate(NAMES):
        group = next(g for g, beginnings in GROUPS.items() if name.startswith(beginnings))
        out[group].append(i)
    return out


def _coefficients(parts: dict[str, float]) -> dict[str, float]:
    out = {}
    for part, value in parts.items():
        for name in (part, f"{part}Left", f"{part}Right"):
            if name in NAMES:
                out[name] = value
    return out
