"""What a team of processes learns of a prepared workspace: decibels over whole held-out frames.

`python -m tests.perf.team FOLDER --recipe gaussian/fast --steps 900`, and the same by `python -m torch.distributed.run
--nproc_per_node=2 -m tests.perf.team ...`. It replaces the avatar of FOLDER; with one thread a process alone repeats.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from avatar.core import RenderRequest
from avatar.face.track_io import load_track
from avatar.media import Workspace
from avatar.models.avatar_model import AvatarModel
from avatar.ops import parallel
from avatar.recipes import recipe
from avatar.train.config import TrainConfig
from avatar.train.dataset import Dataset
from avatar.train.loop import train

EVERY = 5
"""Of the held-out frames, one is judged."""


def psnr(folder: Path, config: TrainConfig) -> float:
    """Of the avatar over the plate, against the film at the size of training."""
    workspace, avatar = Workspace.open(folder), AvatarModel.load(folder / "avatar")
    track = load_track(workspace.path("track.safetensors"))
    data = Dataset(workspace, track, config)
    errors = []
    for index in workspace.json("split.json")["test"][::EVERY]:
        request = RenderRequest(camera=data.camera, motion=track.motion.frame(index))
        drawn = avatar.render(request, data.plate).rgb.clamp(0, 1)
        errors.append((drawn - data.picture(index)).square().mean())
    return float(-10 * torch.stack(errors).mean().log10())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="gaussian/fast")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--shrink", type=int, default=2)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    config = replace(
        recipe(options.recipe), steps=options.steps, seconds=None, shrink=options.shrink, threads=1,
        checkpoint_every=options.steps,
    )  # fmt: skip
    team = parallel.join(options.device)
    if team.leads:
        (options.folder / "avatar" / "avatar.json").unlink(missing_ok=True)
    team.wait()
    started = time.monotonic()
    train(options.folder, config, device=options.device)
    if team.leads:
        facts = {"processes": team.size, "device": team.device.type, "seconds": round(time.monotonic() - started)}
        print(json.dumps({"recipe": options.recipe, **facts, "psnr": round(psnr(options.folder, config), 2)}))


if __name__ == "__main__":
    main()
