"""From timed phones to smooth articulator curves: dominance functions (Cohen and Massaro 1993), then contact gates."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from avatar.speech.phones import SILENCE, Phone
from avatar.speech.visemes import (
    ARTICULATORS,
    AVERAGE,
    BITE,
    BREATH,
    CLOSE,
    DIPHTHONGS,
    JAW,
    PART,
    PRESS,
    PUCKER,
    REST,
    ROUND,
    Mouth,
    Viseme,
    per_articulator,
)

ANTICIPATION = 0.065
"""Seconds in which a phone's influence falls to 1/e before it..."""
CARRY_OVER = 0.050
"""... and after it."""
PLATEAU = 0.5
"""Part of a phone's length in which its influence is full."""
SHARP = per_articulator({JAW: 0.7, PART: 0.7})
"""Factor on the reach of influence where the mean of several hearings is taken."""
CONTRAST = 1.5
"""Exponent on openings, relative to `WIDE`, where the mean of several hearings is taken."""
WIDE = {JAW: 0.42, PART: 0.40}
"""Openings that stay as they are: the widest that a phone asks for."""
REACH = 0.6
"""Seconds beyond which a phone has no influence."""
SHORT_SILENCE = 0.12
"""Seconds: a shorter gap is the hold of a stop rather than a pause, the lips hardly follow it."""
BREATH_BEFORE, BREATH_AFTER = 0.25, 0.12
"""Seconds around speech in which the lips stay a little apart, to breathe in and to settle; then silence shuts them."""
RAMP = 0.050
"""Seconds in which lips come together or part at a closure."""
AGREEMENT = (0.30, 0.90)
"""Share of the hearings that report a contact below which it is ignored, and from which it is complete."""


def articulate(
    phones: Sequence[Phone],
    times: Float[np.ndarray, "t"],
    reach: Float[np.ndarray, "a"] | float = 1.0,
    mouth: Mouth = AVERAGE,
) -> Float[np.ndarray, "t a"]:
    """Articulator curves in [0, 1] at `times` (seconds, ascending, evenly spaced), before any contact is enforced.

    Each curve is the dominance-weighted mean of the targets of the phones around: D = a exp(-|distance| / tau), where
    the distance is measured from the middle part of the phone.

    Args:
        reach: factor on how far influence reaches (of each articulator): below 1 is clearer speech.
    """
    total = np.full((len(times), len(ARTICULATORS)), 1e-4)
    value = np.zeros_like(total)
    for _, viseme, where, influence in influences(phones, times, reach, mouth):
        total[where] += influence
        value[where] += influence * np.asarray(viseme.target)
    return (value / total).astype(np.float32)


def influences(
    phones: Sequence[Phone],
    times: Float[np.ndarray, "t"],
    reach: Float[np.ndarray, "a"] | float = 1.0,
    mouth: Mouth = AVERAGE,
) -> Iterator[tuple[str, Viseme, slice, Float[np.ndarray, "n a"]]]:
    """Symbol and viseme of every phone (of every half of a diphthong, of every part of a pause), where in `times` it
    counts, and its dominance there."""
    for symbol, viseme, start, end in _segments(phones, mouth.visemes):
        centre, half = (start + end) / 2, (end - start) / 2 * PLATEAU
        low, high = np.searchsorted(times, [start - REACH, end + REACH])
        offset = times[low:high] - centre
        distance = np.maximum(np.abs(offset) - half, 0.0)[:, None]
        tau = reach * np.where(offset < 0, ANTICIPATION, CARRY_OVER)[:, None] * mouth.reach
        yield symbol, viseme, slice(low, high), np.asarray(viseme.dominance) * np.exp(-distance / tau)


def _segments(phones: Sequence[Phone], visemes: Mapping[str, Viseme]) -> Iterator[tuple[str, Viseme, float, float]]:
    for phone in phones:
        if phone.symbol in DIPHTHONGS:
            first, second = DIPHTHONGS[phone.symbol]
            middle = phone.start + 0.55 * (phone.end - phone.start)
            yield first, visemes[first], phone.start, middle
            yield second, visemes[second], middle, phone.end
        elif phone.symbol == SILENCE:
            for viseme, start, end in _pause(phone.start, phone.end):
                yield SILENCE, viseme, start, end
        else:
            yield phone.symbol, visemes.get(phone.symbol, REST), phone.start, phone.end


def _pause(start: float, end: float) -> Iterator[tuple[Viseme, float, float]]:
    length = end - start
    if length < SHORT_SILENCE:
        yield Viseme(BREATH.target, tuple(0.25 * d for d in BREATH.dominance)), start, end
    elif length < BREATH_BEFORE + BREATH_AFTER + 0.1:
        yield BREATH, start, end
    else:
        yield BREATH, start, start + BREATH_AFTER
        yield REST, start + BREATH_AFTER, end - BREATH_BEFORE
        yield BREATH, end - BREATH_BEFORE, end


def expected(
    hearings: Sequence[Sequence[Phone]], times: Float[np.ndarray, "t"], mouth: Mouth = AVERAGE
) -> Float[np.ndarray, "t a"]:
    """The mean of `articulate` over several hearings.

    It is blurred by what they differ in, and flat: openings are blended over a shorter reach and drawn apart again. One
    hearing alone is known, as of a text, and neither blurred nor flat.
    """
    if len(hearings) == 1:
        return articulate(hearings[0], times, mouth=mouth)
    return drawn_apart(np.mean([articulate(phones, times, SHARP, mouth) for phones in hearings], axis=0))


def drawn_apart(mean: Float[np.ndarray, "*t a"]) -> Float[np.ndarray, "*t a"]:
    """The same curves with the contrast of openings that a mean has lost."""
    out = mean.astype(np.float32)
    for part, wide in WIDE.items():
        out[..., part] = wide * (out[..., part] / wide) ** CONTRAST
    return out


def agreed(gates: Sequence[Float[np.ndarray, "t"]]) -> Float[np.ndarray, "t"]:
    """One gate from those of several hearings."""
    low, high = AGREEMENT
    return np.clip((np.mean(gates, axis=0) - low) / (high - low), 0.0, 1.0).astype(np.float32)


def contact_gate(
    phones: Sequence[Phone], parts: dict[str, tuple[float, float]], times: Float[np.ndarray, "t"]
) -> Float[np.ndarray, "t"]:
    """1 while the phones named in `parts` hold a contact, falling to 0 within `RAMP` seconds on both sides.

    A hold is stretched to at least one interval of `times` plus a little, so that some frame shows it entirely.
    """
    gate = np.zeros(len(times), np.float32)
    step = times[1] - times[0] if len(times) > 1 else 0.0
    for phone in phones:
        if phone.symbol not in parts:
            continue
        begin, end = parts[phone.symbol]
        length = phone.end - phone.start
        centre = phone.start + (begin + end) / 2 * length
        half = max((end - begin) / 2 * length, 0.502 * step)
        low, high = np.searchsorted(times, [centre - half - RAMP, centre + half + RAMP])
        outside = np.maximum(np.abs(times[low:high] - centre) - half, 0.0) / RAMP
        shape = 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside, 1.0))
        gate[low:high] = np.maximum(gate[low:high], shape)
    return gate


def close_contacts(
    curves: Float[np.ndarray, "t a"],
    bite: Float[np.ndarray, "t"],
    shut: Float[np.ndarray, "t"],
    mouth: Mouth = AVERAGE,
) -> Float[np.ndarray, "t a"]:
    """The same curves with shut lips (p, b, m) and lower lip on teeth (f, v); applied last, nothing reopens them.

    Rounding survives a closure: the lips of "boo" are narrow before they part.
    """
    out = curves.copy()
    for part, share in mouth.eased.items():
        out[:, part] *= 1 - share * bite
    out[:, BITE] = np.maximum(out[:, BITE], 0.8 * bite)
    out[:, [JAW, PART, ROUND, BITE]] *= 1 - shut[:, None] * np.array([0.85, 1.0, 1.0, 1.0], np.float32)
    out[:, CLOSE] = out[:, JAW] * shut
    out[:, PUCKER] *= 1 - 0.3 * shut
    out[:, PRESS] = np.maximum(out[:, PRESS], 0.7 * shut)
    return out
