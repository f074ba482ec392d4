"""Draws one view: the person in colours, as ellipses, as mesh, as depth or as regions, over the chosen background."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from avatar.core import Camera, Gaussians, MotionFrame, MotionSequence, Region, RenderOutput, RenderRequest
from avatar.drive.backgrounds import choose_background
from avatar.errors import InputError
from avatar.models.avatar_model import AvatarModel
from avatar.models.backdrop import fitted, over
from avatar.models.gaussian_view import nearest, vertex_normals
from avatar.ops.mesh import rasterize_mesh
from avatar.ops.rasterize import rasterize
from avatar.viewer.posing import Seen, posed, stood
from avatar.viewer.view import Look, Pose, Viewpoint

PARTS: dict[str, tuple[Region, ...]] = {
    "head": (Region.SKIN, Region.BROWS, Region.EYES, Region.NOSE, Region.LIPS, Region.EARS),
    "hair": (Region.HAIR,),
    "mouth": (Region.MOUTH,),
    "torso": (Region.NECK, Region.TORSO),
}
_COLOURS = (
    (0.0, 0.0, 0.0), (0.91, 0.71, 0.55), (0.36, 0.23, 0.12), (0.25, 0.55, 0.95), (0.95, 0.60, 0.35), (0.87, 0.25, 0.35),
    (0.55, 0.05, 0.20), (0.45, 0.30, 0.65), (0.95, 0.85, 0.30), (0.60, 0.75, 0.40), (0.30, 0.55, 0.50),
)  # fmt: skip
"""sRGB of each `Region`."""
_CHECKS = (0.80, 0.92)
_KEPT_BACKGROUNDS = 24


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A finished picture."""

    pixels: UInt8[np.ndarray, "h w c"]
    """sRGB; of a cut-out with straight opacity as fourth channel."""
    unseen: float
    """See `posing.Seen`."""


class Painter:
    """Draws an avatar; keeps backgrounds and the splats' regions. Used by one thread."""

    def __init__(self, avatar: AvatarModel, seen: Seen | None = None) -> None:
        """Args: `seen` tells from where the person was filmed."""
        self.avatar, self.seen = avatar, seen or Seen.usual(avatar)
        self._backgrounds: dict[tuple, tuple[Float[Tensor, "h w 3"], object]] = {}
        """With the picture that it was made of, so that no other picture gets its id."""
        self._regions: UInt8[Tensor, "n"] | None = None
        self._stood: tuple[tuple[Viewpoint, int], Camera] | None = None
        """The last camera and what it was asked by."""

    def frame(
        self, driven: MotionSequence, pose: Pose, viewpoint: Viewpoint, height: int
    ) -> tuple[Camera, MotionFrame]:
        """Camera at a height in pixels, and the head before it."""
        if self._stood is None or self._stood[0] != (viewpoint, height):
            camera, rest = self.avatar.meta.camera, self.avatar.meta.rest
            h, w = camera.size
            self._stood = (viewpoint, height), stood(camera.resized(height, round(w * height / h)), viewpoint, rest)
        camera = self._stood[1]
        with torch.no_grad():
            return camera, posed(self.avatar, driven, pose, camera)

    def paint(
        self, camera: Camera, motion: MotionFrame, look: Look, picture: UInt8[np.ndarray, "a b 3"] | None
    ) -> Drawn:
        """The picture.

        Args:
            picture: what "picture" as background means.

        Raises:
            InputError: if the background is none, or the drawing needs Gaussians and the avatar has none.
        """
        with torch.no_grad():
            out, unseen = self._person(camera, motion, look)
            rgb = over(out.rgb, out.alpha, self.background(look.background, camera, picture))
            pixels = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return Drawn(pixels=pixels, unseen=unseen)

    def cut_out(
        self, camera: Camera, motion: MotionFrame, look: Look, picture: UInt8[np.ndarray, "a b 3"] | None
    ) -> Drawn:
        """As `paint`, with opacity: none where the background is transparent; over any other the picture is whole."""
        if look.background != _CLEAR:
            whole = self.paint(camera, motion, look, picture)
            alpha = np.full((*whole.pixels.shape[:2], 1), 255, np.uint8)
            return replace(whole, pixels=np.concatenate([whole.pixels, alpha], axis=2))
        with torch.no_grad():
            out, unseen = self._person(camera, motion, look)
            straight = out.rgb / out.alpha[..., None].clamp_min(1e-3)
            pixels = torch.cat([straight, out.alpha[..., None]], -1)
            drawn = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return Drawn(pixels=drawn, unseen=unseen)

    def _person(self, camera: Camera, motion: MotionFrame, look: Look) -> tuple[RenderOutput, float]:
        """Before any background, grey as far as the view was never filmed; and how far that is."""
        out = _DRAWINGS[look.drawing](self, RenderRequest(camera=camera, motion=motion), look)
        unseen = self.seen.unseen(camera, motion)
        return (replace(out, rgb=_greyed(out, unseen)) if look.shade and unseen > 0 else out), unseen

    def background(
        self, name: str, camera: Camera, picture: UInt8[np.ndarray, "a b 3"] | None
    ) -> Float[Tensor, "h w 3"]:
        """A background of the camera's size; transparency shows as a chequerboard."""
        key = (name, camera.size, camera.focal if name == "plate" else None, id(picture) if name == "picture" else None)
        if key not in self._backgrounds:
            if len(self._backgrounds) >= _KEPT_BACKGROUNDS:
                self._backgrounds.pop(next(iter(self._backgrounds)))
            self._backgrounds[key] = _BACKGROUNDS.get(name, _plain)(self, name, camera, picture), picture
        return self._backgrounds[key][0]

    def splats(self, motion: MotionFrame, hidden: tuple[str, ...]) -> Gaussians:
        """The splats of a moment without those of hidden parts."""
        splats = self.avatar.backbone.pose(motion)
        keep = self._kept(hidden)
        fields = {n: getattr(splats, n)[keep] for n in ("means", "quats", "log_scales", "raw_opacity", "colour")}
        return Gaussians(**fields)

    def regions(self) -> UInt8[Tensor, "n"]:
        """The `Region` of each splat: that of the rig's triangle nearest to it at rest."""
        if self._regions is None:
            rest, rig = self.avatar.meta.rest, self.avatar.rig
            middle = rig.posed(rest)[rig.faces].mean(1)
            self._regions = rig.regions[nearest(middle, self.avatar.backbone.pose(rest).means)]
        return self._regions

    def _kept(self, hidden: tuple[str, ...]) -> Bool[Tensor, "n"]:
        gone = [int(region) for part in hidden for region in PARTS[part]]
        return ~torch.isin(self.regions().int(), torch.tensor(gone, dtype=torch.int32))


def _picture(painter: Painter, request: RenderRequest, look: Look) -> RenderOutput:
    if not look.hidden:
        return painter.avatar.draw(request)
    return _splatted(painter.splats(request.motion, look.hidden), request)


def _ellipses(painter: Painter, request: RenderRequest, look: Look) -> RenderOutput:
    """Every splat that counts as a small solid one in its own colour, so that one sees how they lie."""
    splats = painter.splats(request.motion, look.hidden)
    solid = torch.where(splats.raw_opacity > -2.0, 6.0, -20.0)
    return _splatted(replace(splats, raw_opacity=solid, log_scales=splats.log_scales - 0.7), request)


def _regions(painter: Painter, request: RenderRequest, look: Look) -> RenderOutput:
    splats = painter.splats(request.motion, look.hidden)
    labels = painter.regions()[painter._kept(look.hidden)].long()
    return _splatted(replace(splats, colour=torch.tensor(_COLOURS)[labels]), request)


def _splatted(splats: Gaussians, request: RenderRequest) -> RenderOutput:
    camera = request.camera
    rgb, alpha, depth = rasterize(
        splats.means, splats.quats, splats.log_scales.exp(), splats.raw_opacity.sigmoid(), splats.colour,
        camera.T_camera_world, camera.focal, camera.center, camera.size,
    )  # fmt: skip
    return RenderOutput(rgb=rgb, alpha=alpha, depth=depth)


def _depth(painter: Painter, request: RenderRequest, look: Look) -> RenderOutput:
    """Near is light; the scale spans 0.4 m about the head."""
    out = _picture(painter, request, look)
    if out.depth is None:
        raise InputError("this avatar gives no depth; choose another layer")
    T_camera_head = request.camera.T_camera_world @ request.motion.T_world_head
    behind = (out.depth / out.alpha.clamp_min(1e-3) - (T_camera_head[2, 3] - 0.2)) / 0.4
    grey = (1 - behind.clamp(0, 1)) * 0.9 + 0.05
    return replace(out, rgb=(grey * out.alpha)[..., None].expand(*grey.shape, 3))


def _mesh(painter: Painter, request: RenderRequest, look: Look) -> RenderOutput:
    """The rig, lit from the camera, with its regions' colours and the edges of its triangles."""
    rig, camera = painter.avatar.rig, request.camera
    gone = torch.tensor([int(region) for part in look.hidden for region in PARTS[part]], dtype=torch.int32)
    faces = rig.faces[~torch.isin(rig.regions.int(), gone)]
    regions = rig.regions[~torch.isin(rig.regions.int(), gone)].long()
    posed_at = rig.posed(request.motion)
    T = camera.T_camera_world
    local = posed_at @ T[:3, :3].T + T[:3, 3]
    triangle, bary, depth = rasterize_mesh(local, faces, camera.focal, camera.center, camera.size)
    seen = triangle >= 0
    corners = faces[triangle.clamp_min(0)]
    normal = (vertex_normals(local, rig.faces)[corners] * bary[..., None]).sum(-2)
    light = 0.35 + 0.65 * torch.nn.functional.normalize(normal, dim=-1)[..., 2].abs()
    edge = torch.where(bary.amin(-1) < 0.06, 0.6, 1.0)
    colour = torch.tensor(_COLOURS)[regions[triangle.clamp_min(0)]] * 0.5 + 0.4
    rgb = colour * (light * edge * seen)[..., None]
    return RenderOutput(rgb=rgb, alpha=seen.float(), depth=depth * seen)


_DRAWINGS: dict[str, Callable[[Painter, RenderRequest, Look], RenderOutput]] = {
    "picture": _picture, "ellipses": _ellipses, "mesh": _mesh, "depth": _depth, "regions": _regions,
}  # fmt: skip


def _greyed(out: RenderOutput, unseen: float) -> Float[Tensor, "h w 3"]:
    """The person's colours fading to grey."""
    grey = (out.rgb @ out.rgb.new_tensor([0.2126, 0.7152, 0.0722]))[..., None] * 0.8 + 0.1 * out.alpha[..., None]
    return torch.lerp(out.rgb, grey.expand_as(out.rgb), 0.9 * unseen)


def _plate(painter: Painter, name: str, camera: Camera, picture: np.ndarray | None) -> Tensor:
    return painter.avatar.plate.seen_by(camera).contiguous()


def _chequered(painter: Painter, name: str, camera: Camera, picture: np.ndarray | None) -> Tensor:
    row, column = (torch.arange(n) * 24 // camera.size[0] for n in camera.size)
    light = (row[:, None] + column) % 2
    return torch.tensor(_CHECKS)[light][..., None].expand(*camera.size, 3)


def _uploaded(painter: Painter, name: str, camera: Camera, picture: np.ndarray | None) -> Tensor:
    if picture is None:
        return _plate(painter, name, camera, picture)
    return fitted(torch.from_numpy(picture.copy()).float() / 255, camera.size).clamp(0, 1).contiguous()


def _plain(painter: Painter, name: str, camera: Camera, picture: np.ndarray | None) -> Tensor:
    if "/" in name or "\\" in name or "." in name:
        raise InputError(f"background {name!r} is no colour; give for example white or #20a060")
    pixels = choose_background(name, camera).pixels
    assert pixels is not None
    return pixels


_CLEAR = "transparent"
_BACKGROUNDS = {"plate": _plate, _CLEAR: _chequered, "picture": _uploaded}
