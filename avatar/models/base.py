"""The interface of everything that draws a head, and the laws it keeps (tests/contract holds every backbone to them).

subset: asked pixels equal the same pixels of the whole picture. window: a cropped camera draws the crop.
bounds: alpha in [0, 1], 0 <= rgb <= alpha. pure: the same request gives the same pixels, and the request is unchanged.
driven: the picture has a finite, non-zero gradient to the expression. round trip: what was saved and loaded draws the
same. survives upkeep: growing and pruning leave a backbone that still keeps all of these laws.

Devices: a backbone begins on the CPU and moves by `to`. Asked motion and pixels must be where it is, as its answer will
be; cameras stay on the CPU. Random numbers are drawn there too, so that a training has the same on every device.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from avatar.core import Gaussians, MotionFrame, MotionSequence, RenderOutput, RenderRequest
from avatar.errors import InputError
from avatar.face.rig import PersonalRig
from avatar.models.gaussian_view import View
from avatar.ops.optimize import OuterGradient
from avatar.ops.parallel import ALONE, Team


class AbstractUpkeep(ABC):
    """What a backbone needs besides gradient steps: grow and prune, refresh caches, hold itself in shape.

    In a team each member's upkeep sees its own samples. What it changes must come out alike, so everything that samples
    or chance have a part in goes through the team first; steps are asked for by `Team.passes`.
    """

    team: Team

    @abstractmethod
    def before_backward(self, step: int, out: RenderOutput) -> Tensor:
        """A scalar penalty to add to the loss of this step; may also mark tensors of `out` for `after_step`."""

    @abstractmethod
    def after_step(self, step: int, out: RenderOutput, optimizer: Optimizer) -> dict[str, float]:
        """Called after the optimiser's step. May change parameters in place, and their optimiser state with them.

        Returns:
            Numbers worth reporting, by name.
        """

    @abstractmethod
    def gather(self) -> None:
        """Bring together with the team what was collected of samples; to do it twice changes nothing."""

    @abstractmethod
    def to_tensors(self) -> dict[str, Tensor]:
        """The state that a checkpoint needs."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up the state that `to_tensors` gave."""


class AbstractBackbone(nn.Module, ABC):
    """Answers one question: for this camera and this motion, what are these pixels?"""

    rig: PersonalRig

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.parameters()).device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AbstractBackbone":
        super()._apply(fn, recurse)
        self.rig = self.rig.each(fn)
        return self

    @abstractmethod
    def render(self, request: RenderRequest) -> RenderOutput:
        """Draw the person without a background; differentiable to the parameters and to the motion."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for `ops.optimize.SplatAdam`: `params`, `name`, `eps`, the rate `lr` at the start and `final`, its
        share at the end; `rows` where a step moves only the rows that it saw."""

    def outer_gradients(self) -> dict[nn.Parameter, OuterGradient]:
        """Parameters whose gradient the backbone gives as an outer product from now on, not in `grad`."""
        return {}

    def pose(self, motion: MotionFrame) -> Gaussians:
        """The splats of a moment, in the world frame.

        Raises:
            InputError: if the backbone is not made of Gaussians.
        """
        raise InputError("this avatar is not made of Gaussians; `avatar distil` makes some, or take a gaussian recipe")

    @abstractmethod
    def upkeep(self, steps: int, team: Team = ALONE) -> AbstractUpkeep:
        """The upkeep of a training of `steps` steps, of which a team takes as many at once as it has members."""

    @abstractmethod
    def facts(self) -> dict[str, str | int | float]:
        """What a viewer may show: kind, counts."""

    @abstractmethod
    def to_tensors(self) -> dict[str, Tensor]:
        """Everything but the rig that drawing needs, small enough to be given away."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: dict[str, Tensor], rig: PersonalRig) -> "AbstractBackbone":
        """The inverse of `to_tensors`.

        Raises:
            InputError: if a tensor is missing or does not fit.
        """


@dataclass(frozen=True, kw_only=True)
class AbstractHeadConfig(ABC):
    """Sizes and learning rates of one kind of backbone; a frozen dataclass of plain values."""

    @abstractmethod
    def begin(self, rig: PersonalRig, views: Sequence[View], motion: MotionSequence) -> AbstractBackbone:
        """A backbone ready for training.

        Args:
            views: a few varied pictures of the person; the first ones matter most.
            motion: of the training frames.
        """
