"""A radiance field of a person, in the canonical space of the rig that drives it.

Rays are looked for in a thin shell about the posed rig and taken back into the neutral pose (`field_shell`), where an
occupancy grid leaves few samples of them (`field_space`); tables of features and networks, which motion conditions,
say what is there (`field_net`). Head, neck and torso are one field, so nothing is joined at the neck.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar import config as configs
from avatar.core import MotionSequence, RenderOutput, RenderRequest
from avatar.errors import InputError
from avatar.face.rig import PersonalRig
from avatar.models.base import AbstractBackbone, AbstractHeadConfig
from avatar.models.conditioning import Conditioning
from avatar.models.field_backing import Backing
from avatar.models.field_net import Encoding, EncodingConfig, NetConfig, field_net
from avatar.models.field_shell import Rays, Shell, ShellConfig
from avatar.models.field_space import Cells, Samples, Space, survey
from avatar.models.field_upkeep import FieldUpkeep, OccupancyConfig
from avatar.models.field_warp import Warp, slid
from avatar.models.gaussian_coat import coat
from avatar.models.gaussian_view import Scene, View
from avatar.models.pose_correction import corrected, middle_of_face
from avatar.ops.parallel import ALONE, Team
from avatar.ops.raymarch import composite

_INSIDE, _OUTSIDE, _SOFT = 7.0, 1.0, 0.003
"""The prior: logarithms of the density (1 / m) inside and outside of the rig, and metres from one to the other. What no
picture shows stays as this says, so a head is closed on the side that was not filmed."""
_MOST = 8.0
"""Largest logarithm of a density."""
_SEEN = 1e-3
"""Alpha below which a pixel is empty."""


@dataclass(frozen=True, kw_only=True)
class FieldConfig(AbstractHeadConfig):
    """Sizes and learning rates of a field."""

    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    net: NetConfig = field(default_factory=NetConfig)
    shell: ShellConfig = field(default_factory=ShellConfig)
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    code: int = 16
    """Numbers that the motion is made into."""
    motion_hidden: int = 64
    input_noise: float = 0.3
    rate_table: float = 1e-2
    rate_network: float = 2e-3
    rate_motion: float = 1e-3
    nodes: int = 96
    """Of the surface, whose displacement follows the motion (`field_warp`); 0 moves it as the rig says."""
    rate_warp: float = 3e-3
    rate_pose: float = 0.0
    """Of the corrections of the tracked pose; 0 draws it as it is. At 4e-3, with nodes at 5e-3, the head of a drawn
    speaker lost 0.6 dB in 1,500 steps; nodes alone find where a body is as well."""

    def begin(self, rig: PersonalRig, views: Sequence[View], motion: MotionSequence) -> "FieldHead":
        conditioning = Conditioning(self.code, hidden=self.motion_hidden)
        conditioning.fit(motion)
        conditioning.noise = self.input_noise
        thick = coat([Scene(rig, view) for view in views]) if views else torch.zeros(len(rig.neutral))
        shell = Shell(rig, thick, self.shell)
        return FieldHead(shell, survey(rig, shell, views), conditioning, self, Backing.fit(rig, thick, views))


class FieldHead(AbstractBackbone):
    """A person as a field about a `PersonalRig`."""

    _middle: Tensor
    _backed_faces: Tensor

    def __init__(self, shell: Shell, cells: Cells, conditioning: Conditioning, config: FieldConfig, backing: Backing):
        """Args: where the field is, what motion makes of it, its sizes, and what shows through its holes."""
        super().__init__()
        self.rig, self.config, self.shell, self.conditioning = shell.rig, config, shell, conditioning
        self.space = Space(cells)
        self.encoding = Encoding(config.encoding)
        self.net = field_net(self.encoding.width, config.code, config.net)
        self.warp = Warp(shell.rig, config.nodes, config.code) if config.nodes else None
        self.learns_place = bool(config.nodes) or config.rate_pose > 0
        self.backing = backing
        backed = backing.faces(shell.rig) if config.shell.torso else shell.faces[:0]
        self.register_buffer("_backed_faces", backed, persistent=False)
        self.register_buffer("_middle", middle_of_face(shell.rig), persistent=False)

    def density(
        self, points: Float[Tensor, "s 3"], height: Float[Tensor, "s"], code: Float[Tensor, "k"]
    ) -> Float[Tensor, "s"]:
        """1 / m, of canonical points (metres) at heights above the surface."""
        features = self.encoding((points - self.space.low) / self.space.side)
        ways = torch.zeros_like(points) if self.net.degree else None
        return _density(self.net.samples(features, code, ways)[0], height)

    def render(self, request: RenderRequest) -> RenderOutput:
        """Blend samples of the field along the pixels' rays (Max 1995)."""
        code, correction = self.conditioning(request.motion)
        moved = self.warp(code) if self.warp is not None else None
        pose = corrected(self.rig, request.motion, correction, self._middle)
        posed = self.shell.posed(*pose, moved)
        hits = posed.hits(request.camera, request.pixels)
        pieces = posed.rays(request.camera, request.pixels, self.space.beside, hits)
        samples = self.space.march(pieces, jitter=self.training)
        blended, alpha, depth, seen = self._blended(pieces, samples, code)
        shape = request.camera.size if request.pixels is None else (len(request.pixels),)
        count = len(request.pixels) if request.pixels is not None else shape[0] * shape[-1]
        drawn = torch.cat([blended, depth[:, None], alpha[:, None]], 1)
        whole = _joined(drawn.split([len(piece) for piece in pieces]), pieces, count)
        full = (whole[:, -1] > _SEEN).nonzero()[:, 0]
        cover = whole[full, -1:]
        colour = self.net.pixels(whole[full, :-2] / cover, code) * cover
        rgb = whole.new_zeros(count, 3).index_put((full,), colour)
        z, alpha = (whole.new_zeros(count).index_put((full,), column) for column in whole[full, -2:].T)
        aux = {"code": code, "samples": len(samples.ray), **seen}
        rgb, z, alpha = rgb.view(*shape, 3), z.view(shape), alpha.view(shape)
        if self.training and self.learns_place and request.pixels is None:
            flow = posed.flow(request.camera, hits).view(*shape, 2)
            picture = slid(torch.cat([rgb, alpha[..., None]], -1), flow)
            rgb, alpha = picture[..., :3], picture[..., 3]
        out = RenderOutput(rgb=rgb, alpha=alpha, depth=z, aux=aux)
        if self.training or not len(self._backed_faces):
            return out
        return self._backed(out, request, posed.sunk(self.backing.depth))

    def _backed(self, out: RenderOutput, request: RenderRequest, surface: Float[Tensor, "v 3"]) -> RenderOutput:
        """With the backing behind it, where the field lets it through."""
        assert out.depth is not None
        colour, shows, depth = self.backing.draw(request.camera, surface, self._backed_faces)
        if request.pixels is not None:
            row, column = request.pixels.unbind(-1)
            colour, shows, depth = colour[row, column], shows[row, column], depth[row, column]
        through = (1 - out.alpha) * shows
        rgb, alpha = out.rgb + through[..., None] * colour, out.alpha + through
        return replace(out, rgb=rgb, alpha=alpha, depth=out.depth + through * depth)

    def _blended(
        self, pieces: list[Rays], samples: Samples, code: Float[Tensor, "k"]
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Values, alpha and depth of each piece of a ray, premultiplied; and what upkeep looks at in the samples:
        `weights`, `height` above the surface in metres, `cell`."""
        origin, direction, height, length, depth = (
            torch.cat([getattr(piece, name) for piece in pieces])
            for name in ("origin", "direction", "height", "length", "depth")
        )
        places = torch.cat([(origin - self.space.low) / self.space.side, direction / self.space.side], 1)
        facts = torch.stack([height[:, 0], height[:, 1] - height[:, 0], length], 1)[samples.ray]
        middle = (samples.start + samples.end) / 2
        ends = (places.detach() if self.training else places)[samples.ray]
        points = torch.addcmul(ends[:, :3], middle[:, None], ends[:, 3:])
        features = self.encoding(points)
        way = nn.functional.normalize(ends[:, 3:].detach(), dim=-1) if self.net.degree else None
        logs, values = self.net.samples(features, code, way)
        above = facts[:, 0] + middle * facts[:, 1]
        density = _density(logs, above) * facts[:, 2]
        blended, alpha, along, weights = composite(density, values, samples.start, samples.end, samples.packed)
        seen = {"weights": weights, "height": above, "cell": self.space.cell(points.detach())} if self.training else {}
        return blended, alpha, alpha * depth[:, 0] + along * (depth[:, 1] - depth[:, 0]), seen

    def parameter_groups(self) -> list[dict[str, Any]]:
        c, tables = self.config, [*self.encoding.parameters(), *self.net.tables()]
        others = [p for p in self.net.parameters() if all(p is not table for table in tables)]
        rows = [
            ("tables", tables, c.rate_table, 0.05, 1e-12),
            ("network", others, c.rate_network, 0.1, 1e-8),
            ("motion", self.conditioning.network_parameters(), c.rate_motion, 0.1, 1e-8),
            ("pose", self.conditioning.pose_parameters(), c.rate_pose, 0.1, 1e-8),
            ("warp", [] if self.warp is None else [self.warp.basis], c.rate_warp, 0.1, 1e-8),
        ]
        groups = [dict(zip(("name", "params", "lr", "final", "eps"), row, strict=True)) for row in rows]
        return [{**group, "rows": group["name"] == "tables"} for group in groups]

    def upkeep(self, steps: int, team: Team = ALONE) -> FieldUpkeep:
        return FieldUpkeep(self, steps, self.config.occupancy, team)

    def facts(self) -> dict[str, str | int | float]:
        features = sum(table.numel() for table in self.encoding.tables)
        return {"kind": "field", "features": features, "cells": int(self.space.lit.sum())}

    @torch.no_grad()
    def to_tensors(self) -> dict[str, Tensor]:
        """Tables in half precision, and the cells that pictures are made of."""
        space = self.space
        at = space.lit.nonzero()
        text = json.dumps(configs.to_dict(self.config)).encode()
        tensors = {
            "config": torch.tensor(list(text), dtype=torch.uint8),
            "coat": self.shell.coat.half(),
            "low": space.low,
            "shape": torch.tensor(space.occupied.shape),
            "at": at.to(torch.int16),
            "owner": space.owner[tuple(at.T)],
        }
        learned = {f"encoding.{k}": v.half() for k, v in self.encoding.state_dict().items()}
        learned |= {f"backing.{k}": v.half() for k, v in self.backing.state_dict().items()}
        learned |= {f"warp.{k}": v.clone() for k, v in (self.warp.state_dict() if self.warp else {}).items()}
        learned |= {f"net.{k}": v.clone() for k, v in self.net.state_dict().items()}
        learned |= {f"conditioning.{k}": v.clone() for k, v in self.conditioning.state_dict().items()}
        return {k: v.contiguous() for k, v in {**tensors, **learned}.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], rig: PersonalRig) -> "FieldHead":
        try:
            text = bytes(tensors["config"].tolist()).decode()
            config = configs.from_dict(FieldConfig, json.loads(text), where="avatar weights: config")
            x, y, z = tensors["shape"].tolist()
            at, owner = tensors["at"].long(), tensors["owner"].long()
            cells = Cells(tensors["low"].float(), (x, y, z), at, owner, torch.zeros(len(at)))
            conditioning = Conditioning(config.code, hidden=config.motion_hidden)
            if len(tensors["coat"]) != len(rig.neutral):
                raise InputError("avatar weights: they belong to another rig; build the avatar again")
            none = torch.zeros(len(rig.neutral))
            depth = tensors.get("backing.depth", none).float()
            backing = Backing(depth, tensors.get("backing.colour", none[:, None].expand(-1, 3)).float())
            shell = Shell(rig, tensors["coat"].float(), config.shell)
            head = cls(shell, cells, conditioning, config, backing)
            for name in ("encoding", "net", "conditioning"):
                part = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
                getattr(head, name).load_state_dict({k: v.float() for k, v in part.items()})
            if head.warp is not None and "warp.basis" in tensors:
                head.warp.basis.data.copy_(tensors["warp.basis"])
        except (KeyError, RuntimeError, IndexError, ValueError) as error:
            raise InputError(f"avatar weights: tensor missing or misshapen ({error}); build the avatar again") from None
        return head.eval().requires_grad_(False)


def _density(logs: Float[Tensor, "s"], height: Float[Tensor, "s"]) -> Float[Tensor, "s"]:
    """1 / m, of what a network says and how high above the rig's surface it is."""
    prior = (_INSIDE + _OUTSIDE) / 2 - (_INSIDE - _OUTSIDE) / 2 * torch.tanh(height / _SOFT)
    return (prior + logs).clamp(max=_MOST).exp()


def _joined(drawn: Sequence[Float[Tensor, "m c"]], pieces: Sequence[Rays], count: int) -> Float[Tensor, "p c"]:
    """Pieces of the same pixels' rays one behind the other ("over"); the last channel is alpha."""
    whole = drawn[0].new_zeros(count, drawn[0].shape[1])
    for values, piece in zip(drawn, pieces, strict=True):
        if len(piece):
            whole = whole.index_add(0, piece.pixel, values * (1 - whole[piece.pixel, -1:]))
    return whole
