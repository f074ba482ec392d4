"""The corpus that the lips are trained on: synthesised speech, degraded, as features with the lips of its phones.

`python -m avatar.recipes.speech_corpus FOLDER --hours 3` makes one file for each part, skips those that are there, and
writes `manifest.json` with what was used. The same seed makes the same corpus with the same engines.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file, save_file

from avatar.errors import InputError
from avatar.events import Event, Notice, Progress, Sink, silent
from avatar.media import write_json
from avatar.recipes.speech_sound import degraded, music, noise, throat
from avatar.recipes.speech_voices import ENGINES, frequent_words
from avatar.speech.acoustics import acoustic_tables
from avatar.speech.articulation import articulate, contact_gate
from avatar.speech.features import HOP, RATE, speech_samples
from avatar.speech.hearing import hear
from avatar.speech.lip_net import CURVES
from avatar.speech.phones import SILENCE, Phone
from avatar.speech.visemes import CLOSURES, CONTACTS
from avatar.speech.voices import Utterance

SHARES = {"hibari-tts": 0.24, "flite": 0.20, "festival": 0.32, "espeak-ng": 0.14, "none": 0.10}
"""Part of the corpus that each engine speaks; the rest is noise and music without a voice."""
PART_SECONDS = 240.0
"""About so much sound is in a file."""
SENTENCE_SECONDS = 4.5
SHORTEST_PAUSE = 0.07
"""Seconds: shorter silences inside speech are marks without a sound of their own (palatalisation, bounds of words)."""
PRECISIONS = (0.7, 1.5)
"""Random factor on how far a phone's influence reaches: clear to slurred speech. It is the style that is told."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of the corpus."""

    engine: str
    voice: str
    seed: int

    @property
    def filename(self) -> str:
        return f"{self.engine}_{self.voice.replace('+', '-')}_{self.seed:04d}.safetensors"


def plan(hours: float, seed: int) -> list[Part]:
    """Which voice speaks which part; voices take turns, engines by `SHARES` among those that are installed.

    Raises:
        InputError: if no engine is installed.
    """
    rng = np.random.default_rng(seed)
    voices = {engine.name: engine.voices() for engine in ENGINES} | {"none": ["noise"]}
    voices = {name: [str(v) for v in rng.permutation(own)] for name, own in voices.items() if own}
    if set(voices) == {"none"}:
        ways = "\n".join(f"{engine.name}: {engine.install}" for engine in ENGINES)
        raise InputError(f"no text-to-speech engine is installed; any of these will do:\n{ways}")
    whole, count = sum(SHARES[name] for name in voices), hours * 3600 / PART_SECONDS
    parts = []
    for name, own in voices.items():
        for i in range(max(round(count * SHARES[name] / whole), 1)):
            parts.append(Part(engine=name, voice=own[i % len(own)], seed=1000 * seed + i))
    return [parts[i] for i in rng.permutation(len(parts))]


def make(part: Part, folder: Path) -> float:
    """Write one part unless it is there; returns its seconds of sound."""
    path = folder / part.filename
    if not path.exists():
        rng = np.random.default_rng([part.seed, *part.voice.encode(), *part.engine.encode()])
        rows = _spoken(part, rng) if part.engine != "none" else _unspoken(rng)
        partial = path.with_suffix(".partial")
        save_file(rows, partial)
        partial.rename(path)
    return len(load_file(path)["features"]) * HOP / RATE


def _spoken(part: Part, rng: np.random.Generator) -> dict[str, np.ndarray]:
    engine = next(engine for engine in ENGINES if engine.name == part.engine)
    said = engine.say(part.voice, round(PART_SECONDS / SENTENCE_SECONDS), int(rng.integers(1 << 31)))
    samples = [speech_samples(utterance.audio) for utterance in said]
    pieces = []
    for first in range(0, len(said), 4):
        percent = int(rng.integers(82, 123))
        sound, phones = _recording(said[first : first + 4], percent, rng)
        others = [samples[int(i)] for i in rng.integers(len(samples), size=3)]
        pieces.append(examples(degraded(sound, others, rng), phones, float(np.exp(rng.uniform(*np.log(PRECISIONS))))))
    return _joined(pieces)


def _recording(said: Sequence[Utterance], percent: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Phone]]:
    """Some utterances one after another with pauses, at another speed."""
    sounds, phones, at = [], [], 0.0
    for utterance in said:
        sound = throat(speech_samples(utterance.audio), percent)
        pause = np.zeros(int(rng.exponential(0.6) * RATE), np.float32)
        sounds += [sound / max(float(np.abs(sound).max()), 1e-6), pause]
        scale = 100 / percent
        phones += [Phone(p.symbol, at + p.start * scale, at + p.end * scale) for p in utterance.phones]
        at += len(sound) / RATE
        phones.append(Phone(SILENCE, at, at + len(pause) / RATE))
        at += len(pause) / RATE
    return np.concatenate(sounds), without_marks(phones)


def without_marks(phones: Sequence[Phone]) -> list[Phone]:
    """Phones without the short silences that no mouth makes, and with touching silences made one."""
    out: list[Phone] = []
    for phone in phones:
        short = phone.symbol == SILENCE and phone.end - phone.start < SHORTEST_PAUSE
        if out and (short or phone.symbol == out[-1].symbol == SILENCE):
            out[-1] = Phone(out[-1].symbol, out[-1].start, phone.end)
        else:
            out.append(phone)
    return out


def _unspoken(rng: np.random.Generator) -> dict[str, np.ndarray]:
    pieces = []
    for i in range(round(PART_SECONDS / 16)):
        sound = (music, noise)[i % 2](16 * RATE, rng)
        sound = degraded(sound / np.abs(sound).max(), [], rng)
        pieces.append(examples(sound, [Phone(SILENCE, 0.0, 16.0)], 1.0))
    return _joined(pieces)


def examples(sound: Float[np.ndarray, "s"], phones: Sequence[Phone], reach: float) -> dict[str, np.ndarray]:
    """Features, number of the phone and how slurred it is, 100 rows a second."""
    features = hear(sound)
    times = np.arange(len(features)) * HOP / RATE
    names = {name: i for i, name in enumerate(acoustic_tables().phones)}
    starts = np.array([p.start for p in phones])
    spoken = np.array([names.get(p.symbol, names[SILENCE]) for p in phones])
    return {
        "features": features.astype(np.float16),
        "phone": spoken[np.clip(np.searchsorted(starts, times, "right") - 1, 0, None)].astype(np.uint8),
        "reach": np.full(len(features), np.log(reach), np.float16),
    }


def lips_of(phone: Int[np.ndarray, "n"], reach: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n o"]:
    """What the lips do for rows of a part: articulators, shut and bite gates.

    A corpus keeps phones alone, so that better rules of what lips do for them need no other corpus.
    """
    whole = np.empty((len(phone), CURVES + 2), np.float32)
    edges = [0, *(np.flatnonzero(np.diff(reach)) + 1), len(phone)]
    for first, last in pairwise(edges):
        times, far = np.arange(last - first) * HOP / RATE, float(np.exp(reach[first]))
        phones = _stretches(phone[first:last])
        # Influence falls with distance over reach: squeezed times are a longer reach.
        squeezed = [Phone(p.symbol, p.start / far, p.end / far) for p in phones]
        whole[first:last, :CURVES] = articulate(squeezed, times / far)[:, :CURVES]
        for i, parts in enumerate((CLOSURES, CONTACTS)):
            whole[first:last, CURVES + i] = contact_gate(phones, parts, times)
    return whole


def _stretches(phone: Int[np.ndarray, "n"]) -> list[Phone]:
    names = acoustic_tables().phones
    starts = np.flatnonzero(np.diff(phone.astype(int), prepend=-1))
    # A row is the middle of its hundredth of a second.
    edges = np.array([*starts, len(phone)]) / 100 - 0.005
    return [Phone(names[phone[i]], a, b) for i, (a, b) in zip(starts, pairwise(edges), strict=True)]


def _joined(pieces: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def build(folder: Path, hours: float, sink: Sink = silent, *, seed: int = 0, jobs: int = 1) -> dict[str, object]:
    """Make the corpus, or what is missing of it.

    Raises:
        InputError: if no engine is installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = plan(hours, seed)
    for engine in ENGINES:
        if not engine.voices():
            sink(
                Notice(
                    message=f"{engine.name} is not installed, others speak its part; for its voices: {engine.install}"
                )
            )
    seconds: dict[str, float] = {}
    frequent_words(), acoustic_tables()  # read once, before the processes part
    # A process for each part: espeak-ng remembers what it said before, and says the next a little differently.
    with Pool(jobs, maxtasksperchild=1) as pool:
        made = pool.imap(partial(make, folder=folder), parts)
        for done, (part, length) in enumerate(zip(parts, made, strict=True), start=1):
            key = f"{part.engine}/{part.voice}"
            seconds[key] = round(seconds.get(key, 0.0) + length, 2)
            sink(Progress(stage="corpus", done=done, total=len(parts), unit="parts"))
    licences = {engine.name: engine.licence for engine in ENGINES if engine.voices()}
    manifest = {"seed": seed, "hours": sum(seconds.values()) / 3600, "engines": licences, "seconds": seconds}
    write_json(folder / "manifest.json", manifest)
    return manifest


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()

    def show(event: Event) -> None:
        sys.stderr.write(f"{event}\n")

    try:
        build(options.folder, options.hours, show, seed=options.seed, jobs=options.jobs)
    except InputError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
