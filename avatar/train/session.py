"""Everything that changes during a training, and how it goes to disk and comes back."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Optimizer

from avatar.errors import InputError
from avatar.face.rig import PersonalRig
from avatar.models.base import AbstractBackbone, AbstractUpkeep
from avatar.ops import lpips
from avatar.ops.optimize import SplatAdam
from avatar.ops.parallel import ALONE, Team
from avatar.train import checkpoint
from avatar.train.config import TrainConfig
from avatar.train.dataset import Dataset

_BETAS = (0.9, 0.99)


@dataclass
class Session:
    """The state of one training."""

    backbone: AbstractBackbone
    upkeep: AbstractUpkeep
    optimizer: Optimizer
    config: TrainConfig
    key: str
    team: Team = ALONE
    judge: lpips.Lpips | None = None
    """What else the pictures are judged by."""
    step: int = 0
    """Samples that were learned from, those of the whole team."""
    seconds: float = 0.0

    @classmethod
    def begin(cls, rig: PersonalRig, data: Dataset, config: TrainConfig, key: str, team: Team = ALONE) -> "Session":
        """A fresh training on the team's devices. It begins on the CPU, with the same numbers whatever the device."""
        torch.manual_seed(config.seed)
        backbone = config.head.begin(rig, data.views(config.views), data.motion).to(team.device)
        team.share(backbone.state_dict())
        # A team takes fewer and surer steps: each is longer by as much as its mean gradient is less noisy, and its
        # memory spans as many samples (Malladi et al. 2022; Zhao et al. 2024 for splats).
        reach, betas = math.sqrt(team.size), tuple(beta**team.size for beta in _BETAS)
        groups = [{**group, "start": group["lr"] * reach} for group in backbone.parameter_groups()]
        # The mean of outer products is none.
        outer = backbone.outer_gradients() if team.size == 1 else {}
        return cls(
            backbone=backbone,
            upkeep=backbone.upkeep(config.steps, team),
            optimizer=SplatAdam(groups, betas, outer),
            config=config,
            key=key,
            team=team,
            judge=judge_of(config, team.device),
        )

    def advance(self, progress: float) -> None:
        """One step of the optimiser at the rates of this `progress` in [0, 1]: exponential decay after a warm-up."""
        for group in self.optimizer.param_groups:
            warm = min(1.0, 0.1 + progress * 50)
            group["lr"] = group["start"] * warm * math.pow(group["final"], progress)
        self.team.average_gradients(list(self.backbone.parameters()))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, path: Path) -> None:
        """Write a checkpoint, which any team and a process alone can take up.

        Raises:
            InputError: if the members of the team have become different, or the disk refuses.
        """
        self.upkeep.gather()
        self.team.check(self.backbone.state_dict())
        if not self.team.leads:
            return
        parts = {
            "backbone": dict(self.backbone.state_dict()),
            "upkeep": self.upkeep.to_tensors(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }
        checkpoint.save(path, self.key, parts, {"step": self.step, "seconds": self.seconds})

    def resume(self, path: Path) -> bool:
        """Take up a checkpoint of the same training, if there is one.

        Raises:
            InputError: if the leader of the team finds one and this member does not.
        """
        found = checkpoint.load(path, self.key)
        if self.team.told(found is not None) != (found is not None):
            raise InputError(f"{path}: not all processes find it; the folder must be the same disk for all of them")
        if found is None:
            return False
        parts, facts = found
        self.backbone.load_state_dict(parts["backbone"])
        self.upkeep.restore(parts["upkeep"])
        checkpoint.restore_optimizer(self.optimizer, parts.get("optimizer", {}))
        self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
        return True


def judge_of(config: TrainConfig, device: torch.device) -> lpips.Lpips | None:
    """LPIPS, if this training asks for it and the machine has its weights.

    Raises:
        InputError: if they are damaged.
    """
    files = lpips.weight_files() if config.loss.lpips else None
    return lpips.load(files).to(device) if files else None
