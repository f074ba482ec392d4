"""From motion to the weights of a backbone's linear basis, robust to motion that training never saw."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar.core import MotionFrame, MotionSequence
from avatar.models.pose_correction import PoseCorrection

SIZE = 52 + 4 + 3 + 3 + 3
"""expression, gaze, neck, rotation and translation of the head from its rest pose."""
_BODY = 4 * 3
"""neck, rotation and translation of the head, shift of the torso: what says where the body is."""

_HEAD_UNITS = torch.tensor([0.03] * 3 + [0.009] * 3)
"""Radians and metres that one unit of the head's linear map moves."""
LATER = ("head.weight",)
"""What avatars made before the head's correction lack; without it nothing is corrected."""

# Below these deviations an input counts as still: measurement noise is not blown up to full range.
_STILL = torch.tensor([0.04] * 52 + [0.02] * 4 + [0.02] * 3 + [0.02] * 3 + [0.004] * 3 + [0.004] * 3)


def _flat(motion: MotionFrame | MotionSequence, rest: Float[Tensor, "4 4"]) -> Float[Tensor, "*t 68"]:
    pose = motion.T_world_head
    turn = rest[:3, :3].T @ pose[..., :3, :3]
    # The skew part of a rotation is its axis times sin(angle): smooth, and one to one below a quarter turn.
    skew = (turn - turn.transpose(-1, -2)) / 2
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    shift = pose[..., :3, 3] - rest[:3, 3]
    return torch.cat([motion.expression, motion.gaze.flatten(-2), motion.neck, axis, shift, motion.torso], -1)


class Conditioning(nn.Module):
    """A small network from motion to `outputs` numbers that are zero at the start of training.

    Inputs are normalised by the spread of the training motion and clamped to its range, so that a motion from another
    person or an exaggerated one gives the nearest thing that was seen and no artefact.
    """

    rest: Tensor
    center: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    _head_units: Tensor

    def __init__(self, weights: int, rigid: int = 6, hidden: int = 64):
        """Args: number of basis weights, of rigid outputs, and the width of the two hidden layers."""
        super().__init__()
        self.register_buffer("rest", torch.eye(4))
        self.register_buffer("center", torch.zeros(SIZE + 3))
        self.register_buffer("spread", torch.ones(SIZE + 3))
        self.register_buffer("low", torch.full((SIZE + 3,), -2.0))
        self.register_buffer("high", torch.full((SIZE + 3,), 2.0))
        self.trunk = nn.Sequential(nn.Linear(SIZE, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.weights = nn.Linear(hidden, weights)
        # Where a body is follows head and neck almost linearly; a deeper network would learn the clip by heart.
        self.rigid = nn.Linear(_BODY, rigid, bias=False)
        nn.init.zeros_(self.rigid.weight)
        # A tracker errs with what the face does (an open jaw lifts the chin), so it can be told from the motion.
        self.register_buffer("_head_units", _HEAD_UNITS, persistent=False)
        self.head = nn.Linear(SIZE + 3, 6, bias=False)
        nn.init.zeros_(self.head.weight)
        self.noise = 0.0
        """Deviation of the noise on the normalised inputs while training, because tracked motion is noisy."""

    def network_parameters(self) -> list[nn.Parameter]:
        """Of the way from motion to the weights of the basis."""
        return [*self.trunk.parameters(), *self.weights.parameters()]

    def pose_parameters(self) -> list[nn.Parameter]:
        """Of the corrections of the tracked pose."""
        return [*self.rigid.parameters(), *self.head.parameters()]

    @torch.no_grad()
    def fit(self, motion: MotionSequence) -> None:
        """Take normalisation, range and rest pose (the middle frame of the poses) from the training motion."""
        shift = motion.T_world_head[:, :3, 3]
        order = (shift - shift.median(0).values).norm(dim=-1) + (
            motion.T_world_head[:, :3, 2] - motion.T_world_head[:, :3, 2].median(0).values
        ).norm(dim=-1)
        self.rest.copy_(motion.T_world_head[order.argmin()])
        flat = _flat(motion, self.rest)
        self.center.copy_(flat.mean(0))
        self.spread.copy_(torch.maximum(flat.std(0, unbiased=False), _STILL))
        normal = (flat - self.center) / self.spread
        low, high = normal.quantile(0.002, 0), normal.quantile(0.998, 0)
        self.low.copy_(low.clamp_max(-0.5))
        self.high.copy_(high.clamp_min(0.5))

    def forward(self, motion: MotionFrame) -> tuple[Float[Tensor, "k"], PoseCorrection]:
        """Basis weights (about unit size) and what is wrong with the tracked pose."""
        normal = (_flat(motion, self.rest) - self.center) / self.spread
        if self.training and self.noise > 0:
            normal = normal + self.noise * torch.randn(normal.shape).to(normal, non_blocking=True)
        clamped = torch.minimum(torch.maximum(normal, self.low), self.high)
        weights = self.weights(self.trunk(clamped[:SIZE]))
        body, head = 0.02 * self.rigid(clamped[-_BODY:]), self._head_units * self.head(clamped)
        return weights, PoseCorrection(body=body, head=head)
