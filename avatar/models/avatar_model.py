"""The avatar file: a folder of avatar.json, weights.safetensors, rig.safetensors and plate.png that draws a person."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar import __version__, config
from avatar.core import Camera, MotionFrame, RenderOutput, RenderRequest
from avatar.errors import InputError
from avatar.face.rig import PersonalRig
from avatar.media import read_image, read_tensors, write_image, write_json
from avatar.media.files import make_folder
from avatar.media.tensors import write_tensors
from avatar.models.backdrop import Plate, composite
from avatar.models.base import AbstractBackbone
from avatar.models.field_head import FieldHead
from avatar.models.gaussian_head import GaussianHead

SCHEMA = 1
FILES = ("avatar.json", "weights.safetensors", "rig.safetensors", "plate.png")
BACKBONES: dict[str, type[AbstractBackbone]] = {"gaussian": GaussianHead, "field": FieldHead}


@dataclass(frozen=True, kw_only=True)
class AvatarMeta:
    """What else is known of the person, as plain numbers (avatar.json)."""

    kind: str
    """The backbone; a key of `BACKBONES`."""
    fps: float
    focal: tuple[float, float]
    """Of the training camera, px."""
    center: tuple[float, float]
    size: tuple[int, int]
    """Height, width in px."""
    T_world_camera: tuple[tuple[float, ...], ...]
    T_world_head: tuple[tuple[float, ...], ...]
    """Rest pose of the head."""
    expression: tuple[float, ...]
    """ARKit coefficients [52] of the resting face."""
    neck: tuple[float, ...]
    gaze: tuple[tuple[float, ...], ...]
    speech: dict[str, Any] = field(default_factory=dict)
    """`speech.style.SpeechStyle` of the person, or empty."""
    trained: dict[str, Any] = field(default_factory=dict)
    """Recipe, steps, seconds and a key of what the training depended on."""
    schema: int = SCHEMA
    version: str = __version__
    """Of the library that wrote the file."""

    @classmethod
    def of(cls, kind: str, camera: Camera, rest: MotionFrame, fps: float, **more: Any) -> "AvatarMeta":
        """From the training camera and a resting frame; `more` sets `speech` and `trained`."""
        return cls(
            kind=kind, fps=fps, focal=camera.focal, center=camera.center, size=camera.size,
            T_world_camera=_rows(camera.T_world_camera), T_world_head=_rows(rest.T_world_head),
            expression=tuple(rest.expression.tolist()), neck=tuple(rest.neck.tolist()), gaze=_rows(rest.gaze), **more,
        )  # fmt: skip

    @property
    def camera(self) -> Camera:
        """Where the person was filmed from."""
        return Camera(
            T_world_camera=torch.tensor(self.T_world_camera), focal=self.focal, center=self.center, size=self.size
        )

    @property
    def rest(self) -> MotionFrame:
        """The person at rest, before the camera."""
        return MotionFrame(
            expression=torch.tensor(self.expression),
            T_world_head=torch.tensor(self.T_world_head),
            neck=torch.tensor(self.neck),
            gaze=torch.tensor(self.gaze),
        )


class AvatarModel:
    """A person who can be drawn: backbone, plate and meta."""

    def __init__(self, backbone: AbstractBackbone, plate: Plate, meta: AvatarMeta):
        """Args: the parts; the backbone brings the rig."""
        self.backbone, self.plate, self.meta = backbone, plate, meta

    @property
    def rig(self) -> PersonalRig:
        return self.backbone.rig

    def to(self, device: torch.device) -> "AvatarModel":
        """Draw there from now on; questions and answers stay on the CPU."""
        self.backbone.to(device)
        return self

    def draw(self, request: RenderRequest) -> RenderOutput:
        """The person alone, premultiplied."""
        device = self.backbone.device
        if device.type == "cpu":
            with torch.no_grad():
                return self.backbone.render(request)
        pixels = None if request.pixels is None else request.pixels.to(device)
        moved = replace(request, motion=request.motion.each(lambda tensor: tensor.to(device)), pixels=pixels)
        with torch.no_grad():
            out = self.backbone.render(moved)
        depth = None if out.depth is None else out.depth.cpu()
        return RenderOutput(rgb=out.rgb.cpu(), alpha=out.alpha.cpu(), depth=depth, aux=out.aux)

    def render(self, request: RenderRequest, background: Float[Tensor, "h w 3"] | None = None) -> RenderOutput:
        """The person over `background` (of the camera's size), or over the clip's own plate; alpha stays the person's.

        Raises:
            ValueError: if the background has another size than the camera.
        """
        if background is None:
            background = self.plate.seen_by(request.camera)
        return composite(self.draw(request), request, background)

    def save(self, folder: Path) -> None:
        """Write the four files; avatar.json is last, so a folder that has it is whole.

        Raises:
            InputError: when the disk is full or the folder cannot be written.
        """
        folder = Path(folder)
        make_folder(folder)
        (folder / FILES[0]).unlink(missing_ok=True)
        write_tensors(folder / FILES[1], self.backbone.to_tensors(), {"schema": str(SCHEMA)})
        rig = self.rig.to_tensors()
        # Displacements of the actions are millimetres: half precision keeps them to a micrometre.
        rig["actions"], rig["uv"] = rig["actions"].half(), rig["uv"].half()
        rig["faces"] = rig["faces"].int()
        write_tensors(folder / FILES[2], rig)
        pixels = (self.plate.image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        write_image(folder / FILES[3], np.ascontiguousarray(pixels))
        write_json(folder / FILES[0], config.to_dict(self.meta))

    @classmethod
    def load(cls, folder: Path) -> "AvatarModel":
        """Read an avatar folder, ready to draw.

        Raises:
            InputError: if the folder is no avatar, a file is missing or damaged, or a newer version made it.
        """
        folder = Path(folder)
        if not (folder / FILES[0]).exists():
            way, built = "make one with `avatar build VIDEO -o FOLDER`", folder / "avatar"
            if (built / FILES[0]).exists():
                way = f"its avatar is {built}"
            raise InputError(f"{folder}: is no avatar (no {FILES[0]}); {way}")
        data = config.load_json(folder / FILES[0])
        found = data.get("schema")
        if isinstance(found, int) and found > SCHEMA:
            raise InputError(
                f"{folder}: made by a newer version ({data.get('version', 'unknown')}, schema {found}; "
                f"this one knows {SCHEMA}); upgrade avatar"
            )
        for name in FILES[1:]:
            if not (folder / name).exists():
                raise InputError(f"{folder / name}: file is missing; copy the whole folder again or build it again")
        meta = config.from_dict(AvatarMeta, data, where=str(folder / FILES[0]))
        if meta.kind not in BACKBONES:
            raise InputError(f"{folder / FILES[0]}: kind {meta.kind!r} is none of {', '.join(BACKBONES)}")
        rig = PersonalRig.from_tensors(_widened(read_tensors(folder / FILES[2])[0]))
        backbone = BACKBONES[meta.kind].from_tensors(read_tensors(folder / FILES[1])[0], rig)
        image = torch.from_numpy(read_image(folder / FILES[3]).astype(np.float32) / 255)
        if tuple(image.shape[:2]) != meta.size:
            raise InputError(
                f"{folder / FILES[3]}: is {tuple(image.shape[:2])} px, not {meta.size}; build the avatar again"
            )
        return cls(backbone, Plate(image=image, camera=meta.camera), meta)


def _rows(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


def _widened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    wide = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return {k: v.long() if v.dtype == torch.int32 else v for k, v in wide.items()}
