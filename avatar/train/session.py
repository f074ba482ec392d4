"""Everything that changes during a training, and how it goes to disk and comes back."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Optimizer

from avatar.face.rig import PersonalRig
from avatar.models.base import AbstractBackbone, AbstractUpkeep
from avatar.ops.optimize import SplatAdam
from avatar.train import checkpoint
from avatar.train.config import TrainConfig
from avatar.train.dataset import Dataset

_CPU = torch.device("cpu")


@dataclass
class Session:
    """The state of one training."""

    backbone: AbstractBackbone
    upkeep: AbstractUpkeep
    optimizer: Optimizer
    config: TrainConfig
    key: str
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def begin(
        cls, rig: PersonalRig, data: Dataset, config: TrainConfig, key: str, device: torch.device = _CPU
    ) -> "Session":
        """A fresh training on a device. It begins on the CPU, with the same numbers whatever the device."""
        torch.manual_seed(config.seed)
        backbone = config.head.begin(rig, data.views(config.views), data.motion).to(device)
        groups = [{**group, "start": group["lr"]} for group in backbone.parameter_groups()]
        return cls(
            backbone=backbone,
            upkeep=backbone.upkeep(config.steps),
            optimizer=SplatAdam(groups, outer=backbone.outer_gradients()),
            config=config,
            key=key,
        )

    def advance(self, progress: float) -> None:
        """One step of the optimiser at the rates of this `progress` in [0, 1]: exponential decay after a warm-up."""
        for group in self.optimizer.param_groups:
            warm = min(1.0, 0.1 + progress * 50)
            group["lr"] = group["start"] * warm * math.pow(group["final"], progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        parts = {
            "backbone": dict(self.backbone.state_dict()),
            "upkeep": self.upkeep.to_tensors(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }
        checkpoint.save(path, self.key, parts, {"step": self.step, "seconds": self.seconds})

    def resume(self, path: Path) -> bool:
        """Take up a checkpoint of the same training, if there is one."""
        found = checkpoint.load(path, self.key)
        if found is None:
            return False
        parts, facts = found
        self.backbone.load_state_dict(parts["backbone"])
        self.upkeep.restore(parts["upkeep"])
        checkpoint.restore_optimizer(self.optimizer, parts.get("optimizer", {}))
        self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
        return True
