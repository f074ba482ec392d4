"""How far sound and picture of a clip are apart: what the lips should do by the sound against what they do."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from avatar.core import AudioTrack
from avatar.speech.rule_motion import RuleMotion
from avatar.speech.visemes import LIP_GAP_MM, LIP_WIDTH_MM

SEARCH = 0.30
"""Largest offset (seconds) that is looked for."""
STEP = 0.01
"""Seconds between tried offsets; the peak is refined by a parabola."""
LARGEST_DISAGREEMENT = 0.15
"""Seconds by which opening and width may differ in any case."""
LARGEST_LOSS = 1.0
"""Standard errors by which a channel's correlation at the joint peak may be below the one at its own."""
SYLLABLES_HZ = 5.0
"""A mouth in so much of a second is told once: curves of lips follow syllables, what lies nearer together is alike."""
LEAST_CORRELATION = 0.25
LEAST_SECONDS = 2.0
"""Shorter clips say nothing."""
LONGEST_SECONDS = 40.0
"""More of a clip is not listened to: it would take long and change nothing."""


@dataclass(frozen=True, kw_only=True)
class Offset:
    """The mouth moves `seconds` after its sound; delay the sound by this to bring both together."""

    seconds: float
    """0 when refused."""
    confidence: float
    """In [0, 1]; below 0.5 the offset was refused."""
    channels: dict[str, float]
    """What each channel says on its own, seconds."""
    correlation: dict[str, float]
    """Pearson r of each channel at the joint peak."""
    reason: str
    """Why it was refused, or an empty text."""

    def corrected(self, audio: AudioTrack) -> AudioTrack:
        """The sound moved into sync, same length."""
        return audio.between(-self.seconds, audio.seconds - self.seconds)


def estimate(
    audio: AudioTrack,
    opening: Float[np.ndarray, "t"],
    width: Float[np.ndarray, "t"],
    fps: float,
    motion: RuleMotion | None = None,
) -> Offset:
    """Compare the rule model's mouth with a measured one at shifts up to +-0.3 s.

    Args:
        opening: distance of the inner lips on frame i at i / fps seconds, any unit; nan where no face was measured.
        width: distance of the corners of the mouth, likewise.

    Raises:
        InputError: if pocketsphinx is not installed.
    """
    if len(opening) != len(width):
        raise ValueError(f"{len(opening)} openings and {len(width)} widths must be equally many")
    audio = audio.between(0.0, min(audio.seconds, LONGEST_SECONDS))
    opening, width = (curve[: round(LONGEST_SECONDS * fps)] for curve in (opening, width))
    if min(audio.seconds, len(opening) / fps) < LEAST_SECONDS:
        return _refused(f"shorter than {LEAST_SECONDS:g} s")
    expression = (motion or RuleMotion())(audio, 1.0 / STEP).expression.numpy()
    predicted = {"opening": np.maximum(expression @ LIP_GAP_MM, -1.0), "width": expression @ LIP_WIDTH_MM}
    measured = {"opening": opening, "width": width}
    shifts = np.arange(-round(SEARCH / STEP), round(SEARCH / STEP) + 1)
    curves = {n: _correlations(predicted[n], measured[n], fps, shifts) for n in predicted}
    if any(not np.isfinite(c).all() for c in curves.values()):
        return _refused("too few frames show a moving mouth")
    return _decide(curves, shifts, min(audio.seconds, len(opening) / fps))


def _correlations(
    predicted: Float[np.ndarray, "n"], measured: Float[np.ndarray, "t"], fps: float, shifts: np.ndarray
) -> Float[np.ndarray, "k"]:
    """Pearson r of measured(time) with predicted(time - shift) for every shift (in STEPs)."""
    # A frame shows its exposure, the model a moment: blur the model by about one frame.
    smooth = gaussian_filter1d(predicted, 0.3 / fps / STEP, mode="nearest")
    grid, times = np.arange(len(smooth)) * STEP, np.arange(len(measured)) / fps
    out = np.full(len(shifts), np.nan)
    for k, shift in enumerate(shifts):
        at = times - shift * STEP
        use = np.isfinite(measured) & (at >= 0) & (at <= grid[-1])
        if use.sum() < LEAST_SECONDS * fps / 2:
            continue
        a, b = np.interp(at[use], grid, smooth), measured[use]
        spread = a.std() * b.std()
        out[k] = ((a - a.mean()) * (b - b.mean())).mean() / spread if spread > 1e-9 else np.nan
    return out


def _decide(curves: dict[str, np.ndarray], shifts: np.ndarray, seconds: float) -> Offset:
    joint = (curves["opening"] + 0.7 * curves["width"]) / 1.7
    best = _peak(joint, shifts)
    index = int(np.argmin(np.abs(shifts * STEP - best)))
    own = {n: _peak(c, shifts) for n, c in curves.items()}
    correlation = {n: float(c[index]) for n, c in curves.items()}
    height = float(joint[index])
    away = np.abs(shifts * STEP - best) > 0.15
    prominence = height - float(joint[away].max()) if away.any() else 0.0
    disagreement = abs(own["opening"] - own["width"])
    loss = max(_loss(c, index, seconds) for c in curves.values())
    sure = np.clip((height - 0.15) / 0.35, 0, 1) * np.clip(prominence / 0.08, 0, 1)
    confidence = float(np.sqrt(sure) * np.clip(1.5 - loss / (2 * LARGEST_LOSS), 0, 1))
    reason = ""
    if height < LEAST_CORRELATION:
        reason = f"the mouth hardly follows the sound (r = {height:.2f})"
    elif loss > LARGEST_LOSS or disagreement > LARGEST_DISAGREEMENT:
        reason = f"opening and width of the mouth disagree by {1000 * disagreement:.0f} ms"
    elif abs(best) >= SEARCH - STEP / 2:
        reason = f"the best offset lies beyond {1000 * SEARCH:.0f} ms"
    elif confidence < 0.5:
        reason = "no offset stands out"
    if reason:
        confidence = min(confidence, 0.49)
    return Offset(
        seconds=0.0 if reason else best,
        confidence=confidence,
        channels=own,
        correlation=correlation,
        reason=reason,
    )


def _loss(curve: np.ndarray, index: int, seconds: float) -> float:
    """Standard errors (Fisher 1921) by which a channel's correlation at `index` is below its highest.

    A broad peak may lie anywhere: how far two peaks are apart alone does not tell whether the channels contradict.
    """
    best, joint = np.arctanh(np.clip([curve.max(), curve[index]], -0.999, 0.999))
    return float((best - joint) * np.sqrt(max(seconds * SYLLABLES_HZ - 3.0, 1.0)))


def _peak(curve: np.ndarray, shifts: np.ndarray) -> float:
    """Place (seconds) of the highest point, between samples by a parabola."""
    k = int(np.argmax(curve))
    place = 0.0
    if 0 < k < len(curve) - 1:
        left, middle, right = curve[k - 1 : k + 2]
        bend = left - 2 * middle + right
        place = 0.5 * (left - right) / bend if bend < -1e-12 else 0.0
    return float((shifts[k] + place) * STEP)


def _refused(reason: str) -> Offset:
    return Offset(seconds=0.0, confidence=0.0, channels={}, correlation={}, reason=reason)
