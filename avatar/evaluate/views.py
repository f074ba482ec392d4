"""Views that no camera filmed, for a speaker that was drawn: truth.safetensors, views.json and its pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import Camera, MotionFrame, MotionSequence, RenderRequest
from avatar.errors import InputError
from avatar.evaluate import metrics
from avatar.evaluate.metrics import Picture
from avatar.evaluate.rows import Subject
from avatar.face.rig import PersonalRig
from avatar.media import read_image, read_tensors

TRUTH_FILES = ("truth.safetensors", "views.json")
_GREY = 0.5
"""Both persons stand before this, since nobody knows the background seen from the side."""
_SEEN = 0.02
"""Coverage from which a pixel counts as the person."""


@dataclass(frozen=True, kw_only=True)
class SideView:
    """A held-out picture."""

    picture: Picture
    alpha: Float[np.ndarray, "h w"]
    frame: int
    yaw_deg: int
    camera: Camera


@dataclass(frozen=True, kw_only=True)
class ScoredView:
    """A held-out picture beside ours, both before grey."""

    view: SideView
    true: Picture
    drawn: Picture
    psnr: float
    psnr_head: float


def evaluate_views(subject: Subject, truth: Path) -> list[ScoredView]:
    """Draw every held-out view with the avatar, driven by its tracked motion.

    The tracked world differs from the true one by what one camera cannot know (size, distance). So each camera is
    carried over by the similarity that best moves the true head's vertices to the tracked head's (Umeyama 1991).

    `psnr` counts the pixels that show the true or the drawn person; `psnr_head` those of them inside the box of the
    true head's vertices, grown by a quarter of its height for the hair.

    Args:
        truth: folder of truth.safetensors (motion and rig of the true speaker) and views.json (list of `file`,
            `alpha`, `frame`, `yaw_deg`, `camera`).

    Raises:
        InputError: when the truth is missing, damaged or of a rig of another kind.
    """
    motion, rig = _read_truth(truth / TRUTH_FILES[0])
    if rig.neutral.shape != subject.avatar.rig.neutral.shape:
        raise InputError(f"{truth}: its rig has another number of vertices than the avatar's; draw the speaker again")
    return [_score(view, subject, motion.frame(view.frame), rig) for view in _read_views(truth / TRUTH_FILES[1])]


def views_table(scored: Sequence[ScoredView]) -> dict[str, Any]:
    """Means by yaw (degrees, as text) for the report."""
    yaws = sorted({item.view.yaw_deg for item in scored})
    of = {yaw: [item for item in scored if item.view.yaw_deg == yaw] for yaw in yaws}
    return {
        "psnr": {str(yaw): float(np.mean([item.psnr for item in of[yaw]])) for yaw in yaws},
        "psnr_head": {str(yaw): float(np.mean([item.psnr_head for item in of[yaw]])) for yaw in yaws},
        "pictures": len(scored),
    }


def _score(view: SideView, subject: Subject, true_motion: MotionFrame, true_rig: PersonalRig) -> ScoredView:
    tracked = subject.track.motion.frame(view.frame)
    true_head = true_rig.posed(true_motion)
    rigid = true_rig.skin[:, 0] > 0.99
    scale, turn, shift = similarity(true_head[rigid], subject.avatar.rig.posed(tracked)[rigid])
    pose = view.camera.T_world_camera.clone()
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = scale * turn @ view.camera.T_world_camera[:3, 3] + shift
    out = subject.avatar.draw(RenderRequest(camera=replace(view.camera, T_world_camera=pose), motion=tracked))
    alpha = out.alpha.clamp(0, 1).cpu().numpy()
    drawn = _bytes(out.rgb.cpu().numpy() + (1 - alpha[..., None]) * _GREY)
    cover = view.alpha[..., None]
    true = _bytes(view.picture.astype(np.float32) / 255 * cover + (1 - cover) * _GREY)
    person = (alpha > _SEEN) | (view.alpha > _SEEN)
    head = person & _box(view.camera.project(true_head[rigid]), person.shape)
    return ScoredView(
        view=view,
        true=true,
        drawn=drawn,
        psnr=metrics.psnr(drawn, true, person),
        psnr_head=metrics.psnr(drawn, true, head),
    )


def similarity(
    source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]
) -> tuple[float, Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Scale, rotation and shift with target = scale * rotation @ source + shift, least squares (Umeyama 1991)."""
    a, b = source.double(), target.double()
    mean_a, mean_b = a.mean(0), b.mean(0)
    u, values, vh = torch.linalg.svd((b - mean_b).T @ (a - mean_a))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.linalg.det(u @ vh).sign()
    turn = u @ torch.diag(sign) @ vh
    scale = float((values * sign).sum() / (a - mean_a).square().sum())
    return scale, turn.to(source), (mean_b - scale * turn @ mean_a).to(source)


def _box(points: Float[Tensor, "n 2"], size: tuple[int, ...]) -> np.ndarray:
    low, high = points.numpy().min(0), points.numpy().max(0)
    margin = 0.25 * (high[1] - low[1])
    (left, top), (right, bottom) = np.floor(low - margin).astype(int), np.ceil(high + margin).astype(int)
    mask = np.zeros(size, bool)
    mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def _bytes(colour: Float[np.ndarray, "h w 3"]) -> Picture:
    return (np.clip(colour, 0, 1) * 255).round().astype(np.uint8)


def _read_truth(path: Path) -> tuple[MotionSequence, PersonalRig]:
    tensors, metadata = read_tensors(path)
    try:
        fields = {name: tensors[name] for name in ("expression", "T_world_head", "neck", "gaze")}
        motion = MotionSequence(**fields, fps=json.loads(metadata["facts"])["fps"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: is no truth of a drawn speaker ({error}); draw the speaker again") from None
    return motion, PersonalRig.from_tensors({k[4:]: v for k, v in tensors.items() if k.startswith("rig.")})


def _read_views(path: Path) -> list[SideView]:
    try:
        return [_side_view(path.parent, entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no list of held-out views ({error}); draw the speaker again") from None


def _side_view(folder: Path, entry: dict[str, Any]) -> SideView:
    known = entry["camera"]
    camera = Camera(
        T_world_camera=torch.tensor(known["T_world_camera"], dtype=torch.float32),
        focal=(known["focal"][0], known["focal"][1]),
        center=(known["center"][0], known["center"][1]),
        size=(known["size"][0], known["size"][1]),
    )
    return SideView(
        picture=read_image(folder / entry["file"]),
        alpha=read_image(folder / entry["alpha"], gray=True).astype(np.float32) / 255,
        frame=int(entry["frame"]),
        yaw_deg=int(entry["yaw_deg"]),
        camera=camera,
    )
