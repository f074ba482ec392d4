"""Small films of drawn people with everything that is true of them, and what following them gives."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from avatar.core import FaceTrack, MotionSequence
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.preprocess.watch import Watched, Watcher
from avatar.synthetic.performance import perform, stand
from avatar.synthetic.placement import PlacedFace, placed_camera
from avatar.synthetic.speaker import Speaker

SIZE, FPS = (160, 160), 25.0


@dataclass(frozen=True)
class Drawn:
    """Frames and the head poses in them."""

    frames: np.ndarray
    T_world_head: np.ndarray

    def __getitem__(self, index) -> "Drawn":
        return Drawn(self.frames[index], self.T_world_head[index])

    def __add__(self, other: "Drawn") -> "Drawn":
        both = zip((self.frames, self.T_world_head), (other.frames, other.T_world_head), strict=True)
        return Drawn(*map(np.concatenate, both))


def there_and_back(count: int, length: int) -> np.ndarray:
    """Indices that go up and down until there are `length`: a long film of few drawings."""
    way = np.concatenate([np.arange(count), np.arange(count - 2, 0, -1)])
    return np.resize(way, length)


def talking(speaker: Speaker, count: int, height: float = 0.58) -> Drawn:
    """Every second frame of a performance that babbles."""
    motion = perform(speaker.rig, seconds=4, fps=FPS, seed=1, sound=False).motion.select(slice(20, 20 + 2 * count, 2))
    return draw(speaker, motion, height)


def turning(speaker: Speaker, degrees: np.ndarray) -> Drawn:
    """The head at each of these yaws, speaking."""
    motion = perform(speaker.rig, seconds=2, fps=FPS, seed=1, sound=False).motion.select(slice(10, 10 + len(degrees)))
    zero = np.zeros(len(degrees))
    head = Rotation.from_euler("YXZ", np.radians(np.stack([degrees, zero, zero], 1)))
    pose, neck = stand(speaker.rig, head.as_rotvec(), np.zeros((len(degrees), 6)))
    return draw(speaker, replace(motion, T_world_head=pose, neck=neck), 0.58)


def draw(speaker: Speaker, motion: MotionSequence, height: float) -> Drawn:
    camera, wall = placed_camera(PlacedFace(height=height), SIZE), speaker.backdrop(SIZE)
    frames = [speaker.draw(motion.frame(i), camera, wall).rgb.numpy() for i in range(len(motion))]
    return Drawn(np.stack(frames), motion.T_world_head.double().numpy())


@cache
def detector():
    """Takes seconds to start."""
    from avatar.face.landmarks import MediapipeDetector

    return MediapipeDetector()


def watch(drawn: Drawn) -> Watched:
    """What the detector and the watcher say of a film; all of it counts as person, so the wall decides nothing."""
    detector().forget()
    watcher = Watcher(detector(), FPS)
    for frame in drawn.frames:
        watcher.add(np.ascontiguousarray(frame))
    return watcher.finish(lambda index: np.full(SIZE, 255, np.uint8))


def follow_head(watched: Watched) -> tuple[FaceTrack, PersonalRig]:
    """The usual fit."""
    from avatar.face.tracking import Footage, fit

    person = watched.person
    return fit(
        person.landmarks_px,
        person.confidence,
        AnnyRig.load(),
        SIZE,
        fps=FPS,
        footage=Footage(segments=watched.segments),
    )


def rotation_error(track: FaceTrack, drawn: Drawn) -> np.ndarray:
    """Degrees between the followed and the true head in each frame."""
    found = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].double().numpy())
    return np.degrees((found * Rotation.from_matrix(drawn.T_world_head[:, :3, :3]).inv()).magnitude())


def steps_deg(track: FaceTrack) -> np.ndarray:
    """Degrees that the followed head turns from each frame to the next."""
    found = Rotation.from_matrix(track.motion.T_world_head[:, :3, :3].double().numpy())
    return np.degrees((found[1:] * found[:-1].inv()).magnitude())


def weights(track: FaceTrack) -> np.ndarray:
    return torch.as_tensor(track.confidence).double().numpy()
