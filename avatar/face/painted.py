"""Random painted heads: pictures of the Anny rig whose geometry is known, for calibrating landmark detectors.

Procedural skin, lips, brows, lids, irises, teeth and hair; no textures, nobody's face.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor

from avatar.core import Camera, MotionFrame, Region
from avatar.face.arkit import INDEX
from avatar.face.rig import AnnyRig, PersonalRig, Piece
from avatar.ops.mesh import rasterize_mesh
from avatar.ops.rotation import axis_angle_to_matrix

_SIZE = (448, 448)
_SPEECH = ("mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper")
_PAIRED = (
    *("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp"),
    *("browDown", "browOuterUp", "cheekSquint", "noseSneer", "eyeSquint", "eyeWide"),
)
_SKINS = np.array([[0.94, 0.78, 0.68], [0.87, 0.68, 0.55], [0.74, 0.54, 0.41], [0.55, 0.37, 0.27], [0.38, 0.25, 0.18]])
_HAIRS = np.array([[0.08, 0.06, 0.05], [0.22, 0.14, 0.09], [0.42, 0.29, 0.17], [0.68, 0.55, 0.36], [0.55, 0.54, 0.53]])
_IRISES = np.array([[0.22, 0.13, 0.07], [0.35, 0.24, 0.12], [0.33, 0.42, 0.30], [0.36, 0.48, 0.60]])
_BROW = ((0.012, -0.0615), (0.024, -0.0665), (0.036, -0.0690), (0.046, -0.0665), (0.055, -0.0595))


@dataclass(frozen=True, kw_only=True)
class PaintedHead:
    """A picture and what is in it."""

    image: UInt8[np.ndarray, "h w 3"]
    vertices: Float[Tensor, "v 3"]
    """World frame, metres."""
    camera: Camera
    motion: MotionFrame


class HeadPainter:
    """Paints people; holds what does not depend on the person."""

    def __init__(self, rig: AnnyRig):
        self.rig = rig
        faces = rig.faces
        self.canonical = rig.mean.numpy()
        self.soft = {
            region: self._shares(rig.regions == int(region))
            for region in (Region.LIPS, Region.HAIR, Region.TORSO, Region.EYES)
        }
        socket = torch.isin(rig.pieces, torch.tensor([Piece.RIGHT_SOCKET, Piece.LEFT_SOCKET]))
        self.lash = self._touches(socket) * self._touches(rig.pieces == Piece.SKIN)
        self.neighbours = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        a, b = self.neighbours.unbind(1)
        length = (rig.mean[a] - rig.mean[b]).norm(dim=1)
        count = torch.zeros(len(rig.mean)).index_add_(0, a, torch.ones(len(a)))
        self._edge = (torch.zeros(len(rig.mean)).index_add_(0, a, length) / count.clamp_min(1)).clamp_min(5e-4)

    def _touches(self, chosen: Tensor) -> np.ndarray:
        mask = np.zeros(len(self.rig.mean), np.float32)
        mask[self.rig.faces[chosen].unique().numpy()] = 1
        return mask

    def _shares(self, chosen: Tensor) -> np.ndarray:
        """Part of each vertex' triangles that are chosen."""
        total = torch.zeros(len(self.rig.mean))
        some = torch.zeros(len(self.rig.mean))
        for k in range(3):
            total.index_add_(0, self.rig.faces[:, k], torch.ones(len(chosen)))
            some.index_add_(0, self.rig.faces[:, k], chosen.float())
        return (some / total.clamp_min(1)).numpy()

    def smoothed(self, vertices: Float[Tensor, "v 3"], rounds: int) -> Float[Tensor, "v 3"]:
        """Laplacian smoothing: every vertex goes to the mean of its neighbours, `rounds` times."""
        a, b = self.neighbours.unbind(1)
        count = torch.zeros(len(vertices)).index_add_(0, a, torch.ones(len(a))).index_add_(0, b, torch.ones(len(a)))
        for _ in range(rounds):
            total = torch.zeros_like(vertices).index_add_(0, a, vertices[b]).index_add_(0, b, vertices[a])
            vertices = total / count[:, None].clamp_min(1)
        return vertices

    def normals(self, vertices: Float[Tensor, "v 3"]) -> Float[Tensor, "v 3"]:
        """Outward unit normals, weighted by area."""
        a, b, c = vertices[self.rig.faces].unbind(1)
        face = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(vertices)
        for k in range(3):
            total.index_add_(0, self.rig.faces[:, k], face)
        return torch.nn.functional.normalize(total, dim=1)

    def paint(self, rng: np.random.Generator) -> PaintedHead:
        """A random person with a random expression in a random light."""
        identity = torch.from_numpy(rng.normal(0, 0.9, self.rig.identity_size).clip(-2.2, 2.2).astype(np.float32))
        personal = self.rig.personal(identity)
        motion = random_motion(rng)
        camera = random_camera(rng, float(motion.T_world_head[2, 3]))
        vertices = personal.posed(motion)
        seen, barycentric = self._visible(vertices, camera)
        picture = self._background(rng)
        rows, columns = np.nonzero(seen >= 0)
        triangles, weights = seen[rows, columns], barycentric[rows, columns]
        picture[rows, columns] = self._shade(personal, vertices, (triangles, weights), rng)
        picture = gaussian_filter(picture, (rng.uniform(0.4, 0.9),) * 2 + (0,))
        picture += rng.normal(0, rng.uniform(0.0, 0.015), picture.shape)
        image = (picture.clip(0, 1) * 255).round().astype(np.uint8)
        return PaintedHead(image=image, vertices=vertices, camera=camera, motion=motion)

    def _visible(self, vertices: Tensor, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Triangle and barycentric coordinates of each pixel; triangles that look away are left out."""
        corners = vertices[self.rig.faces]
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        front = ((normal * corners[:, 0]).sum(1) < 0).nonzero()[:, 0]
        seen, weights, _ = rasterize_mesh(vertices, self.rig.faces[front], camera.focal, camera.center, camera.size)
        return torch.where(seen >= 0, front[seen.clamp_min(0)], -1).numpy(), weights.numpy()

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        coarse = rng.uniform(0, 1, (6, 6, 3)) * rng.uniform(0.1, 0.6) + rng.uniform(0, 0.4)
        full = np.kron(coarse, np.ones((_SIZE[0] // 6 + 1, _SIZE[1] // 6 + 1, 1)))[: _SIZE[0], : _SIZE[1]]
        return gaussian_filter(full, (25, 25, 0))

    def _shade(
        self, personal: PersonalRig, vertices: Tensor, seen: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """Colours [p 3] of the pixels that see the head, given by triangles and barycentric coordinates."""
        triangles, weights = seen
        faces = self.rig.faces.numpy()[triangles]

        def spread(values: np.ndarray) -> np.ndarray:
            return (values[faces] * weights.reshape(len(faces), 3, *[1] * (values.ndim - 1))).sum(1)

        normals = self.normals(vertices)
        hollow = (((self.smoothed(vertices, 3) - vertices) * normals).sum(1) / self._edge).numpy()
        albedo = self._albedo(personal, triangles, spread, rng)
        light = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.1), rng.uniform(-1.2, -0.5)])
        light /= np.linalg.norm(light)
        normal = spread(normals.numpy())
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-6)
        ambient = rng.uniform(0.35, 0.75)
        lambert = (normal @ light * 0.5 + 0.5).clip(0, 1) ** 1.5
        shade = ambient + (1.15 - ambient) * lambert
        shade *= 1 - (0.9 * spread(hollow)).clip(-0.1, 0.45)
        half = light + np.array([0, 0, -1.0])
        gloss = (normal @ (half / np.linalg.norm(half))).clip(0, 1) ** 24 * rng.uniform(0, 0.18)
        return albedo * shade[:, None] + gloss[:, None]

    def _albedo(self, personal: PersonalRig, triangles: np.ndarray, spread, rng: np.random.Generator) -> np.ndarray:
        place = spread(self.canonical)
        x, y = np.abs(place[:, 0]), place[:, 1]
        tone = rng.uniform(0, len(_SKINS) - 1)
        skin = _between(_SKINS, tone) * rng.uniform(0.9, 1.08, 3)
        hair = _between(_HAIRS, rng.uniform(0, len(_HAIRS) - 1))
        colour = np.tile(skin, (len(triangles), 1))
        flush = np.exp(-(((x - 0.042) / 0.02) ** 2) - ((y + 0.005) / 0.018) ** 2)
        colour *= 1 - rng.uniform(0, 0.18) * flush[:, None] * np.array([0, 1, 0.9])
        nostril = np.exp(-(((x - 0.008) / 0.0055) ** 2) - ((y - 0.0105) / 0.004) ** 2) * (place[:, 2] < -0.095)
        colour *= 1 - 0.85 * nostril[:, None]
        lips = _step(spread(self.soft[Region.LIPS]), 0.35, 0.75)[:, None]
        rouge = skin * np.array([0.95, rng.uniform(0.5, 0.78), rng.uniform(0.5, 0.8)])
        colour = colour * (1 - lips) + rouge * lips
        line = np.interp(x, *np.array(_BROW).T) + rng.normal(0, 0.001)
        thick = rng.uniform(0.0025, 0.0048) * np.interp(x, [0.012, 0.02, 0.045, 0.055], [0.7, 1, 0.8, 0.2])
        brow = (1 - _step(np.abs(y - line) / thick, 0.6, 1.2)) * (x > 0.011) * (x < 0.056) * (place[:, 2] < -0.06)
        brow = (brow * rng.uniform(0.5, 0.95) * (1 + 0.2 * np.sin(place[:, 0] * 4000 + y * 2500)))[:, None].clip(0, 1)
        colour = colour * (1 - brow) + hair * 0.7 * brow
        lash = (_step(spread(self.lash), 0.05, 0.7) * rng.uniform(0.5, 0.95))[:, None]
        colour = colour * (1 - lash) + 0.08 * lash
        scalp = _step(spread(self.soft[Region.HAIR]), 0.4, 0.6)[:, None] * (rng.random() < 0.9)
        strands = 1 + 0.25 * np.sin(place[:, 0] * 2300 + 3 * np.sin(place[:, 2] * 900))[:, None]
        colour = colour * (1 - scalp) + hair * strands * scalp
        cloth = _step(spread(self.soft[Region.TORSO]), 0.4, 0.6)[:, None]
        colour = colour * (1 - cloth) + rng.uniform(0.05, 0.9, 3) * cloth
        return self._inner(personal, triangles, spread, colour, rng)

    def _inner(
        self, personal: PersonalRig, triangles: np.ndarray, spread, colour: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Overpaint the pixels of mouth and eyes."""
        piece = self.rig.pieces.numpy()[triangles]
        tooth = np.array([0.86, 0.83, 0.76]) * rng.uniform(0.75, 1)
        paints = {
            Piece.MOUTH_CAVITY: np.array([0.25, 0.07, 0.07]),
            Piece.TONGUE: np.array([0.66, 0.33, 0.32]),
            Piece.UPPER_TEETH: tooth,
            Piece.LOWER_TEETH: tooth * 0.85,
            Piece.RIGHT_SOCKET: np.array([0.62, 0.40, 0.36]),
            Piece.LEFT_SOCKET: np.array([0.62, 0.40, 0.36]),
        }
        for kind, paint in paints.items():
            colour[piece == kind] = paint
        inside = (piece >= Piece.MOUTH_CAVITY) & (piece <= Piece.LOWER_TEETH)
        depth = spread(self.canonical)[inside, 2]
        colour[inside] *= np.interp(depth, [-0.105, -0.075], [1.0, 0.2])[:, None]
        iris = _between(_IRISES, rng.uniform(0, len(_IRISES) - 1))
        radius, pupil = rng.uniform(21, 24), rng.uniform(5, 10)
        neutral = spread(personal.neutral.numpy())
        for side, kind in enumerate((Piece.RIGHT_EYE, Piece.LEFT_EYE)):
            here = piece == kind
            ray = neutral[here] - personal.eye_pivots[side].numpy()
            angle = np.degrees(np.arccos((-ray[:, 2] / np.linalg.norm(ray, axis=1).clip(1e-9)).clip(-1, 1)))[:, None]
            white = np.array([0.90, 0.87, 0.85]) * (1 - 0.3 * _step(angle, 25, 65))
            ring = iris * (1 - 0.5 * _step(angle, radius - 5, radius))
            eye = white + (ring - white) * (1 - _step(angle, radius - 1, radius + 1.5))
            colour[here] = eye * _step(angle, pupil - 1, pupil + 1)
        return colour


def _between(table: np.ndarray, position: float) -> np.ndarray:
    low = min(int(position), len(table) - 2)
    return table[low] + (table[low + 1] - table[low]) * (position - low)


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((value - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def random_motion(rng: np.random.Generator) -> MotionFrame:
    """Yaw +-35, pitch +-20, roll +-12 degrees; a quarter of the faces rest, the others speak, laugh, blink."""
    expression = np.zeros(52, np.float32)
    if rng.random() > 0.25:
        expression[INDEX["jawOpen"]] = rng.uniform(0, 0.75) * (rng.random() < 0.65)
        for name in _SPEECH:
            expression[INDEX[name]] = rng.uniform(0, 0.8) * (rng.random() < 0.15)
        for name in _PAIRED:
            level = rng.uniform(0, 0.9) * (rng.random() < 0.2)
            for side in ("Left", "Right"):
                expression[INDEX[name + side]] = min(level * rng.uniform(0.6, 1.2), 1.0)
        blink = rng.uniform(0, 1) * (rng.random() < 0.3)
        expression[[INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]] = blink
        expression[INDEX["browInnerUp"]] = rng.uniform(0, 0.8) * (rng.random() < 0.2)
    turn = np.radians([rng.uniform(-20, 20), rng.uniform(-35, 35), rng.uniform(-12, 12)]).astype(np.float32)
    rotation = axis_angle_to_matrix(torch.tensor([0.0, turn[1], 0])) @ axis_angle_to_matrix(
        torch.tensor([float(turn[0]), 0, 0])
    )
    pose = torch.eye(4)
    pose[:3, :3] = rotation @ axis_angle_to_matrix(torch.tensor([0.0, 0, float(turn[2])]))
    distance = rng.uniform(0.5, 1.2)
    pose[:3, 3] = torch.tensor([rng.uniform(-0.02, 0.02), rng.uniform(0.0, 0.06), distance], dtype=torch.float32)
    gaze = np.radians([rng.normal(0, 10), rng.normal(0, 6)])
    return MotionFrame(
        expression=torch.from_numpy(expression),
        T_world_head=pose,
        neck=torch.from_numpy(0.4 * turn),
        gaze=torch.tensor(np.stack([gaze, gaze]), dtype=torch.float32),
    )


def random_camera(rng: np.random.Generator, distance: float) -> Camera:
    """At the world's origin; the focal length is set so that faces fill much of the picture at any distance."""
    focal = float(rng.uniform(1200, 1700)) * distance
    height, width = _SIZE
    return Camera(T_world_camera=torch.eye(4), focal=(focal, focal), center=(width / 2, height / 2), size=_SIZE)
