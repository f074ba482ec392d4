"""Draw a synthetic person: pose, visibility, light, colour. One call is one frame."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar.core import Camera, MotionFrame, Region
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.ops.mesh import rasterize_mesh
from avatar.synthetic import shading
from avatar.synthetic.backdrop import paint_backdrop
from avatar.synthetic.body import Body, Kind, build_body
from avatar.synthetic.clothes import TILE, seam, weave
from avatar.synthetic.light import Studio, quadratic
from avatar.synthetic.shading import EyePaint, Lamps
from avatar.synthetic.spec import SpeakerSpec
from avatar.synthetic.strand_light import hair_colours, short_hair_colours
from avatar.synthetic.surface import vertex_normals

SAMPLES = 2
"""Samples a pixel along each axis."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A frame and what is true of it."""

    rgb: UInt8[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"]
    labels: UInt8[Tensor, "h w"]
    """A `Region` for each pixel: that of the nearest of its samples."""
    depth: Float[Tensor, "h w"]
    """Metres along the camera's z axis, mean over the covered samples; 0 where nothing is."""


@dataclass(frozen=True, kw_only=True)
class _Posed:
    """Everything of one frame in the head frame."""

    skin: Float[Tensor, "v 3"]
    normals: Float[Tensor, "v 3"]
    cloth: Float[Tensor, "c 3"]
    strand_colours: Float[Tensor, "s 3"]
    strand_vertices: tuple[Tensor, ...]
    """Of hair, brows, lashes."""


class Speaker:
    """One synthetic person in one studio."""

    def __init__(
        self, spec: SpeakerSpec | None = None, *, rig: AnnyRig | None = None, strands: int = 7500, texture: int = 1536
    ):
        """Takes some seconds: paints textures and bakes light."""
        self.spec = spec or SpeakerSpec()
        family = rig or AnnyRig.load()
        self.identity = torch.zeros(family.identity_size)
        given = torch.tensor(self.spec.identity[: family.identity_size])
        self.identity[: len(given)] = given
        self.rig: PersonalRig = family.personal(self.identity)
        self.studio = Studio()
        self.body: Body = build_body(self.rig, family.pieces, self.spec, strands=strands, texture=texture)
        self._eyes = EyePaint.make(self.spec)
        self._weave = weave(self.spec.seed)
        self._curve, self._white = shading.tone_curve()
        self._backdrops: dict[tuple[int, int], Tensor] = {}
        self._faces, self._kinds, self._labels = self._layout()
        torso = (self.rig.skin[:, 2] > 0.999).nonzero()[:, 0]
        self._torso = torso[torch.linspace(0, len(torso) - 1, min(len(torso), 64)).long()]

    def _layout(self) -> tuple[Tensor, Tensor, Tensor]:
        """All triangles of a frame with their kind and region."""
        b = self.body
        parts = [
            (b.skin_faces, b.skin_kinds, b.skin_labels, len(b.rest_normals)),
            (b.clothes.faces, int(Kind.CLOTH), int(Region.TORSO), len(b.clothes.vertices)),
            (b.hair.faces, int(Kind.HAIR), int(Region.HAIR), b.hair.half_width.numel() * 2),
            (b.brow_ribbons.faces, int(Kind.HAIR), int(Region.BROWS), b.brow_ribbons.half_width.numel() * 2),
            (b.lash_ribbons.faces, int(Kind.HAIR), int(Region.EYES), b.lash_ribbons.half_width.numel() * 2),
        ]
        faces, kinds, labels, shift = [], [], [], 0
        for face, kind, label, count in parts:
            faces.append(face + shift)
            fill = torch.zeros(len(face), dtype=torch.uint8)
            kinds.append(fill + kind)
            labels.append(fill + label)
            shift += count
        return torch.cat(faces), torch.cat(kinds), torch.cat(labels)

    def backdrop(self, size: tuple[int, int]) -> UInt8[Tensor, "h w 3"]:
        """The studio without the person."""
        if size not in self._backdrops:
            self._backdrops[size] = paint_backdrop(self.spec, size)
        return self._backdrops[size]

    def render(self, motion: MotionFrame, camera: Camera) -> UInt8[Tensor, "h w 3"]:
        """The picture of a moment in front of the studio's backdrop."""
        rgb, alpha, _, _ = self._samples(motion, camera)
        return _over(rgb, alpha, self.backdrop(camera.size))

    def draw(self, motion: MotionFrame, camera: Camera, backdrop: Tensor | None = None) -> Drawing:
        """The picture with alpha, regions and depth.

        Args:
            backdrop: uint8 [h w 3], the studio's own if None.
        """
        rgb, alpha, triangle, depth = self._samples(motion, camera)
        h, w = camera.size
        near = torch.where(triangle >= 0, depth, torch.full_like(depth, 1e9)).view(h, SAMPLES, w, SAMPLES)
        near = near.transpose(1, 2).reshape(h, w, -1)
        which = torch.where(triangle >= 0, self._labels[triangle.clamp_min(0)], 0).view(h, SAMPLES, w, SAMPLES)
        which = which.transpose(1, 2).reshape(h, w, -1)
        labels = which.gather(2, near.argmin(2, keepdim=True))[..., 0]
        mean = _mean(depth) / alpha.clamp_min(1e-6)
        behind = self.backdrop(camera.size) if backdrop is None else backdrop
        return Drawing(rgb=_over(rgb, alpha, behind), alpha=alpha, labels=labels, depth=mean)

    def _samples(self, motion: MotionFrame, camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Premultiplied colour [h w 3] in bytes and alpha [h w]; triangle and depth of each sample."""
        fine = camera.resized(camera.size[0] * SAMPLES, camera.size[1] * SAMPLES)
        T = fine.T_camera_world @ motion.T_world_head
        eye = -T[:3, :3].T @ T[:3, 3]
        light = shading.lamps(self.studio, motion.T_world_head[:3, :3], self.body.directions, self.body.fit)
        posed = self._pose(motion, eye, light)
        vertices = torch.cat([posed.skin, posed.cloth, *posed.strand_vertices])
        local = vertices @ T[:3, :3].T + T[:3, 3]
        triangle, barycentric, depth = rasterize_mesh(local, self._faces, fine.focal, fine.center, fine.size)
        bytes_ = self._colour((triangle, barycentric), posed, light, fine, T)
        rgb = _mean(bytes_.view(*fine.size, 3))
        return rgb, _mean((triangle >= 0).to(torch.uint8)), triangle, depth

    def _pose(self, motion: MotionFrame, eye: Tensor, light: Lamps) -> _Posed:
        b = self.body
        coarse = self.rig.vertices(motion.expression, motion.neck, motion.gaze)
        skin = b.split.curved(coarse, vertex_normals(coarse, self.rig.faces))
        normals = vertex_normals(skin, b.split.faces)
        turn, shift = _rigid(self.rig.neutral[self._torso], coarse[self._torso])
        cloth = b.clothes.vertices @ turn.T + shift
        brows = b.brows.points(coarse, normals[: len(coarse)], self.rig.faces)
        lashes = b.lashes.points(coarse, self.rig.faces, self.rig.eye_pivots)
        strands = (
            b.hair.vertices(b.strands.points, eye),
            b.brow_ribbons.vertices(brows, eye),
            b.lash_ribbons.vertices(lashes, eye),
        )
        return _Posed(
            skin=skin,
            normals=normals,
            cloth=cloth,
            strand_colours=torch.cat([hair_colours(b, self.spec, eye, light), short_hair_colours(b, self.spec, light)]),
            strand_vertices=strands,
        )

    def _colour(
        self, drawn: tuple[Tensor, Tensor], posed: _Posed, light: Lamps, camera: Camera, T: Tensor
    ) -> UInt8[Tensor, "s 3"]:
        """sRGB bytes of every sample of the picture; black where nobody is. `drawn`: triangles and barycentrics."""
        triangle, barycentric = drawn
        flat = triangle.flatten()
        index = (flat >= 0).nonzero()[:, 0]
        seen = flat[index]
        samples = _Samples(
            index=index,
            corners=self._faces[seen],
            weights=barycentric.view(-1, 3)[index, :, None],
            view=_view(index, camera, T),
            kind=self._kinds[seen],
        )
        colour = torch.zeros(len(index), 3)
        self._paint_solid(colour, samples, posed, light)
        self._paint_openings(colour, samples, posed, light, camera)
        hair = (samples.kind == Kind.HAIR).nonzero()[:, 0]
        first = len(posed.skin) + len(posed.cloth)
        colour[hair] = (posed.strand_colours[samples.corners[hair] - first] * samples.weights[hair]).sum(1)
        level = (colour.clamp_min_(0) / self._white).clamp_max_(1).sqrt_().mul_(len(self._curve) - 1)
        out = torch.zeros(len(flat), 3, dtype=torch.uint8)
        out[index] = self._curve[level.int()]
        return out

    def _paint_solid(self, colour: Tensor, samples: "_Samples", posed: _Posed, light: Lamps) -> None:
        """Skin and cloth."""
        b = self.body
        lobes = (light.sharpness * (b.directions @ light.directions.T - 1)).exp()
        lobes = lobes / lobes.sum(0)
        soft = torch.stack([t @ light.radiance[:, c] for c, t in enumerate(b.skin_transfer)], 1)
        ratio = (quadratic(posed.normals) @ light.poly) / (quadratic(b.rest_normals) @ light.poly).clamp_min(0.02)
        fields = torch.cat([b.split.linear(torch.cat([soft, b.skin_seen @ lobes], 1)), posed.normals, b.uv], 1)
        fields[:, :3] *= ratio.clamp(0.4, 1.8)
        skin = (samples.kind == Kind.SKIN).nonzero()[:, 0]
        here = samples.mix(fields, skin)
        lit, lamp, normal, uv = here.split([3, lobes.shape[1], 3, 2], 1)
        texel = b.texture.texels.view(-1, 8)[b.texture.index(uv)]
        colour[skin] = shading.shade_skin(texel, (lit, lamp), normal, samples.view[skin], light)
        cloth = (samples.kind == Kind.CLOTH).nonzero()[:, 0]
        fields = torch.cat([b.cloth_transfer @ light.radiance * b.clothes.albedo, b.clothes.cloth_uv], 1)
        here = samples.mix(fields, cloth, len(posed.skin))
        tile = (here[:, 3:] * (len(self._weave) / TILE)).long() % len(self._weave)
        colour[cloth] = here[:, :3] * (self._weave[tile[:, 1], tile[:, 0]] * seam(here[:, 3:]))[:, None]

    def _paint_openings(self, colour: Tensor, samples: "_Samples", posed: _Posed, light: Lamps, camera: Camera) -> None:
        """Eyes and the inside of the mouth, darkened by what surrounds them."""
        b, size = self.body, camera.size
        eye = (samples.kind == Kind.EYE).nonzero()[:, 0]
        mouth = ((samples.kind >= Kind.CAVITY) & (samples.kind <= Kind.TONGUE)).nonzero()[:, 0]
        here = samples.mix(torch.cat([b.eye_local, posed.normals], 1), eye)
        closed = samples.openness(eye, size, self._pixels(0.0022, camera), 0.9)
        colour[eye] = self._eyes.shade(here[:, :3], here[:, 3:], samples.view[eye], closed, light)
        here = samples.mix(torch.cat([posed.skin[:, 2:], b.teeth, posed.normals], 1), mouth)
        closed = samples.openness(mouth, size, self._pixels(0.0035, camera), 0.25)
        surface = (here[:, 3:], here[:, 0] - float(b.anatomy.mouth[2]), here[:, 1:3])
        colour[mouth] = shading.shade_mouth(samples.kind[mouth], surface, samples.view[mouth], closed, light)

    def _pixels(self, metres: float, camera: Camera) -> int:
        """Samples that a length on the face covers, roughly."""
        distance = float(camera.T_world_camera[:3, 3].norm()) or 1.0
        return max(round(metres * camera.focal[0] / max(distance, 0.3)), 1)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """The samples of a picture that see the person."""

    index: Tensor
    corners: Tensor
    weights: Tensor
    view: Tensor
    """Unit vectors towards the camera, head frame."""
    kind: Tensor

    def mix(self, fields: Tensor, chosen: Tensor, first: int = 0) -> Tensor:
        """Vertex fields at some samples; `first` is the index of the fields' first vertex."""
        corner, weight = self.corners[chosen], self.weights[chosen]
        out = fields[corner[:, 0] - first] * weight[:, 0]
        out += fields[corner[:, 1] - first] * weight[:, 1]
        out += fields[corner[:, 2] - first] * weight[:, 2]
        return out

    def openness(self, chosen: Tensor, size: tuple[int, int], radius: int, drop: float) -> Tensor:
        """`shading.openness` of the chosen samples among themselves."""
        mask = torch.zeros(size[0] * size[1], dtype=torch.bool)
        where = self.index[chosen]
        mask[where] = True
        return shading.openness(mask.view(size), where // size[1], where % size[1], radius, drop)


def _view(index: Tensor, camera: Camera, T_camera_head: Tensor) -> Float[Tensor, "n 3"]:
    """From the surface to the camera, head axes."""
    row, column = index // camera.size[1], index % camera.size[1]
    x = (column + 0.5 - camera.center[0]) / camera.focal[0]
    y = (row + 0.5 - camera.center[1]) / camera.focal[1]
    return shading.unit(-torch.stack([x, y, torch.ones_like(x)], 1) @ T_camera_head[:3, :3])


def _rigid(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and shift that carry points to points (Kabsch 1976)."""
    a, b = before.mean(0), after.mean(0)
    u, _, vh = torch.linalg.svd((before - a).T @ (after - b))
    flip = torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(u @ vh).sign())]))
    turn = (u @ flip @ vh).T
    return turn, b - turn @ a


def _mean(samples: Tensor) -> Tensor:
    """Mean over the samples of each pixel."""
    total = torch.zeros(samples.shape[0] // SAMPLES, samples.shape[1] // SAMPLES, *samples.shape[2:])
    for row in range(SAMPLES):
        for column in range(SAMPLES):
            total += samples[row::SAMPLES, column::SAMPLES]
    return total / SAMPLES**2


def _over(rgb: Tensor, alpha: Tensor, backdrop: Tensor) -> UInt8[Tensor, "h w 3"]:
    return (rgb + (1 - alpha[..., None]) * backdrop.float() + 0.5).clamp(0, 255).to(torch.uint8)
