"""`python -m tests.perf.alive --json FILE [--workspaces FOLDER ...]`: how heads live, ours beside filmed ones.

Of each workspace of `avatar preprocess` (its track is used; its clip is not looked at): how far and how fast the head
turns, its spectrum in octaves, blinks and glances. The same of our head that speaks with the sound of those clips, for
five seeds: that of an average speaker, and with the style that was learned from the workspace. Then five seeds of one
voice, conversations, emotions, and an hour in pieces.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.signal import welch
from scipy.spatial.transform import Rotation

from avatar.config import from_dict
from avatar.core import AudioTrack, MotionSequence
from avatar.face.track_io import load_track
from avatar.media import Workspace, write_json
from avatar.speech.emotion import EMOTIONS, Feeling
from avatar.speech.features import speech_samples
from avatar.speech.life import Life, LifeStream
from avatar.speech.performance import Lips, perform
from avatar.speech.rule_motion import prosody
from avatar.speech.style import Direction, SpeechStyle, directed
from avatar.speech.turns import LISTENING, SPEAKING, Prosody
from avatar.speech.vad import speaking
from avatar.speech.visemes import ARKIT_INDEX, ARTICULATORS, JAW, LIP_GAP_MM

FPS = 25.0
SEEDS = range(5)
BANDS = ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0))
"""Hz; above 4 Hz the tracker trembles more than heads do."""
SPECTRUM_SECONDS = 8
BLINK_ON, BLINK_OFF = 0.35, 0.20
"""eyeBlink above the open eye at which a blink begins and ends."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Head:
    """What is measured of a head, filmed or ours."""

    turn: Float[np.ndarray, "t 3"]
    """Rotation vector about its mean, degrees."""
    gaze: Float[np.ndarray, "t 2"]
    """Degrees in the head."""
    lids: Float[np.ndarray, "t"]
    fps: float


def filmed(motion: MotionSequence, seen: np.ndarray) -> Head:
    rotation = Rotation.from_matrix(motion.T_world_head[:, :3, :3].double().numpy()[seen])
    turn = np.degrees((rotation.mean().inv() * rotation).as_rotvec())
    lids = motion.expression[:, [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]].mean(1).numpy()[seen]
    return Head(turn=turn, gaze=np.degrees(motion.gaze.mean(1).numpy()[seen]), lids=lids, fps=motion.fps)


def ours(life: Life) -> Head:
    return Head(turn=np.degrees(life.turn), gaze=np.degrees(life.gaze), lids=life.lids, fps=FPS)


def blinks(lids: Float[np.ndarray, "t"]) -> list[int]:
    above, inside, starts = lids - np.quantile(lids, 0.3), False, []
    for i, value in enumerate(above):
        if value > BLINK_ON and not inside:
            inside = True
            starts.append(i)
        elif value < BLINK_OFF:
            inside = False
    return starts


def figures(head: Head) -> Row:
    """Spread, speed, spectrum, blinks and gaze; a list is nod, turn and tilt."""
    speed = np.abs(np.diff(head.turn, axis=0)) * head.fps
    frequency, power = welch(head.turn, head.fps, nperseg=min(len(head.turn), int(SPECTRUM_SECONDS * head.fps)), axis=0)
    step = frequency[1] - frequency[0]
    bands = [power[(frequency > low) & (frequency <= high)].sum(axis=0) * step for low, high in BANDS]
    # The slope tells how the head moves whatever the size: -1 to -2 is that of moves between holds.
    middle = (frequency >= 0.25) & (frequency <= 4.0)
    slope = [np.polyfit(np.log2(frequency[middle]), np.log2(power[middle, i] + 1e-12), 1)[0] for i in range(3)]
    counter = np.corrcoef(head.gaze[:, 0], head.turn[:, 1])[0, 1]
    return {
        "seconds": round(len(head.turn) / head.fps, 1),
        "std_deg": rounded(head.turn.std(axis=0)),
        "speed_p50": rounded(np.percentile(speed, 50, axis=0)),
        "speed_p95": rounded(np.percentile(speed, 95, axis=0)),
        "octaves_rms_deg": [rounded(np.sqrt(band)) for band in bands],
        "slope": rounded(slope),
        "blinks_per_minute": round(60 * len(blinks(head.lids)) * head.fps / len(head.lids), 1),
        "gaze_std_deg": rounded(head.gaze.std(axis=0)),
        "gaze_counters_turns_r": round(float(counter), 2),
    }


def rounded(values: Iterable[Any]) -> list[float]:
    return [round(float(value), 3) for value in values]


def heard(audio: AudioTrack) -> Prosody:
    times = np.arange(round(audio.seconds * FPS)) / FPS
    samples = speech_samples(audio)
    return prosody(samples, times, speaking(samples))


def compared(folders: Sequence[Path]) -> Row:
    """Filmed heads, and ours with the same sound."""
    film: dict[str, Row] = {}
    average: dict[str, Row] = {}
    own: dict[str, Row] = {}
    for folder in folders:
        space = Workspace.open(folder)
        track, audio = load_track(space.path("track.safetensors")), space.audio()
        film[folder.name] = figures(filmed(track.motion, track.confidence.numpy() > 0))
        if audio is None:
            continue
        voice = heard(audio)
        average[folder.name] = mean([figures(ours(LifeStream(SpeechStyle(), FPS, s).push(voice))) for s in SEEDS])
        if space.path("style.json").exists():
            style = from_dict(SpeechStyle, space.json("style.json"), where=f"{folder}/style.json")
            own[folder.name] = mean([figures(ours(LifeStream(style, FPS, s).push(voice))) for s in SEEDS])
    return {"filmed": film, "ours_average": average, "ours_own_style": own, "range": ranges(film, average, own)}


def mean(rows: Sequence[Row]) -> Row:
    return {key: np.round(np.mean([row[key] for row in rows], axis=0), 3).tolist() for key in rows[0]}


def ranges(film: dict[str, Row], *kinds: dict[str, Row]) -> Row:
    """Of each figure: least and most of the films, and the mean of each kind of ours; `inside` counts its numbers."""
    out: Row = {}
    for key in ("std_deg", "speed_p50", "speed_p95", "octaves_rms_deg", "slope", "blinks_per_minute", "gaze_std_deg"):
        seen = np.array([row[key] for row in film.values()])
        low, high = seen.min(axis=0), seen.max(axis=0)
        row: Row = {"least": low.tolist(), "most": high.tolist()}
        for name, kind in zip(("average", "own_style"), kinds, strict=True):
            if kind:
                found = np.mean([np.array(each[key]) for each in kind.values()], axis=0)
                row[name] = np.round(found, 3).tolist()
                row[f"{name}_inside"] = f"{int(((found >= low) & (found <= high)).sum())} of {found.size}"
        out[key] = row
    return out


def phrases(seconds: float, phrase: float, pause: float, late: float = 0.0) -> Prosody:
    times = np.arange(round(seconds * FPS)) / FPS
    gate = ((times - late) % (phrase + pause) < phrase) & (times >= late)
    return Prosody(gate=gate.astype(float), emphasis=np.where(gate, 1.6 * np.sin(2 * np.pi * times / 0.7), 0.0))


def seeds(voice: Prosody) -> Row:
    """How alike five seeds are: lips of all, heads and blinks of each pair."""
    times = np.arange(len(voice.gate)) / FPS
    curves = np.zeros((len(times), len(ARTICULATORS)), np.float32)
    curves[:, JAW] = 0.2 + 0.2 * np.sin(2 * np.pi * 4 * times)
    lips = Lips(curves=curves, shut=np.zeros(len(times), np.float32), bite=np.zeros(len(times), np.float32))
    motions = [perform(lips, voice, SpeechStyle(), FPS, seed) for seed in SEEDS]
    gaps = np.stack([motion.expression.numpy() @ LIP_GAP_MM for motion in motions])
    turns = np.stack([motion.neck.numpy() for motion in motions])
    pairs = [(a, b) for a in SEEDS for b in range(a)]
    return {
        "lips_largest_difference_mm": round(float(np.ptp(gaps, axis=0).max()), 6),
        "head_r": rounded(
            [np.mean([abs(np.corrcoef(turns[a, :, i], turns[b, :, i])[0, 1]) for a, b in pairs]) for i in range(3)]
        ),
        "head_std_deg": [rounded(np.degrees(turn.std(axis=0))) for turn in turns],
        "blinks": [len(blinks(m.expression[:, ARKIT_INDEX["eyeBlinkLeft"]].numpy())) for m in motions],
    }


def conversation(seconds: float = 600.0) -> Row:
    """Speaking and listening in turn."""
    mine, other = phrases(seconds, 6.0, 7.0), phrases(seconds, 5.0, 8.0, 6.5)
    life = LifeStream(SpeechStyle(), FPS, 0).push(mine, other)
    speed = np.degrees(np.abs(np.diff(life.turn, axis=0))) * FPS
    switching = np.abs(np.diff(life.states[:, SPEAKING])) > 0.02
    smiles = life.face[:, ARKIT_INDEX["mouthSmileLeft"]] > 0.08
    return {
        "speed_p999": round(float(np.percentile(speed, 99.9)), 1),
        "speed_at_switches_max": round(float(speed[switching].max()), 1),
        "speed_elsewhere_max": round(float(speed[~switching].max()), 1),
        "smiling_share": round(float(smiles.mean()), 3),
        "listening_share": round(float((life.states[:, LISTENING] > 0.5).mean()), 3),
        "lips_parted_mm": round(float((life.face @ LIP_GAP_MM).max()), 6),
    }


def emotions() -> Row:
    """Least step of any coefficient as the intensity grows in tenths (below 0 it would fall), and the full face."""
    times = np.arange(100) / FPS
    curves = np.zeros((100, len(ARTICULATORS)), np.float32)
    curves[:, JAW] = np.abs(0.4 * np.sin(2 * np.pi * 2 * times))
    shut = (np.abs(times % 1.0 - 0.5) < 0.05).astype(np.float32)
    lips, voice = Lips(curves=curves, shut=shut, bite=0 * shut), Prosody(gate=np.ones(100), emphasis=np.zeros(100))
    out: Row = {}
    for emotion in EMOTIONS:
        steps = []
        for level in np.linspace(0.0, 1.0, 11):
            way = directed(SpeechStyle(blink_hz=0.0), Direction(feelings=(Feeling(emotion=emotion, intensity=level),)))
            steps.append(perform(lips, voice, way, FPS, 0).expression.numpy())
        gap = steps[-1] @ LIP_GAP_MM
        out[emotion] = {
            "least_step": round(float(np.diff(np.stack(steps), axis=0).min()), 6),
            "moved": int(((steps[-1] - steps[0]).max(axis=0) > 0.01).sum()),
            "gap_at_closures_mm": round(float(gap[shut > 0.99].max()), 3),
        }
    return out


def hour() -> Row:
    """An hour of conversation in pieces of a minute: cost, memory, and whether the end is like the beginning."""
    stream, deviation, rates, memory = LifeStream(SpeechStyle(), FPS, 0), [], [], []
    mine, other = phrases(60.0, 6.0, 7.0), phrases(60.0, 5.0, 8.0, 6.5)
    last, seams, started = None, [], time.process_time()
    for _ in range(60):
        life = stream.push(mine, other)
        deviation.append(np.degrees(life.turn.std(axis=0)))
        rates.append(len(blinks(life.lids)))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        if last is not None:
            seams.append(np.degrees(np.abs(life.turn[0] - last).max()) * FPS)
        last = life.turn[-1]
    return {
        "processor_s": round(time.process_time() - started, 2),
        "memory_growth_mb": round(memory[-1] - memory[4], 1),
        "std_deg_first_20": rounded(np.mean(deviation[:20], axis=0)),
        "std_deg_last_20": rounded(np.mean(deviation[-20:], axis=0)),
        "blinks_per_minute_first_last_20": [float(np.mean(rates[:20])), float(np.mean(rates[-20:]))],
        "speed_at_seams_max": round(float(max(seams)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--workspaces", type=Path, nargs="*", default=[], help="folders that preprocess made")
    options = parser.parse_args()
    report: Row = {"hour": hour(), "conversation": conversation(), "emotions": emotions()}
    report["seeds"] = seeds(phrases(70.0, 2.4, 0.5))
    if options.workspaces:
        report |= compared(options.workspaces)
    for key, value in report.items():
        print(key, json.dumps(value))
    if options.json:
        write_json(options.json, report)


if __name__ == "__main__":
    main()
