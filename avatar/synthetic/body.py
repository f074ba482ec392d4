"""The drawable person: all static geometry, textures and baked light, gathered from the rig and the spec."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatar.core import Region
from avatar.face.rig import PersonalRig, Piece
from avatar.synthetic import haircut, light
from avatar.synthetic.anatomy import Anatomy, measure
from avatar.synthetic.clothes import Clothes, dress
from avatar.synthetic.facial_hair import Brows, Lashes, grow_brows, grow_lashes
from avatar.synthetic.haircut import Strands
from avatar.synthetic.ribbons import Ribbons, make_ribbons, tangents
from avatar.synthetic.skin import SkinTexture, paint_skin, texture_coordinates
from avatar.synthetic.spec import SpeakerSpec
from avatar.synthetic.surface import Subdivision, neighbours, smooth, subdivide, vertex_normals

DIRECTIONS = 160
HAIR_KNOTS = 3
"""Points of a strand at which light is baked."""


class Kind(IntEnum):
    """How a triangle's pixels are coloured."""

    SKIN = 0
    EYE = 1
    CAVITY = 2
    TEETH = 3
    TONGUE = 4
    CLOTH = 5
    HAIR = 6
    """Strands of all sorts: their colour comes from the vertices."""


_KIND_OF = {
    Piece.MOUTH_CAVITY: Kind.CAVITY,
    Piece.TONGUE: Kind.TONGUE,
    Piece.UPPER_TEETH: Kind.TEETH,
    Piece.LOWER_TEETH: Kind.TEETH,
    Piece.RIGHT_SOCKET: Kind.CAVITY,
    Piece.LEFT_SOCKET: Kind.CAVITY,
    Piece.RIGHT_EYE: Kind.EYE,
    Piece.LEFT_EYE: Kind.EYE,
}


@dataclass(frozen=True, kw_only=True)
class Body:
    """One person, ready to be posed and drawn. Skin vertices are those of the rig, then midpoints."""

    rig: PersonalRig
    anatomy: Anatomy
    split: Subdivision
    skin_faces: Int[Tensor, "f 3"]
    """Visible triangles of the subdivided rig; the ones below the clothes are left out."""
    skin_kinds: UInt8[Tensor, "f"]
    skin_labels: UInt8[Tensor, "f"]
    rest_normals: Float[Tensor, "v 3"]
    uv: Float[Tensor, "v 2"]
    eye_local: Float[Tensor, "v 3"]
    """Direction from the eyeball's centre in the eyeball's own frame."""
    teeth: Float[Tensor, "v 2"]
    """Metres along the row of teeth from the middle, to the person's left; metres from the biting edge to the gum."""
    texture: SkinTexture
    skin_transfer: tuple[Tensor, Tensor, Tensor]
    """For red, green, blue: rig vertices x directions."""
    skin_seen: Float[Tensor, "v d"]
    """Visibility of the directions from the rig's vertices."""
    clothes: Clothes
    cloth_transfer: Float[Tensor, "v d"]
    strands: Strands
    hair: Ribbons
    hair_tangents: Float[Tensor, "n k 3"]
    hair_outward: Float[Tensor, "n k 3"]
    """Unit vectors away from the middle of the skull."""
    hair_transfer: Float[Tensor, "m d"]
    """m = strands x HAIR_KNOTS."""
    hair_seen: Float[Tensor, "m d"]
    brows: Brows
    brow_ribbons: Ribbons
    lashes: Lashes
    lash_ribbons: Ribbons
    directions: Float[Tensor, "d 3"]
    fit: Float[Tensor, "10 d"]
    """Radiance from the directions to the quadratic of irradiance."""


def build_body(
    rig: PersonalRig, pieces: Tensor, spec: SpeakerSpec, *, strands: int = 7500, texture: int = 1536
) -> Body:
    """Make everything that does not change from frame to frame (some seconds)."""
    anatomy = measure(rig)
    split = subdivide(rig.faces, len(rig.neutral))
    coarse_normals = vertex_normals(rig.neutral, rig.faces)
    fine = split.curved(rig.neutral, coarse_normals)
    clothes = dress(rig, spec)
    hair = haircut.grow(rig, anatomy, spec.hair_style, strands, spec.seed)
    ribbons = make_ribbons(hair.half_width)
    kinds, labels = _kinds(rig, pieces)
    shown = _above_clothes(rig, clothes)
    directions = light.sphere(DIRECTIONS)
    maps = _shadows(rig, clothes, hair, ribbons, directions)
    seen = light.visibility(rig.neutral + 0.002 * coarse_normals, maps)
    cloth_seen = light.visibility(clothes.vertices + 0.003 * clothes.normals, maps, bias=0.008)
    hair_normals, knots = _hair_normals(hair, anatomy)
    hair_seen = light.visibility(knots, maps, bias=0.009)
    along = tangents(hair.points)
    brows, lashes = grow_brows(anatomy, spec), grow_lashes(rig, anatomy, spec.seed)
    samples = light.quadratic(light.sphere(162))
    fit = torch.linalg.pinv(samples) @ (light.sphere(162) @ directions.T).clamp_min(0)
    return Body(
        rig=rig,
        anatomy=anatomy,
        split=split,
        skin_faces=split.faces[shown.repeat(4)],
        skin_kinds=kinds.repeat(4)[shown.repeat(4)],
        skin_labels=labels.repeat(4)[shown.repeat(4)],
        rest_normals=vertex_normals(fine, split.faces),
        uv=texture_coordinates(fine, anatomy.middle),
        eye_local=split.linear(_eye_local(rig)),
        teeth=split.linear(_teeth(rig, pieces, anatomy)),
        texture=paint_skin((fine, split.faces, rig.regions.repeat(4)), anatomy, spec, texture),
        skin_transfer=_skin_transfer(rig, seen, coarse_normals, directions),
        skin_seen=seen,
        clothes=clothes,
        cloth_transfer=light.transfer(cloth_seen, clothes.normals, directions, 0.05),
        strands=hair,
        hair=ribbons,
        hair_tangents=along,
        hair_outward=torch.nn.functional.normalize(hair.points - anatomy.middle, dim=-1),
        hair_transfer=_hair_transfer(hair_seen, hair_normals, along[:, _knots(along)].flatten(0, 1), directions),
        hair_seen=hair_seen,
        brows=brows,
        brow_ribbons=make_ribbons(brows.half_width),
        lashes=lashes,
        lash_ribbons=make_ribbons(lashes.half_width),
        directions=directions,
        fit=fit,
    )


def _knots(points: Tensor) -> Tensor:
    return torch.linspace(0, points.shape[1] - 1, HAIR_KNOTS).round().long()


def _kinds(rig: PersonalRig, pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Kind and `Region` of each rig triangle."""
    kinds = torch.full((len(rig.faces),), int(Kind.SKIN), dtype=torch.uint8)
    for piece, kind in _KIND_OF.items():
        kinds[pieces == piece] = int(kind)
    labels = rig.regions.clone()
    labels[(labels == Region.BROWS) | (labels == Region.HAIR)] = int(Region.SKIN)
    return kinds, labels


def _above_clothes(rig: PersonalRig, clothes: Clothes) -> Tensor:
    """Triangles that the jumper cannot hide."""
    point, normal = clothes.neckline
    height = (rig.neutral - point) @ normal
    near = (rig.neutral - point).norm(dim=1) < 0.11
    return ((height > -0.004) & (near | (rig.skin[:, 2] < 0.5)))[rig.faces].any(1) | (
        rig.skin[rig.faces][..., 2] < 0.3
    ).all(1)


def _shadows(rig: PersonalRig, clothes: Clothes, hair: Strands, ribbons: Ribbons, directions: Tensor) -> tuple:
    """Shadow maps of rig, clothes and hair; strands are drawn wider so that few stand for many."""
    solid = rig.faces[rig.eye_weights.sum(1)[rig.faces].amax(1) < 0.5]
    vertices = torch.cat([rig.neutral, clothes.vertices])
    faces = torch.cat([solid, clothes.faces + len(rig.neutral)])
    thin = make_ribbons(ribbons.half_width[::3] * 1.6)
    points = hair.points[::3]
    middle = points.mean((0, 1))
    wide = thin.vertices(points, middle)
    return light.shadow_maps(torch.cat([vertices, wide]), torch.cat([faces, thin.faces + len(vertices)]), directions)


def _skin_transfer(
    rig: PersonalRig, seen: Tensor, normals: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Red light wanders furthest below the skin: its transfer is blurred over the surface."""
    average = neighbours(rig.faces, len(rig.neutral))
    corners = rig.neutral[rig.faces]
    side = (corners - corners.roll(1, 1)).norm(dim=2).mean(1)
    spacing = torch.zeros(len(rig.neutral)).scatter_reduce_(0, rig.faces.flatten(), side.repeat_interleave(3), "amax")
    # On the neck one step of the mesh is already further than light gets.
    fine = torch.exp(-((spacing / 0.008) ** 2))[:, None]

    def bled(wrap: float, rounds: int) -> Tensor:
        sharp = light.transfer(seen, normals, directions, wrap)
        return sharp + fine * (smooth(sharp, average, rounds) - sharp)

    return bled(0.35, 3), bled(0.18, 1), light.transfer(seen, normals, directions, 0.10)


def _hair_normals(hair: Strands, anatomy: Anatomy) -> tuple[Tensor, Tensor]:
    """Outward directions and places of the knots."""
    knots = hair.points[:, _knots(hair.points)].flatten(0, 1)
    return torch.nn.functional.normalize(knots - anatomy.middle, dim=1), knots


def _hair_transfer(seen: Tensor, normals: Tensor, along: Tensor, directions: Tensor) -> Tensor:
    """Diffuse light of a fibre (Kajiya and Kay 1989), leaning on the hair's surface so that the mass has a shape."""
    sine = (1 - (along @ directions.T).square()).clamp_min(0).sqrt()
    facing = 0.25 + 0.75 * (normals @ directions.T).clamp_min(0)
    return seen * sine * facing


def _eye_local(rig: PersonalRig) -> Tensor:
    centre = rig.eye_weights @ rig.eye_pivots
    away = torch.nn.functional.normalize(rig.neutral - centre, dim=1)
    return torch.where(rig.eye_weights.sum(1, keepdim=True) > 0.99, away, torch.zeros_like(away))


def _teeth(rig: PersonalRig, pieces: Tensor, anatomy: Anatomy) -> Tensor:
    """Place along the row and distance from the biting edge; meaningful on the teeth only."""
    inside = rig.neutral[rig.faces[rig.regions == Region.MOUTH].unique()]
    ahead = inside[(inside[:, 0].abs() < 0.1 * anatomy.unit)][:, 2].amin() + 0.004
    x, z = rig.neutral[:, 0], (rig.neutral[:, 2] - ahead).clamp_min(0)
    out = torch.stack([torch.sign(x) * torch.hypot(x, 0.8 * z), torch.zeros_like(x)], 1)
    for piece, down in ((Piece.UPPER_TEETH, 1.0), (Piece.LOWER_TEETH, -1.0)):
        row = rig.faces[pieces == piece].unique()
        flat, y = rig.neutral[row][:, [0, 2]], rig.neutral[row, 1] * down
        near = torch.cdist(flat, flat) < 0.1 * anatomy.unit
        bite = torch.where(near, y[None], torch.full_like(y, -1.0)[None]).amax(1)
        out[row, 1] = bite - y
    return out
