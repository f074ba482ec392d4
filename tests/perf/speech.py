"""`python -m tests.perf.speech --json FILE [--plots DIR] [clip ...]`: lips by rule against lips that were filmed.

MediaPipe's face mesh, aligned by the rigid part of the face, gives the gap of the inner lips and the width of the
mouth; the rule model gives the same for the average head, from the sound alone and with no training. Reported for each
clip: offset of sound and picture, Pearson r at that offset, and how many visible lip closures are predicted.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from avatar.core import AudioTrack
from avatar.media import open_clip, read_audio, write_json
from avatar.speech.features import loudness, speech_samples, voice_activity
from avatar.speech.offset import Offset, estimate
from avatar.speech.phones import listen
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.visemes import LIP_GAP_MM, LIP_WIDTH_MM

SHARED = Path(__file__).parents[3] / "shared"
CLIPS = (
    "anchor_71s", "anchor_de_20s", "speech_en_8s", "talk_3", "talk_5", "talk_7", "talk_9", "talk_10", "talk_11",
    "talk_l2", "talk_l3",
)  # fmt: skip
GOALS = {"r_opening": 0.48, "r_width": 0.48}
RIGID = [33, 133, 362, 263, 168, 6, 197, 195, 5, 10, 151, 9, 8, 127, 356, 70, 300]
WARM_UP = 2
"""First frames, where the mesh still settles."""
NEAR = 0.08
"""Seconds by which a predicted closure may miss."""


@dataclass(frozen=True, kw_only=True)
class Mouth:
    """What was filmed, in face heights; nan where no face was found."""

    opening: Float[np.ndarray, "t"]
    width: Float[np.ndarray, "t"]
    fps: float


def measure(path: Path) -> Mouth:
    """Follow the mouth through a clip."""
    import mediapipe as mp

    clip = open_clip(path)
    points = np.full((len(clip.frames), 478, 3), np.nan)
    with mp.solutions.face_mesh.FaceMesh(refine_landmarks=True) as mesh:  # type: ignore[attr-defined]
        for i in range(len(clip.frames)):
            frame = clip.frames[i]
            found = mesh.process(frame).multi_face_landmarks
            if found and i >= WARM_UP:
                h, w = frame.shape[:2]
                points[i] = [(p.x * w, p.y * h, p.z * w) for p in found[0].landmark]
    seen = np.isfinite(points[:, 0, 0])
    reference = np.median(points[seen], axis=0)
    for i in np.flatnonzero(seen):
        points[i] = aligned(points[i], reference)
    height = np.linalg.norm(reference[10] - reference[152])

    def apart(a: int, b: int) -> np.ndarray:
        return np.linalg.norm((points[:, a] - points[:, b])[:, :2], axis=1) / height

    opening = (apart(13, 14) + apart(82, 87) + apart(312, 317)) / 3
    return Mouth(opening=opening, width=apart(61, 291), fps=clip.fps)


def aligned(points: Float[np.ndarray, "l 3"], reference: Float[np.ndarray, "l 3"]) -> Float[np.ndarray, "l 3"]:
    """Similarity transform of the rigid points onto the reference (Umeyama 1991)."""
    a, b = points[RIGID], reference[RIGID]
    a0, b0 = a - a.mean(0), b - b.mean(0)
    U, S, Vt = np.linalg.svd(a0.T @ b0)
    D = np.diag([1.0, 1.0, np.sign(np.linalg.det(Vt.T @ U.T))])
    scale = (S * np.diag(D)).sum() / (a0**2).sum()
    return scale * (points - a.mean(0)) @ (Vt.T @ D @ U.T).T + b.mean(0)


def predict(audio: AudioTrack, model: RuleMotion, times: Float[np.ndarray, "t"]) -> dict[str, np.ndarray]:
    """Gap and width (mm) of the average head at moments of the sound, as a 25 Hz film would show them."""
    expression = model(audio, 100.0).expression.numpy()
    grid = np.arange(len(expression)) / 100
    curves = {"opening": np.maximum(expression @ LIP_GAP_MM, -0.9), "width": expression @ LIP_WIDTH_MM}
    return {n: np.interp(times, grid, gaussian_filter1d(c, 1.2)) for n, c in curves.items()}


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    use = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[use], b[use])[0, 1])


def closures(opening: Float[np.ndarray, "t"], fps: float, *, deep: float, flanked: bool) -> Float[np.ndarray, "k"]:
    """Seconds of local minima below `deep` of the 5-95 % range; flanked ones open past a third within 0.25 s around."""
    low, high = np.nanpercentile(opening, [5, 95])
    level = (opening - low) / max(high - low, 1e-9)
    reach, out = round(0.25 * fps), []
    for i in range(reach, len(level) - reach):
        part = level[i - reach : i + reach + 1]
        if not np.isfinite(part).all() or level[i] > deep or level[i] > part[reach - 1 : reach + 2].min():
            continue
        wide = min(part[:reach].max(), part[reach + 1 :].max()) > 0.33
        if (wide or not flanked) and (not out or i / fps - out[-1] > 0.12 or not flanked):
            out.append(i / fps)
    return np.array(out)


def hits(found: np.ndarray, wanted: np.ndarray) -> float:
    """Share of `wanted` that has one of `found` within `NEAR`."""
    if not len(wanted):
        return float("nan")
    return float(np.mean([len(found) > 0 and np.abs(found - w).min() <= NEAR for w in wanted]))


def score_clip(path: Path, plots: Path | None) -> dict[str, float | str | dict[str, float]]:
    """Everything that is reported of one clip."""
    mouth, audio = measure(path), read_audio(path)
    started = time.perf_counter()
    hearings = listen(audio)
    heard_s = time.perf_counter() - started
    model = RuleMotion(hear=lambda _: hearings)
    offset = estimate(audio, mouth.opening, mouth.width, mouth.fps, model)
    times = np.arange(len(mouth.opening)) / mouth.fps - offset.seconds
    inside = (times >= 0) & (times <= audio.seconds)
    measured = {n: np.where(inside, getattr(mouth, n), np.nan) for n in ("opening", "width")}
    curves = predict(audio, model, times)
    samples = speech_samples(audio)
    energy = np.interp(times, np.arange(0, len(loudness(samples))) / 100, loudness(samples))
    clear, any_low = {"deep": 0.15, "flanked": True}, {"deep": 0.30, "flanked": False}
    seen, said = (closures(c["opening"], mouth.fps, **clear) for c in (measured, curves))
    seen_low, said_low = (closures(c["opening"], mouth.fps, **any_low) for c in (measured, curves))
    if plots is not None:
        draw(plots / f"{path.stem}.png", mouth, curves, offset)
    return {
        "seconds": round(audio.seconds, 2),
        "offset_ms": round(1000 * offset.seconds, 1),
        "confidence": round(offset.confidence, 2),
        "channels_ms": {n: round(1000 * v, 1) for n, v in offset.channels.items()},
        "refused": offset.reason,
        "r_opening": round(correlation(curves["opening"], measured["opening"]), 3),
        "r_width": round(correlation(curves["width"], measured["width"]), 3),
        "r_opening_by_loudness": round(correlation(energy, measured["opening"]), 3),
        "closures": len(seen),
        "closure_recall": round(hits(said_low, seen), 3),
        "closure_precision": round(hits(seen_low, said), 3),
        "listening_real_time_factor": round(heard_s / audio.seconds, 3),
    }


def score_voice(path: Path) -> dict[str, float]:
    """Whether a voice moves the mouth when it speaks and not in the second of silence before and after it (mm)."""
    audio = read_audio(path)
    audio = audio.between(-1.0, audio.seconds + 1.0)
    opening = predict(audio, RuleMotion(), np.arange(round(audio.seconds * 100)) / 100)["opening"]
    active = voice_activity(speech_samples(audio))[: len(opening)]
    distance = np.minimum(*(_since(active[::step])[::step] for step in (1, -1)))
    deep = distance > 0.35
    return {
        "speech": round(float(active.mean()), 3),
        "gap_speech_median_mm": round(float(np.median(opening[active])), 2),
        "gap_speech_p95_mm": round(float(np.percentile(opening[active], 95)), 2),
        "closures_per_second": round(len(closures(opening[::4], 25.0, deep=0.15, flanked=True)) / audio.seconds, 2),
        "gap_silence_max_mm": round(float(opening[deep].max()), 2),
    }


def _since(active: np.ndarray) -> np.ndarray:
    """Seconds since somebody spoke."""
    steps = np.arange(len(active))
    last = np.maximum.accumulate(np.where(active, steps, -(10**6)))
    return (steps - last) / 100


def draw(path: Path, mouth: Mouth, curves: dict[str, np.ndarray], offset: Offset) -> None:
    """Measured (black) and predicted (red) curves, both standardised."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(2, 1, figsize=(20, 6), sharex=True)
    times = np.arange(len(mouth.opening)) / mouth.fps
    for axis, (name, measured) in zip(axes, (("opening", mouth.opening), ("width", mouth.width)), strict=True):
        for curve, colour in ((measured, "k"), (curves[name], "r")):
            axis.plot(times, (curve - np.nanmean(curve)) / np.nanstd(curve), colour, lw=1)
        axis.set_ylabel(name)
        axis.set_xlim(0, min(times[-1], 20))
    axes[0].set_title(f"{path.stem}: offset {1000 * offset.seconds:.0f} ms, confidence {offset.confidence:.2f}")
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", default=CLIPS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path)
    options = parser.parse_args()
    clips = {}
    for name in options.clips:
        clips[name] = score_clip(SHARED / "clips" / f"{name}.mp4", options.plots)
        print(name, json.dumps(clips[name]), flush=True)
    keys = ("r_opening", "r_width", "r_opening_by_loudness", "closure_recall", "closure_precision")
    mean = {k: round(float(np.nanmean([clip[k] for clip in clips.values()])), 3) for k in keys}
    voices = {path.name: score_voice(path) for path in sorted((SHARED / "audio").glob("*.wav"))}
    for name, facts in voices.items():
        print(name, json.dumps(facts))
    print("mean", json.dumps(mean), "goals", json.dumps(GOALS))
    if options.json:
        report = {"mean": mean, "goals": GOALS, "clips": clips, "voices": voices}
        write_json(options.json, json.loads(json.dumps(report).replace("NaN", "null")))


if __name__ == "__main__":
    main()
