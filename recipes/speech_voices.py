"""Text-to-speech engines as makers of training data: sound with the time of every phone. None of them is needed to run.

An engine that is not installed is skipped and the corpus says so, and how to install it: espeak-ng and hibari come from
the Python package index, flite and festival with their voices from the system's (here Debian's).
"""

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from avatar.core import AudioTrack
from avatar.media import read_audio
from avatar.speech.features import speech_samples
from avatar.speech.phones import SILENCE, Phone, contiguous
from avatar.speech.voices import EspeakVoice, Utterance

FREQUENT_WORDS = 12_000
FRAME_DELAY = 0.008
"""Seconds by which pocketsphinx's frames stand before the sound that they hold."""
_SCRIPTS = {
    "latin": ("p b m f v t d n l r s k g p b m f v st tr pr bl", "a e i o u a e o"),
    "cyrillic": ("п б м ф в т д н л р с к г ш ж п б м в", "а е и о у ы я ю"),
    "greek": ("π μπ μ φ β τ ν λ ρ σ κ γ π μ", "α ε ι ο ου"),
    "pinyin": ("b p m f d t n l g k h j q x zh ch sh w y b p m f", "a1 o1 u4 ai4 ao3 an2 ang1 en2 i4 ei3"),
    "devanagari": ("प ब म फ भ व त द न ल र स क ग प ब म", "\u093e \u0947 \u093f \u094b \u0941"),
    "telugu": ("ప బ మ ఫ భ వ త ద న ల ర స క గ ప బ మ", "\u0c3e \u0c47 \u0c3f \u0c4b \u0c41"),
    "kana": ("", "あ い う え お ま み む も ば び ぶ ぼ ぱ ぷ ふ は た て と な の ら る か き さ し す わ"),
}
"""Onsets and vowels of made-up words; what closes the lips is there more often."""
_LANGUAGES = "en-us en de fr es it pt nl sv pl cs tr fi hu ro id vi ru uk bg el cmn ja hr da"


def words(rng: np.random.Generator, language: str) -> str:
    """A sentence of real (English) or made-up words: what is said does not matter, only how it sounds."""
    count = int(rng.integers(3, 13))
    if language.startswith("en"):
        chosen = [str(word) for word in rng.choice(frequent_words(), count)]
    else:
        chosen = [_made_up(rng, _script(language)) for _ in range(count)]
    for i in range(count - 1):
        if rng.random() < 0.15:
            chosen[i] += ","
    return " ".join(chosen) + rng.choice([".", ".", "?", "!"])


def _script(language: str) -> str:
    known = {
        "ru": "cyrillic", "uk": "cyrillic", "bg": "cyrillic", "el": "greek", "cmn": "pinyin", "ja": "kana",
        "hi": "devanagari", "mr": "devanagari", "te": "telugu",
    }  # fmt: skip
    return known.get(language, "latin")


def _made_up(rng: np.random.Generator, script: str) -> str:
    onsets, vowels = (signs.split() or [""] for signs in _SCRIPTS[script])
    word = "".join(str(rng.choice(onsets)) + str(rng.choice(vowels)) for _ in range(int(rng.integers(1, 5))))
    return word + (str(rng.choice(list("nmlrst"))) if script == "latin" and rng.random() < 0.3 else "")


@lru_cache(maxsize=1)
def frequent_words() -> tuple[str, ...]:
    """The most frequent words of pocketsphinx's dictionary under its language model."""
    from pocketsphinx import LogMath, NGramModel, get_model_path

    folder = Path(get_model_path()) / "en-us"
    lines = (folder / "cmudict-en-us.dict").read_text().splitlines()
    candidates = sorted({line.split()[0] for line in lines if line.split()[0].isalpha() and len(line.split()[0]) > 1})
    config: Any = None
    model = NGramModel(config, LogMath(), str(folder / "en-us.lm.bin"))
    return tuple(sorted(candidates, key=lambda word: -model.prob([word]))[:FREQUENT_WORDS])


class AbstractEngine(ABC):
    """Something that reads aloud."""

    name: str
    licence: str
    install: str
    """The command that installs it with all voices."""

    @abstractmethod
    def voices(self) -> list[str]:
        """What is installed; empty if nothing is."""

    @abstractmethod
    def say(self, voice: str, count: int, seed: int) -> list[Utterance]:
        """`count` utterances, the same for the same seed."""


class Espeak(AbstractEngine):
    """Formant synthesis: robotic, any language."""

    name, licence = "espeak-ng", "GPL-3.0-or-later (tool)"
    install = "pip install espeakng-loader"

    def voices(self) -> list[str]:
        if find_spec("espeakng_loader") is None:
            return []
        return [
            f"{language}+{variant}"
            for language in _LANGUAGES.split()
            for variant in ("m1", "m3", "m7", "f2", "f4", "f5")
        ]

    def say(self, voice: str, count: int, seed: int) -> list[Utterance]:
        rng, out = np.random.default_rng(seed), []
        for _ in range(count):
            text = words(rng, voice.split("+", maxsplit=1)[0])
            rate, pitch = int(rng.integers(120, 250)), int(rng.integers(20, 80))
            out.append(EspeakVoice().say(text, voice, words_per_minute=rate, pitch=pitch))
        return out


class Flite(AbstractEngine):
    """Unit selection and diphones of CMU: English."""

    name, licence = "flite", "BSD-like (CMU)"
    install = "apt-get install flite"

    def voices(self) -> list[str]:
        return ["rms", "slt", "awb", "kal16"] if shutil.which("flite") else []

    def say(self, voice: str, count: int, seed: int) -> list[Utterance]:
        rng, out = np.random.default_rng(seed), []
        with TemporaryDirectory() as folder:
            for i in range(count):
                path = Path(folder) / f"{i}.wav"
                stretch = f"duration_stretch={rng.uniform(0.7, 1.2):.2f}"
                command = [
                    "flite",
                    "-voice",
                    voice,
                    "--setf",
                    stretch,
                    "-psdur",
                    "-t",
                    words(rng, "en"),
                    "-o",
                    str(path),
                ]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                marks = [(mark.rsplit(":", 1)[0], float(mark.rsplit(":", 1)[1])) for mark in said if ":" in mark]
                out.append(_utterance(read_audio(path), [(english(name), end) for name, end in marks]))
        return out


_FESTIVAL = {
    "cmu_us_slt_arctic_hts": "en", "kal_diphone": "en", "ked_diphone": "en", "czech_dita": "cs", "czech_krb": "cs",
    "czech_machac": "cs", "czech_ph": "cs", "lp_diphone": "it", "pc_diphone": "it", "hy_fi_mv_diphone": "fi",
    "suo_fi_lj_diphone": "fi", "upc_ca_ona_hts": "ca", "msu_ru_nsh_clunits": "ru",
    "hindi_NSK_diphone": "hi", "marathi_NSK_diphone": "mr", "telugu_NSK_diphone": "te",
}  # fmt: skip
"""Voices whose phones are known here, and their languages."""


class Festival(AbstractEngine):
    """Diphones, unit selection and hidden Markov models in several languages."""

    name, licence = "festival", "BSD-like, GPL and CC (voices as packed by Debian)"
    install = (
        "apt-get install festival festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k festival-czech "
        "festvox-czech-dita festvox-czech-krb festvox-czech-machac festvox-czech-ph festvox-italp16k "
        "festvox-itapc16k festvox-suopuhe-lj festvox-suopuhe-mv festival-ca festvox-ca-ona-hts festvox-ru "
        "festival-hi festvox-hi-nsk festival-mr festvox-mr-nsk festival-te festvox-te-nsk"
    )

    def voices(self) -> list[str]:
        if not shutil.which("festival"):
            return []
        folder = Path("/usr/share/festival/voices")
        return sorted(p.name for p in folder.glob("*/*") if p.name in _FESTIVAL)

    def say(self, voice: str, count: int, seed: int) -> list[Utterance]:
        rng, language = np.random.default_rng(seed), _FESTIVAL[voice]
        with TemporaryDirectory() as folder:
            script = [f"(voice_{voice})"]
            for i in range(count):
                text = words(rng, language)
                script += [
                    f"(Parameter.set 'Duration_Stretch {rng.uniform(0.7, 1.2):.2f})",
                    f'(set! u (utt.synth (Utterance Text "{text}")))',
                    f'(utt.save.wave u "{folder}/{i}.wav" \'riff)',
                    f'(utt.save.segs u "{folder}/{i}.seg")',
                ]
            (Path(folder) / "say.scm").write_text("\n".join(script))
            subprocess.run(["festival", "-b", f"{folder}/say.scm"], capture_output=True, check=False)
            whole = [i for i in range(count) if (Path(folder) / f"{i}.seg").exists()]
            return [self._read(Path(folder), i, language) for i in whole]

    def _read(self, folder: Path, i: int, language: str) -> Utterance:
        rows = [line.split() for line in (folder / f"{i}.seg").read_text().splitlines()[1:]]
        name = english if language == "en" else foreign
        return _utterance(read_audio(folder / f"{i}.wav"), [(name(row[2]), float(row[0])) for row in rows])


class Hibari(AbstractEngine):
    """A small neural voice, English. It sounds natural and tells no times: the phones are aligned to its text."""

    name, licence = "hibari-tts", "Apache-2.0"
    install = "pip install hibari-tts onnxruntime"

    def voices(self) -> list[str]:
        return ["heart"] if find_spec("hibari") and find_spec("onnxruntime") else []

    def say(self, voice: str, count: int, seed: int) -> list[Utterance]:
        rng, out = np.random.default_rng(seed), []
        for _ in range(count):
            text = words(rng, "en")
            samples = self._voice(text, speed=float(rng.uniform(0.8, 1.5)), seed=int(rng.integers(1 << 31)))
            audio = AudioTrack(samples=np.asarray(samples, np.float32), rate=24_000)
            phones = align(audio, text)
            if phones:
                out.append(Utterance(audio=audio, phones=tuple(phones), words=()))
        return out

    @cached_property
    def _voice(self) -> Any:
        from hibari import Hibari as Voice

        return Voice()


def align(audio: AudioTrack, text: str) -> list[Phone]:
    """When the phones of a known English text are spoken (pocketsphinx's forced alignment); none if it fails."""
    decoder = _aligner()
    sound = speech_samples(audio)
    pcm = (sound * (0.5 / max(float(np.abs(sound).max()), 1e-4)) * 32767).astype(np.int16).tobytes()
    try:
        decoder.set_align_text(" ".join(word.strip(",.?!").lower() for word in text.split()))
        for phase in (None, decoder.set_alignment):
            if phase is not None:
                phase()
            decoder.start_utt()
            decoder.process_raw(pcm, full_utt=True)
            decoder.end_utt()
        phones = [phone for word in decoder.get_alignment() for phone in word]
    except RuntimeError:
        return []
    names = [(p.name if p.name.isalpha() else SILENCE, p.start / 100 + FRAME_DELAY, p.duration / 100) for p in phones]
    return contiguous([Phone(name, start, start + length) for name, start, length in names], audio.seconds)


@lru_cache(maxsize=1)
def _aligner() -> Any:
    from pocketsphinx import Decoder, get_model_path

    model = f"{get_model_path()}/en-us"
    return Decoder(hmm=f"{model}/en-us", dict=f"{model}/cmudict-en-us.dict", lm=None, dither=False, loglevel="FATAL")


ENGINES: Sequence[AbstractEngine] = (Hibari(), Flite(), Festival(), Espeak())


def _utterance(audio: AudioTrack, marks: Sequence[tuple[str, float]]) -> Utterance:
    """From (phone, its end in seconds)."""
    starts = [0.0, *(end for _, end in marks)]
    phones = [Phone(symbol, start, end) for (symbol, end), start in zip(marks, starts, strict=False)]
    return Utterance(audio=audio, phones=tuple(contiguous(phones, audio.seconds)), words=())


def english(name: str) -> str:
    """The ARPAbet phone of a segment of CMU's English voices."""
    return _ENGLISH.get(name.upper(), name.upper())


def foreign(name: str) -> str:
    """The ARPAbet phone with the nearest lips for a segment of the other voices, which spell them nearly as written."""
    bare = name.rstrip("0123456789:*'") or name
    return _FOREIGN.get(bare) or _FOREIGN.get(bare[:2]) or _FOREIGN.get(bare[:1].lower(), SILENCE)


_ENGLISH = {
    "PAU": SILENCE, "H#": SILENCE, "BRTH": SILENCE, "SSIL": SILENCE, "AX": "AH", "AXR": "ER", "NX": "N", "DX": "D",
    "EL": "L", "EM": "M", "EN": "N",
}  # fmt: skip
_FOREIGN = {
    "a": "AA", "aa": "AA", "ae": "AE", "ax": "AH", "@": "AH", "e": "EH", "ee": "EH", "E": "EH", "i": "IY", "ii": "IY",
    "o": "AO", "oo": "AO", "O": "AO", "u": "UW", "uu": "UW", "oe": "ER", "2": "ER", "9": "ER", "y": "Y", "j": "Y",
    "w": "W", "p": "P", "b": "B", "B": "V", "m": "M", "f": "F", "v": "V", "t": "T", "d": "D", "D": "DH", "n": "N",
    "ny": "N", "J": "N", "N": "NG", "ng": "NG", "l": "L", "L": "L", "r": "D", "rr": "D", "r~": "ZH", "s": "S",
    "ts": "S", "c": "S", "z": "Z", "dz": "Z", "S": "SH", "sh": "SH", "sch": "SH", "s~": "SH", "Z": "ZH", "zh": "ZH",
    "z~": "ZH", "ch": "CH", "tS": "CH", "cz": "CH", "c~": "CH", "dZ": "JH", "dz~": "JH", "k": "K", "g": "G", "G": "G",
    "kh": "HH", "h": "HH", "x": "HH", "pau": SILENCE, "#": SILENCE, "_": SILENCE,
}  # fmt: skip
