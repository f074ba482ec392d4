"""Region of each pixel from the posed rig, the landmarks, the person mask and colour. Needs OpenCV."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from avatar.core import Camera, MotionFrame, Region
from avatar.face.complexion import Complexion
from avatar.face.matting import Plate, PlateBuilder, guided_alpha, refined_alpha, scaled
from avatar.face.rig import PersonalRig
from avatar.ops.mesh import rasterize_mesh

OUTER_LIPS = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
INNER_LIPS = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]
EYES = (
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
    [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466],
)
BROWS = ([70, 63, 105, 66, 107, 55, 65, 52, 53, 46], [300, 293, 334, 296, 336, 285, 295, 282, 283, 276])
FACE_OVAL = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
]  # fmt: skip
_JAW = [58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288]
_LABELS = np.arange(256)
_HEAD = (_LABELS >= Region.SKIN) & (_LABELS <= Region.EARS)
"""Tables over labels: parts of the head; bare skin; what hair may cover; what long hair may cover."""
_BARE = np.isin(_LABELS, [Region.SKIN, Region.NOSE, Region.EARS, Region.NECK])
_RIM = np.isin(_LABELS, [Region.SKIN, Region.EARS])
_BELOW = np.isin(_LABELS, [Region.NECK, Region.TORSO])
_TOLD_APART = 1.0
"""Mean evidence of hair's own pixels from which its colour tells it from skin."""
_SURVEYED = 40
"""Frames from which colours are learned."""


@dataclass(frozen=True, kw_only=True)
class ParsedFrame:
    """Maps of one frame."""

    labels: UInt8[np.ndarray, "h w"]
    """A `core.Region` for each pixel."""
    alpha: UInt8[np.ndarray, "h w"]
    """Coverage by the person; 255 is all person."""


class Parser:
    """Parses the frames of one clip in two passes: first `survey` those of `survey_indices`, then `parse` all."""

    def __init__(self, rig: PersonalRig, camera: Camera, frames: int) -> None:
        self._rig, self._camera = rig, camera
        height, width = camera.size
        self._small = camera.resized((height + 1) // 2, (width + 1) // 2)
        self._regions = np.concatenate([rig.regions.numpy(), [int(Region.BACKGROUND)]]).astype(np.uint8)
        self._builder = PlateBuilder(camera.size, frames)
        self._complexion = Complexion()
        self.survey_indices = self._builder.indices
        step = max(len(self.survey_indices) // _SURVEYED, 1)
        self._coloured = set(self.survey_indices[::step])
        self._plate: Plate | None = None

    def rig_regions(self, motion: MotionFrame) -> UInt8[np.ndarray, "h w"]:
        """What the posed rig shows; background outside of it. Half of the picture's size: edges come from the alpha."""
        world = self._rig.posed(motion)
        T = self._small.T_camera_world.to(world)
        local = world @ T[:3, :3].T + T[:3, 3]
        triangle, _, _ = rasterize_mesh(local, self._rig.faces, self._small.focal, self._small.center, self._small.size)
        return self._regions[triangle.numpy()]

    def survey(
        self, index: int, frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], motion: MotionFrame | None
    ) -> None:
        """Learn background and colours from a frame; `motion` is None where no face was found."""
        alpha = guided_alpha(frame, mask)
        if motion is not None and index in self._coloured:
            regions = self.rig_regions(motion)
            alpha = _only_subject(alpha, regions)
            self._complexion.add(_resized(frame, regions), _sure(_resized(alpha, regions), regions))
        self._builder.add(frame, alpha)

    @property
    def plate(self) -> Plate:
        """The clean background; the survey ends with the first look at it."""
        if self._plate is None:
            self._plate = self._builder.finish()
        return self._plate

    def parse(
        self,
        frame: UInt8[np.ndarray, "h w 3"],
        mask: UInt8[np.ndarray, "h w"],
        motion: MotionFrame,
        landmarks_px: Float[np.ndarray, "478 2"] | None,
    ) -> ParsedFrame:
        """Label one frame.

        Args:
            mask: coarse person mask, 255 is person.
            landmarks_px: None where no face was found; the rig alone speaks then.
        """
        regions = self.rig_regions(motion)
        alpha = _only_subject(guided_alpha(frame, mask), regions)
        alpha = refined_alpha(frame, alpha, self.plate, _doubled(regions > 0, alpha.shape))
        person = alpha > 0.5
        points = None if landmarks_px is None else landmarks_px / 2
        small = self._labels(_resized(frame, regions), _resized(alpha, regions) > 0.5, regions, points)
        labels = _doubled(small, person.shape) * person
        if landmarks_px is not None:
            _draw_features(labels, person, landmarks_px)
        return ParsedFrame(labels=labels, alpha=np.round(alpha * 255).astype(np.uint8))

    def skin_evidence(self, frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Log of how much more likely skin is than hair; than clothes where this person's hair looks like skin."""
        other = "hair" if self._complexion.divergence("hair", "skin") > _TOLD_APART else "cloth"
        return self._complexion.evidence(frame, ("skin", other))[0]

    def _labels(
        self,
        frame: np.ndarray,
        person: Bool[np.ndarray, "h w"],
        regions: UInt8[np.ndarray, "h w"],
        landmarks_px: np.ndarray | None,
    ) -> UInt8[np.ndarray, "h w"]:
        nearest = _nearest(regions)
        hair_skin, hair_cloth = self._complexion.evidence(frame, ("hair", "skin"), ("hair", "cloth"))
        cloth_skin = hair_skin - hair_cloth
        on, head = regions > 0, _HEAD[nearest]
        inner, below_chin, low = _face_parts(regions.shape, landmarks_px)
        labels = nearest.copy()
        labels[head & ~on] = Region.HAIR
        labels[head & ~on & low & (hair_cloth < 0)] = Region.TORSO
        labels[(nearest == Region.HAIR) & on & (hair_skin < -0.5)] = Region.SKIN
        labels[_RIM[labels] & ~inner & (hair_skin > 0.5)] = Region.HAIR
        labels[(nearest == Region.NECK) & (cloth_skin > 0.5)] = Region.TORSO
        bare = (nearest == Region.TORSO) & (cloth_skin < -2.5) & (hair_skin < 0)
        labels[_reached((labels == Region.NECK) & person, bare & person)] = Region.NECK
        hair = _majority((labels == Region.HAIR) & person)
        speck = (labels == Region.HAIR) & ~hair
        labels[speck] = Region.SKIN
        labels[speck & low & ~below_chin & ~inner] = Region.TORSO
        long = _BELOW[nearest] & (hair_skin > 0.5) & (hair_cloth > 0.5) & person
        top = hair & ~low  # what hangs down hangs together with what grows
        hair = _majority(top | _reached(top, long | hair)) & ~below_chin & ~inner
        labels[(labels == Region.HAIR) & below_chin] = Region.NECK
        labels[(labels == Region.HAIR) & low & ~hair] = Region.TORSO
        labels[_RIM[labels] & hair] = Region.HAIR
        labels[_BELOW[labels] & hair] = Region.HAIR
        bare = _BARE[labels] & person
        if inner.any():  # skin that does not hang together with the face is a bright strand
            labels[bare & (labels == Region.SKIN) & ~low & ~inner & ~_reached(inner & bare, bare)] = Region.HAIR
        return labels


def _resized(picture: np.ndarray, like: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(picture, like.shape[1::-1], interpolation=cv2.INTER_AREA)


def _doubled(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each pixel four times, cut to `shape`."""
    import cv2

    size = (2 * small.shape[1], 2 * small.shape[0])
    twice = cv2.resize(small.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return twice.view(small.dtype)[: shape[0], : shape[1]]


def _only_subject(alpha: Float[np.ndarray, "h w"], regions: UInt8[np.ndarray, "i j"]) -> Float[np.ndarray, "h w"]:
    """Other people's pieces of the mask, which do not touch the rig, are background."""
    import cv2

    small = _resized(alpha, regions)
    count, pieces = cv2.connectedComponents((small > 0.1).astype(np.uint8))
    hit = np.bincount(pieces[regions > 0], minlength=count)
    hit[0] = 0
    keep = hit > 0.02 * hit.sum()
    if count <= 2 or not keep.any():
        return alpha
    # Pixels of no piece belong to the nearest one: at the kept pieces' edges the coverage falls to 0 softly.
    near = cv2.dilate(keep[pieces].astype(np.uint8), np.ones((5, 5), np.uint8))
    return alpha * cv2.resize(near, alpha.shape[::-1], interpolation=cv2.INTER_NEAREST)


def _sure(alpha: np.ndarray, regions: np.ndarray) -> dict[str, np.ndarray]:
    """Pixels whose kind follows from their place alone."""
    import cv2

    person = cv2.erode((alpha > 0.97).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0

    def core(*kinds: Region) -> np.ndarray:
        mask = np.isin(regions, kinds).astype(np.uint8)
        return (cv2.erode(mask, np.ones((7, 7), np.uint8)) > 0) & person

    skin = core(Region.SKIN, Region.NOSE)
    rows = np.flatnonzero(_HEAD[regions].any(1))
    if not len(rows):
        return {}
    top, bottom = rows[0], rows[-1]
    high = np.arange(len(regions))[:, None] < top + 0.35 * (bottom - top)
    # Around and above the skull only hair stands out; the rig's scalp below the hairline may be skin.
    hair = person & high & ((regions == 0) | core(Region.HAIR))
    return {"skin": skin, "hair": hair, "cloth": core(Region.TORSO)}


def _nearest(regions: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The region of the nearest pixel that the rig covers."""
    import cv2

    if not (regions > 0).any():
        return np.full_like(regions, Region.TORSO)
    free = (regions == 0).astype(np.uint8)
    _, which = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(which.max()) + 1, np.uint8)
    table[which[free == 0]] = regions[free == 0]
    return table[which]


def _face_parts(
    shape: tuple[int, ...], landmarks_px: np.ndarray | None
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"], Bool[np.ndarray, "h 1"]]:
    """Where hair is not looked for: the face below the brows (there it is beard), and the shadow below the chin.

    And the rows from about the chin on, where clothes begin.
    """
    face, below = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    if landmarks_px is None:
        return face > 0, below > 0, np.zeros((shape[0], 1), bool)
    middle = landmarks_px[[168, 6]].mean(0)
    brows = landmarks_px[[i for brow in BROWS for i in brow]]
    oval = middle + (landmarks_px[FACE_OVAL] - middle) * 0.96
    down = landmarks_px[152] - landmarks_px[10]
    limit = float(((brows - middle) @ down).min() / (down @ down))
    height = (oval - middle) @ down / (down @ down)
    _fill(face, oval + np.maximum(limit - height, 0)[:, None] * down, 1)  # without the forehead above the brows
    jaw = landmarks_px[_JAW]
    jaw = jaw.mean(0) + (jaw - jaw.mean(0)) * 0.9
    _fill(below, np.concatenate([jaw, jaw[::-1] + 0.6 * down]), 1)
    low = np.arange(shape[0])[:, None] > landmarks_px[152, 1] - 0.15 * np.linalg.norm(down)
    return face > 0, (below > 0) & (face == 0), low


def _majority(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Without specks and streaks."""
    import cv2

    width = 2 * scaled(3, mask.shape) + 1
    return cv2.blur(mask.astype(np.float32), (width, width)) > 0.5


def _reached(seeds: Bool[np.ndarray, "h w"], open_to: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pieces of `open_to` that hang together with `seeds`."""
    import cv2

    both = (seeds | open_to).astype(np.uint8)
    count, pieces = cv2.connectedComponents(both)
    sizes = np.bincount(pieces[seeds], minlength=count)
    sizes[0] = 0
    return open_to & (sizes > 12)[pieces]


def _draw_features(labels: np.ndarray, person: np.ndarray, landmarks_px: np.ndarray) -> None:
    """Brows, eyes, lips and the open mouth, where the landmarks are more exact than the rig."""
    import cv2

    eye_distance = float(np.linalg.norm(landmarks_px[33] - landmarks_px[263]))
    stale = np.isin(labels, [Region.BROWS, Region.EYES, Region.LIPS, Region.MOUTH])
    labels[stale] = Region.SKIN
    drawn = np.zeros_like(labels)
    for brow in BROWS:
        _fill(drawn, landmarks_px[brow], Region.BROWS)
    for eye in EYES:
        _fill(drawn, landmarks_px[eye], Region.EYES)
    _fill(drawn, landmarks_px[OUTER_LIPS], Region.LIPS)
    inner = landmarks_px[INNER_LIPS].astype(np.float32)
    if cv2.contourArea(inner) > 0.002 * eye_distance**2:  # closed lips leave a line of no height
        _fill(drawn, inner, Region.MOUTH)
    use = (drawn > 0) & person
    labels[use] = drawn[use]


def _fill(out: np.ndarray, polygon: np.ndarray, value: int) -> None:
    import cv2

    # A pixel's centre is at + 0.5 in our pixels and at + 0 in OpenCV's; 4 bits of fraction.
    points = np.round((polygon - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(out, [points[:, None]], (int(value),), lineType=cv2.LINE_8, shift=4)
