"""Which actions go together in natural faces: `python -m avatar.synthetic.natural` writes the tracker's prior.

Faces have three sources: speech of our own performer, with each action's strength varied; the prototypes of emotions
(EMFACS; Ekman and Friesen 1978, 1983) at any strength, alone and while speaking; and single actions at random, for all
that people do besides. Only numbers are made, no pictures.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from avatar.face import rig as rigs
from avatar.face.arkit import INDEX, NAMES
from avatar.face.rig import AnnyRig
from avatar.media import write_tensors
from avatar.synthetic.performance import perform

FILE = Path(rigs.__file__).parent / "data" / "natural.safetensors"
PEOPLE, FACES = 120, 40

_EMOTIONS: tuple[dict[str, float], ...] = (
    {"mouthSmile": 0.8, "cheekSquint": 0.6, "eyeSquint": 0.3, "mouthDimple": 0.2},
    {"browInnerUp": 0.7, "browDown": 0.2, "mouthFrown": 0.6, "mouthShrugLower": 0.4},
    {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.7, "jawOpen": 0.35},
    {"browDown": 0.8, "eyeSquint": 0.4, "mouthPress": 0.5, "noseSneer": 0.3},
    {"browDown": 0.6, "eyeWide": 0.4, "mouthFunnel": 0.3, "jawOpen": 0.2},
    {"noseSneer": 0.8, "mouthUpperUp": 0.5, "mouthFrown": 0.3, "browDown": 0.3, "cheekSquint": 0.3},
    {"browInnerUp": 0.7, "browOuterUp": 0.5, "eyeWide": 0.6, "mouthStretch": 0.6, "jawOpen": 0.2},
    {"mouthDimpleLeft": 0.6, "mouthSmileLeft": 0.4},
    {"mouthDimpleRight": 0.6, "mouthSmileRight": 0.4},
    {"browOuterUpLeft": 0.7},
    {"browOuterUpRight": 0.7},
    {"mouthPucker": 0.6, "mouthLeft": 0.3},
    {"mouthPucker": 0.6, "mouthRight": 0.3},
    {"mouthRollLower": 0.5, "mouthRollUpper": 0.5, "mouthPress": 0.4},
)
"""Happiness, sadness, surprise, anger (closed, open), disgust, fear, contempt; raised brows, skewed and sealed lips."""

_MOUTH = np.array([name.startswith(("mouth", "jaw")) for name in NAMES])
_FOLLOWS = np.array([name.startswith(("eyeLook", "tongue")) for name in NAMES])


def natural_faces(people: int = PEOPLE, faces: int = FACES) -> Float[np.ndarray, "n 52"]:
    """Coefficients of faces; the eyeLook actions, which follow the gaze, and the tongue are 0."""
    rig = AnnyRig.load()
    out = []
    for seed in range(people):
        rng = np.random.default_rng([seed, 31])
        person = rig.personal(rig.sample(1, seed=seed)[0])
        speech = perform(person, seconds=16, fps=12.5, seed=50_000 + seed, sound=False).motion.expression.numpy()
        chosen = speech[rng.choice(len(speech), faces)].astype(np.float64)
        chosen = chosen * np.where(_MOUTH, rng.uniform(0.5, 1.4, (faces, 52)) * rng.uniform(0.5, 1.3, (faces, 1)), 1)
        kind = rng.random(faces)
        chosen[kind < 0.12] *= 0.1
        feeling = np.stack([_emotion(rng) for _ in range(faces)])
        chosen = np.where((kind < 0.12)[:, None] | (kind > 0.8)[:, None], np.maximum(chosen, feeling), chosen)
        extra = (rng.random((faces, 52)) < 0.05) * rng.uniform(0, 0.5, (faces, 52))
        out.append(np.where(_FOLLOWS, 0, np.clip(chosen + (kind > 0.6)[:, None] * extra, 0, 1)))
    return np.concatenate(out)


def _emotion(rng: np.random.Generator) -> Float[np.ndarray, "52"]:
    """One or two emotions at some strength, left and right a little apart."""
    out = np.zeros(52)
    for _ in range(int(rng.integers(1, 3))):
        pattern, strength = _EMOTIONS[int(rng.integers(len(_EMOTIONS)))], rng.uniform(0, 1)
        for key, value in pattern.items():
            for name in (key, f"{key}Left", f"{key}Right"):
                if name in INDEX:
                    level = value * strength * rng.uniform(0.6, 1.3)
                    out[INDEX[name]] = max(out[INDEX[name]], level)
    return np.clip(out, 0, 1)


def main() -> None:
    """Write mean and covariance."""
    faces = torch.from_numpy(natural_faces())
    tensors = {"mean": faces.mean(0).float(), "covariance": torch.cov(faces.T).float()}
    write_tensors(FILE, tensors, {"faces": str(len(faces))})


if __name__ == "__main__":
    main()
