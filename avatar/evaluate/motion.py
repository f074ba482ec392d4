"""Motion for the rows: which training frame moves most alike, and lips from sound on a tracked head."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar.core import Camera, MotionSequence
from avatar.face.arkit import NAMES
from avatar.face.rig import PersonalRig

_SPOKEN_PREFIXES = ("jaw", "mouth", "tongue", "cheekPuff")
SPOKEN = tuple(i for i, name in enumerate(NAMES) if name.startswith(_SPOKEN_PREFIXES))
"""Actions of the mouth, which the sound decides; the others (eyes, brows, nose) stay as tracked."""

_POINTS = 600
_CHUNK = 64


def lips_from_speech(tracked: MotionSequence, speech: MotionSequence) -> MotionSequence:
    """The peers' protocol: mouth actions from `speech`, everything else from the tracked motion, frame by frame.

    Raises:
        ValueError: when the two are not equally long.
    """
    if len(tracked) != len(speech):
        raise ValueError(f"{len(tracked)} tracked frames and {len(speech)} spoken ones must be equally many")
    expression = tracked.expression.clone()
    expression[:, SPOKEN] = speech.expression[:, SPOKEN].to(expression)
    return replace(tracked, expression=expression)


def seen_points(motion: MotionSequence, rig: PersonalRig, camera: Camera) -> Float[Tensor, "t m"]:
    """What the motion does in the picture, as one vector a frame: projected points of the head, and the gaze.

    About 600 vertices that move with the head (px), and the gaze as the shift in px of a pupil on a 12 mm eyeball,
    weighted as 5 % of the points, so that distances compare motions as a viewer sees them.
    """
    head = (rig.skin[:, 0] > 0.9).nonzero()[:, 0]
    head = head[:: max(len(head) // _POINTS, 1)]
    vectors = []
    for start in range(0, len(motion), _CHUNK):
        part = motion.select(slice(start, start + _CHUNK))
        local = rig.vertices(part.expression, part.neck, part.gaze)[:, head]
        world = local @ part.T_world_head[:, :3, :3].transpose(1, 2) + part.T_world_head[:, None, :3, 3]
        pixels = camera.project(world).flatten(1)
        pupil = camera.focal[0] * 0.012 / part.T_world_head[:, 2, 3].clamp_min(0.05)
        gaze = part.gaze.flatten(1) * pupil[:, None] * (0.05 * len(head)) ** 0.5
        vectors.append(torch.cat([pixels, gaze], dim=1))
    return torch.cat(vectors)


def nearest(wanted: Float[Tensor, "a m"], among: Float[Tensor, "b m"]) -> Int[Tensor, "a"]:
    """For each wanted vector the position of the closest (Euclidean) one."""
    if not len(among):
        raise ValueError("nothing to choose from")
    # Centred first: in float32 the matrix form of the distance loses what a large common offset takes.
    center = among.mean(dim=0)
    return torch.cdist(wanted - center, among - center).argmin(dim=1)
