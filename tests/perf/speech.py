"""`python -m tests.perf.speech --json FILE [--lips FILE] [--cache DIR] [--adapted FOLDER] [--minutes 60] [clip ...]`:
lips by sound against filmed lips.

MediaPipe's face mesh, aligned by the rigid part of the face, gives the gap of the inner lips and the width of the
mouth; every model gives the same for the average head from the sound alone, with nothing fitted to the clips but one
shift of sound against picture each, which the rule model finds. For each clip and model: Pearson r of opening and
width, lag of the opening, and how many visible lip closures are predicted. `live` alone is causal, with 153 ms of
delay; the others hear the whole sound. Then what moves the lips without a voice, how fast listening is, whether a
stream hears what is heard at once, and, if asked, what an hour of live lips costs and whether they drift, and how the
rest of a clip is told when the person was learned from its beginning (`tests.perf.adapted`).
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from avatar.core import AudioTrack
from avatar.media import read_audio, write_json
from avatar.speech.base import AbstractSpeechMotion
from avatar.speech.features import RATE, loudness, speech_samples, voice_activity
from avatar.speech.learned_motion import LearnedMotion, hear_lips
from avatar.speech.lip_net import WEIGHTS, LipNet, load_net
from avatar.speech.lip_stream import LATENCY, LipStream
from avatar.speech.live_motion import DELAY, LiveMotion
from avatar.speech.offset import estimate
from avatar.speech.phones import listen
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import SpeechStyle, lips_only
from avatar.speech.visemes import LIP_GAP_MM, LIP_WIDTH_MM
from tests.perf.adapted import LaterLips
from tests.perf.mouths import closures, correlation, draw, hits, lag, measured
from tests.perf.processes import resident_bytes

SHARED = Path(__file__).parents[3] / "shared"
CLIPS = (
    "anchor_71s", "anchor_de_20s", "speech_en_8s", "talk_3", "talk_5", "talk_7", "talk_9", "talk_10", "talk_11",
    "talk_l2", "talk_l3",
)  # fmt: skip
GOALS = {"r_opening": 0.52, "r_width": 0.55, "lag_ms": 20.0, "recall": 0.80, "precision": 0.75}
GRID_HZ = 100.0
RANGE_MM = 6.0
"""Opening of lively speech on the average head, for shares of it."""

Curves = dict[str, Float[np.ndarray, "t"]]
"""Opening and width (mm, or any unit) on a grid of `GRID_HZ`."""


def lip_curves(audio: AudioTrack, model: AbstractSpeechMotion) -> Curves:
    """Gap and width (mm) of the average head, blurred as a 25 Hz film would show them."""
    return _curves(model(audio, GRID_HZ).expression.numpy())


def live_curves(audio: AudioTrack) -> Curves:
    """The same of lips that follow a microphone."""
    samples = np.pad(speech_samples(audio), (0, 2 * round(DELAY * RATE)))
    motion = LiveMotion(lips_only(SpeechStyle()), GRID_HZ).push(samples)
    assert motion is not None
    return _curves(motion.expression.numpy())


def _curves(expression: Float[np.ndarray, "t 52"]) -> Curves:
    curves = {"opening": np.maximum(expression @ LIP_GAP_MM, -0.9), "width": expression @ LIP_WIDTH_MM}
    return {name: gaussian_filter1d(curve, 1.2) for name, curve in curves.items()}


def energy_curves(audio: AudioTrack) -> Curves:
    """Loudness for both: what a mouth that flaps with the level would do."""
    level = gaussian_filter1d(loudness(speech_samples(audio)), 3.0)
    return {"opening": level, "width": level}


def rolled(curves: Curves) -> Curves:
    """The curves of other words by the same voice: half of the clip later."""
    return {name: np.roll(curve, len(curve) // 2) for name, curve in curves.items()}


def agreement(curves: Curves, filmed: Curves, moments: Float[np.ndarray, "t"], fps: float) -> dict[str, float]:
    """The figures of one model on one clip; `moments` are the seconds of sound at which the frames were filmed."""
    grid = np.arange(len(curves["opening"])) / GRID_HZ
    seen = {name: np.interp(moments, grid, curve) for name, curve in curves.items()}
    clear, any_low = {"deep": 0.15, "flanked": True}, {"deep": 0.30, "flanked": False}
    shut, said = closures(filmed["opening"], fps, **clear), closures(seen["opening"], fps, **clear)
    return {
        "r_opening": round(correlation(seen["opening"], filmed["opening"]), 3),
        "r_width": round(correlation(seen["width"], filmed["width"]), 3),
        "lag_ms": round(1000 * lag(grid, curves["opening"], filmed["opening"], moments)),
        "recall": round(hits(closures(seen["opening"], fps, **any_low), shut), 3),
        "precision": round(hits(closures(filmed["opening"], fps, **any_low), said), 3),
        "closures": len(shut),
    }


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the command line gave."""

    net: LipNet
    cache: Path | None
    plots: Path | None


def score_clip(path: Path, tools: Tools) -> dict[str, object]:
    """Offset, cost of listening and the figures of every model."""
    mouth, audio = measured(path, tools.cache), read_audio(path)
    hearings, rule_s = timed(lambda: listen(audio))
    rule = RuleMotion(hear=lambda _: hearings)
    offset = estimate(audio, mouth.opening, mouth.width, mouth.fps, rule)
    moments = np.arange(len(mouth.opening)) / mouth.fps - offset.seconds
    inside = (moments >= 0) & (moments <= audio.seconds)
    filmed = {name: np.where(inside, getattr(mouth, name), np.nan) for name in ("opening", "width")}
    by_rule = lip_curves(audio, rule)
    heard, learned_s = timed(partial(hear_lips, audio, tools.net))
    best = lip_curves(audio, LearnedMotion(hear=lambda _: heard))
    models = {
        "learned": best,
        "rule": by_rule,
        "live": live_curves(audio),
        "energy": energy_curves(audio),
        "shuffled": rolled(best),
    }
    cost = {"rule": rule_s, "learned": learned_s}
    if tools.plots is not None:
        grid = np.arange(len(best["opening"])) / GRID_HZ
        seen = {name: np.interp(moments, grid, curve) for name, curve in best.items()}
        draw(tools.plots / f"{path.stem}.png", mouth, seen, offset)
    return {
        "seconds": round(audio.seconds, 2),
        "offset_ms": round(1000 * offset.seconds, 1),
        "confidence": round(offset.confidence, 2),
        "refused": offset.reason,
        "real_time_factor": {name: round(seconds / audio.seconds, 3) for name, seconds in cost.items()},
        "models": {name: agreement(curves, filmed, moments, mouth.fps) for name, curves in models.items()},
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns and its seconds of processor time."""
    started = time.process_time()
    return work(), time.process_time() - started


def quiet_sounds() -> dict[str, AudioTrack]:
    """Five seconds each of what should not move the lips."""
    rng, count = np.random.default_rng(0), 5 * RATE
    white = rng.normal(size=count)
    pink = np.fft.irfft(np.fft.rfft(white) / np.maximum(np.arange(count // 2 + 1), 20.0) ** 0.5, count)
    time_s = np.arange(count) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time_s) / k for k in (1, 2, 3))
    chords = np.zeros(count)
    for start in range(0, count, RATE // 2):
        after = time_s[: count - start]
        for pitch in 220.0 * 2 ** (rng.choice([0, 4, 7, 12], 2) / 12):
            chords[start:] += np.exp(-3 * after) * sum(np.sin(2 * np.pi * pitch * k * after) / k for k in range(1, 8))
    sounds = {"silence": np.zeros(count), "white noise": white, "pink noise": pink, "hum": hum, "music": chords}
    return {
        name: AudioTrack(samples=(0.1 * x / max(float(np.abs(x).max()), 1.0) * 3).astype(np.float32), rate=RATE)
        for name, x in sounds.items()
    }


def score_quiet(model: AbstractSpeechMotion) -> dict[str, float]:
    """Largest opening beyond the resting lips, as a part of `RANGE_MM`."""
    out = {}
    for name, audio in quiet_sounds().items():
        opening = lip_curves(audio, model)["opening"]
        out[name] = round(float((opening - min(opening[0], 0.0)).max() / RANGE_MM), 3)
    return out


def shut_after_voice(path: Path, model: Callable[[AudioTrack], Curves]) -> float:
    """Milliseconds from the end of a voice until the lips stay within 5 % of `RANGE_MM`."""
    audio = read_audio(path)
    audio = audio.between(0.0, audio.seconds + 2.0)  # a faint end counts where silence follows it
    active = voice_activity(speech_samples(audio))
    end = (np.flatnonzero(active)[-1] + 1) / 100
    opening = model(audio)["opening"]
    open_still = np.flatnonzero(opening > 0.05 * RANGE_MM)
    return round(1000 * max((open_still[-1] + 1) / GRID_HZ - end, 0.0)) if len(open_still) else 0.0


def score_voice(path: Path, model: AbstractSpeechMotion) -> dict[str, float]:
    """Whether a voice moves the mouth when it speaks and not in the second of silence before and after it (mm)."""
    audio = read_audio(path)
    after = shut_after_voice(path, lambda sound: lip_curves(sound, model))
    audio = audio.between(-1.0, audio.seconds + 1.0)
    opening = lip_curves(audio, model)["opening"]
    active = voice_activity(speech_samples(audio))[: len(opening)]
    distance = np.minimum(*(_since(active[::step])[::step] for step in (1, -1)))
    return {
        "speech": round(float(active.mean()), 3),
        "gap_speech_median_mm": round(float(np.median(opening[active])), 2),
        "gap_speech_p95_mm": round(float(np.percentile(opening[active], 95)), 2),
        "closures_per_second": round(len(closures(opening[::4], 25.0, deep=0.15, flanked=True)) / audio.seconds, 2),
        "gap_silence_max_mm": round(float(opening[distance > 0.35].max()), 2),
        "shut_after_ms": after,
    }


def _since(active: np.ndarray) -> np.ndarray:
    """Seconds since somebody spoke."""
    steps = np.arange(len(active))
    last = np.maximum.accumulate(np.where(active, steps, -(10**6)))
    return (steps - last) / 100


def score_stream(path: Path, net: LipNet) -> dict[str, float]:
    """Lips of a voice in pieces of random size against those of the whole: difference, cost, delay."""
    samples = speech_samples(read_audio(path))

    def at_once() -> np.ndarray:
        stream = LipStream(net)
        return np.concatenate([stream.push(samples), stream.finish()])

    def in_pieces() -> np.ndarray:
        rng, stream, rows, at = np.random.default_rng(0), LipStream(net), [], 0
        while at < len(samples):
            size = int(rng.integers(1, 1280))
            rows.append(stream.push(samples[at : at + size]))
            at += size
        return np.concatenate([*rows, stream.finish()])

    (whole, whole_s), (pieces, pieces_s) = timed(at_once), timed(in_pieces)
    return {
        "largest_difference": float(np.abs(pieces - whole).max()),
        "real_time_factor": round(whole_s / len(samples) * RATE, 4),
        "streamed_real_time_factor": round(pieces_s / len(samples) * RATE, 4),
        "latency_ms": round(1000 * LATENCY, 1),
    }


def score_long(path: Path, minutes: float) -> list[dict[str, float]]:
    """Live lips of a voice that goes on: of each twelfth the opening (mm), the cost, and the memory held (MB)."""
    samples, stream = speech_samples(read_audio(path)), LiveMotion(lips_only(SpeechStyle()), 25.0)
    piece, rows, at = RATE // 10, [], 0
    for _ in range(12):
        gaps, started, ends = [], time.process_time(), at + round(minutes * 60 / 12 * RATE)
        while at < ends:
            motion = stream.push(np.take(samples, np.arange(at, at + piece), mode="wrap"))
            at += piece
            if motion is not None:
                gaps.append(motion.expression.numpy() @ LIP_GAP_MM)
        gap = np.concatenate(gaps)
        rows.append({
            "minutes": round(at / RATE / 60, 1),
            "gap_mean_mm": round(float(gap.mean()), 3),
            "gap_p95_mm": round(float(np.percentile(gap, 95)), 3),
            "real_time_factor": round((time.process_time() - started) / (minutes * 60 / 12), 4),
            "memory_mb": round(resident_bytes(os.getpid()) / 1e6, 1),
        })  # fmt: skip
    return rows


def score_adapted(later: LaterLips) -> dict[str, object]:
    """Figures of the rest of a clip by every way of speaking, and how many habits were learned."""
    styles = later.styles()
    curves = {name: _curves(later.moved(style, GRID_HZ)) for name, style in styles.items()}
    for name in ("60 %, no habits", "60 %"):
        curves[f"live, {name}"] = _curves(later.moved(styles[name], GRID_HZ, live=True))
    return {
        "habits": {name: int(np.any(style.habits, axis=0).sum()) for name, style in styles.items() if style.habits},
        "models": {n: agreement(own, later.filmed, later.moments, later.fps) for n, own in curves.items()},
    }


def means(clips: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Mean over the clips for every model (median of the sizes of the lags)."""
    out = {}
    for model in next(iter(clips.values()))["models"]:
        rows = [clip["models"][model] for clip in clips.values()]
        own = {key: round(float(np.nanmean([row[key] for row in rows])), 3) for key in GOALS if key != "lag_ms"}
        out[model] = own | {"lag_ms": float(np.median([abs(row["lag_ms"]) for row in rows]))}
    return out


def table(clips: dict[str, dict], mean: dict[str, dict[str, float]]) -> Sequence[str]:
    """Lines of a Markdown table: r of opening / r of width / lag / recall / precision."""
    names = list(mean)
    lines = ["| clip | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, models in [(name, clip["models"]) for name, clip in clips.items()] + [("mean", mean)]:
        cells = [
            "{r_opening:.2f} / {r_width:.2f} / {lag_ms:.0f} / {recall:.2f} / {precision:.2f}".format(**models[name])
            for name in names
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", default=CLIPS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, help="folder for what was followed in the films")
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with clips/ and audio/")
    parser.add_argument("--lips", type=Path, default=WEIGHTS, help="other weights than those that are shipped")
    parser.add_argument("--adapted", type=Path, help="folder with a workspace of preprocess for each clip")
    parser.add_argument("--minutes", type=float, default=0.0, help="of live lips in one go")
    options = parser.parse_args()
    tools = Tools(net=load_net(options.lips), cache=options.cache, plots=options.plots)
    movers: dict[str, AbstractSpeechMotion] = {
        "learned": LearnedMotion(hear=lambda audio: hear_lips(audio, tools.net)),
        "rule": RuleMotion(),
    }
    clips: dict[str, dict] = {}
    adapted: dict[str, dict] = {}
    for name in options.clips:
        clips[name] = score_clip(options.shared / "clips" / f"{name}.mp4", tools)
        print(name, json.dumps(clips[name]), flush=True)
        if options.adapted:
            path = options.shared / "clips" / f"{name}.mp4"
            adapted[name] = score_adapted(LaterLips(path, options.adapted / name, tools.net, tools.cache))
            print("adapted", json.dumps(adapted[name]), flush=True)
    mean = means(clips)
    print("\n".join(table(clips, mean)))
    if adapted:
        print("\n".join(table(adapted, means(adapted))))
    paths = sorted((options.shared / "audio").glob("*.wav"))
    report = {
        "mean": mean,
        "goals": GOALS,
        "clips": clips,
        "adapted": {"mean": means(adapted), "clips": adapted} if adapted else {},
        "quiet": {name: score_quiet(mover) for name, mover in movers.items()},
        "voices": {n: {path.name: score_voice(path, mover) for path in paths} for n, mover in movers.items()},
        "stream": score_stream(paths[0], tools.net) if paths else {},
    }
    if options.minutes and paths:
        report["long"] = score_long(paths[0], options.minutes)
    for key in ("quiet", "voices", "stream", *(["long"] if "long" in report else [])):
        print(key, json.dumps(report[key]))
    if options.json:
        write_json(options.json, json.loads(json.dumps(report).replace("NaN", "null")))


if __name__ == "__main__":
    main()
