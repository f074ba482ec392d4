"""Gaussians bound to the rig's triangles, refined by a reduced linear basis that motion drives.

A splat lives at a fixed barycentric point of one triangle, moved by an offset in the triangle's frame; offsets and
sizes are metric at rest and grow with the triangle (after GaussianAvatars, Qian et al. 2024). A tiny network maps
motion to K weights; offset, rotation, size, opacity and colour of each splat add a K-term sum (reduced Gaussian
blendshapes, after Ma et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatar.core import Gaussians, MotionFrame, MotionSequence, RenderOutput, RenderRequest
from avatar.errors import InputError
from avatar.face.rig import PersonalRig
from avatar.models.base import AbstractBackbone, AbstractHeadConfig
from avatar.models.conditioning import LATER, Conditioning
from avatar.models.gaussian_fringe import Fringe
from avatar.models.gaussian_seed import seed
from avatar.models.gaussian_state import Splats
from avatar.models.gaussian_upkeep import GaussianUpkeep, UpkeepConfig
from avatar.models.gaussian_view import View
from avatar.models.pose_correction import corrected, middle_of_face
from avatar.ops.binding import NUMBERS, UNIT, Blend, Drawn, Rest, Seats, Surface, bind_gaussians
from avatar.ops.gaussians import triangle_frames
from avatar.ops.optimize import OuterGradient
from avatar.ops.parallel import ALONE, Team
from avatar.ops.rasterize import rasterize

_LAZY = 1.3
"""Rates of rows that move only when they are seen, over those of an Adam whose momentum moves them all the time.
A row seen in a share p of the steps would move by sqrt(p) of its rate, and now moves by p of it; p is 0.6 or so."""
_FINE = 32767
"""Steps of a stored barycentric share; half precision moves splats by 1/2000 of a triangle, and past each other."""
_SHORT_SECONDS = 6.4
"""Of film to learn from, of which the network would learn the tracker's errors by heart."""
# Raw opacities below this draw less than 1/255 and are skipped by the rasteriser.
INVISIBLE = -5.6


@dataclass(frozen=True, kw_only=True)
class GaussianConfig(AbstractHeadConfig):
    """Sizes and learning rates of a Gaussian head."""

    splats: int = 40_000
    """Budget of what pictures show; the seed fills `seeded` of it and upkeep the rest. Some more lie below, unseen."""
    seeded: float = 0.75
    basis: int = 16
    hidden: int = 64
    input_noise: float = 0.3
    """Deviation of the noise on what the network is told, by `_SHORT_SECONDS` of film or less; see `_noise`."""
    rate_offset: float = 4e-3
    rate_turn: float = 2e-3
    rate_scale: float = 6e-3
    rate_opacity: float = 0.03
    rate_colour: float = 0.015
    rate_basis: float = 2e-3
    rate_network: float = 3e-3
    rate_pose: float = 1e-3
    """Of the corrections of the tracked pose; 0 draws it as it is."""
    upkeep: UpkeepConfig = field(default_factory=UpkeepConfig)

    def begin(self, rig: PersonalRig, views: Sequence[View], motion: MotionSequence) -> "GaussianHead":
        return GaussianHead.from_views(rig, views, motion, self)


class GaussianHead(AbstractBackbone):
    """A person as Gaussians on a `PersonalRig`."""

    triangle: Tensor
    bary: Tensor
    reach: Tensor
    shown: Tensor
    _rest_size: Tensor
    _middle: Tensor

    def __init__(
        self, rig: PersonalRig, splats: Splats, conditioning: Conditioning, config: GaussianConfig | None = None
    ):
        """Args: the splats' rest state; the basis starts at zero."""
        super().__init__()
        self.rig = rig
        self.config = config or GaussianConfig()
        self.conditioning = conditioning
        n, k = len(splats.triangle), conditioning.weights.out_features
        self.register_buffer("triangle", splats.triangle.long())
        self.register_buffer("bary", splats.bary)
        self.register_buffer("reach", splats.reach)
        self.register_buffer("shown", splats.shown)
        self.offset = nn.Parameter(splats.offset / UNIT)
        self.turn = nn.Parameter(splats.quats)
        self.log_scale = nn.Parameter(splats.log_scales)
        self.opacity = nn.Parameter(splats.raw_opacity)
        self.colour = nn.Parameter(splats.raw_colour)
        self.basis = nn.Parameter(torch.zeros(n, NUMBERS, k))
        self.register_buffer("_rest_size", triangle_frames(rig.neutral, rig.faces)[2], persistent=False)
        self.register_buffer("_middle", middle_of_face(rig), persistent=False)
        self._outer: OuterGradient | None = None
        self.fringe: Fringe | None = None
        """What tells background in the colours, while it learns."""

    @classmethod
    def from_views(
        cls, rig: PersonalRig, views: Sequence[View], motion: MotionSequence, config: GaussianConfig
    ) -> "GaussianHead":
        """A head ready for training: splats seeded on the rig and coloured from a few views of the person."""
        conditioning = Conditioning(config.basis, hidden=config.hidden)
        conditioning.fit(motion)
        conditioning.noise = config.input_noise * _noise(len(motion) / motion.fps)
        begin = round(config.splats * config.seeded)
        seeded = seed(rig, views, begin)
        head = cls(rig, seeded.padded(config.splats + len(seeded.triangle) - begin), conditioning, config)
        head.fringe = Fringe(rig, views) if views and config.upkeep.clean else None
        return head

    def __len__(self) -> int:
        return len(self.triangle)

    def splat_parameters(self) -> list[nn.Parameter]:
        """Those with a row for each splat."""
        return [self.offset, self.turn, self.log_scale, self.opacity, self.colour, self.basis]

    def outer_gradients(self) -> dict[nn.Parameter, OuterGradient]:
        self._outer = OuterGradient(self.basis.detach().new_zeros(self.basis.shape[:2]).requires_grad_())
        return {self.basis: self._outer}

    def _blend(self, weights: Float[Tensor, "k"]) -> Blend:
        """The basis and its weights; while training, its gradient is collected as an outer product if that is asked."""
        outer = self._outer
        if outer is None or not (self.training and torch.is_grad_enabled()):
            return Blend(self.basis, weights)
        if outer.rows.grad is not None:
            raise RuntimeError("one backward pass a step: call the optimiser's zero_grad before drawing again")
        outer.terms = weights.detach()
        return Blend(self.basis.detach(), weights, outer.rows)

    def _bound(self, motion: MotionFrame, *, activate: bool) -> Drawn:
        weights, correction = self.conditioning(motion)
        posed = self.rig.posed(*corrected(self.rig, motion, correction, self._middle))
        surface = Surface(posed, self.rig.faces, self._rest_size)
        # What no picture shows stays as it was seeded; left free, it would paint errors of the outline. Opacity learns,
        # because a part that should not be there must be able to go.
        seats = Seats(self.triangle, self.bary, self.shown > 0 if self.training else None)
        rest = Rest(self.offset, self.turn, self.log_scale, self.opacity, self.colour)
        return bind_gaussians(surface, seats, rest, self._blend(weights), activate=activate)

    def pose(self, motion: MotionFrame) -> Gaussians:
        """The splats of a moment, in the world frame."""
        means, quats, log_scales, raw_opacity, colour = self._bound(motion, activate=False)
        return Gaussians(means=means, quats=quats, log_scales=log_scales, raw_opacity=raw_opacity, colour=colour)

    def render(self, request: RenderRequest) -> RenderOutput:
        """Splat the posed Gaussians (Kerbl et al. 2023)."""
        if request.pixels is not None:
            return self._render_pixels(request, request.pixels)
        camera, splats = request.camera, self._bound(request.motion, activate=True)
        rgb, alpha, depth = rasterize(*splats, camera.T_camera_world, camera.focal, camera.center, camera.size)
        return RenderOutput(rgb=rgb, alpha=alpha, depth=depth, aux={"splats": splats})

    def _render_pixels(self, request: RenderRequest, pixels: Int[Tensor, "r 2"]) -> RenderOutput:
        """Draw the smallest window around the asked pixels and pick them."""
        if len(pixels) == 0:
            none = self.colour.new_zeros(0, 3)
            return RenderOutput(rgb=none, alpha=none[:, 0], depth=none[:, 0])
        low, high = pixels.min(0).values.tolist(), pixels.max(0).values.tolist()
        window = request.camera.crop(low[0], low[1], high[0] - low[0] + 1, high[1] - low[1] + 1)
        out = self.render(RenderRequest(camera=window, motion=request.motion))
        row, column = (pixels - pixels.new_tensor(low)).unbind(-1)
        depth = None if out.depth is None else out.depth[row, column]
        return RenderOutput(rgb=out.rgb[row, column], alpha=out.alpha[row, column], depth=depth, aux=out.aux)

    def parameter_groups(self) -> list[dict[str, Any]]:
        c = self.config
        # eps lies far below the gradients of splats in view, and above those of splats that hardly ever show: Adam
        # would blow these up to full steps, and the side of the head would fill with noise.
        table = [
            ("offset", [self.offset], c.rate_offset, 0.05, 2e-7),
            ("turn", [self.turn], c.rate_turn, 0.2, 2e-8),
            ("log_scale", [self.log_scale], c.rate_scale, 0.1, 2e-8),
            ("opacity", [self.opacity], c.rate_opacity, 0.1, 1e-8),
            ("colour", [self.colour], c.rate_colour, 0.1, 1e-7),
            ("basis", [self.basis], c.rate_basis, 0.1, 1e-8),
            ("network", self.conditioning.network_parameters(), c.rate_network, 0.1, 1e-8),
            ("pose", self.conditioning.pose_parameters(), c.rate_pose, 0.1, 1e-8),
        ]
        names = ("name", "params", "lr", "final", "eps")
        groups: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in table]
        for group in groups:
            group["rows"] = group["name"] not in ("network", "pose")
            group["lr"] *= _LAZY if group["rows"] else 1.0
        return groups

    def upkeep(self, steps: int, team: Team = ALONE) -> GaussianUpkeep:
        return GaussianUpkeep(self, steps, self.config.upkeep, team)

    def facts(self) -> dict[str, str | int | float]:
        return {"kind": "gaussian", "splats": len(self), "basis": self.basis.shape[2], "triangles": len(self.rig.faces)}

    @torch.no_grad()
    def to_tensors(self) -> dict[str, Tensor]:
        """Half precision, the basis in 8 bit per splat and property; splats that can never be seen are left out."""
        swing = self.basis[:, 9].abs().sum(1) * 3
        live = self.opacity + swing > INVISIBLE
        basis = self.basis[live]
        peak = basis.abs().amax(2, keepdim=True).clamp_min(1e-8).half()
        tensors = {
            "triangle": self.triangle[live].int(),
            "bary": (self.bary[live] * _FINE).round().to(torch.int16),
            "offset": self.offset[live].half(),
            "turn": nn.functional.normalize(self.turn[live], dim=-1).half(),
            "log_scale": self.log_scale[live].half(),
            "opacity": self.opacity[live].half(),
            "colour": self.colour[live].half(),
            "basis": (basis / peak.float() * 127).round().clamp(-127, 127).to(torch.int8),
            "basis_peak": peak[..., 0],
        }
        network = {f"conditioning.{k}": v.clone() for k, v in self.conditioning.state_dict().items()}
        return {k: v.contiguous() for k, v in {**tensors, **network}.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], rig: PersonalRig) -> "GaussianHead":
        try:
            basis = tensors["basis"].float() / 127 * tensors["basis_peak"].float()[..., None]
            hidden = tensors["conditioning.trunk.0.weight"].shape[0]
            splats = Splats(
                triangle=tensors["triangle"], bary=_shares(tensors["bary"]), offset=tensors["offset"].float() * UNIT,
                quats=tensors["turn"].float(), log_scales=tensors["log_scale"].float(),
                raw_opacity=tensors["opacity"].float(), raw_colour=tensors["colour"].float(),
                reach=torch.zeros(len(basis)), shown=torch.ones(len(basis)),
            )  # fmt: skip
            conditioning = Conditioning(basis.shape[2], hidden=hidden)
            found = {k: tensors[f"conditioning.{k}"] for k in conditioning.state_dict() if k not in LATER}
            later = {k: tensors[f"conditioning.{k}"] for k in LATER if f"conditioning.{k}" in tensors}
            conditioning.load_state_dict({**conditioning.state_dict(), **found, **later})
        except (KeyError, RuntimeError, IndexError) as error:
            raise InputError(f"avatar weights: tensor missing or misshapen ({error}); build the avatar again") from None
        if len(splats.triangle) and int(splats.triangle.max()) >= len(rig.faces):
            raise InputError("avatar weights: they belong to another rig; build the avatar again")
        head = cls(rig, splats, conditioning)
        head.basis.data.copy_(basis)
        return head.eval().requires_grad_(False)


def _noise(seconds: float) -> float:
    """Part of the noise that is left with more film: it is a ridge (Bishop 1995) whose weight grows with the frames,
    and the prior that it stands for does not."""
    return (_SHORT_SECONDS / max(seconds, _SHORT_SECONDS)) ** 0.5


def _shares(stored: Tensor) -> Float[Tensor, "n 3"]:
    """Barycentric shares as files hold them: in steps, or in half precision by earlier versions."""
    return stored.float() if stored.is_floating_point() else stored.float() / _FINE
