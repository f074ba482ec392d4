"""The occupancy grid while a field is learned: cells that hold nothing for a while are no longer looked into."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from avatar.core import RenderOutput
from avatar.models.base import AbstractUpkeep
from avatar.models.field_shell import CELL
from avatar.models.field_space import middles

if TYPE_CHECKING:
    from avatar.models.field_head import FieldHead

_TURNS = 4
"""Refreshes in which every cell is looked at once."""
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


class FieldUpkeep(AbstractUpkeep):
    """Keeps `Space.occupied` by the densities of a random point of each cell."""

    def __init__(self, head: "FieldHead", steps: int, config: OccupancyConfig):
        """Args: `steps` of the whole training."""
        self.head, self.config = head, config
        self._cells = head.space.cells
        self._level = torch.full((len(self._cells.at),), _UNSEEN)
        self._first = config.first * steps

    def before_backward(self, step: int, out: RenderOutput) -> Tensor:
        """Pixels of the person or of the background, hardly any between (entropy of alpha, as RAD-NeRF has it)."""
        if not self.config.opaque:
            return torch.zeros(())
        alpha = out.alpha.clamp(1e-5, 1 - 1e-5)
        return -self.config.opaque * (alpha * alpha.log() + (1 - alpha) * (1 - alpha).log()).mean()

    @torch.no_grad()
    def after_step(self, step: int, out: RenderOutput, optimizer: Optimizer) -> dict[str, float]:
        if not self.config.every or step % self.config.every:
            return {}
        space, cells = self.head.space, self._cells
        some = torch.arange(step // self.config.every % _TURNS, len(cells.at), _TURNS)
        points = middles(cells.low, cells.at[some]) + CELL * (torch.rand(len(some), 3) - 0.5)
        density = self.head.density(points, cells.height[some], out.aux["code"].detach())
        self._level *= self.config.fade
        known, found = self._level[some], 1 - torch.exp(-density * CELL)
        self._level[some] = torch.maximum(known, found)
        if step >= self._first:
            space.occupied[tuple(cells.at.T)] = (self._level < 0) | (self._level > self.config.threshold)
            space.changed()
        return {"occupied": float(space.occupied.sum()) / max(len(cells.at), 1)}

    def to_tensors(self) -> dict[str, Tensor]:
        return {"level": self._level}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._level = tensors["level"].clone()
