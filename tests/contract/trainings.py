"""Trainings that are through in a moment, with upkeep at every other step. As a program it is one member of a team:
`python -m tests.contract.trainings FOLDER` learns the toy person of FOLDER/KIND/me and leaves FOLDER/KIND/RANK.pt; then
one member fails while they learn that of FOLDER/fails/me.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

from avatar.core import RenderRequest
from avatar.events import Metric, Progress
from avatar.models.avatar_model import AvatarModel
from avatar.models.field_upkeep import OccupancyConfig
from avatar.models.gaussian_upkeep import UpkeepConfig
from avatar.recipes import recipe
from avatar.train import loop
from avatar.train.config import TrainConfig
from avatar.train.session import Session

HEADS = {
    "gaussian/smoke": {"splats": 600, "upkeep": UpkeepConfig(every=2, first=0.0, last=1.0, weak=0.5)},
    "field/smoke": {"motion_hidden": 16, "occupancy": OccupancyConfig(every=2, first=0.0, opaque=1e-3)},
}
STOPPED = 11
"""Step at which a member stops, where its training is to be taken up again."""


def smaller(name: str, **changes) -> TrainConfig:
    """A recipe cut short."""
    config = recipe(name)
    head, sampling = replace(config.head, **HEADS.get(name, {})), replace(config.sampling, crop=24, coarse=0.0)
    few = {"steps": 4, "shrink": 1, "views": 3, "threads": 1, "report_every": 1, "preview_every": 2}
    return replace(config, head=head, sampling=sampling, **{**few, **changes})


def for_team(name: str) -> TrainConfig:
    """The one that a team does."""
    return smaller(name, steps=19, checkpoint_every=8)


def pixels(avatar: AvatarModel) -> torch.Tensor:
    """The person at rest before the plate."""
    return avatar.render(RenderRequest(camera=avatar.meta.camera, motion=avatar.meta.rest)).rgb


def member(folder: Path, name: str, *, fails: bool = False) -> None:
    """One member's training, which is stopped and goes on, or in which the second member `fails`."""
    rank, heard, sessions, drawn = int(os.environ["RANK"]), [], [], []
    step, run = loop.take_step, loop.run

    def watched(session: Session, sample, first: int):
        drawn.append((first, sample.index))
        if first >= STOPPED and fails and rank == 1:
            os._exit(3)
        if first >= STOPPED and not fails and len(sessions) == 1:
            raise KeyboardInterrupt
        return step(session, sample, first)

    def followed(session: Session, *rest, **more):
        sessions.append(session)
        run(session, *rest, **more)

    with mock.patch.object(loop, "take_step", watched), mock.patch.object(loop, "run", followed):
        for _ in range(1 if fails else 2):
            try:
                loop.train(folder / "me", for_team(name), heard.append, device="cpu")
            except KeyboardInterrupt:
                assert not (folder / "me" / "avatar").exists()
    told = {
        "done": [e.done for e in heard if isinstance(e, Progress)],
        "moved": sum(e.value for e in heard if isinstance(e, Metric) and e.name == "splats_moved"),
        "drawn": drawn,
        "seconds": sessions[-1].seconds,
        "state": sessions[-1].backbone.state_dict(),
    }  # fmt: skip
    torch.save(told, folder / f"{rank}.pt")


if __name__ == "__main__":
    for each in HEADS:
        member(Path(sys.argv[1]) / each.split("/")[0], each)
    member(Path(sys.argv[1]) / "fails", "gaussian/smoke", fails=True)
