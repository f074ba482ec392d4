"""`python -m tests.perf.tracking --json FILE [clip ...]`: how well, and how fast, heads are followed.

On clips: agreement with the detector (precision, not accuracy). On rendered motion of known heads: accuracy.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatar.core import FaceTrack, MotionSequence
from avatar.face import AnnyRig, PersonalRig
from avatar.face.arkit import INDEX
from avatar.face.calibration import LOWER_INNER, LOWER_LIDS, OUTER_LIPS, UPPER_INNER, UPPER_LIDS, lid_gap, lip_gap
from avatar.face.gaze import LOOK_INDEX, with_looks
from avatar.face.landmarks import AbstractLandmarkDetector, FollowedPerson, follow
from avatar.face.mouth_picture import UNTOLD, dark_between_lips
from avatar.face.photometric import refine_pose
from avatar.face.tracking import Footage, fit
from avatar.media import open_clip
from avatar.preprocess.series import series_of
from avatar.preprocess.tools import Tools

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
TOOLS = Tools()
NAMES = ("anchor_71s", "anchor_de_20s", "speech_en_8s", "expressions_20s", "talk_3", "talk_10")
LIPS = np.concatenate([OUTER_LIPS, UPPER_INNER, LOWER_INNER])
_PARTS, _PARTS_USED = 8, 3
LIDS = np.concatenate([UPPER_LIDS.ravel(), LOWER_LIDS.ravel()])


def project(track: FaceTrack, person: PersonalRig, rig: AnnyRig) -> Float[np.ndarray, "t 478 2"]:
    """The rig's surface points where the detector's should be, in pixels."""
    out = []
    for i in range(len(track.motion)):
        world = rig.landmarks.points(person.posed(track.motion.frame(i)), person.faces)
        out.append(track.camera.project(world).numpy())
    return np.stack(out)


def detect(
    path: Path, make: Callable[[], AbstractLandmarkDetector] = TOOLS.detector
) -> tuple[FollowedPerson, tuple[int, int], float, float]:
    """The person of a clip, the frame size, frames a second, and milliseconds a frame."""
    clip, detector, found, start = open_clip(path), make(), [], time.perf_counter()
    for i in range(len(clip.frames)):
        found.append(detector.detect(clip.frames[i], i / clip.fps))
    size = clip.frames[0].shape
    return follow(found), (size[0], size[1]), clip.fps, 1e3 * (time.perf_counter() - start) / len(found)


def lips_in_pictures(path: Path, person: FollowedPerson) -> Float[np.ndarray, "t"]:
    """What is dark between the lips in each frame, as `avatar preprocess` measures it."""
    clip, seen = open_clip(path), person.confidence > 0
    return np.array(
        [dark_between_lips(clip.frames[i], person.landmarks_px[i]) if seen[i] else UNTOLD for i in range(len(seen))]
    )


def measure_clip(path: Path, rig: AnnyRig) -> dict[str, float]:
    """Precision figures of one clip; errors in percent of the eye distance.

    By the points alone, as what the pictures show beyond them is no agreement with the detector; `pictures_` tells of
    the fit that also sees the lips in the pictures, and of poses that these correct, as `avatar preprocess` does.
    """
    person, size, fps, detect_ms = detect(path)
    start = time.perf_counter()
    track, head = fit(person.landmarks_px, person.confidence, rig, size, fps=fps)
    fit_s = time.perf_counter() - start
    facts = precision(track, head, rig) | held_out(person, rig, size, fps)
    footage = Footage(dark=lips_in_pictures(path, person))
    seen, head = fit(person.landmarks_px, person.confidence, rig, size, fps=fps, footage=footage)
    pictured = precision(refine_pose(seen, head, open_clip(path).frames.__getitem__), head, rig)
    facts |= {f"pictures_{name}": pictured[name] for name in ("lip_gap_r", "lip_gap_slope", "still_jitter_deg")}
    return facts | {"frames": len(track.motion), "detect_ms": detect_ms, "fit_ms": 1e3 * fit_s / len(track.motion)}


def held_out(person: FollowedPerson, rig: AnnyRig, size: tuple[int, int], fps: float) -> dict[str, float]:
    """Errors at points that the fit has not seen, one in eight at a time (percent of the eye distance).

    What a point is off in all frames alike is taken out: no fit can know it, as the detector's points differ from
    person to person in what they lie on.
    """
    usable = np.flatnonzero(rig.landmarks.usable.numpy()[:468])
    chosen = np.random.default_rng(3).permutation(usable)
    errors = np.full((len(person.confidence), 478), np.nan)
    for part in np.array_split(chosen, _PARTS)[:_PARTS_USED]:
        seen = np.ones(478, bool)
        seen[part] = False
        track, head = fit(person.landmarks_px, person.confidence, rig, size, fps=fps, footage=Footage(seen=seen))
        off = (project(track, head, rig) - person.landmarks_px)[:, part]
        off = off - np.median(off[person.confidence > 0], 0)
        errors[:, part] = np.linalg.norm(off, axis=-1)
    iod = float(np.quantile(np.linalg.norm(person.landmarks_px[:, 33] - person.landmarks_px[:, 263], axis=1), 0.75))
    percent = 100 * errors[person.confidence > 0] / iod
    groups = {"all": usable, "lips": LIPS, "lids": LIDS}
    return {f"held_out_{name}": float(np.nanmean(percent[:, points])) for name, points in groups.items()}


def precision(track: FaceTrack, head: PersonalRig, rig: AnnyRig) -> dict[str, float]:
    """Agreement of a fit with the landmarks that it was made from."""
    seen, fitted = track.landmarks_px.numpy(), project(track, head, rig)
    iod = float(np.quantile(np.linalg.norm(seen[:, 33] - seen[:, 263], axis=1), 0.75))
    error = np.linalg.norm(seen - fitted, axis=-1) / iod * 100
    kept = rig.landmarks.usable.numpy().copy()
    kept[468:] = False
    lips, lids = LIPS[kept[LIPS]], LIDS[kept[LIDS]]
    gaps, fitted_gaps = lip_gap(seen) / iod, lip_gap(fitted) / iod
    blink = track.motion.expression[:, [INDEX["eyeBlinkRight"], INDEX["eyeBlinkLeft"]]].numpy()
    eye = [lid_gap(seen, side) / iod for side in (0, 1)]
    fitted_eye = [lid_gap(fitted, side) / iod for side in (0, 1)]
    shut = [e < 0.6 * np.quantile(e, 0.8) for e in eye]
    turns = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].numpy())
    second = np.linalg.norm(np.diff((turns[1:] * turns[:-1].inv()).as_rotvec(degrees=True), axis=0), axis=1)
    series = series_of(track, head, rig, np.zeros(len(track.motion), int))
    shake = series.shake_deg[series.still & np.isfinite(series.shake_deg)]
    position = track.motion.T_world_head[:, :3, 3].numpy() * 1e3
    return {
        "all": float(error[:, kept].mean()),
        "lips": float(error[:, lips].mean()),
        "lids": float(error[:, lids].mean()),
        "iris": float(error[:, 468:].mean()),
        "lip_gap_r": float(np.corrcoef(gaps, fitted_gaps)[0, 1]),
        "lip_gap_slope": float(np.polyfit(gaps, fitted_gaps, 1)[0]),
        "lip_gap_low": float(np.quantile(fitted_gaps, 0.05) * 100),
        "open_blink": float(np.mean([np.median(blink[~s, k]) for k, s in enumerate(shut)])),
        "shut_blink": float(np.mean([blink[s, k].mean() if s.any() else np.nan for k, s in enumerate(shut)])),
        "peak_blink": float(blink.max(0).mean()),
        "shut_gap": float(np.mean([np.quantile(f, 0.01) / np.quantile(f, 0.8) for f in fitted_eye])),
        "jitter_deg": float(second.mean()),
        "still_seconds": len(shake) / track.motion.fps,
        "still_jitter_deg": float(np.sqrt(np.mean(shake**2))) if len(shake) else float("nan"),
        "jitter_mm": float(np.linalg.norm(np.diff(position, 2, axis=0), axis=1).mean()),
        "focal": track.camera.focal[0],
        "distance_m": float(position[:, 2].mean() / 1e3),
        "active": float((track.motion.expression > 0.05).float().sum(1).mean()),
        "jaw_r": float(np.corrcoef(gaps, track.motion.expression[:, INDEX["jawOpen"]].numpy())[0, 1]),
        "confidence": float(track.confidence.mean()),
    }


def random_motion(count: int, seed: int, fps: float = 25.0) -> MotionSequence:
    """Smooth head motion with sparse actions that change every 0.3 s, a metre from the camera or less."""
    rng = np.random.default_rng(seed)
    keys = count // 8 + 3
    sparse = rng.random((keys, 52)) < 0.15
    expression = sparse * rng.random((keys, 52)) ** 1.5
    for left in [i for n, i in INDEX.items() if n.endswith("Left") and n[:3] not in ("jaw",) and n != "mouthLeft"]:
        right = INDEX[next(n for n, i in INDEX.items() if i == left)[:-4] + "Right"]
        expression[:, right] = expression[:, left] * rng.uniform(0.8, 1.2, keys)
    expression[:, INDEX["tongueOut"]] = 0
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        expression[:, INDEX[name]] = np.arange(keys) % 4 == 3
    grid, time_ = np.arange(keys) * 8.0, np.arange(count)

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(time_, grid, v) for v in values.reshape(keys, -1).T], 1)

    turns = smooth(rng.normal(size=(keys, 3)) * np.radians([6, 12, 4]))
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    pose[:, :3, 3] = smooth(rng.normal(size=(keys, 3)) * 0.01) + np.array([0.01, 0.05, 0.8])
    eyes = smooth(rng.normal(size=(keys, 2)) * 0.15)
    gaze = torch.tensor(np.stack([eyes, eyes], 1)).float()
    expression = torch.tensor(smooth(np.clip(expression, 0, 1))).float()
    return MotionSequence(
        expression=with_looks(expression, gaze),
        T_world_head=torch.tensor(pose).float(),
        neck=torch.zeros(count, 3),
        gaze=gaze,
        fps=fps,
    )


def measure_truth(rig: AnnyRig, noise: float, heads: int = 6, frames: int = 96) -> dict[str, float]:
    """Errors on landmarks of known heads with white noise (in eye distances)."""
    rows, found, true = [], [], []
    for seed in range(heads):
        head = rig.personal(rig.sample(1, seed=1000 + seed)[0])
        motion = random_motion(frames, seed)
        focal, size = 900.0 + 200 * seed, (512, 512)
        points = np.stack(
            [rig.landmarks.points(head.posed(motion.frame(i)), head.faces).numpy() for i in range(frames)]
        )
        points[..., 2] += (focal / 1200 - 1) * 0.8
        seen = points[..., :2] / points[..., 2:] * focal + 256
        iod = np.linalg.norm(seen[:, 33] - seen[:, 263], axis=1).mean()
        seen += np.random.default_rng(seed).normal(size=seen.shape) * noise * iod
        track, fitted = fit(seen.astype(np.float32), np.ones(frames, np.float32), rig, size, fps=25)
        rows.append(_truth_row(track, fitted, motion, head, rig) | {"focal_ratio": track.camera.focal[0] / focal})
        found.append(track.motion.expression.numpy())
        true.append(motion.expression.numpy())
    a, b = np.concatenate(found), np.concatenate(true)
    followed = {
        f"{name}_r": float(np.corrcoef(a[:, INDEX[name]], b[:, INDEX[name]])[0, 1])
        for name in ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "mouthPucker", "browInnerUp")
    }
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | followed


def _truth_row(
    track: FaceTrack, fitted: PersonalRig, motion: MotionSequence, head: PersonalRig, rig: AnnyRig
) -> dict[str, float]:
    found = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].numpy())
    true = Rotation.from_matrix(motion.T_world_head[:, :3, :3].numpy())
    off = found * true.inv()
    others = [i for i in INDEX.values() if i not in LOOK_INDEX]
    error = (track.motion.expression - motion.expression)[:, others].abs()
    return {
        "rotation_deg": float(np.degrees(off.magnitude()).mean()),
        "relative_deg": float(np.degrees((off * off.mean().inv()).magnitude()).mean()),
        "arkit_mae": float(error.mean()),
        "arkit_zero_mae": float(motion.expression[:, others].mean()),
        "gaze_deg": float(np.degrees((track.motion.gaze - motion.gaze).abs().mean())),
        "shape_mm": 1e3 * shape_error(fitted, head, rig),
    }


def shape_error(fitted: PersonalRig, head: PersonalRig, rig: AnnyRig) -> float:
    """Mean distance (metres) of the neutral faces where landmarks lie, after the best similarity (Umeyama 1991).

    Size and distance of a head can't be told apart in one camera, so size counts as none of the shape.
    """
    usable = rig.landmarks.usable.numpy()
    a, b = (rig.landmarks.points(p.neutral, p.faces).double().numpy()[usable] for p in (fitted, head))
    a, b = a - a.mean(0), b - b.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (u * sign) @ vt
    scale = float((s * sign).sum() / (a**2).sum())
    return float(np.linalg.norm(scale * a @ turn.T - b, axis=1).mean())


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", default=list(NAMES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rig = AnnyRig.load()
    facts: dict[str, dict[str, float]] = {
        "truth_exact": measure_truth(rig, 0.0),
        "truth_noisy": measure_truth(rig, 0.005),
    }
    for name in arguments.clips:
        if (CLIPS / f"{name}.mp4").exists():
            facts[name] = measure_clip(CLIPS / f"{name}.mp4", rig)
    text = json.dumps({k: {n: round(v, 4) for n, v in row.items()} for k, row in facts.items()}, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
