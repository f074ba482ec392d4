"""`python -m tests.perf.ablations WORKSPACE --json FILE [--steps N] [--shrink N] [--only NAME ...]`: what each part of
the Gaussian head is worth.

Trains the base recipe on a prepared workspace with one part taken out at a time, same seed and one thread, and prints
held-out figures beside those of the whole. The workspace stays as it is: its files are linked into a new folder.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from avatar.core import FaceTrack, Region
from avatar.evaluate import evaluate
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.face.track_io import load_track, save_track
from avatar.models import gaussian_seed
from avatar.models.gaussian_head import GaussianConfig
from avatar.models.gaussian_state import PARTS
from avatar.models.gaussian_upkeep import GaussianUpkeep
from avatar.recipes import recipe
from avatar.train.config import TrainConfig
from avatar.train.loop import train

COLUMNS = ("psnr_peer", "psnr_frame", "psnr_mouth", "ssim_peer", "lmd_px", "lip_gap_r", "lip_gap_slope", "flicker")


def _head(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, head=replace(config.head, **changes))


def _loss(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, loss=replace(config.loss, **changes))


def _sampling(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    return lambda config: replace(config, sampling=replace(config.sampling, **changes))


def _without_upkeep(config: TrainConfig) -> TrainConfig:
    assert isinstance(config.head, GaussianConfig)
    return _head(seeded=1.0, upkeep=replace(config.head.upkeep, share=0.0))(config)


def _stained(config: TrainConfig) -> TrainConfig:
    assert isinstance(config.head, GaussianConfig)
    return _head(upkeep=replace(config.head.upkeep, clean=0.0))(config)


def _as_it_is(config: TrainConfig) -> TrainConfig:
    return config


def _rigid(track: FaceTrack) -> FaceTrack:
    return replace(track, motion=replace(track.motion, clothes=torch.zeros_like(track.motion.clothes)))


VARIANTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "whole": _as_it_is,
    "no basis (splats only follow the rig)": _head(rate_basis=0.0, rate_network=0.0),
    "no correction of head and body poses": _head(rate_pose=0.0),
    "no noise on the motion": _head(input_noise=0.0),
    "no growth where the error is": _without_upkeep,
    "no SSIM": _loss(ssim=0.0, l1=1.0),
    "no supervision of the outline": _loss(alpha=0.0),
    "no weight on eyes and mouth": _loss(face=1.0, eyes=1.0, mouth=1.0),
    "no preference for rare frames": _sampling(rare=0.0),
    "no coarse start": _sampling(coarse=0.0),
    "no windows": _sampling(crop_share=0.0),
    "no clothes that slide": _as_it_is,
    "colour and opacity the same in every motion": _as_it_is,
    "place, turn and size the same in every motion": _as_it_is,
    "no inside of the mouth": _as_it_is,
    "nothing beside the rig": _as_it_is,
    "no layer below the outline": _as_it_is,
    "background stays in the colours": _stained,
    "neck and torso go with the head": _as_it_is,
    "an average head instead of the person's": _as_it_is,
}
TRACKS: dict[str, Callable[[FaceTrack], FaceTrack]] = {"no clothes that slide": _rigid}
"""What is taken out of the track instead of the recipe."""
STILL = {
    "colour and opacity the same in every motion": slice(9, 13),
    "place, turn and size the same in every motion": slice(0, 9),
}
"""Numbers of the basis that stay 0."""
_NO_MOUTH = {**PARTS, Region.MOUTH: replace(PARTS[Region.MOUTH], density=0.0)}
SEEDS: dict[str, tuple[str, Any]] = {
    "no inside of the mouth": ("PARTS", _NO_MOUTH),
    "nothing beside the rig": ("_FREE_SHARE", 0.0),
    "no layer below the outline": ("_BACKING_SHARE", 0.0),
}
"""What the seed does without."""


def _stiff(rig: PersonalRig) -> PersonalRig:
    return replace(rig, skin=torch.tensor([1.0, 0.0, 0.0]).expand_as(rig.skin).contiguous())


def _average(rig: PersonalRig) -> PersonalRig:
    """The family's average head, turned, moved and scaled onto the person's; eyes, neck and motion stay."""
    family = AnnyRig.load()
    average, own = family.personal(torch.zeros(family.identity_size)).neutral, rig.neutral
    a, b = average - average.mean(0), own - own.mean(0)
    u, size, vh = torch.linalg.svd(a.T @ b)
    scale = size.sum() / a.square().sum()
    return replace(rig, neutral=(scale * a @ u @ vh + own.mean(0)).contiguous())


RIGS: dict[str, Callable[[PersonalRig], PersonalRig]] = {
    "neck and torso go with the head": _stiff,
    "an average head instead of the person's": _average,
}


@contextmanager
def _still(name: str) -> Iterator[None]:
    after_step = GaussianUpkeep.after_step

    def without(self: GaussianUpkeep, *given: Any) -> dict[str, float]:
        told = after_step(self, *given)
        self.head.basis.data[:, STILL[name]] = 0
        return told

    with patch.object(GaussianUpkeep, "after_step", without) if name in STILL else nullcontext():
        yield


def measure(workspace: Path, name: str, base: TrainConfig) -> dict[str, Any]:
    """Held-out figures of an avatar of this variant, trained on a copy of the workspace that shares its files."""
    with tempfile.TemporaryDirectory(prefix="ablation_", dir=workspace.parent) as folder:
        copy = Path(folder) / "me"
        left = shutil.ignore_patterns("avatar", "report", "train")
        shutil.copytree(workspace, copy, copy_function=os.link, ignore=left)
        if name in TRACKS:
            save_track(TRACKS[name](load_track(copy / "track.safetensors")), copy / "track.safetensors")
        if name in RIGS:
            RIGS[name](PersonalRig.load(copy / "rig.safetensors")).save(copy / "rig.safetensors")
        seed = patch.object(gaussian_seed, *SEEDS[name]) if name in SEEDS else nullcontext()
        with _still(name), seed:
            train(copy, VARIANTS[name](base))
        rows = evaluate(copy)["rows"]
        return {row: {key: (rows.get(row) or {}).get(key) for key in COLUMNS} for row in ("reenacted", "spoken")}


def main() -> None:
    """Print a table row for each variant as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="what `avatar preprocess` made")
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--shrink", type=int, default=1, help="train at 1/N of the size; the report draws at full size")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    options = parser.parse_args()
    base = replace(recipe("gaussian/base"), steps=options.steps, seconds=None, shrink=options.shrink, threads=1)
    found: dict[str, Any] = {}
    sys.stdout.write("| variant | " + " | ".join((*COLUMNS, "spoken psnr_peer")) + " |\n")
    sys.stdout.write("|---" * (len(COLUMNS) + 2) + "|\n")
    for name in options.only:
        found[name] = measure(options.workspace.resolve(), name, base)
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        values = [*found[name]["reenacted"].values(), found[name]["spoken"]["psnr_peer"]]
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        sys.stdout.write(f"| {name} | " + " | ".join(cells) + " |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
