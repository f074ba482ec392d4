"""Keeps a Gaussian head in shape: brings splats to where the picture needs them, and holds them near their triangle.

The number of rows never changes: a row that no longer draws anything is reused as the second half of a splat that the
loss pulls at hardest. So a budget is exact, tensors stay where they are, and the optimiser keeps its state.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from avatar.core import MotionFrame, Region, RenderOutput
from avatar.models.base import AbstractUpkeep
from avatar.ops.parallel import ALONE, Team
from avatar.ops.rotation import quat_to_matrix

if TYPE_CHECKING:
    from avatar.models.gaussian_head import GaussianHead


@dataclass(frozen=True, kw_only=True)
class UpkeepConfig:
    """When rows are reused, and how strongly splats are held."""

    every: int = 150
    first: float = 0.04
    """Share of the training after which reuse starts."""
    last: float = 0.7
    """Share of the training after which it ends."""
    share: float = 0.06
    """Most rows reused at a time, of all."""
    weak: float = 0.02
    """A splat whose opacity never reached this since the last round is free."""
    clean: float = 0.1
    """Share of the training between two searches for background in splats' colours, after half of it; 0 is none."""
    hold: float = 1.0
    """Weight of the squared excess (in cm) over the reach."""
    shape: float = 0.05
    """Weight of the squared excess of log size."""


# Largest standard deviation of a splat in metres, by what its triangle shows.
_LARGEST = {
    Region.HAIR: 0.005,
    Region.TORSO: 0.010,
    Region.NECK: 0.006,
    Region.EYES: 0.002,
    Region.LIPS: 0.002,
    Region.MOUTH: 0.003,
}
_SMALLEST = 2e-4
_HOMEWARD = 0.4
"""Share of the way back to its own colour that a splat goes at each penalty, if it shows at a right angle only."""
_COLOUR = slice(10, 13)
"""Of a basis."""
_HOLD_EVERY = 4
"""Steps between penalties; they are as much stronger."""


class GaussianUpkeep(AbstractUpkeep):
    """Upkeep of one `GaussianHead` during one training."""

    def __init__(self, head: "GaussianHead", steps: int, config: UpkeepConfig, team: Team = ALONE):
        """Args: the head, changed in place; the planned number of steps."""
        self.head, self.steps, self.config, self.team = head, steps, config, team
        self.pull, self.seen, self.strongest = (torch.zeros_like(head.reach) for _ in range(3))
        largest = head.reach.new_tensor([_LARGEST.get(r, 0.005) for r in Region])
        self.largest = largest[head.rig.regions[head.triangle].long()].log()
        self.own = head.colour.detach().clone()
        """What was observed at the start, and later without the background that was mixed into it."""
        self.homeward = torch.where(head.shown > 0, (1 - head.shown).square(), 0.0)
        """How firmly splats are drawn back to that. At a grazing angle they would paint the background's fringe at the
        outline, which nobody sees from the front and everybody from the side."""

    def before_backward(self, step: int, out: RenderOutput) -> Tensor:
        means = out.aux["splats"].means
        if means.requires_grad:
            means.retain_grad()
        head = self.head
        if not self.team.passes(step, _HOLD_EVERY):
            return head.offset.new_zeros(())
        learns = head.shown > 0
        excess = (head.offset.norm(dim=-1) - head.reach * 100).clamp_min(0) * learns
        large = (head.log_scale - self.largest[:, None]).clamp_min(0) * learns[:, None]
        small = (math.log(_SMALLEST) - head.log_scale).clamp_min(0) * learns[:, None]
        return (
            self.config.hold * 1e-2 * excess.square().mean()
            + self.config.shape * (large.square() + small.square()).sum(-1).mean()
        )

    @torch.no_grad()
    def after_step(self, step: int, out: RenderOutput, optimizer: Optimizer) -> dict[str, float]:
        splats = out.aux["splats"]
        if splats.means.grad is not None:
            strength = splats.means.grad.norm(dim=-1)
            self.pull += strength
            self.seen += strength > 0
        between = max(round(self.config.clean * self.steps), 1)
        if self.config.clean and step >= self.steps / 2 and self.team.passes(step, between):
            self._clean_fringe()
        if self.team.passes(step, _HOLD_EVERY):
            self._hold_colours()
        torch.maximum(self.strongest, splats.opacities.detach(), out=self.strongest)
        begin, end = self.config.first * self.steps, self.config.last * self.steps
        if not self.team.passes(step, self.config.every) or not begin <= step <= end:
            return {}
        self.gather()
        moved = self._reuse(optimizer)
        for record in (self.pull, self.seen, self.strongest):
            record.zero_()
        return {"splats_moved": float(moved), "splats_visible": float((self.head.opacity > -4).sum())}

    def _hold_colours(self) -> None:
        head, rows = self.head, self.homeward.nonzero()[:, 0]
        share = _HOMEWARD * self.homeward[rows, None]
        head.colour.data[rows] = torch.lerp(head.colour.data[rows], self.own[rows], share)
        head.basis.data[rows, _COLOUR] *= 1 - share[..., None]

    def _clean_fringe(self) -> None:
        """From now on splats at the outline are held at their colours without background."""
        head = self.head
        if head.fringe is None:
            return

        def means(motion: MotionFrame) -> Tensor:
            return head.pose(motion.each(lambda tensor: tensor.to(head.device))).means.cpu()

        region, colour = head.rig.regions[head.triangle].long(), head.colour.data.sigmoid()
        learning = head.training
        head.eval()  # without noise on the motion
        mixed, own = head.fringe.cleaned(means, region.cpu(), colour.cpu())
        head.train(learning)
        mixed, own = mixed.to(head.device), own.to(head.device)
        self.own[mixed] = torch.logit(own[mixed], eps=0.02)
        self.homeward[mixed] = 1.0

    def _reuse(self, optimizer: Optimizer) -> int:
        """Turn weak rows into halves of the splats with the largest mean pull."""
        weak = (self.strongest < self.config.weak).nonzero()[:, 0]
        score = self.pull / self.seen.clamp_min(1 / self.team.size)
        score[weak] = 0
        count = min(len(weak), int(self.config.share * len(score)), int((score > 0).sum()))
        if count == 0:
            return 0
        parents = score.topk(count).indices
        rows = weak[self.strongest[weak].argsort()[:count]]
        self._split(parents, rows)
        _forget(optimizer, self.head.splat_parameters(), torch.cat([parents, rows]))
        return count

    def _split(self, parents: Int[Tensor, "m"], rows: Int[Tensor, "m"]) -> None:
        """Two for one. Wide splats halve along their longest axis; small ones are doubled at the spot, with the
        opacity that leaves the picture as it was (Rota Bulo et al. 2024)."""
        head = self.head
        for name in ("triangle", "bary", "reach", "shown", "offset", "turn", "log_scale", "opacity", "colour", "basis"):
            tensor = getattr(head, name).data
            tensor[rows] = tensor[parents]
        self.largest[rows] = self.largest[parents]
        self.own[rows] = self.own[parents]
        self.homeward[rows] = self.homeward[parents]
        sizes = head.log_scale.data[parents]
        longest = sizes.argmax(1)
        sigma = sizes.amax(1).exp()
        axis = quat_to_matrix(torch.nn.functional.normalize(head.turn.data[parents], dim=-1))
        row = torch.arange(len(parents), device=parents.device)
        axis = axis[row, :, longest]
        wide = sigma > 1e-3
        shift = torch.where(wide, 0.7, 0.2)[:, None] * axis * sigma[:, None] * 100
        head.offset.data[parents] += shift
        head.offset.data[rows] -= shift
        shrunk = sizes.clone()
        shrunk[row, longest] -= math.log(1.7)
        half = 1 - (1 - head.opacity.data[parents].sigmoid()).clamp_min(1e-4).sqrt()
        for index in (parents, rows):
            head.log_scale.data[index] = torch.where(wide[:, None], shrunk, sizes)
            head.opacity.data[index] = torch.where(wide, head.opacity.data[index], torch.logit(half, eps=1e-3))

    def gather(self) -> None:
        self.team.average(self.pull, self.seen)
        self.team.largest(self.strongest)

    def to_tensors(self) -> dict[str, Tensor]:
        names = ("pull", "seen", "strongest", "largest", "own", "homeward")
        return {name: getattr(self, name) for name in names}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, value in self.to_tensors().items():
            value.copy_(tensors[name])


def _forget(optimizer: Optimizer, parameters: list[Parameter], rows: Int[Tensor, "m"]) -> None:
    """Zero the optimiser's memory of rows that are new splats now."""
    for parameter in parameters:
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value[rows] = 0
