"""Motion of a head: 52 ARKit coefficients, head pose, neck and gaze. The one language between all parts.

World axes are OpenCV's (+x right in the picture, +y down, +z away from the camera). The head frame has the same
axes when the face looks straight into a camera at the world's origin; its origin is the skull's joint on the neck.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Float
from torch import Tensor


def _check(what: object, shapes: dict[str, tuple[int, ...]], lead: tuple[int, ...]) -> None:
    for name, shape in shapes.items():
        found = tuple(getattr(what, name).shape)
        if found != lead + shape:
            raise ValueError(f"{name} has shape {found}, not {lead + shape}")


CLOTHES = 20
"""Numbers that say how clothes lie; see `MotionFrame.clothes`."""
_SHAPES = {
    "expression": (52,), "T_world_head": (4, 4), "neck": (3,), "gaze": (2, 2), "torso": (3,), "clothes": (CLOTHES,),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MotionFrame:
    """One moment."""

    expression: Float[Tensor, "52"]
    """ARKit coefficients in [0, 1], in the order of `avatar.face.arkit.NAMES`."""
    T_world_head: Float[Tensor, "4 4"]
    """x_world = T_world_head @ x_head, rigid, metres."""
    neck: Float[Tensor, "3"]
    """Axis-angle (radians, head axes) of the head relative to the torso; the torso is turned by its inverse."""
    gaze: Float[Tensor, "2 2"]
    """(yaw, pitch) in radians of the person's right and left eye in the head frame; 0 looks straight ahead,
    +yaw turns to +x (the person's left), +pitch turns to +y (down)."""
    torso: Float[Tensor, "3"] = field(default_factory=lambda: torch.zeros(3))
    """Metres, world axes: how far the torso is from where head and neck alone would put it. Shoulders sway on their
    own: without it the collar of filmed people was up to 15 px off at 512 px."""
    clothes: Float[Tensor, "20"] = field(default_factory=lambda: torch.zeros(CLOTHES))
    """Metres: how shoulders and clothes have slid on the torso, as coefficients of `avatar.face.rig.clothes_modes`. A
    jacket lies otherwise after each break, and a rigid torso left its collar up to 8 px off."""

    def __post_init__(self) -> None:
        _check(self, _SHAPES, ())

    def each(self, change: Callable[[Tensor], Tensor]) -> "MotionFrame":
        """The same with every tensor changed, for example taken to a device."""
        return MotionFrame(**{name: change(getattr(self, name)) for name in _SHAPES})


@dataclass(frozen=True, kw_only=True)
class MotionSequence:
    """Motion over time; frame i belongs to i / fps seconds."""

    expression: Float[Tensor, "t 52"]
    T_world_head: Float[Tensor, "t 4 4"]
    neck: Float[Tensor, "t 3"]
    gaze: Float[Tensor, "t 2 2"]
    fps: float
    torso: Float[Tensor, "t 3"] = field(default_factory=lambda: torch.zeros(0, 3))
    """As in `MotionFrame`; left out, it is zero."""
    clothes: Float[Tensor, "t 20"] = field(default_factory=lambda: torch.zeros(0, CLOTHES))
    """The same."""

    def __post_init__(self) -> None:
        for name in ("torso", "clothes"):
            if len(getattr(self, name)) == 0 and len(self.expression) > 0:
                object.__setattr__(self, name, torch.zeros(len(self.expression), *_SHAPES[name]))
        _check(self, _SHAPES, (len(self.expression),))
        if self.fps <= 0:
            raise ValueError(f"fps {self.fps} must be positive")

    def __len__(self) -> int:
        return len(self.expression)

    def frame(self, index: int) -> MotionFrame:
        """Frame `index` as it is stored."""
        return MotionFrame(**{name: getattr(self, name)[index] for name in _SHAPES})

    def select(self, index: slice | Tensor | list[int]) -> "MotionSequence":
        """Some of the frames, at the same fps."""
        return MotionSequence(**{name: getattr(self, name)[index] for name in _SHAPES}, fps=self.fps)

    def at(self, seconds: float) -> MotionFrame:
        """Motion at a time: linear between frames (the rotation is projected back to SO(3)), held at the ends."""
        x = min(max(seconds * self.fps, 0.0), len(self) - 1.0)
        low = min(int(x), max(len(self) - 2, 0))
        weight = x - low
        if weight <= 0 or len(self) == 1:
            return self.frame(low)
        mixed = {n: torch.lerp(getattr(self, n)[low], getattr(self, n)[low + 1], weight) for n in _SHAPES}
        pose = mixed["T_world_head"].clone()
        u, _, vh = torch.linalg.svd(pose[:3, :3])
        pose[:3, :3] = u @ vh
        return MotionFrame(**{**mixed, "T_world_head": pose})

    def resampled(self, fps: float) -> "MotionSequence":
        """The same motion on another frame grid, same duration."""
        count = max(round(len(self) / self.fps * fps), 1)
        frames = [self.at(i / fps) for i in range(count)]
        return MotionSequence(
            **{f.name: torch.stack([getattr(m, f.name) for m in frames]) for f in fields(MotionFrame)}, fps=fps
        )
