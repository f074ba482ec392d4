"""A head that can be posed: identity, 52 ARKit actions, eyeballs, neck. Head frame of `core.motion`, metres."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatar.core import MotionFrame
from avatar.errors import InputError
from avatar.face.arkit import INDEX
from avatar.ops.posing import SparseRig, pose_rig, sparse_rig
from avatar.ops.rotation import axis_angle_to_matrix

_BAKED = Path(__file__).parent / "data" / "anny.safetensors"
_SHOULDER, _SEEN = 0.2, 1.2
"""Metres to a shoulder; how many of them the terms of `clothes_terms` change over."""
_LID_OVERLAP = 0.0008
"""Metres by which closed lids overlap, so that no slit stays."""


def _eye_rotation(gaze: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3 3"]:
    """Turns (0, 0, -1) to (sin yaw cos pitch, sin pitch, -cos yaw cos pitch): pitch about x, then yaw about -y."""
    yaw, pitch = gaze.unbind(-1)
    zero = torch.zeros_like(yaw)
    turn = axis_angle_to_matrix(torch.stack([zero, -yaw, zero], -1))
    return turn @ axis_angle_to_matrix(torch.stack([pitch, zero, zero], -1))


def clothes_terms(beside: Float[Tensor, "n 2"]) -> Float[Tensor, "n 10"]:
    """How much a point of the torso goes along with each term: a cubic in x and y (metres from the base of the neck),
    held constant where no picture shows the torso. Each term moves along x and along y, one coefficient each."""
    x, y = (beside / _SHOULDER).clamp(-_SEEN, _SEEN).unbind(-1)
    one = torch.ones_like(x)
    return torch.stack([one, x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3], -1)


class Piece(IntEnum):
    """Which body a triangle of the Anny rig belongs to; the skin is one closed surface with the cavities."""

    SKIN = 0
    MOUTH_CAVITY = 1
    TONGUE = 2
    UPPER_TEETH = 3
    LOWER_TEETH = 4
    RIGHT_SOCKET = 5
    LEFT_SOCKET = 6
    RIGHT_EYE = 7
    LEFT_EYE = 8


@dataclass(frozen=True, kw_only=True)
class LandmarkTable:
    """Where the points of a landmark detector lie on the rig's surface."""

    triangles: Int[Tensor, "l"]
    barycentric: Float[Tensor, "l 3"]
    sigma: Float[Tensor, "l"]
    """Standard deviation of the detector's error, in fractions of the distance between the outer eye corners."""
    usable: Bool[Tensor, "l"]

    def points(self, vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "*b l 3"]:
        """The landmarks on a posed surface, in the frame of `vertices`."""
        corners = vertices[..., faces[self.triangles], :]
        return (corners * self.barycentric[..., None]).sum(-2)


@dataclass(frozen=True, kw_only=True)
class PersonalRig:
    """One person's head: everything that is needed to pose it."""

    neutral: Float[Tensor, "v 3"]
    actions: Float[Tensor, "52 v 3"]
    """Displacement at coefficient 1, in the order of `arkit.NAMES`; eyeLook* move the lids only."""
    faces: Int[Tensor, "f 3"]
    """Counter-clockwise seen from outside, in right-handed axes."""
    regions: UInt8[Tensor, "f"]
    """A `core.Region` for each triangle."""
    skin: Float[Tensor, "v 3"]
    """Weights of (head, neck, torso); rows sum to 1."""
    neck_pivots: Float[Tensor, "2 3"]
    """Upper: the skull's joint, origin of the head frame. Lower: the base of the neck."""
    eye_weights: Float[Tensor, "v 2"]
    """(right, left), the person's own."""
    eye_pivots: Float[Tensor, "2 3"]
    uv: Float[Tensor, "f 3 2"]
    """Texture coordinates in [0, 1] of each triangle's corners, v upwards."""

    @cached_property
    def _joints(self) -> list[tuple[Tensor, Tensor]]:
        """(vertices, weights [n 1]) that neck, torso, right and left eye move."""
        weights = torch.cat([self.skin[:, 1:], self.eye_weights], 1)
        moved = [weights[:, k].nonzero()[:, 0] for k in range(4)]
        return [(index, weights[index, k, None]) for k, index in enumerate(moved)]

    def vertices(
        self, expression: Float[Tensor, "*b 52"], neck: Float[Tensor, "*b 3"], gaze: Float[Tensor, "*b 2 2"]
    ) -> Float[Tensor, "*b v 3"]:
        """The posed surface in the head frame (metres); differentiable.

        The head stays; the neck turns by half of the inverse of `neck` (axis-angle, radians) about the skull's joint
        and the torso by the other half about the base of the neck. `gaze` is (yaw, pitch) of right and left eye.
        """
        moved = expression @ self.actions.flatten(1)
        start = self.neutral + moved.unflatten(-1, self.neutral.shape)
        half, eyes = axis_angle_to_matrix(-neck / 2), _eye_rotation(gaze)
        upper, lower = self.neck_pivots
        neck_shift = upper - (half @ upper[:, None])[..., 0]
        torso_shift = neck_shift + (half @ (lower[:, None] - half @ lower[:, None]))[..., 0]
        eye_shift = self.eye_pivots - (eyes @ self.eye_pivots[..., None])[..., 0]
        rotations = [half, half @ half, eyes[..., 0, :, :], eyes[..., 1, :, :]]
        shifts = [neck_shift, torso_shift, eye_shift[..., 0, :], eye_shift[..., 1, :]]
        out = start
        for (index, weight), rotation, shift in zip(self._joints, rotations, shifts, strict=True):
            here = start[..., index, :]
            there = here @ rotation.transpose(-1, -2) + shift[..., None, :]
            out = out.index_add(-2, index, weight * (there - here))
        return out

    @cached_property
    def _sparse(self) -> SparseRig:
        weights = torch.cat([self.skin[:, 1:], self.eye_weights, self.below_head], 1)
        return sparse_rig(self.neutral, torch.cat([self.actions, self.clothes_modes]), weights)

    def posed(self, motion: MotionFrame, rigid: Float[Tensor, "6"] | None = None) -> Float[Tensor, "v 3"]:
        """The surface at a moment, in the world frame; differentiable in the motion, in `rigid` and in `neutral`.

        Args:
            rigid: a correction of all below the head: axis-angle (radians) about the base of the neck, and a shift.
        """
        transforms = self._transforms(motion, motion.neck.new_zeros(6) if rigid is None else rigid)
        actions = torch.cat([motion.expression, motion.clothes.to(motion.expression)])
        return pose_rig(self._sparse, actions, transforms, motion.torso)

    def _transforms(self, motion: MotionFrame, rigid: Float[Tensor, "6"]) -> Float[Tensor, "6 3 4"]:
        """[R t] of neck, torso, right and left eye and correction in the head frame, and of the head in the world."""
        yaw, pitch = motion.gaze.unbind(-1)
        zero = torch.zeros_like(yaw)
        turns = torch.stack([torch.stack([zero, -yaw, zero], -1), torch.stack([pitch, zero, zero], -1)])
        body = torch.stack([-motion.neck / 2, rigid[:3]])
        half, correction, *turns = axis_angle_to_matrix(torch.cat([body, turns.flatten(0, 1)])).unbind(0)
        eyes = turns[0] @ turns[2], turns[1] @ turns[3]
        upper, lower = self.neck_pivots
        rotations = torch.stack([half, half, *eyes, correction])
        pivots = torch.stack([upper, lower, *self.eye_pivots, lower])
        shifts = pivots - (rotations @ pivots[..., None])[..., 0]
        torso = torch.cat([half @ half, (shifts[0] + half @ shifts[1])[:, None]], 1)
        local = torch.cat([rotations, shifts[..., None]], -1)
        moved = torch.cat([correction, (shifts[4] + rigid[3:])[:, None]], 1)
        return torch.stack([local[0], torso, local[2], local[3], moved, motion.T_world_head[:3]])

    @property
    def below_head(self) -> Float[Tensor, "v 1"]:
        """How much each vertex goes along when the torso shifts: all of the torso, half of the neck."""
        return self.skin[:, 2:] + 0.5 * self.skin[:, 1:2]

    @property
    def worn(self) -> Float[Tensor, "v 1"]:
        """How much each vertex goes along when clothes slide."""
        return (self.skin[:, 2:] - self.skin[:, :1]).clamp_min(0)

    @property
    def clothes_modes(self) -> Float[Tensor, "20 v 3"]:
        """Displacement of each vertex at coefficient 1 (a metre) of `MotionFrame.clothes`, before the torso turns."""
        terms = clothes_terms((self.neutral - self.neck_pivots[1])[:, :2]) * self.worn
        return torch.einsum("vk,ac->kavc", terms, torch.eye(3)[:2].to(terms)).flatten(0, 1)

    def each(self, change: Callable[[Tensor], Tensor]) -> "PersonalRig":
        """The same with every tensor changed, for example taken to a device."""
        return PersonalRig(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def to_tensors(self) -> dict[str, Tensor]:
        """All fields by name, contiguous."""
        return {f.name: getattr(self, f.name).contiguous() for f in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "PersonalRig":
        """The inverse of `to_tensors`; other entries are ignored.

        Raises:
            InputError: if a field is missing.
        """
        missing = [f.name for f in fields(cls) if f.name not in tensors]
        if missing:
            raise InputError(f"head rig: {', '.join(missing)} missing; the file is damaged or no rig, make it again")
        return cls(**{f.name: tensors[f.name] for f in fields(cls)})

    def save(self, path: Path) -> None:
        """Write one .safetensors file, atomically."""
        save_tensors(self.to_tensors(), path)

    @classmethod
    def load(cls, path: Path) -> "PersonalRig":
        """Read what `save` wrote.

        Raises:
            InputError: if the file is missing, damaged or no rig.
        """
        return cls.from_tensors(_load(path))


class AbstractRig(ABC):
    """A family of heads; people are points of a linear identity space."""

    landmarks: LandmarkTable

    @property
    @abstractmethod
    def identity_size(self) -> int:
        """Number of identity coefficients; each is in standard deviations of the population, independent."""

    @abstractmethod
    def neutral(self, identity: Float[Tensor, "*b i"]) -> Float[Tensor, "*b v 3"]:
        """The relaxed face, metres, head frame; linear in identity."""

    @abstractmethod
    def personal(self, identity: Float[Tensor, "i"], offsets: Float[Tensor, "v 3"] | None = None) -> PersonalRig:
        """The rig of one person; `offsets` (metres) are added to the neutral surface."""

    def shutting(self, neutral: Float[Tensor, "v 3"], actions: Float[Tensor, "52 v 3"]) -> Float[Tensor, "52 v 3"]:
        """The actions with both blinks scaled so that at 1 the lids just meet; as they are if the rig knows no lids."""
        return actions

    def sample(self, count: int, *, seed: int, spread: float = 1.0) -> Float[Tensor, "n i"]:
        """Random plausible identities: independent normal coefficients of deviation `spread`, cut at 2.5 spreads."""
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(count, self.identity_size, generator=generator)
        edge = 0.5 * (1 + math.erf(2.5 / math.sqrt(2)))
        return math.sqrt(2) * torch.erfinv((2 * edge - 1) * (2 * uniform - 1)) * spread


class AnnyRig(AbstractRig):
    """Heads of the Anny body model (Brégier et al. 2025), baked by `avatar.face.bake`."""

    def __init__(self, tensors: dict[str, Tensor]):
        """Args: `tensors` as the baked file holds them."""
        self.mean: Tensor = tensors["mean"].float()
        self.modes: Tensor = tensors["modes"].float()
        self.actions: Tensor = tensors["actions"].float()
        self.faces: Tensor = tensors["faces"].long()
        self.regions: Tensor = tensors["regions"]
        self.pieces: Tensor = tensors["pieces"]
        """A `Piece` for each triangle, uint8 [f]."""
        self.skin: Tensor = tensors["skin"].float()
        self.eye_weights: Tensor = tensors["eye_weights"].float()
        self.uv: Tensor = tensors["uv"].float()
        self.mirror: Tensor = tensors["mirror"].long()
        """Vertex on the other side of each vertex."""
        self.pivots_mean: Tensor = tensors["pivots_mean"].float()
        self.pivots_modes: Tensor = tensors["pivots_modes"].float()
        self.lids_upper: Tensor = tensors["lids_upper"].long()
        """Vertices on the lower edge of the right and left upper lid, [2 m]."""
        self.lids_lower: Tensor = tensors["lids_lower"].long()
        """The two vertices of the lower lid between which each of them comes down, [2 m 2]."""
        self.landmarks = LandmarkTable(
            triangles=tensors["landmark_triangles"].long(),
            barycentric=tensors["landmark_barycentric"].float(),
            sigma=tensors["landmark_sigma"].float(),
            usable=tensors["landmark_usable"].bool(),
        )

    @classmethod
    def load(cls, path: Path = _BAKED) -> "AnnyRig":
        """Read a baked file.

        Raises:
            InputError: if the file is missing or damaged.
        """
        return cls(_load(path))

    @property
    def identity_size(self) -> int:
        return len(self.modes)

    def neutral(self, identity: Float[Tensor, "*b i"]) -> Float[Tensor, "*b v 3"]:
        return self.mean + (identity @ self.modes.flatten(1)).unflatten(-1, self.mean.shape)

    def personal(self, identity: Float[Tensor, "i"], offsets: Float[Tensor, "v 3"] | None = None) -> PersonalRig:
        neutral = self.neutral(identity)
        pivots = self.pivots_mean + (identity @ self.pivots_modes.flatten(1)).unflatten(-1, self.pivots_mean.shape)
        eyes = pivots[2:]
        if offsets is not None:
            neutral = neutral + offsets
            eyes = eyes + self.eye_weights.T @ offsets / self.eye_weights.sum(0)[:, None]
        return PersonalRig(
            neutral=neutral,
            actions=self.shutting(neutral, self.actions),
            faces=self.faces,
            regions=self.regions,
            skin=self.skin,
            neck_pivots=pivots[:2],
            eye_weights=self.eye_weights,
            eye_pivots=eyes,
            uv=self.uv,
        )

    def shutting(self, neutral: Float[Tensor, "v 3"], actions: Float[Tensor, "52 v 3"]) -> Float[Tensor, "52 v 3"]:
        out = actions.clone()
        for side, name in enumerate(("eyeBlinkRight", "eyeBlinkLeft")):
            upper, (left, right) = self.lids_upper[side], self.lids_lower[side].unbind(1)
            blink = actions[INDEX[name]]
            along = self.mean[:, 0]
            share = ((along[upper] - along[left]) / (along[right] - along[left])).clamp(0, 1)

            def opening(
                points: Tensor, up: Tensor = upper, a: Tensor = left, b: Tensor = right, s: Tensor = share
            ) -> Tensor:
                return torch.lerp(points[a, 1], points[b, 1], s) - points[up, 1]

            factor = ((opening(neutral) + _LID_OVERLAP) / -opening(blink)).clamp(0.3, 2.0)
            near = torch.softmax(-0.5 * ((along[:, None] - along[upper]) / 0.002).square(), 1)
            out[INDEX[name]] = blink * (near @ factor)[:, None]
        return out


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write one .safetensors file under a temporary name, then put it in its place."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata)
        os.replace(part, path)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; make the rig again") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: no readable .safetensors file ({error}); make the rig again") from None
