"""One person's way of speaking, read off their tracked motion and their own voice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from avatar.core import AudioTrack, MotionSequence
from avatar.speech.features import speech_samples
from avatar.speech.habits import shares
from avatar.speech.phones import Phone, listen
from avatar.speech.rule_motion import RuleMotion, lips_of, prosody, speech_activity
from avatar.speech.style import SpeechStyle
from avatar.speech.visemes import ALIKE, ARKIT_INDEX, AVERAGE, CLOSURES, CONTACTS, LIP_GAP_MM, LIP_WIDTH_MM

GAIN_LIMITS = (0.4, 2.5)
BLOCKS = 4
"""Parts of the clip for cross-validation; whole stretches, because neighbouring frames are alike."""
SHRINKAGE = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Tried trust in the clip: the gain is the clip's own to this power; 0 keeps the average speaker."""
RIDGES = (3.0, 10.0, 30.0, 100.0, 300.0)
"""Tried weights against habits: frames in which a group of phones is at its target that count as much as no habit."""
PRIOR_SECONDS = 20.0
"""The average blink rate counts like this much film."""
LEAST_SECONDS = 3.0
"""With less speech than this the gains of the average speaker are kept."""
LARGEST_HABIT = 4.0
"""Millimetres: habits are what the rules leave, and a larger one is rather an error of some frames."""
HABIT_SECONDS = 6.0
"""With less speech than this nothing is said of single phones."""
BLINK_ON, BLINK_OFF = 0.35, 0.20
"""eyeBlink above the open eye at which a blink begins and ends."""
_CORNER_NAMES = ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch")
_CORNERS = np.isin(np.arange(52), [i for n, i in ARKIT_INDEX.items() if n.startswith(_CORNER_NAMES)])
"""What draws the corners of the mouth: filmed closures press them out, so their rest is that of speech in general."""
LEAST_SLOPE = 0.1
"""Where the person moves by less of the model than this, the sound does not tell what the lips do."""
_TELLABLE_MM = 0.3
"""Gaps that differ by less are the same to a tracker."""
_OPEN_MM, _FEW, _ROUNDS = 1.0, 10, 3
"""Gap from which lips are apart, and the frames of such that are needed; rounds in which offsets and gain settle."""
_ROUNDED = [ARKIT_INDEX["mouthFunnel"], ARKIT_INDEX["mouthPucker"]]
_EYES, _MOUTH = slice(0, 14), slice(14, ARKIT_INDEX["mouthUpperUpRight"] + 1)


def fit_style(
    motion: MotionSequence,
    audio: AudioTrack,
    *,
    confidence: Float[np.ndarray, "t"] | None = None,
    hear: Callable[[AudioTrack], Sequence[Sequence[Phone]]] = listen,
) -> SpeechStyle:
    """Rest face, gains, limits, blinks and sway of a person.

    Args:
        motion: tracked motion, frame i at i / fps of `audio` (in sync), in one piece.
        confidence: of each frame in [0, 1]; frames at 0 are not used.

    Raises:
        InputError: if pocketsphinx is not installed.
    """
    count = len(motion)
    seen = np.ones(count, bool) if confidence is None else np.asarray(confidence) > 0
    expression = motion.expression.numpy().astype(np.float64)
    sound = audio.between(0.0, count / motion.fps)
    hearings = hear(sound)
    active = _speaking(sound, hearings, count, motion.fps)
    rest = _rest(expression, seen, active, motion.fps)
    person = _Film(expression=expression, rest=rest, use=seen & active, seen=seen, fps=motion.fps)
    own = SpeechStyle(habits=_habits(person, sound, hearings))
    opening_gain, width_gain, spread = _lip_gains(person, sound, hearings, own)
    if person.use.sum() >= LEAST_SECONDS * motion.fps:
        rest = np.where(_CORNERS, np.clip(np.median(expression[person.use], axis=0) - spread, 0.0, 1.0), rest)
    own = replace(own, rest=_plain(rest), opening_gain=opening_gain, width_gain=width_gain)
    apart, opening_gain = _lips_apart(person, own, sound, hearings)
    blink_hz, blink_depth = _blinks(expression, seen, motion.fps)
    return SpeechStyle(
        rest=_plain(rest),
        apart=_plain(apart),
        habits=own.habits,
        opening_gain=opening_gain,
        width_gain=width_gain,
        ceiling=_plain(_ceiling(expression[seen], motion.fps)),
        blink_hz=blink_hz,
        blink_depth=blink_depth,
        head_std=_head_std(motion, seen),
        gaze_std=_gaze_std(motion, seen),
    )


def _speaking(sound: AudioTrack, hearings: Sequence[Sequence[Phone]], count: int, fps: float) -> Bool[np.ndarray, "t"]:
    active = speech_activity(speech_samples(sound), hearings)
    at = np.minimum((np.arange(count) / fps * 100).astype(int), len(active) - 1)
    return active[at]


def _rest(
    expression: Float[np.ndarray, "t 52"], seen: Bool[np.ndarray, "t"], active: Bool[np.ndarray, "t"], fps: float
) -> Float[np.ndarray, "52"]:
    """The face with the lips together: what speech is put on, and what silence returns to.

    People breathe through an open mouth in pauses, so silence alone does not show it. The most closed tenth of the
    film does, in pauses if there are enough of those, else at the p, b and m.
    """
    if not seen.any():
        return np.zeros(expression.shape[1])
    rest = np.median(expression[seen], axis=0)
    # Pressed lips have no gap, however hard they press: those of a pause are as shut as those of a p.
    gap = np.maximum(expression @ LIP_GAP_MM, 0.0)
    shut = seen & (gap <= np.quantile(gap[seen], 0.10) + _TELLABLE_MM)
    if (shut & ~active).sum() >= 0.3 * fps:
        shut &= ~active
    else:
        # Puckered lips nearly touch too, at a w or an oo, but nobody rests like that.
        rounded = expression[:, _ROUNDED].sum(axis=1)
        shut &= rounded <= np.median(rounded[shut])
    rest[_MOUTH] = np.median(expression[shut][:, _MOUTH], axis=0)
    # The median eye is open; blinks and glances are not part of the rest.
    rest[_EYES] = np.quantile(expression[seen][:, _EYES], 0.3, axis=0)
    return np.clip(rest, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class _Film:
    """What the lips did."""

    expression: Float[np.ndarray, "t 52"]
    rest: Float[np.ndarray, "52"]
    use: Bool[np.ndarray, "t"]
    """Frames with a face that speaks."""
    seen: Bool[np.ndarray, "t"]
    """Frames with a face."""
    fps: float


def _habits(film: _Film, sound: AudioTrack, hearings: Sequence[Sequence[Phone]]) -> tuple[tuple[float, float], ...]:
    """What the lips do at each of `ALIKE` beyond the rules, or nothing if that does not hold across the clip."""
    samples, times = speech_samples(sound), np.arange(len(film.seen)) / film.fps
    heard = prosody(samples, times, speech_activity(samples, hearings))
    use = film.seen & (heard.gate > 0.5)
    if use.sum() < HABIT_SECONDS * film.fps:
        return ()
    free = heard.gate * (1 - lips_of(hearings, times, heard, AVERAGE).shut)
    causes = (shares(hearings, times) * free[:, None])[:, use]
    # How far p, b, m, f and v open is up to their contacts.
    causes[0][:, [bool({*group} & {*CLOSURES, *CONTACTS}) for group in ALIKE]] = 0.0
    model = RuleMotion(hear=lambda _: hearings)(sound, film.fps).expression.numpy()[use]
    moved = (film.expression - film.rest)[use]
    opening = _habit(causes[0], np.maximum(model @ LIP_GAP_MM, -1.0), np.maximum(moved @ LIP_GAP_MM, -1.0))
    width = _habit(causes[1], model @ LIP_WIDTH_MM, moved @ LIP_WIDTH_MM)
    if not (opening.any() or width.any()):
        return ()
    return tuple((round(float(o), 3), round(float(w), 3)) for o, w in zip(opening, width, strict=True))


def _habit(
    causes: Float[np.ndarray, "n k"], model: Float[np.ndarray, "n"], person: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "k"]:
    """Offsets (millimetres of the model) at each of `ALIKE` with which the model follows the person better.

    The weight against offsets is the one that does best on stretches that were left out; zeros unless the correlation
    there rises by more than one standard error of the rise.
    """
    blocks = np.array_split(np.arange(len(model)), BLOCKS)

    def rises(weight: float) -> Float[np.ndarray, "b"]:
        out = []
        for block in blocks:
            known, said, seen = (np.delete(values, block, axis=0) for values in (causes, model, person))
            changed = model[block] + causes[block] @ _ridge(known, said, seen, weight)
            out.append(_correlation(changed, person[block]) - _correlation(model[block], person[block]))
        return np.array(out)

    tried = [rises(weight) for weight in RIDGES]
    best = int(np.argmax([rise.mean() for rise in tried]))
    if tried[best].mean() <= tried[best].std(ddof=1) / np.sqrt(BLOCKS):
        return np.zeros(causes.shape[1])
    return np.clip(_ridge(causes, model, person, RIDGES[best]), -LARGEST_HABIT, LARGEST_HABIT)


def _ridge(
    causes: Float[np.ndarray, "n k"], model: Float[np.ndarray, "n"], person: Float[np.ndarray, "n"], weight: float
) -> Float[np.ndarray, "k"]:
    """Ridge regression (Hoerl and Kennard 1970) of what a multiple of the model leaves, in the model's size."""
    inner, x, y = causes - causes.mean(axis=0), model - model.mean(), person - person.mean()
    slope = (x @ y) / max(x @ x, 1e-9)
    if slope < LEAST_SLOPE:
        return np.zeros(causes.shape[1])
    return np.linalg.solve(inner.T @ inner + weight * np.eye(causes.shape[1]), inner.T @ (y / slope - x))


def _correlation(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    x, y = a - a.mean(), b - b.mean()
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-9))


def _lip_gains(
    film: _Film, sound: AudioTrack, hearings: Sequence[Sequence[Phone]], own: SpeechStyle
) -> tuple[float, float, Float[np.ndarray, "52"]]:
    """Factors on opening and width that give the model the person's amplitudes; the model's median while speaking."""

    def modelled(style: SpeechStyle) -> Float[np.ndarray, "n 52"]:
        return RuleMotion(style, hear=lambda _: hearings)(sound, film.fps).expression.numpy()[film.use]

    moved = (film.expression - film.rest)[film.use]
    width = _gain(modelled(own) @ LIP_WIDTH_MM, moved @ LIP_WIDTH_MM, film.fps)
    # After the width, because rounding parts the lips too. Pressed lips have no gap, however hard they press.
    model = modelled(replace(own, width_gain=width))
    opening = _gain(np.maximum(model @ LIP_GAP_MM, -1.0), np.maximum(moved @ LIP_GAP_MM, -1.0), film.fps)
    return opening, width, np.median(model, axis=0) if len(model) else np.zeros(moved.shape[1])


def _lips_apart(
    film: _Film, own: SpeechStyle, sound: AudioTrack, hearings: Sequence[Sequence[Phone]]
) -> tuple[Float[np.ndarray, "52"], float]:
    """What the face does while the lips are apart, beside the rest and what the model moves, and the opening's gain.

    People who press their lips together at rest don't while they speak, and some hold them apart all the time.

    Args:
        own: what is known of the person so far.
    """
    rest, apart, opening = np.asarray(own.rest), np.zeros(len(own.rest)), own.opening_gain
    filmed = film.expression[film.use]
    open_mouth = filmed[filmed @ LIP_GAP_MM > _OPEN_MM]
    trust = len(open_mouth) / (len(open_mouth) + LEAST_SECONDS * film.fps)

    def modelled(apart: Float[np.ndarray, "52"], opening: float) -> Float[np.ndarray, "n 52"]:
        style = replace(own, apart=_plain(apart), opening_gain=opening)
        return RuleMotion(style, hear=lambda _: hearings)(sound, film.fps).expression.numpy()[film.use]

    for _ in range(_ROUNDS):
        alone = modelled(np.zeros(len(apart)), opening)
        moved = alone[(alone - rest) @ LIP_GAP_MM > _OPEN_MM]
        if min(len(moved), len(open_mouth)) < _FEW:
            return np.zeros(len(apart)), own.opening_gain
        apart[_MOUTH] = trust * (np.median(open_mouth, axis=0) - np.median(moved, axis=0))[_MOUTH]
        model = np.maximum(modelled(apart, opening) @ LIP_GAP_MM, 0.0)
        more = _gain(model, np.maximum(filmed @ LIP_GAP_MM, 0.0), film.fps)
        opening = float(np.clip(opening * more, *GAIN_LIMITS))
    return apart, opening


def _gain(model: Float[np.ndarray, "n"], person: Float[np.ndarray, "n"], fps: float) -> float:
    """How much more the person moves than the model, trusted as far as it holds across the clip.

    Amplitudes are compared, not a regression slope: a slope shrinks with the model's errors, and a mouth that moves
    too little looks worse than one that is sometimes wrong.
    """
    if len(model) < LEAST_SECONDS * fps:
        return 1.0
    blocks = np.array_split(np.arange(len(model)), BLOCKS)
    own = np.array([_log_ratio(model[b], person[b]) for b in blocks])
    others = np.array([_log_ratio(np.delete(model, b), np.delete(person, b)) for b in blocks])
    errors = [float(((own - trust * others) ** 2).mean()) for trust in SHRINKAGE]
    trust = SHRINKAGE[int(np.argmin(errors))]
    return float(np.clip(np.exp(trust * _log_ratio(model, person)), *GAIN_LIMITS))


def _log_ratio(model: Float[np.ndarray, "n"], person: Float[np.ndarray, "n"]) -> float:
    """Logarithm of the ratio of the ranges between the 10th and the 95th percentile (millimetres)."""
    spans = [np.subtract(*np.quantile(curve, [0.95, 0.10])) for curve in (person, model)]
    return float(np.log(max(spans[0], 0.2) / max(spans[1], 0.2)))


def _ceiling(expression: Float[np.ndarray, "t 52"], fps: float) -> Float[np.ndarray, "52"]:
    """What the person reaches, with a margin; contacts are never limited, and a short clip limits little."""
    trust = min(len(expression) / fps / PRIOR_SECONDS, 1.0)
    if trust == 0.0:
        return np.ones(expression.shape[1])
    reached = np.quantile(expression, 0.998, axis=0) * 1.15 + 0.05
    limit = np.clip(np.maximum(reached, 0.2) * trust + (1 - trust), 0.0, 1.0)
    limit[(LIP_GAP_MM <= 0) & (LIP_WIDTH_MM >= 0) & (np.arange(52) >= ARKIT_INDEX["mouthClose"])] = 1.0
    limit[_EYES] = 1.0
    return limit


def _blinks(expression: Float[np.ndarray, "t 52"], seen: Bool[np.ndarray, "t"], fps: float) -> tuple[float, float]:
    """Blinks a second (shrunk to the average) and how far the lids close."""
    default = SpeechStyle()
    lids = expression[:, [ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]].mean(axis=1)
    if not seen.any():
        return default.blink_hz, default.blink_depth
    above = np.where(seen, lids - np.quantile(lids[seen], 0.3), 0.0)
    peaks, top, inside = [], 0.0, False
    for value in above:
        if value > BLINK_ON:
            inside, top = True, max(top, float(value))
        elif inside and value < BLINK_OFF:
            peaks.append(top)
            inside, top = False, 0.0
    rate = (len(peaks) + default.blink_hz * PRIOR_SECONDS) / (seen.sum() / fps + PRIOR_SECONDS)
    depth = float(np.median(peaks)) + float(np.quantile(lids[seen], 0.3)) if len(peaks) >= 3 else default.blink_depth
    return float(rate), float(np.clip(depth, 0.7, 1.0))


def _head_std(motion: MotionSequence, seen: Bool[np.ndarray, "t"]) -> tuple[float, float, float]:
    default = np.asarray(SpeechStyle().head_std)
    if seen.sum() < LEAST_SECONDS * motion.fps:
        return tuple(default)
    rotation = Rotation.from_matrix(motion.T_world_head[:, :3, :3].numpy().astype(np.float64)[seen])
    vectors = (rotation.mean().inv() * rotation).as_rotvec()
    smooth = gaussian_filter1d(vectors, 0.4 * motion.fps, axis=0, mode="nearest")
    trust = min(seen.sum() / motion.fps / PRIOR_SECONDS, 1.0)
    # Large turns belong to what was said or shown, not to the idle motion that is put under any other sentence.
    found = np.clip(smooth.std(axis=0), 0.006, 0.030)
    x, y, z = (trust * found + (1 - trust) * default).tolist()
    return x, y, z


def _gaze_std(motion: MotionSequence, seen: Bool[np.ndarray, "t"]) -> tuple[float, float]:
    default = np.asarray(SpeechStyle().gaze_std)
    if seen.sum() < LEAST_SECONDS * motion.fps:
        return tuple(default)
    gaze = motion.gaze.numpy()[seen].mean(axis=1)
    trust = min(seen.sum() / motion.fps / PRIOR_SECONDS, 1.0)
    found = np.clip(gaze.std(axis=0), 0.008, 0.06)
    yaw, pitch = (trust * found + (1 - trust) * default).tolist()
    return yaw, pitch


def _plain(values: Float[np.ndarray, "n"]) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)
