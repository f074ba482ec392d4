"""The part of a person below the chin: where it is in a picture, and what of the rig is seen there."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from avatar.core import FaceTrack
from avatar.face.rig import PersonalRig
from avatar.ops.mesh import rasterize_mesh

TORSO = 0.9
"""Weight from which a vertex goes with the torso alone."""
_POINTS = 3000


def reference_frame(track: FaceTrack) -> int:
    """The frame whose head is closest to the middle of all poses."""
    pose = track.motion.T_world_head
    forward, place = pose[:, :3, 2], pose[:, :3, 3]
    away = (forward - forward.median(0).values).norm(dim=1) + 5 * (place - place.median(0).values).norm(dim=1)
    return int((away + 1e3 * (track.confidence <= 0)).argmin())


def chest(track: FaceTrack, index: int, mask: UInt8[np.ndarray, "h w"], *, inward: int = 4) -> UInt8[np.ndarray, "h w"]:
    """1 on the person well below the chin, by `inward` px within the outline."""
    import cv2

    rows = track.landmarks_px[index, :, 1].numpy()
    below = int(rows.max() + 0.12 * np.ptp(rows))
    inside = (mask > 200).astype(np.uint8)
    inside[: max(below, 0)] = 0
    return cv2.erode(inside, np.ones((2 * inward + 1, 2 * inward + 1), np.uint8))


def spread_pixels(inside: UInt8[np.ndarray, "h w"], most: int = _POINTS) -> Float[np.ndarray, "n 2"]:
    """Middles of some pixels of a mask, evenly spread."""
    stride = max(int(np.sqrt((inside > 0).sum() / most)), 1)
    grid = np.zeros(inside.shape, bool)
    grid[::stride, ::stride] = True
    row, column = np.nonzero((inside > 0) & grid)
    return np.stack([column, row], 1) + 0.5


def anchors(
    track: FaceTrack, rig: PersonalRig, reference: int, pixels: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 3"]:
    """World points that the pixels show: on the drawn torso, or as far away as its nearest vertex."""
    camera, surface = track.camera, rig.posed(track.motion.frame(reference))
    body = rig.faces[(rig.skin[rig.faces, 0] < 1 - TORSO).all(1)]
    _, _, depth = rasterize_mesh(surface, body, camera.focal, camera.center, camera.size)
    height, width = camera.size
    column, row = pixels.T.astype(int).clip(0, [[width - 1], [height - 1]])
    z = depth.numpy()[row, column].astype(np.float64)
    torso = surface[(rig.skin[:, 2] > TORSO).nonzero()[:, 0]].double()
    apart = torch.cdist(torch.from_numpy(pixels).double(), camera.project(torso.float()).double())
    z = np.where(np.isfinite(z) & (z > 0), z, torso[apart.argmin(1), 2].numpy())
    ray = (pixels - np.array(camera.center)) / np.array(camera.focal)
    return np.concatenate([ray, np.ones((len(ray), 1))], 1) * z[:, None]


def torso_turns(track: FaceTrack) -> Rotation:
    """Of the torso in each frame, world axes."""
    motion = track.motion
    head = Rotation.from_matrix(motion.T_world_head[:, :3, :3].double().numpy())
    return head * Rotation.from_rotvec(-motion.neck.double().numpy())
