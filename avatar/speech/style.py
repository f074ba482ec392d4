"""How one person moves when speaking: all that models know of a person, and what is asked of a performance."""

from dataclasses import dataclass, replace

from avatar.errors import InputError
from avatar.speech.emotion import Feeling, mood
from avatar.speech.visemes import ALIKE, LIP_GAP_MM

EXPRESSION_SIZE = 52


@dataclass(frozen=True, kw_only=True)
class SpeechStyle:
    """The defaults are an average speaker. JSON-able through `avatar.config`."""

    rest: tuple[float, ...] = (0.0,) * EXPRESSION_SIZE
    """ARKit coefficients [52] of the face with the lips together and the eyes open."""
    apart: tuple[float, ...] = (0.0,) * EXPRESSION_SIZE
    """Offsets [52] of the face while speech holds the lips apart: what presses them at rest lets go, and how far this
    person parts them in between."""
    opening_gain: float = 1.0
    """Factor on jaw and parted lips."""
    width_gain: float = 1.0
    """Factor on what changes the mouth's width: funnel, pucker, smile and stretch while speaking."""
    habits: tuple[tuple[float, float], ...] = ()
    """Millimetres by which the person opens and widens the mouth more than others at each of `visemes.ALIKE`, before
    the gains; empty where nothing is known."""
    ceiling: tuple[float, ...] = (1.0,) * EXPRESSION_SIZE
    """Largest value [52] that the person uses; speech stays below."""
    blink_hz: float = 0.28
    """Blinks a second while speaking (Bentivoglio et al. 1997: 26 a minute in conversation, 17 at rest)."""
    blink_depth: float = 0.95
    """eyeBlink of a shut eye."""
    head_std: tuple[float, float, float] = (0.038, 0.034, 0.018)
    """Standard deviation (radians) of the head's rotation about x (nod), y (turn) and z (tilt) while speaking, without
    the gestures that go with the voice."""
    head_hz: float = 0.5
    """Swings of the head a second; in each it takes a new posture twice."""
    body_std: tuple[float, float, float] = (0.004, 0.001, 0.004)
    """Standard deviation (metres) of the whole person's sway: sideways, up and down, to and from the camera."""
    gaze_std: tuple[float, float] = (0.035, 0.020)
    """Standard deviation (radians) of the eyes in the head, yaw and pitch."""
    gaze_hold: float = 0.8
    """Share of the head's turns that the eyes undo, to stay with the listener (vestibulo-ocular reflex)."""
    nod_gain: float = 1.0
    """Factor on what the head does with the voice and in answer to another's."""
    brow_gain: float = 1.0
    """Factor on raised brows at emphasis."""
    smile_gain: float = 1.0
    """Factor on what the face does in answer to another's voice."""
    mood: tuple[float, ...] = (0.0,) * EXPRESSION_SIZE
    """Offsets [52] of an emotion, see `avatar.speech.emotion.mood`; not limited by `ceiling`."""

    def __post_init__(self) -> None:
        for name in ("rest", "apart", "ceiling", "mood"):
            if len(getattr(self, name)) != EXPRESSION_SIZE:
                found = len(getattr(self, name))
                raise InputError(
                    f"speech style: {name} has {found} numbers, not {EXPRESSION_SIZE}; build the avatar again"
                )
        if self.habits and len(self.habits) != len(ALIKE):
            found = len(self.habits)
            raise InputError(f"speech style: habits has {found} rows, not {len(ALIKE)}; build the avatar again")


GAIN_LIMITS = (0.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class Direction:
    """What is asked of a performance, whoever performs it."""

    mouth: float = 1.0
    """Factor on how far the mouth opens; 0 keeps it closed."""
    head: float = 1.0
    """Factor on the motion of head and body; 0 keeps them still."""
    expression: float = 1.0
    """Factor on brows, smiles and emotions."""
    feelings: tuple[Feeling, ...] = ()

    def __post_init__(self) -> None:
        for name in ("mouth", "head", "expression"):
            value, (low, high) = getattr(self, name), GAIN_LIMITS
            if not low <= value <= high:
                raise InputError(f"{name} gain {value:g} is outside {low:g} to {high:g}; 1 is the person's own")


def directed(style: SpeechStyle, direction: Direction) -> SpeechStyle:
    """The person's way, as asked for. What a larger gain opens may go beyond what the person's film has shown."""
    mouth, head, face = direction.mouth, direction.head, direction.expression
    wider = [
        min(most * max(mouth, 1.0), 1.0) if gap > 0 else most
        for most, gap in zip(style.ceiling, LIP_GAP_MM, strict=True)
    ]
    x, y, z = (head * s for s in style.head_std)
    across, up, deep = (head * s for s in style.body_std)
    return replace(
        style,
        opening_gain=style.opening_gain * mouth,
        # Funnelled lips are open too.
        width_gain=style.width_gain * min(mouth, 1.0),
        ceiling=tuple(wider),
        head_std=(x, y, z),
        body_std=(across, up, deep),
        nod_gain=style.nod_gain * head,
        brow_gain=style.brow_gain * face,
        smile_gain=style.smile_gain * face,
        mood=tuple(min(face * offset, 1.0) for offset in mood(direction.feelings)),
    )


def lips_only(style: SpeechStyle) -> SpeechStyle:
    """The same way of speaking by somebody who neither blinks nor moves the head."""
    still = (0.0, 0.0, 0.0)
    return replace(
        style, blink_hz=0.0, head_std=still, body_std=still, gaze_std=(0.0, 0.0), nod_gain=0.0, brow_gain=0.0
    )
