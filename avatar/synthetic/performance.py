"""What the synthetic person does and says: known motion in time with a known voice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar.core import AudioTrack, MotionSequence
from avatar.face.arkit import INDEX
from avatar.face.gaze import with_looks
from avatar.face.rig import PersonalRig
from avatar.speech.phones import SILENCE, Phone
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.style import SpeechStyle
from avatar.speech.voices import EspeakVoice
from avatar.synthetic.mouth import DRAWN

LINES = (
    "Hello, and welcome. My name is of no importance, because I was drawn by a program.",
    "Every morning, five brown foxes jump over the same lazy dog, and nobody knows why.",
    "We were away a year ago, while the warm wind blew through the valley.",
    "Please bring me a cup of coffee, both of the blue boxes, and a very big map.",
    "She should choose the cheap shoes, or just measure the usual ones.",
    "Look over there! The old boat moved slowly out of the harbour, under a pale moon.",
    "Put that thing on the top shelf, thank you. Perhaps people will forgive us for it.",
    "I think that is all for now. Goodbye, my friends, and have a beautiful evening.",
)
HELLO = "Hello! This is a new sentence, one that I have never said before. How does my mouth look?"
HOME = (0.0, 0.035, 1.20)
"""Where the skull's joint rests, world metres, for a camera at the origin."""

_TURNS = (
    (0, 0, 0), (-14, 3, 2), (16, -2, -2), (4, 8, 0), (-20, -4, 3), (9, -9, -3), (20, 4, 4), (-7, -7, -4), (0, 2, 6),
    (-11, 7, -2), (13, -5, 2), (-17, 2, -4), (6, 9, 2), (-3, -9, 0), (18, 0, -4), (-10, -3, 5), (2, 1, -6), (11, 6, 3),
)  # fmt: skip
"""Yaw, pitch and roll in degrees of the poses that the head visits, in turn."""

_SWIVEL = (0.28, 0.37, 0.39, 0.55, 0.57, 0.66)
"""Shares of the clip at which the body begins and ends to turn: to one side, to the other, back."""
_CALM = 0.6
"""Share of the head's own turns that is left out where the body is turned most."""
_VOICE = "en-us+f3"


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Motion and the sound that belongs to it."""

    motion: MotionSequence
    audio: AudioTrack | None
    phones: tuple[Phone, ...]


def perform(
    rig: PersonalRig,
    *,
    seconds: float,
    fps: float,
    seed: int = 0,
    sound: bool = True,
    turn_deg: float = 0.0,
) -> Performance:
    """Speak, turn, blink, look and smile for a while.

    Args:
        turn_deg: how far the whole body once turns to either side, as on a swivel chair, in the middle of the clip;
            the head then turns less on its neck.
        sound: without it the mouth speaks made-up syllables and there is no audio (needs no voice).

    Raises:
        InputError: if `sound` is asked for and espeakng-loader is missing.
    """
    count = max(round(seconds * fps), 1)
    if sound:
        audio, phones = speak(LINES, seconds, voice=_VOICE, first=seed % len(LINES))
    else:
        audio, phones = None, _syllables(seconds, seed)
    heard = audio or _hum(phones, seconds)
    style = SpeechStyle(
        blink_hz=0.30,
        blink_depth=1.0,
        opening_gain=1.25,
        head_std=(0.012, 0.014, 0.008),
        gaze_hold=0.0,  # `_gaze` has the eyes stay with the listener
    )
    spoken = RuleMotion(style, hear=lambda _: [phones], mouth=DRAWN)(heard, fps, seed).select(slice(0, count))
    count = len(spoken)
    times = np.arange(count) / fps
    swivel = _swivel(times, seconds)
    turned = _turns(times, seed) * (1 - _CALM * bool(turn_deg) * np.abs(swivel[:, None]))
    expression = spoken.expression + torch.from_numpy(_moods(times, phones, seed)).float()
    # A lively speaker: open vowels lift the upper lip off the teeth.
    lively = 0.55 * expression[:, INDEX["jawOpen"], None].clamp(0, 0.4)
    expression[:, [INDEX["mouthUpperUpLeft"], INDEX["mouthUpperUpRight"]]] += lively
    own = Rotation.from_euler("YXZ", turned) * Rotation.from_rotvec(spoken.neck.numpy().astype(float))
    gaze, body = _gaze(spoken.gaze, own), Rotation.from_rotvec(np.radians(turn_deg) * swivel[:, None] * [0, 1, 0])
    sway = _sway(times, seed)
    sway[:, 3:] = (body * Rotation.from_rotvec(sway[:, 3:])).as_rotvec()
    pose, neck = stand(rig, (body * own).as_rotvec(), sway)
    motion = MotionSequence(
        expression=with_looks(expression.clamp(0, 1), gaze), T_world_head=pose, neck=neck, gaze=gaze, fps=fps
    )
    return Performance(motion=motion, audio=audio, phones=phones)


def speak(lines: Sequence[str], seconds: float, *, voice: str, first: int = 0) -> tuple[AudioTrack, tuple[Phone, ...]]:
    """Say lines one after the other with pauses, from the first one round, until the time is full.

    A line that does not end in time is cut off with a short fade.
    """
    talker, clock, index = EspeakVoice(), 0.5, first
    pieces: list[np.ndarray] = []
    phones: list[Phone] = []
    rate = 0
    while clock < seconds:
        said = talker.say(lines[index % len(lines)], voice, words_per_minute=150, pitch=48)
        rate = said.audio.rate
        pieces.append(np.zeros(max(round(clock * rate) - sum(map(len, pieces)), 0), np.float32))
        pieces.append(said.audio.samples * 0.8)
        phones += [Phone(p.symbol, p.start + clock, p.end + clock) for p in said.phones]
        clock += said.audio.seconds + (0.35, 0.6, 0.25)[index % 3]
        index += 1
    samples = np.concatenate([*pieces, np.zeros(rate, np.float32)])[: round(seconds * rate)]
    fade = min(round(0.03 * rate), len(samples))
    samples[len(samples) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    kept = [Phone(p.symbol, p.start, min(p.end, seconds)) for p in phones if p.start < seconds]
    return AudioTrack(samples=samples, rate=rate), _gapless(kept, seconds)


def _gapless(phones: list[Phone], seconds: float) -> tuple[Phone, ...]:
    """Silence wherever nothing is said."""
    out: list[Phone] = []
    clock = 0.0
    for phone in phones:
        if phone.start > clock + 1e-6:
            out.append(Phone(SILENCE, clock, phone.start))
        out.append(phone)
        clock = phone.end
    if clock < seconds:
        out.append(Phone(SILENCE, clock, seconds))
    return tuple(out)


def _syllables(seconds: float, seed: int) -> tuple[Phone, ...]:
    """Babble: consonants and vowels in bursts, about five syllables a second."""
    rng = np.random.default_rng([seed, 20])
    out, clock = [], 0.4
    while clock < seconds - 0.3:
        for _ in range(int(rng.integers(4, 11))):
            onset, vowel = (
                rng.choice(["M", "B", "P", "F", "W", "S", "T", "L", "SH", "D"]),
                rng.choice(["AA", "IY", "UW", "EH", "OW", "AE"]),
            )
            a, b = rng.uniform(0.05, 0.10), rng.uniform(0.09, 0.17)
            out += [Phone(str(onset), clock, clock + a), Phone(str(vowel), clock + a, clock + a + b)]
            clock += a + b
        clock += rng.uniform(0.25, 0.6)
    return _gapless([p for p in out if p.end < seconds], seconds)


def _hum(phones: tuple[Phone, ...], seconds: float, rate: int = 16000) -> AudioTrack:
    """A tone wherever something is said, so that voice activity follows the phones."""
    times = np.arange(round(seconds * rate)) / rate
    level = np.zeros(len(times))
    for phone in phones:
        if phone.symbol != SILENCE:
            level[round(phone.start * rate) : round(phone.end * rate)] = (
                1.0 if phone.symbol in ("AA", "AE", "OW") else 0.6
            )
    level = gaussian_filter1d(level, 0.012 * rate)
    tone = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 12))
    return AudioTrack(samples=(0.15 * level * tone).astype(np.float32), rate=rate)


def _swivel(times: Float[np.ndarray, "t"], seconds: float) -> Float[np.ndarray, "t"]:
    """The body's turn, 1 at its widest: to one side, to the other, and back (minimum jerk)."""
    moments, here, out = np.array(_SWIVEL) * seconds, 0.0, np.zeros(len(times))
    for start, end, there in zip(moments[::2], moments[1::2], (1.0, -1.0, 0.0), strict=True):
        s = np.clip((times - start) / (end - start), 0, 1)
        out += (10 * s**3 - 15 * s**4 + 6 * s**5) * (there - here)
        here = there
    return out


def _turns(times: Float[np.ndarray, "t"], seed: int) -> Float[np.ndarray, "t 3"]:
    """Head yaw, pitch, roll (radians): holds joined by smooth moves (minimum jerk, Flash and Hogan 1985)."""
    rng = np.random.default_rng([seed, 21])
    out = np.zeros((len(times), 3))
    here, moment, index = np.zeros(3), 1.6, 1 + seed % 5
    while len(times) and moment < times[-1]:
        there = np.radians(_TURNS[index % len(_TURNS)]) * rng.uniform(0.88, 1.0)
        duration = 0.55 + 1.5 * float(np.abs(there - here).max())
        s = np.clip((times - moment) / duration, 0, 1)
        out += (10 * s**3 - 15 * s**4 + 6 * s**5)[:, None] * (there - here)
        here, index = there, index + 1
        moment += duration + rng.uniform(0.15, 0.9)
    return out


_SMILE = ("mouthSmileLeft", "mouthSmileRight")
_CHEER = (*_SMILE, "cheekSquintLeft", "cheekSquintRight")
_MOODS: tuple[tuple[tuple[str, ...], float, float], ...] = (
    (("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), 0.25, 0.7),
    (("browDownLeft", "browDownRight", "eyeSquintLeft", "eyeSquintRight"), 0.2, 0.5),
    (_CHEER, 0.15, 0.4),
    (("browOuterUpLeft",), 0.3, 0.6),
    ((), 0.0, 0.0),
)
"""Coefficients that move together and the range of their strength."""


def _moods(times: Float[np.ndarray, "t"], phones: Sequence[Phone], seed: int) -> Float[np.ndarray, "t 52"]:
    """Smiles in the pauses and now and then while speaking, raised and lowered brows, squints."""
    rng = np.random.default_rng([seed, 22])
    out = np.zeros((len(times), 52))
    out[:, [INDEX[name] for name in _SMILE]] = 0.10

    def put(names: Sequence[str], amount: float, start: float, length: float) -> None:
        shape = np.clip(np.minimum((times - start) / 0.25, (start + length - times) / 0.35), 0, 1)
        for name in names:
            out[:, INDEX[name]] += amount * shape * shape * (3 - 2 * shape)

    for phone in phones:
        if phone.symbol == SILENCE and phone.end - phone.start > 0.22 and rng.random() < 0.6:
            put(_CHEER, rng.uniform(0.2, 0.5), phone.start - 0.15, phone.end - phone.start + 0.45)
    moment = 1.0
    while len(times) and moment < times[-1]:
        names, low, high = _MOODS[int(rng.integers(len(_MOODS)))]
        length = float(rng.uniform(0.5, 1.3))
        put(names, rng.uniform(low, high), moment, length)
        moment += length + float(rng.uniform(0.4, 1.6))
    return out


def _gaze(shifts: Tensor, head: Rotation) -> Tensor:
    """Eyes stay with the listener for most of a head's turn (the vestibulo-ocular reflex), within 25 degrees."""
    vector = torch.from_numpy(head.as_rotvec()).float()
    counter = 0.75 * torch.stack([vector[:, 1], -vector[:, 0]], 1)
    return (shifts + counter[:, None]).clamp(-0.44, 0.44)


def _sway(times: Float[np.ndarray, "t"], seed: int) -> Float[np.ndarray, "t 6"]:
    """Small motion of the whole body: shift x, y, z (metres) and rotation vector (radians)."""
    rng = np.random.default_rng([seed, 23])
    size = np.array([0.006, 0.002, 0.006, 0.008, 0.012, 0.006])
    phase, rate = rng.uniform(0, 2 * np.pi, (2, 6)), rng.uniform(0.07, 0.16, (2, 6)) * np.array([[1.0], [2.1]])
    waves = np.sin(2 * np.pi * rate[:, None] * times[None, :, None] + phase[:, None])
    return (waves[0] + 0.5 * waves[1]) * size


def stand(
    rig: PersonalRig, head: Float[np.ndarray, "t 3"], sway: Float[np.ndarray, "t 6"]
) -> tuple[Float[Tensor, "t 4 4"], Float[Tensor, "t 3"]]:
    """Poses that leave the torso where it stands while the head turns on the neck.

    Args:
        head: rotation vector of the head in the world.
        sway: shift and rotation vector of the torso.

    Returns:
        T_world_head and neck.
    """
    world, body = Rotation.from_rotvec(head), Rotation.from_rotvec(sway[:, 3:])
    neck = torch.from_numpy((body.inv() * world).as_rotvec()).float()
    anchor = int((rig.skin[:, 2] > 0.999).nonzero()[0, 0])
    still = torch.zeros(len(neck), 52), torch.zeros(len(neck), 2, 2)
    in_head = rig.vertices(still[0], neck, still[1])[:, anchor].double().numpy()
    rest = rig.neutral[anchor].double().numpy() - rig.neck_pivots[1].double().numpy()
    base = rig.neck_pivots[1].double().numpy() + np.array(HOME) + sway[:, :3]
    pose = np.tile(np.eye(4), (len(neck), 1, 1))
    pose[:, :3, :3] = world.as_matrix()
    pose[:, :3, 3] = base + body.apply(np.tile(rest, (len(neck), 1))) - world.apply(in_head)
    return torch.from_numpy(pose).float(), neck
