"""How one person moves when speaking: everything that the rule model knows of a person, as plain numbers."""

from dataclasses import dataclass

from avatar.errors import InputError

EXPRESSION_SIZE = 52


@dataclass(frozen=True, kw_only=True)
class SpeechStyle:
    """The defaults are an average speaker. JSON-able through `avatar.config`."""

    rest: tuple[float, ...] = (0.0,) * EXPRESSION_SIZE
    """ARKit coefficients [52] of the face with the lips together and the eyes open."""
    opening_gain: float = 1.0
    """Factor on jaw and parted lips."""
    width_gain: float = 1.0
    """Factor on what changes the mouth's width: funnel, pucker, smile and stretch while speaking."""
    ceiling: tuple[float, ...] = (1.0,) * EXPRESSION_SIZE
    """Largest value [52] that the person uses; speech stays below."""
    blink_hz: float = 0.28
    """Blinks a second while speaking (Bentivoglio et al. 1997: 26 a minute in conversation, 17 at rest)."""
    blink_depth: float = 0.95
    """eyeBlink of a shut eye."""
    head_std: tuple[float, float, float] = (0.020, 0.025, 0.012)
    """Standard deviation (radians) of the idle head rotation about x (nod), y (turn) and z (tilt)."""
    head_hz: float = 0.35
    """Upper edge of the band of the idle head motion."""
    gaze_std: tuple[float, float] = (0.035, 0.020)
    """Standard deviation (radians) of where the eyes rest, yaw and pitch."""
    brow_gain: float = 1.0
    """Factor on raised brows at emphasis."""

    def __post_init__(self) -> None:
        for name in ("rest", "ceiling"):
            if len(getattr(self, name)) != EXPRESSION_SIZE:
                found = len(getattr(self, name))
                raise InputError(
                    f"speech style: {name} has {found} numbers, not {EXPRESSION_SIZE}; build the avatar again"
                )
