"""`python -m tests.perf.people --json FILE [--people N]`: tracking through the whole pipeline on drawn people.

Each is drawn (5 s at 384x384, kept in --folder), detected and tracked as any film, and compared with what is true.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from avatar.core import Camera, FaceTrack, MotionSequence, Region
from avatar.face import AnnyRig, PersonalRig
from avatar.face.arkit import INDEX
from avatar.face.calibration import lip_gap
from avatar.face.gaze import LOOK_INDEX
from avatar.face.tracking import load_track
from avatar.ops.mesh import rasterize_mesh
from avatar.preprocess import PreprocessConfig, preprocess
from avatar.synthetic.clip import ClipSettings, Truth, read_truth, write_clip
from tests.perf.head_shape import head_errors
from tests.perf.tracking import shape_error

CLOSED_LIPS = 0.012
"""Gap of closed lips, in distances of the outer eye corners."""
SHUT = 0.5
"""eyeBlink of a shut eye."""


def draw(folder: Path, seed: int) -> Path:
    """The film of one person, drawn if it is not there."""
    settings = ClipSettings(seconds=5, size=384, fps=25, seed=seed, sound=False, moments=1, strands=5000, texture=1024)
    return write_clip(folder / str(seed), settings).video


def measure(folder: Path, seed: int, rig: AnnyRig) -> dict[str, float]:
    """The errors of one person's track."""
    video = draw(folder, seed)
    workspace = preprocess(video, folder / f"{seed}-workspace", PreprocessConfig(size=384))
    track = load_track(workspace.path("track.safetensors"))
    fitted = PersonalRig.load(workspace.path("rig.safetensors"))
    return score(track, fitted, read_truth(folder / str(seed) / "truth.safetensors"), rig)


def score(track: FaceTrack, fitted: PersonalRig, truth: Truth, rig: AnnyRig) -> dict[str, float]:
    """A track against the truth: degrees, millimetres, coefficients, F1."""
    m, t = track.motion, truth.motion
    count = min(len(m), len(t))
    found = Rotation.from_matrix(m.T_world_head[:count, :3, :3].numpy())
    off = found * Rotation.from_matrix(t.T_world_head[:count, :3, :3].numpy()).inv()
    others = [i for i in INDEX.values() if i not in LOOK_INDEX]
    a, b = m.expression[:count], t.expression[:count]
    lids = [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]
    gaps = [
        _lip_gaps(person, motion.select(slice(0, count)), camera, rig)
        for person, motion, camera in ((fitted, m, track.camera), (truth.rig, t, truth.camera))
    ]
    return {
        "rotation_deg": float(np.degrees(off.magnitude()).mean()),
        "relative_deg": float(np.degrees((off * off.mean().inv()).magnitude()).mean()),
        "translation_mm": _translation(track, fitted, truth, rig),
        "arkit_mae": float((a - b)[:, others].abs().mean()),
        "arkit_zero_mae": float(b[:, others].abs().mean()),
        "gaze_deg": float(np.degrees((m.gaze[:count] - t.gaze[:count]).abs().mean())),
        **_counts("blink", (a[:, lids].mean(1) > SHUT).numpy(), (b[:, lids].mean(1) > SHUT).numpy()),
        **_counts("closure", gaps[0] < CLOSED_LIPS, gaps[1] < CLOSED_LIPS),
        "lip_gap_r": float(np.corrcoef(gaps[0], gaps[1])[0, 1]),
        "silhouette_iou": _silhouette(track, fitted, truth, count),
        "shape_mm": 1e3 * shape_error(fitted, truth.rig, rig),
        "focal_ratio": track.camera.focal[0] / truth.camera.focal[0],
        **head_errors(fitted, truth, rig),
    }


def _translation(track: FaceTrack, fitted: PersonalRig, truth: Truth, rig: AnnyRig) -> float:
    """Mean distance (mm) of the face's middle, at the truth's focal length and size of the head.

    A camera whose focal length is not known does not tell how far or how large a head is: distances are scaled by one
    factor for the clip, and places across the picture compared where they are seen.
    """
    usable, places = rig.landmarks.usable, []
    for person, motion, camera in ((fitted, track.motion, track.camera), (truth.rig, truth.motion, truth.camera)):
        middle = rig.landmarks.points(person.neutral, person.faces)[usable].mean(0)
        place = (motion.T_world_head[:, :3, :3] @ middle + motion.T_world_head[:, :3, 3]).double().numpy()
        places.append(np.concatenate([place[:, :2] / place[:, 2:] * camera.focal[0], place[:, 2:]], 1))
    count = min(map(len, places))
    a, b = places[0][:count], places[1][:count]
    depth = b[:, 2:]
    across = (a[:, :2] - b[:, :2]) / truth.camera.focal[0] * depth
    away = a[:, 2:] * np.median(b[:, 2] / a[:, 2]) - depth
    return float(1e3 * np.linalg.norm(np.concatenate([across, away], 1), axis=1).mean())


def _lip_gaps(person: PersonalRig, motion: MotionSequence, camera: Camera, rig: AnnyRig) -> Float[np.ndarray, "t"]:
    points = np.stack(
        [
            camera.project(rig.landmarks.points(person.posed(motion.frame(i)), person.faces)).numpy()
            for i in range(len(motion))
        ]
    )
    return lip_gap(points) / np.quantile(np.linalg.norm(points[:, 33] - points[:, 263], axis=1), 0.75)


def _silhouette(track: FaceTrack, fitted: PersonalRig, truth: Truth, count: int) -> float:
    """Mean overlap of the fitted and the true head without hair, torso left out."""
    overlaps = []
    for index in range(0, count, 8):
        found = _covered(fitted, track.motion, index, track.camera)
        true = _covered(truth.rig, truth.motion, index, truth.camera)
        overlaps.append(float((found & true).sum() / max(int((found | true).sum()), 1)))
    return float(np.mean(overlaps))


def _covered(person: PersonalRig, motion: MotionSequence, index: int, camera: Camera) -> Bool[np.ndarray, "h w"]:
    head = person.faces[(person.regions != int(Region.TORSO)) & (person.regions != int(Region.NECK))]
    seen, _, _ = rasterize_mesh(person.posed(motion.frame(index)), head, camera.focal, camera.center, camera.size)
    return (seen >= 0).numpy()


def _counts(what: str, found: Bool[np.ndarray, "t"], true: Bool[np.ndarray, "t"]) -> dict[str, float]:
    return {
        f"{what}_hits": float((found & true).sum()),
        f"{what}_found": float(found.sum()),
        f"{what}_true": float(true.sum()),
    }


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over people; F1 over all of their frames together."""
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    for what in ("blink", "closure"):
        hits, found, true = (mean.pop(f"{what}_{name}") for name in ("hits", "found", "true"))
        mean[f"{what}_f1"] = 2 * hits / max(found + true, 1e-9)
    return mean | {"arkit_ratio": mean["arkit_mae"] / mean["arkit_zero_mae"]}


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--people", type=int, default=21, help="the hand-chosen person and that many random ones, less 1"
    )
    parser.add_argument("--folder", type=Path, default=Path("people"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rig, rows = AnnyRig.load(), {}
    for seed in range(arguments.people):
        rows[str(seed)] = measure(arguments.folder, seed, rig)
        print(seed, " ".join(f"{name} {value:.3f}" for name, value in rows[str(seed)].items()), flush=True)
    rows["mean"] = summary(list(rows.values()))
    text = json.dumps({k: {n: round(v, 4) for n, v in row.items()} for k, row in rows.items()}, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
