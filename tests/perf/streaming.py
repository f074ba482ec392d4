"""`python -m tests.perf.streaming [clip ...] [--json FILE]`: how fast the live tracker is, and what no future costs.

On drawn motion of known heads: errors of the live filter beside the offline fit's. On clips: the same against the
offline fit. Lag is where the correlation with the truth (or the fit) is best, in frames; jitter is the mean second
difference. Milliseconds are processor time of one thread (wall time beside: it depends on what else runs).
"""

import argparse
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatar.core import MotionFrame, MotionSequence
from avatar.face import AnnyRig
from avatar.face.arkit import INDEX
from avatar.face.gaze import LOOK_INDEX
from avatar.face.streaming import StreamingTracker
from avatar.face.streaming_person import learn_opening
from avatar.face.tracking import fit
from tests.perf.tracking import CLIPS, TOOLS, detect, random_motion

NAMES = ("speech_en_8s", "anchor_de_20s")
_OPENING = 3.0
_OTHERS = [i for i in INDEX.values() if i not in LOOK_INDEX]
BARS = {"median_ms": 15.0, "p99_ms": 15.0}
Spent = Float[np.ndarray, "t 2"]
"""Milliseconds of each frame: processor, wall."""


def follow_live(
    tracker: StreamingTracker, landmarks_px: Float[np.ndarray, "t 478 2"], seen: np.ndarray, fps: float
) -> tuple[MotionSequence, Spent]:
    """Motion of all frames, and what each took."""
    state, frames, spent = tracker.begin(), [], []
    for i, points in enumerate(landmarks_px):
        start = np.array([time.process_time(), time.perf_counter()])
        state, motion = tracker.step(state, points if seen[i] else None, i / fps)
        spent.append(1e3 * (np.array([time.process_time(), time.perf_counter()]) - start))
        frames.append(motion)
    return joined(frames, fps), np.array(spent)


def joined(frames: list[MotionFrame], fps: float) -> MotionSequence:
    names = ("expression", "T_world_head", "neck", "gaze")
    return MotionSequence(**{n: torch.stack([getattr(f, n) for f in frames]) for n in names}, fps=fps)


def lag_frames(late: np.ndarray, true: np.ndarray, reach: int = 5) -> float:
    """By how many frames `late` comes after `true`, to a part of a frame: the top of the correlation's parabola.

    nan where one of them does not move.
    """
    if min(late[reach:-reach].std(), true[reach:-reach].std()) < 1e-6:
        return float("nan")
    shifts = np.arange(-reach, reach + 1)
    inner = slice(reach, len(true) - reach)
    score = [np.corrcoef(np.roll(late, -s)[inner], true[inner])[0, 1] for s in shifts]
    best = int(np.clip(np.argmax(score), 1, 2 * reach - 1))
    before, here, after = score[best - 1 : best + 2]
    return float(shifts[best] + 0.5 * (before - after) / min(before - 2 * here + after, -1e-9))


def compare(found: MotionSequence, true: MotionSequence, prefix: str) -> dict[str, float]:
    """Errors of `found`; rotation also without its constant part."""
    a, b = (Rotation.from_matrix(m.T_world_head[:, :3, :3].double().numpy()) for m in (found, true))
    off = a * b.inv()
    yaw_a, yaw_b = (-r.as_matrix()[:, 0, 2] for r in (a, b))
    jaw_a, jaw_b = (m.expression[:, INDEX["jawOpen"]].numpy() for m in (found, true))
    blink_a, blink_b = (m.expression[:, INDEX["eyeBlinkLeft"]].numpy() for m in (found, true))
    turns = (a[1:] * a[:-1].inv()).as_rotvec(degrees=True)
    place = (found.T_world_head - true.T_world_head)[:, :3, 3]
    facts = {
        "rotation_deg": np.degrees(off.magnitude()).mean(),
        "relative_deg": np.degrees((off * off.mean().inv()).magnitude()).mean(),
        "place_mm": float((place - place.mean(0)).norm(dim=1).mean() * 1e3),
        "arkit_mae": float((found.expression - true.expression)[:, _OTHERS].abs().mean()),
        "gaze_deg": float(np.degrees((found.gaze - true.gaze).abs().mean())),
        "jitter_deg": np.linalg.norm(np.diff(turns, axis=0), axis=1).mean(),
        "jitter_arkit": float(np.abs(np.diff(found.expression[:, _OTHERS].numpy(), 2, axis=0)).mean()),
        "lag_yaw": lag_frames(yaw_a, yaw_b),
        "lag_jaw": lag_frames(jaw_a, jaw_b),
        "lag_blink": lag_frames(blink_a, blink_b),
    }
    return {f"{prefix}_{name}": float(value) for name, value in facts.items() if np.isfinite(value)}


def measure_truth(rig: AnnyRig, noise: float, heads: int = 3, frames: int = 200) -> dict[str, float]:
    """On landmarks of known heads with white noise (in eye distances): live and offline."""
    rows = []
    for seed in range(heads):
        head = rig.personal(rig.sample(1, seed=1000 + seed)[0])
        motion = random_motion(frames, seed)
        points = [rig.landmarks.points(head.posed(motion.frame(i)), head.faces).numpy() for i in range(frames)]
        seen = np.stack(points)
        seen = seen[..., :2] / seen[..., 2:] * 1200 + 256
        iod = np.linalg.norm(seen[:, 33] - seen[:, 263], axis=1).mean()
        seen = (seen + np.random.default_rng(seed).normal(size=seen.shape) * noise * iod).astype(np.float32)
        rows.append(_both(rig, seen, np.ones(frames, np.float32), (512, 512), (25.0, motion)))
    return {key: float(np.mean([row[key] for row in rows if key in row])) for key in rows[0]}


def _both(
    rig: AnnyRig,
    landmarks_px: np.ndarray,
    confidence: np.ndarray,
    size: tuple[int, int],
    clip: tuple[float, MotionSequence | None],
) -> dict[str, float]:
    fps, truth = clip
    opening = round(_OPENING * fps)
    person, _ = learn_opening(landmarks_px[:opening], confidence[:opening], rig, size, fps=fps)
    live, spent = follow_live(StreamingTracker(person), landmarks_px, confidence > 0, fps)
    offline, _ = fit(landmarks_px, confidence, rig, size, fps=fps)
    true = offline.motion if truth is None else truth
    used = slice(opening, None)  # what the opening was learned from does not count
    facts = compare(live.select(used), true.select(used), "live")
    if truth is not None:
        facts |= compare(offline.motion.select(used), true.select(used), "offline")
    else:
        still = compare(true.select(used), true.select(used), "offline")
        facts |= {name: still[name] for name in ("offline_jitter_deg", "offline_jitter_arkit")}
    median, p99 = np.median(spent, 0), np.quantile(spent, 0.99, axis=0)
    return facts | {"median_ms": median[0], "p99_ms": p99[0], "median_wall_ms": median[1], "p99_wall_ms": p99[1]}


def measure_clip(path: Path, rig: AnnyRig) -> dict[str, float]:
    """Live against the offline fit of the same clip; the opening is not counted."""
    person, size, fps, _ = detect(path, TOOLS.live_detector)
    return _both(rig, person.landmarks_px, person.confidence, size, (fps, None))


def measure_growth(rig: AnnyRig, frames: int) -> dict[str, float]:
    """Kilobytes that stay allocated between the 500th and the last frame of a long stream."""
    head, motion = rig.personal(rig.sample(1, seed=1000)[0]), random_motion(250, 0)
    points = [rig.landmarks.points(head.posed(motion.frame(i)), head.faces).numpy() for i in range(250)]
    seen = np.stack(points)
    seen = (seen[..., :2] / seen[..., 2:] * 1200 + 256).astype(np.float32)
    person, _ = learn_opening(seen[:75], np.ones(75, np.float32), rig, (512, 512), fps=25)
    tracker = StreamingTracker(person)
    state, first = tracker.begin(), 0
    tracemalloc.start()
    for i in range(frames):
        back_and_forth = min(i % 498, 498 - i % 498)
        state, _ = tracker.step(state, seen[back_and_forth], i / 25)
        if i == 500:
            first = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    return {"frames": frames, "grown_kb": grown / 1e3}


def main() -> int:
    """Print the figures, and write them where asked; exit code 1 when a frame takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", default=list(NAMES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--frames", type=int, default=10_000, help="length of the stream whose memory is watched")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rig = AnnyRig.load()
    facts = {"exact": measure_truth(rig, 0.0), "noisy": measure_truth(rig, 0.005)}
    for name in options.clips:
        if (CLIPS / f"{name}.mp4").exists():
            facts[name] = measure_clip(CLIPS / f"{name}.mp4", rig)
    facts["long"] = measure_growth(rig, options.frames)
    text = json.dumps({k: {n: round(v, 4) for n, v in row.items()} for k, row in facts.items()}, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if all(row.get(name, 0) <= bar for row in facts.values() for name, bar in BARS.items()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
