"""The occupancy grid while a field is learned: cells that hold nothing for a while are no longer looked into."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.optim import Optimizer

from avatar.core import RenderOutput
from avatar.models.base import AbstractUpkeep
from avatar.models.field_shell import CELL, FAR_OUT, MARGIN
from avatar.models.field_space import middles
from avatar.ops.parallel import ALONE, Team

if TYPE_CHECKING:
    from avatar.models.field_head import FieldHead

_TURNS = 4
"""Refreshes in which every cell is looked at once."""
_NEWS = 1e-4
"""Share of the cells met for the first time since the last refresh, below which hardly any will follow."""
_FREE = 0.003
"""Metres above the surface up to which anything may be: that is how far the rig errs."""
_FORMED = 0.2
"""Share of the training from which it is noted which cells have a part in pictures: before, all are as thin as air."""
_PART = 1e-3
"""Share of a pixel from which a cell has a part in the picture."""
_UNSEEN = -1.0
"""Level of a cell that was not looked at."""


@dataclass(frozen=True, kw_only=True)
class OccupancyConfig:
    """When which cells count as empty."""

    every: int = 16
    """Steps from one refresh to the next; 0 keeps all cells."""
    first: float = 0.05
    """Share of the training before any cell is left out."""
    threshold: float = 0.02
    """Opacity, across a cell, below which it is."""
    fade: float = 0.985
    """Of a cell's largest opacity, at each refresh: what only some motions show stays for a while."""
    opaque: float = 0.0
    """Weight of the entropy of alpha, which wants it to be all or nothing."""
    thin: float = 0.02
    """Weight of what hangs in front of the rig's surface: from the front nobody sees that it does, but from aside."""


class FieldUpkeep(AbstractUpkeep):
    """Keeps `Space.occupied` by the densities of a random point of each cell."""

    def __init__(self, head: "FieldHead", steps: int, config: OccupancyConfig, team: Team = ALONE):
        """Args: `steps` of the whole training."""
        self.head, self.config, self.team = head, config, team
        self._cells = cells = head.space.cells
        x, y, z = cells.shape
        self._place = (cells.at[:, 0] * y + cells.at[:, 1]) * z + cells.at[:, 2]
        self._met = torch.zeros(x * y * z, dtype=torch.bool, device=cells.at.device)
        """Cells that held a sample."""
        self._part = torch.zeros_like(self._met)
        """Cells that had a part in a picture."""
        self._share = 0.0
        """Of the cells that did, at the last refresh."""
        self._settled = False
        """Whether hardly any cell was met for the first time of late. Once true it stays: cells that come back after
        long hold what the hash left there, and would spoil the picture until they are learned anew."""
        self._level = torch.full_like(cells.height, _UNSEEN)
        self._first, self._formed = config.first * steps, _FORMED * steps

    def before_backward(self, step: int, out: RenderOutput) -> Tensor:
        """Pixels of the person or of the background, hardly any between (entropy of alpha, as RAD-NeRF has it); and
        nothing far in front of the surface."""
        loss = out.alpha.new_zeros(())
        if self.config.opaque:
            alpha = out.alpha.clamp(1e-5, 1 - 1e-5)
            loss = loss - self.config.opaque * (alpha * alpha.log() + (1 - alpha) * (1 - alpha).log()).mean()
        if self.config.thin:
            height, weights = out.aux["height"].detach(), out.aux["weights"]
            excess = (height - _FREE).clamp(0, MARGIN) * (height < FAR_OUT / 2) / MARGIN
            loss = loss + self.config.thin * (weights * excess).sum() / weights.detach().sum().clamp_min(1.0)
        return loss

    @torch.no_grad()
    def after_step(self, step: int, out: RenderOutput, optimizer: Optimizer) -> dict[str, float]:
        if not self.config.every:
            return {}
        cell = out.aux["cell"]
        self._met[cell] = True
        if step >= self._formed:
            self._part[cell[out.aux["weights"] > _PART]] = True
        if not self.team.passes(step, self.config.every):
            return {}
        space, cells = self.head.space, self._cells
        some = slice(-(-step // self.config.every) % _TURNS, None, _TURNS)
        places = middles(cells.low, cells.at[some])
        points = places + CELL * (torch.rand(places.shape).to(places, non_blocking=True) - 0.5)
        density = self.head.density(points, cells.height[some], out.aux["code"].detach())
        self._level *= self.config.fade
        self._level[some] = torch.maximum(self._level[some], 1 - torch.exp(-density * CELL))
        self.gather()
        met = self._met[self._place]
        news = float(met.float().mean()) - self._share
        self._share += news
        if step >= self._first:
            self._settled |= news < _NEWS
            space.occupied[tuple(cells.at.T)] = self._kept(met)
            space.shown.copy_(self._part.view(cells.shape))
            space.changed()
        return {"occupied": float(space.occupied.sum()) / max(len(cells.at), 1)}

    def _kept(self, met: Bool[Tensor, "n"]) -> Bool[Tensor, "n"]:
        """Cells that hold something, or were not looked at yet. Outside of the surface only those that some picture has
        shown: what collisions of the hash leave in the others would hang in the air, seen from aside."""
        kept = (self._level < 0) | (self._level > self.config.threshold)
        return kept & (met | (self._cells.height < _FREE)) if self._settled else kept

    def gather(self) -> None:
        """Each member looks into the cells at points of its own, as its own motion has them."""
        self.team.largest(self._level, self._met.view(torch.uint8), self._part.view(torch.uint8))

    def to_tensors(self) -> dict[str, Tensor]:
        return {
            "level": self._level,
            "met": self._met.to(torch.uint8),
            "part": self._part.to(torch.uint8),
            "settled": torch.tensor(int(self._settled)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._level.copy_(tensors["level"])
        self._met.copy_(tensors["met"])
        self._part.copy_(tensors["part"])
        self._settled = bool(tensors["settled"])
