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

from avatar.core import Camera, MotionFrame, MotionSequence, Region, RenderRequest
from avatar.errors import InputError
from avatar.evaluate import metrics
from avatar.evaluate.metrics import Picture
from avatar.evaluate.rows import Subject
from avatar.face.rig import PersonalRig
from avatar.media import read_image, read_tensors

TRUTH_FILES = ("truth.safetensors", "views.json")
_GREY = 0.5
"""Both persons stand before this, since nobody knows the background seen from the side."""
_FACE = (Region.SKIN, Region.BROWS, Region.NOSE, Region.LIPS)
_RIGID = 0.99
"""Weight of the head from which a vertex goes with it alone."""
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
    psnr_frame: float


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A face before the camera that filmed it."""

    camera: Camera
    middle: Float[Tensor, "3"]
    """Of the face, in the world."""

    @property
    def local(self) -> Float[Tensor, "3"]:
        """The middle in the camera's frame."""
        T = self.camera.T_camera_world
        return T[:3, :3] @ self.middle + T[:3, 3]


@dataclass(frozen=True, kw_only=True)
class _Speaker:
    """What is true of a film that was drawn."""

    motion: MotionSequence
    rig: PersonalRig
    camera: Camera


def evaluate_views(subject: Subject, truth: Path) -> list[ScoredView]:
    """Draw every held-out view with the avatar, driven by its tracked motion.

    The tracked world differs from the true one by what one camera cannot know: size, distance, focal length, and how
    the axes of a head lie in it. So each camera goes around the tracked head, starting at the camera that filmed it,
    as it went around the true one (see `carried`).

    `psnr` counts the pixels that show the true or the drawn person; `psnr_head` those of them inside the box of the
    true head's vertices, grown by a quarter of its height for the hair; `psnr_frame` the whole picture, as the
    figures of the same name do in which the camera stands still.

    Args:
        truth: folder of truth.safetensors (motion and rig of the true speaker) and views.json (list of `file`,
            `alpha`, `frame`, `yaw_deg`, `camera`).

    Raises:
        InputError: when the truth is missing, damaged, of a rig of another kind or a film of another size.
    """
    speaker = _read_truth(truth / TRUTH_FILES[0])
    if speaker.rig.neutral.shape != subject.avatar.rig.neutral.shape:
        raise InputError(f"{truth}: its rig has another number of vertices than the avatar's; draw the speaker again")
    if speaker.camera.size != subject.track.camera.size:
        raise InputError(
            f"{truth}: its pictures are {speaker.camera.size} px, the prepared ones {subject.track.camera.size}; "
            f"preprocess with --size {max(speaker.camera.size)}"
        )
    return [_score(view, subject, speaker) for view in _read_views(truth / TRUTH_FILES[1])]


def views_table(scored: Sequence[ScoredView]) -> dict[str, Any]:
    """Means by yaw (degrees, as text) for the report."""
    yaws = sorted({item.view.yaw_deg for item in scored})
    of = {yaw: [item for item in scored if item.view.yaw_deg == yaw] for yaw in yaws}
    return {
        "psnr": {str(yaw): float(np.mean([item.psnr for item in of[yaw]])) for yaw in yaws},
        "psnr_head": {str(yaw): float(np.mean([item.psnr_head for item in of[yaw]])) for yaw in yaws},
        "psnr_frame": {str(yaw): float(np.mean([item.psnr_frame for item in of[yaw]])) for yaw in yaws},
        "pictures": len(scored),
    }


def _score(view: SideView, subject: Subject, true: _Speaker) -> ScoredView:
    tracked, was = subject.track.motion.frame(view.frame), true.motion.frame(view.frame)
    here = Seen(camera=subject.track.camera, middle=_middle(subject.avatar.rig, tracked))
    there = Seen(camera=true.camera, middle=_middle(true.rig, was))
    out = subject.avatar.draw(RenderRequest(camera=carried(view.camera, there, here), motion=tracked))
    alpha = out.alpha.clamp(0, 1).cpu().numpy()
    drawn = _bytes(out.rgb.cpu().numpy() + (1 - alpha[..., None]) * _GREY)
    cover = view.alpha[..., None]
    known = _bytes(view.picture.astype(np.float32) / 255 * cover + (1 - cover) * _GREY)
    person = (alpha > _SEEN) | (view.alpha > _SEEN)
    head = person & _box(view.camera.project(true.rig.posed(was)[true.rig.skin[:, 0] > _RIGID]), person.shape)
    return ScoredView(
        view=view,
        true=known,
        drawn=drawn,
        psnr=metrics.psnr(drawn, known, person),
        psnr_head=metrics.psnr(drawn, known, head),
        psnr_frame=metrics.psnr(drawn, known),
    )


def carried(side: Camera, there: Seen, here: Seen) -> Camera:
    """The camera that goes around the head `here` as `side` goes around the head `there`.

    Both turn alike against their front camera. The axis about which `side` turned shows at the same pixels in both
    front pictures, and is as far behind the face in sizes of the head.
    """
    T = there.camera.T_camera_world @ side.T_world_camera
    turn, way, middle = T[:3, :3], T[:3, 3], there.local
    swing = torch.eye(3) - turn
    # The point of the axis that is nearest to the head; any other one would do.
    axis = middle + torch.linalg.pinv(swing, rtol=1e-4) @ (way - swing @ middle)
    focal, known = torch.tensor(here.camera.focal), torch.tensor(there.camera.focal)
    larger = (here.local[2] / focal[0]) / (middle[2] / known[0])
    depth = here.local[2] + larger * (axis[2] - middle[2])
    pixel = axis[:2] / axis[2] * known + torch.tensor(there.camera.center) - torch.tensor(here.camera.center)
    moved = torch.cat([pixel / focal * depth, depth[None]])
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, swing @ moved + larger * (way - swing @ axis)
    return replace(here.camera, T_world_camera=here.camera.T_world_camera @ pose)


def _middle(rig: PersonalRig, motion: MotionFrame) -> Float[Tensor, "3"]:
    face = rig.faces[torch.isin(rig.regions.long(), torch.tensor([int(r) for r in _FACE]))].unique()
    return rig.posed(motion)[face].mean(0)


def _box(points: Float[Tensor, "n 2"], size: tuple[int, ...]) -> np.ndarray:
    low, high = points.numpy().min(0), points.numpy().max(0)
    margin = 0.25 * (high[1] - low[1])
    (left, top), (right, bottom) = np.floor(low - margin).astype(int), np.ceil(high + margin).astype(int)
    mask = np.zeros(size, bool)
    mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def _bytes(colour: Float[np.ndarray, "h w 3"]) -> Picture:
    return (np.clip(colour, 0, 1) * 255).round().astype(np.uint8)


def _read_truth(path: Path) -> _Speaker:
    tensors, metadata = read_tensors(path)
    try:
        fields = {name: tensors[name] for name in ("expression", "T_world_head", "neck", "gaze")}
        facts = json.loads(metadata["facts"])
        motion, camera = MotionSequence(**fields, fps=facts["fps"]), _camera(facts["camera"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no truth of a drawn speaker ({error}); draw the speaker again") from None
    rig = PersonalRig.from_tensors({k[4:]: v for k, v in tensors.items() if k.startswith("rig.")})
    return _Speaker(motion=motion, rig=rig, camera=camera)


def _read_views(path: Path) -> list[SideView]:
    try:
        return [_side_view(path.parent, entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no list of held-out views ({error}); draw the speaker again") from None


def _side_view(folder: Path, entry: dict[str, Any]) -> SideView:
    return SideView(
        picture=read_image(folder / entry["file"]),
        alpha=read_image(folder / entry["alpha"], gray=True).astype(np.float32) / 255,
        frame=int(entry["frame"]),
        yaw_deg=int(entry["yaw_deg"]),
        camera=_camera(entry["camera"]),
    )


def _camera(known: dict[str, Any]) -> Camera:
    return Camera(
        T_world_camera=torch.tensor(known["T_world_camera"], dtype=torch.float32),
        focal=(known["focal"][0], known["focal"][1]),
        center=(known["center"][0], known["center"][1]),
        size=(known["size"][0], known["size"][1]),
    )
