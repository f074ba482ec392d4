"""Other face models as rigs. What a model's file lacks is carried over from the Anny rig laid upon its mean face.

Native: identity basis, mesh, and where the file has them (FLAME) skin weights, joints and eyeballs. An ARKit action is
the model's own expression basis (and jaw) wherever that follows the carried movement well enough, else the carried
movement itself. Always carried: landmarks (unless an embedding is given), regions, the scale of the actions.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from avatar.core import Region
from avatar.errors import InputError
from avatar.face.arkit import INDEX, NAMES
from avatar.face.calibration import LOWER_LIDS, UPPER_LIDS
from avatar.face.registration import Registration, nose_tip, outer_pieces, register
from avatar.face.rig import AbstractRig, AnnyRig, LandmarkTable, PersonalRig, Piece
from avatar.face.surface import Nearest, Surface, rim, vertex_normals

_FOLLOWS = 0.75
"""An action is the model's own when its basis explains this part of the carried movement (squared length)."""
_FAITH = 0.0005
"""Metres of error that weigh as much as an expression coefficient of one standard deviation."""
_FAR = 0.006
"""Metres from the Anny surface beyond which a landmark is not carried over; nor is one at the edge of a mask."""
_STRAIN, _GROWTH = 0.035, 1.25
"""Mean distance (metres) by which Anny may be bent, and how much larger or smaller a model may be."""
_WORST = 0.006
"""Median distance (metres) of the surfaces above which the file is no face in a known pose."""
_CORNERS = (33, 263, 168, 4)
"""Landmarks without which no head is followed: outer corners of the eyes, bridge and tip of the nose."""
_FACE = [int(r) for r in (Region.SKIN, Region.BROWS, Region.NOSE, Region.LIPS, Region.MOUTH)]


@dataclass(frozen=True, kw_only=True)
class Joints:
    """What a model's file says about its bones, head axes."""

    skin: Float[np.ndarray, "v 3"]
    """Weights of head, neck and torso."""
    eye_weights: Float[np.ndarray, "v 2"]
    """(right, left)."""
    pivots_mean: Float[np.ndarray, "4 3"]
    """Skull's joint, base of the neck, right eye, left eye; metres."""
    pivots_modes: Float[np.ndarray, "i 4 3"]


@dataclass(frozen=True, kw_only=True)
class MorphableModel:
    """A linear face model as its file has it, in metres; axes as in the head frame (+x the person's left, +y down)."""

    name: str
    mean: Float[np.ndarray, "v 3"]
    modes: Float[np.ndarray, "i v 3"]
    """Identity, one standard deviation each."""
    expressions: Float[np.ndarray, "e v 3"]
    """Everything that can move the face, one typical size each; may be empty."""
    faces: Int[np.ndarray, "f 3"]
    joints: Joints | None = None


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Some of MediaPipe's landmarks on a model's own mesh, from a file of its authors."""

    landmarks: Int[np.ndarray, "l"]
    triangles: Int[np.ndarray, "l"]
    barycentric: Float[np.ndarray, "l 3"]


class MorphableRig(AbstractRig):
    """A face model that can be fitted and driven like the Anny rig; make it with `as_rig`."""

    NATIVE = _FOLLOWS

    def __init__(self, tensors: dict[str, Tensor], landmarks: LandmarkTable, explained: dict[str, float]) -> None:
        """Args: `tensors` hold the mean head, modes [i v 3], pivots [4 3] with modes, and what `PersonalRig` has."""
        self._tensors, self.landmarks = tensors, landmarks
        self.explained = explained
        """Which part of each carried action the model's own expressions can follow; they are used from `NATIVE` on."""
        mean = landmarks.points(tensors["mean"], tensors["faces"])
        self._open = _lid_gaps(mean)

    @property
    def identity_size(self) -> int:
        return len(self._tensors["modes"])

    def neutral(self, identity: Float[Tensor, "*b i"]) -> Float[Tensor, "*b v 3"]:
        mean, modes = self._tensors["mean"], self._tensors["modes"]
        return mean + (identity @ modes.flatten(1)).unflatten(-1, mean.shape)

    def personal(self, identity: Float[Tensor, "i"], offsets: Float[Tensor, "v 3"] | None = None) -> PersonalRig:
        own = self._tensors
        neutral, weights = self.neutral(identity), own["eye_weights"]
        pivots = own["pivots_mean"] + (identity @ own["pivots_modes"].flatten(1)).unflatten(-1, (4, 3))
        eyes = pivots[2:]
        if offsets is not None:
            neutral = neutral + offsets
            eyes = eyes + weights.T @ offsets / weights.sum(0)[:, None].clamp_min(1e-6)
        return PersonalRig(
            neutral=neutral,
            actions=self._fitted_actions(neutral),
            faces=own["faces"],
            regions=own["regions"],
            skin=own["skin"],
            neck_pivots=pivots[:2],
            eye_weights=weights,
            eye_pivots=eyes,
            uv=own["uv"],
        )

    def _fitted_actions(self, neutral: Float[Tensor, "v 3"]) -> Float[Tensor, "52 v 3"]:
        """Blinks go as far as this person's eyes are open."""
        actions = self._tensors["actions"].clone()
        gaps = _lid_gaps(self.landmarks.points(neutral, self._tensors["faces"]))
        for side, name in enumerate(("eyeBlinkRight", "eyeBlinkLeft")):
            actions[INDEX[name]] *= (gaps[side] / self._open[side].clamp_min(1e-4)).clamp(0.3, 2.0)
        return actions


def _lid_gaps(points: Float[Tensor, "478 3"]) -> Float[Tensor, "2"]:
    upper, lower = (points[torch.from_numpy(table[:, 2:5])] for table in (UPPER_LIDS, LOWER_LIDS))
    return (lower - upper)[..., 1].mean(1)


def as_rig(model: MorphableModel, anny: AnnyRig, embedding: Embedding | None = None) -> MorphableRig:
    """Make a rig of a face model.

    Raises:
        InputError: if the mean is no face in the axes that such files have.
    """
    if embedding is not None and embedding.triangles.max() >= len(model.faces):
        raise InputError("the landmark file names triangles that the head model lacks; give the one made for it")
    registration = register(anny, model.mean, model.faces, _first_shift(model, anny))
    if registration.error > _WORST:
        raise InputError(
            f"{model.name}: its mean face lies {1000 * registration.error:.0f} mm beside the known one; give the "
            "unchanged published file"
        )
    strain = float(np.linalg.norm(registration.person.neutral.numpy() - anny.mean.numpy(), axis=1).mean())
    if strain > _STRAIN or not 1 / _GROWTH < registration.scale < _GROWTH:
        raise InputError(
            f"{model.name}: its mean is no face in metres that the known one fits (scale {registration.scale:.2f}, "
            f"{1000 * strain:.0f} mm of bending); give the unchanged published file"
        )
    if model.joints is None:
        model = _with_eyeballs(model, anny, registration)
    near = _on_anny(model, anny, registration)
    carried = _carried(registration, near, model)
    actions, explained = _native_actions(model, carried, _regions(model, anny, near))
    return _assembled(model, anny, registration, (actions, explained, embedding))


def _first_shift(model: MorphableModel, anny: AnnyRig) -> Float[np.ndarray, "3"]:
    if model.joints is not None:
        return anny.pivots_mean[2:].double().numpy().mean(0) - model.joints.pivots_mean[2:].mean(0)
    return nose_tip(anny.mean.double().numpy()) - nose_tip(model.mean)


def _on_anny(model: MorphableModel, anny: AnnyRig, registration: Registration) -> Nearest:
    """The nearest point of the laid over Anny head for each vertex."""
    placed = registration.to_anny(model.mean)
    return _surface(anny, registration).nearest(placed, vertex_normals(placed, model.faces))


def _surface(anny: AnnyRig, registration: Registration) -> Surface:
    return Surface(registration.person.neutral.double().numpy(), anny.faces.numpy(), allowed=outer_pieces(anny))


def _carried(registration: Registration, near: Nearest, model: MorphableModel) -> Float[np.ndarray, "52 v 3"]:
    """Anny's actions at the model's vertices, in its size and axes; eyeballs stay."""
    person = registration.person
    corners = person.faces.numpy()[near.triangle]
    moved = np.einsum("avci,vc->avi", person.actions.double().numpy()[:, corners], near.barycentric)
    moved = moved @ registration.rotation / registration.scale
    assert model.joints is not None
    return moved * (1 - model.joints.eye_weights.sum(1).clip(0, 1))[:, None]


def _regions(model: MorphableModel, anny: AnnyRig, near: Nearest) -> UInt8[np.ndarray, "v"]:
    """Of the vertices."""
    assert model.joints is not None
    regions = anny.regions.numpy()[near.triangle].copy()
    regions[model.joints.eye_weights.max(1) > 0.5] = int(Region.EYES)
    return regions


def _face_regions(model: MorphableModel, anny: AnnyRig, registration: Registration) -> UInt8[np.ndarray, "f"]:
    """Of the triangles, by their centres."""
    corners = registration.to_anny(model.mean)[model.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15)
    found = _surface(anny, registration).nearest(corners.mean(1), normals)
    regions = anny.regions.numpy()[found.triangle].copy()
    assert model.joints is not None
    regions[(model.joints.eye_weights[model.faces].max(2) > 0.5).all(1)] = int(Region.EYES)
    return regions


def _native_actions(
    model: MorphableModel, carried: Float[np.ndarray, "52 v 3"], regions: UInt8[np.ndarray, "v"]
) -> tuple[Float[np.ndarray, "52 v 3"], dict[str, float]]:
    """Carried actions, replaced by the model's own movement where that follows them."""
    explained = dict.fromkeys(NAMES, 0.0)
    if not len(model.expressions):
        return carried, explained
    face = np.isin(regions, _FACE)
    basis = model.expressions[:, face].reshape(len(model.expressions), -1)
    normal = basis @ basis.T + _FAITH**2 * face.sum() ** 0.5 * np.eye(len(basis))
    out = carried.copy()
    for index, name in enumerate(NAMES):
        wanted = carried[index][face].reshape(-1)
        length = float(wanted @ wanted)
        if length < 1e-12:
            continue
        amounts = np.linalg.solve(normal, basis @ wanted)
        rest = wanted - amounts @ basis
        explained[name] = max(1 - float(rest @ rest) / length, 0.0)
        if explained[name] >= _FOLLOWS:
            out[index] = np.tensordot(amounts, model.expressions, 1)
    return out, explained


def _assembled(
    model: MorphableModel,
    anny: AnnyRig,
    registration: Registration,
    found: tuple[np.ndarray, dict[str, float], Embedding | None],
) -> MorphableRig:
    """Everything in the head frame: axes of the Anny head, origin at the skull's joint, the model's own size."""
    actions, explained, embedding = found
    joints, turn = model.joints, registration.rotation.T
    assert joints is not None
    origin = joints.pivots_mean[0]
    moved = joints.pivots_modes[:, :1]
    tensors = {
        "mean": (model.mean - origin) @ turn,
        "modes": (model.modes - moved) @ turn,
        "actions": actions @ turn,
        "pivots_mean": (joints.pivots_mean - origin) @ turn,
        "pivots_modes": (joints.pivots_modes - moved) @ turn,
        "skin": joints.skin / joints.skin.sum(1, keepdims=True),
        "eye_weights": joints.eye_weights,
        "uv": _around(registration.to_anny(model.mean), model.faces),
    }
    floats = {name: torch.from_numpy(np.ascontiguousarray(value)).float() for name, value in tensors.items()}
    regions = _face_regions(model, anny, registration)
    whole = {"faces": torch.from_numpy(model.faces).long(), "regions": torch.from_numpy(regions)}
    table = _embedded(_landmarks(model, anny, registration), embedding)
    if not table.usable[list(_CORNERS)].all():
        raise InputError(f"{model.name}: the corners of its eyes and its nose were not found; give the published file")
    return MorphableRig({**floats, **whole}, table, explained)


def _landmarks(model: MorphableModel, anny: AnnyRig, registration: Registration) -> LandmarkTable:
    """Anny's landmarks at the nearest points of the model; irises on its eyeballs."""
    table, person = anny.landmarks, registration.person
    points = table.points(person.neutral, person.faces).double().numpy()
    corners = person.neutral.double().numpy()[person.faces.numpy()[table.triangles.numpy()]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15)
    assert model.joints is not None
    placed = registration.to_anny(model.mean)
    on_eye = (model.joints.eye_weights[model.faces] > 0.5).all(1)
    edge = rim(model.faces, len(model.mean))[model.faces].any(1)
    triangles, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    near = np.zeros(len(points), bool)
    parts = ((slice(0, 468), ~on_eye.any(1)), (slice(468, 473), on_eye[:, 0]), (slice(473, 478), on_eye[:, 1]))
    for part, allowed in parts:
        if allowed.any():
            found = Surface(placed, model.faces, allowed=allowed).nearest(points[part], normals[part])
            triangles[part], weights[part] = found.triangle, found.barycentric
            near[part] = (found.distance < _FAR) & ~(edge[found.triangle] & (part.start == 0))
    return LandmarkTable(
        triangles=torch.from_numpy(triangles),
        barycentric=torch.from_numpy(weights).float(),
        sigma=table.sigma,
        usable=table.usable & torch.from_numpy(near),
    )


def _embedded(table: LandmarkTable, embedding: Embedding | None) -> LandmarkTable:
    """With the points of an embedding in place of those carried over."""
    if embedding is None:
        return table
    where = torch.from_numpy(embedding.landmarks)
    triangles, barycentric, usable = table.triangles.clone(), table.barycentric.clone(), table.usable.clone()
    triangles[where] = torch.from_numpy(embedding.triangles)
    barycentric[where] = torch.from_numpy(embedding.barycentric).float()
    usable[where] = True
    return replace(table, triangles=triangles, barycentric=barycentric, usable=usable)


def _with_eyeballs(model: MorphableModel, anny: AnnyRig, registration: Registration) -> MorphableModel:
    """A mask without bones gets Anny's eyeballs in place of its own eye surface, and Anny's neck."""
    person = registration.person
    pieces, mine = anny.pieces.numpy(), person.neutral.double().numpy()
    balls = np.isin(pieces, [int(Piece.RIGHT_EYE), int(Piece.LEFT_EYE)])
    kept_pieces = outer_pieces(anny) | balls
    placed = registration.to_anny(model.mean)
    near = Surface(mine, anny.faces.numpy(), allowed=kept_pieces).nearest(placed, vertex_normals(placed, model.faces))
    faces = model.faces[~balls[near.triangle][model.faces].all(1)]
    index = np.unique(anny.faces.numpy()[balls])
    number = np.full(len(mine), -1)
    number[index] = np.arange(len(index)) + len(model.mean)

    def back(points: np.ndarray) -> np.ndarray:
        return (points - registration.shift) @ registration.rotation / registration.scale

    pivots = back(torch.cat([person.neck_pivots, person.eye_pivots]).double().numpy())
    away = np.linalg.norm(model.mean[:, None] - pivots[2:], axis=-1)
    share = np.exp(-0.5 * (away / 0.012) ** 2) + 1e-12
    eye_modes = np.einsum("vs,ivk->isk", share / share.sum(0), model.modes)  # eyes go with what surrounds them
    ball_weights = anny.eye_weights.double().numpy()[index]
    ball_modes = np.einsum("ws,isk->iwk", ball_weights, eye_modes)
    skin = np.einsum("vck,vc->vk", person.skin.double().numpy()[anny.faces.numpy()[near.triangle]], near.barycentric)
    head = np.tile([1.0, 0, 0], (len(index), 1))
    empty = np.zeros((len(model.expressions), len(index), 3))
    joints = Joints(
        skin=np.concatenate([skin, head]),
        eye_weights=np.concatenate([np.zeros((len(model.mean), 2)), ball_weights]),
        pivots_mean=pivots,
        pivots_modes=np.concatenate([np.zeros((len(model.modes), 2, 3)), eye_modes], 1),
    )
    return replace(
        model,
        mean=np.concatenate([model.mean, back(mine[index])]),
        modes=np.concatenate([model.modes, ball_modes], 1),
        expressions=np.concatenate([model.expressions, empty], 1),
        faces=np.concatenate([faces, number[anny.faces.numpy()[balls]]]),
        joints=joints,
    )


def _around(points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 2"]:
    """Texture coordinates around the head like a can's label, cut at the back; such files have none of their own."""
    across = np.arctan2(points[:, 0], -points[:, 2]) / (2 * np.pi) + 0.5
    low, high = points[:, 1].min(), points[:, 1].max()
    up = (high - points[:, 1]) / max(high - low, 1e-9)
    uv = np.stack([across, up], 1)[faces]
    wide = np.ptp(uv[..., 0], axis=1) > 0.5
    uv[wide, :, 0] = np.where(uv[wide, :, 0] < 0.5, 1.0, uv[wide, :, 0])
    return uv
