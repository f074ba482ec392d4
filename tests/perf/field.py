"""`python -m tests.perf.field --json FILE --workspace FOLDER [...]`: the radiance field against its bars.

Jobs: `bars` trains `field/base` and `gaussian/base` on a prepared workspace at 1/N of its size and scores both on its
held-out frames, then teaches Gaussians by the field (`avatar distil`); `speed` draws with the trained field and says
where the time goes; `table` trains the field with one part taken out at a time; `views` trains on the workspace of a
drawn speaker (`--workspace`) and scores views that no camera filmed against its truth (`--speaker`). The workspace
stays as it is: its files are linked into new folders.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from avatar.core import RenderRequest
from avatar.evaluate import metrics
from avatar.evaluate.evaluation import open_subject
from avatar.evaluate.score import head_mask, peer_composite
from avatar.evaluate.views import ScoredView, evaluate_views, views_table
from avatar.face.track_io import load_track
from avatar.media import Workspace, write_image
from avatar.models import field_backing, field_head, field_net, field_shell, field_space
from avatar.models.avatar_model import AvatarModel
from avatar.recipes import recipe
from avatar.train.config import TrainConfig
from avatar.train.dataset import _shrunk
from avatar.train.distil import distil
from avatar.train.loop import train

Change = Callable[[TrainConfig], TrainConfig]
BEHIND, FPS, SIDE, KEPT = 1.5, 4.0, 28.0, 1.0
"""dB behind the Gaussians, frames a second at 256 px, dB at +-15 degrees, dB that distilling may lose."""


def _head(**changes: Any) -> Change:
    return lambda config: replace(config, head=replace(config.head, **changes))


def _part(part: str, **changes: Any) -> Change:
    def change(config: TrainConfig) -> TrainConfig:
        return _head(**{part: replace(getattr(config.head, part), **changes)})(config)

    return change


def _all(*changes: Change) -> Change:
    def change(config: TrainConfig) -> TrainConfig:
        for one in changes:
            config = one(config)
        return config

    return change


_MUTE = _all(_part("net", attention=False), _head(code=1, rate_motion=0.0, input_noise=0.0, nodes=0))
VARIANTS: dict[str, Change] = {
    "whole": lambda config: config,
    "the motion's code everywhere alike (no attention)": _part("net", attention=False),
    "hardly any code: one random number of the motion": _MUTE,
    "the space follows the bones only, not the face": _part("shell", follows_face=False),
    "motion does not shift the surface": _head(nodes=0),
    "head and body poses corrected": _head(rate_pose=1e-3),
    "no noise on the motion": _head(input_noise=0.0),
    "no torso": _part("shell", torso=False),
    "no occupancy update": _part("occupancy", every=0),
    "a network for each sample (not deferred)": _part("net", sample_layers=1),
    "three planes for the finer levels": _part(
        "encoding", levels=7, finest=128, plane_levels=4, plane_features=2, plane_log2_rows=17
    ),
}


@contextmanager
def copied(workspace: Path) -> Iterator[Path]:
    """A folder that shares the files of a workspace, without an avatar."""
    with tempfile.TemporaryDirectory(prefix="field_", dir=workspace.parent) as folder:
        copy = Path(folder) / "me"
        left = shutil.ignore_patterns("avatar", "report", "train")
        shutil.copytree(workspace, copy, copy_function=os.link, ignore=left)
        yield copy


def score(folder: Path, avatar: AvatarModel, stride: int) -> dict[str, float]:
    """Held-out figures at the avatar's own size."""
    workspace, size = Workspace.open(folder), avatar.meta.size
    track, found = load_track(workspace.path("track.safetensors")), []
    for index in workspace.json("split.json")["test"][::stride]:
        request = RenderRequest(camera=avatar.meta.camera, motion=track.motion.frame(index))
        drawn = (avatar.render(request).rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        true, labels = _shrunk(workspace.frame(index), size), _shrunk(workspace.labels(index), size, nearest=True)
        mouth = metrics.mouth_window(track.landmarks_px[index].numpy() * (size[0] / track.camera.size[0]), size)
        peer = metrics.psnr(peer_composite(drawn, true, head_mask(labels)), true)
        found.append((peer, metrics.psnr(drawn, true), metrics.psnr(drawn[mouth], true[mouth])))
    return dict(zip(("psnr_peer", "psnr_frame", "psnr_mouth"), np.mean(found, 0).tolist(), strict=True))


def trained(folder: Path, config: TrainConfig, stride: int) -> dict[str, float]:
    """Figures of a training, with its processor seconds."""
    start = time.process_time()
    avatar = AvatarModel.load(train(folder, config))
    spent = {"cpu_seconds": time.process_time() - start, "steps": float(avatar.meta.trained["steps"])}
    return {**score(folder, avatar, stride), **spent}


def bars(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Field, Gaussians and taught Gaussians on the same frames."""
    limits = {"shrink": options.shrink, "seconds": 60 * options.minutes, "threads": options.threads}
    with copied(folder) as other:
        gaussian = trained(other, replace(recipe("gaussian/base"), **limits), options.stride)
    field = trained(folder, replace(recipe("field/base"), **limits), options.stride)
    pupil = replace(recipe("gaussian/fast"), **{**limits, "seconds": None})
    lost = distil(folder, folder / "distilled", pupil)
    taught = score(folder, AvatarModel.load(folder / "distilled"), options.stride)
    return {"gaussian/base": gaussian, "field/base": field, "distilled": taught, "distilling": asdict(lost)}


def speed(folder: Path, options: argparse.Namespace, frames: int = 20) -> dict[str, float]:
    """Frames a second at 256 px, and which share of the time each part takes."""
    avatar = AvatarModel.load(folder / "avatar")
    camera = avatar.meta.camera.resized(256, 256)
    motion = load_track(folder / "track.safetensors").motion
    torch.set_num_threads(options.threads)
    asked = [
        RenderRequest(camera=camera, motion=motion.frame(i))
        for i in np.linspace(0, len(motion) - 1, frames).astype(int).tolist()
    ]
    avatar.draw(asked[0])
    spent = []
    for request in asked:
        start = time.perf_counter()
        avatar.draw(request)
        spent.append(time.perf_counter() - start)
    shares: dict[str, float] = dict.fromkeys(("encode", "network", "march", "composite", "shell", "backing"), 0.0)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                shares[name] += time.perf_counter() - start

        return wrapped

    net = field_net.DeferredNet
    places = [
        (field_net, "encode", "encode"), (net, "samples", "network"), (net, "pixels", "network"),
        (field_space.Space, "march", "march"), (field_head, "composite", "composite"),
        (field_shell.Shell, "posed", "shell"), (field_shell.PosedShell, "rays", "shell"),
        (field_shell.PosedShell, "hits", "shell"), (field_backing.Backing, "draw", "backing"),
    ]  # fmt: skip
    with ExitStack() as stack:
        for owner, attribute, name in places:
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        start = time.perf_counter()
        for request in asked:
            avatar.draw(request)
        whole = time.perf_counter() - start
    parts = {f"share_{name}": value / whole for name, value in shares.items()}
    return {"fps": 1 / float(np.median(spent)), **parts, "share_rest": 1 - sum(parts.values())}


def table(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of each variant after as many steps, with one thread."""
    found = {}
    sys.stdout.write(
        "| variant | psnr_peer | psnr_frame | psnr_mouth | processor s | steps |\n|---|---|---|---|---|---|\n"
    )
    for name in options.only or VARIANTS:
        config = replace(
            recipe("field/base"), shrink=options.shrink, threads=1, seconds=None, steps=options.table_steps
        )
        with copied(folder) as copy:
            found[name] = trained(copy, VARIANTS[name](config), options.stride)
        cells = " | ".join(f"{value:.2f}" for value in found[name].values())
        sys.stdout.write(f"| {name} | {cells} |\n")
        sys.stdout.flush()
    return found


def views(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """PSNR by yaw of views that no camera filmed: of the person's pixels, of the picture and of the head, for both
    kinds of avatar after the same time."""
    limits = {"seconds": 60 * options.minutes, "threads": options.threads}
    if options.view_steps:
        limits = {"seconds": None, "threads": 1, "steps": options.view_steps}
    found = {}
    for name in options.recipes:
        with copied(folder) as copy:
            ahead = trained(copy, replace(recipe(name), **limits), options.stride)
            scored = evaluate_views(open_subject(Workspace.open(copy)), options.speaker)
            found[name] = {**views_table(scored), "ahead": ahead}
            if options.pictures is not None:
                shutil.copytree(
                    copy / "avatar", options.pictures / name.replace("/", "_") / "avatar", dirs_exist_ok=True
                )
                _keep(options.pictures / name.replace("/", "_"), scored)
    return found


def _keep(folder: Path, scored: Sequence[ScoredView]) -> None:
    """True and drawn pictures side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in scored:
        pair = np.concatenate([item.true, item.drawn], 1)
        write_image(folder / f"{item.view.frame:06d}_{item.view.yaw_deg}.png", pair)


JOBS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "bars": bars, "speed": speed, "table": table, "views": views,
}  # fmt: skip


def verdicts(results: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """What is known of each bar."""
    found = []
    if "bars" in results:
        gaussian, field, taught = (results["bars"][k] for k in ("gaussian/base", "field/base", "distilled"))
        behind = gaussian["psnr_peer"] - field["psnr_peer"]
        found.append((f"dB behind the Gaussians (at most {BEHIND})", behind, behind <= BEHIND))
        lost = field["psnr_peer"] - taught["psnr_peer"]
        found.append((f"dB lost by distilling (at most {KEPT})", lost, lost <= KEPT))
    if "speed" in results:
        fps = results["speed"]["fps"]
        found.append((f"frames a second at 256 px (at least {FPS})", fps, fps >= FPS))
    for name, table in results.get("views", {}).items():
        for yaw in ("-15", "15"):
            for kind, of in (("psnr", "person"), ("psnr_frame", "picture")):
                value = table[kind][yaw]
                found.append((f"dB of the {of} at {yaw} degrees, {name} (at least {SIDE})", value, value >= SIDE))
    return found


def main() -> int:
    """Exit code 0 when every bar that was measured holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument("--workspace", type=Path, required=True, help="what `avatar preprocess` made")
    parser.add_argument("--jobs", nargs="*", default=["bars", "speed"], choices=list(JOBS))
    parser.add_argument("--speaker", type=Path, help="folder of the drawn speaker's truth, for `views`")
    parser.add_argument("--recipes", nargs="*", default=["field/base", "gaussian/base"], help="of `views`")
    parser.add_argument("--view-steps", type=int, help="of each training of `views`, with one thread, not --minutes")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures and avatars of `views`")
    parser.add_argument("--shrink", type=int, default=1, help="train and score at 1/N of the size")
    parser.add_argument("--minutes", type=float, default=25.0, help="of each training, by the clock")
    parser.add_argument("--table-steps", type=int, default=1500, help="of each training of the table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stride", type=int, default=2, help="score every N-th held-out frame")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), metavar="VARIANT", help="rows of the table")
    options = parser.parse_args()
    if "views" in options.jobs and options.speaker is None:
        parser.error("--jobs views needs --speaker FOLDER with truth.safetensors and views.json")
    results: dict[str, Any] = {}
    with copied(options.workspace.resolve()) as folder:
        if "speed" in options.jobs and not {"bars", "views"} & set(options.jobs):
            shutil.copytree(options.workspace / "avatar", folder / "avatar")
        for name in sorted(options.jobs, key=["bars", "views", "speed", "table"].index):
            results[name] = JOBS[name](folder, options)
            options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for name, value, holds in verdicts(results):
        sys.stdout.write(f"{'ok  ' if holds else 'FAIL'} {value:8.2f}  {name}\n")
    return 0 if all(holds for _, _, holds in verdicts(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
