"""How the usual detector errs on drawn people: `python -m avatar.synthetic.detector_errors` writes the tracker's table.

Random people are drawn in random moments of a performance and looked at as films are. What a point is off in all
pictures of one person is its static error; people give the mean and the directions in which they differ. Faces have no
preferred side, so each counts as its mirror image, too. Only numbers are kept, no pictures.
"""

import argparse

import numpy as np
import torch
from jaxtyping import Float

from avatar.face.both_ways import BothWaysDetector, mirror_points
from avatar.face.calibration import LOWER_INNER, LOWER_LIDS, UPPER_INNER, UPPER_LIDS
from avatar.face.detector_errors import FILE
from avatar.face.landmarks import AbstractLandmarkDetector, MediapipeDetector
from avatar.face.rig import AnnyRig
from avatar.media import write_tensors
from avatar.synthetic.clip import front_camera, spec_of
from avatar.synthetic.performance import perform
from avatar.synthetic.speaker import Speaker

FIRST, PEOPLE, MOMENTS, MODES = 1000, 72, 12, 15
"""Seed of the first person (none that benchmarks draw), their number, pictures of each, directions that are kept."""
_SIZE, _SECONDS, _FPS, _STRANDS, _TEXTURE = 320, 24.0, 25.0, 2500, 768


def errors_of(seed: int, rig: AnnyRig, detector: AbstractLandmarkDetector) -> Float[np.ndarray, "478 2"]:
    """Static errors of one person: metres to the right and down, in the head's axes.

    Raises:
        RuntimeError: if the person is not found in at least half of the pictures.
    """
    speaker = Speaker(spec_of(seed), strands=_STRANDS, texture=_TEXTURE)
    motion = perform(speaker.rig, seconds=_SECONDS, fps=_FPS, seed=seed, sound=False).motion
    camera, out = front_camera((_SIZE, _SIZE)), []
    for moment in np.sort(np.random.default_rng(seed).choice(len(motion), MOMENTS, replace=False)).tolist():
        frame = motion.frame(moment)
        detector.forget()
        faces = detector.detect(speaker.render(frame, camera).numpy(), 0.0)
        if not faces:
            continue
        true = camera.project(rig.landmarks.points(speaker.rig.posed(frame), speaker.rig.faces)).numpy()
        pose = frame.T_world_head.double().numpy()
        off = (faces[0].landmarks_px - true) * pose[2, 3] / camera.focal[0]
        out.append(off @ pose[:2, :2])
    if len(out) < MOMENTS // 2:
        raise RuntimeError(f"person {seed}: found in {len(out)} of {MOMENTS} pictures only")
    return np.median(out, 0)


def gaussian(errors: Float[np.ndarray, "n 478 2"], count: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Mean, and the `count` directions in which people differ most, of the errors and their mirror images.

    Lids and inner lips share the error of each upper and lower point: how far open a person's eyes and mouth are told
    is calibrated on the clip itself.
    """
    both = np.concatenate([errors, errors[:, mirror_points()] * np.array([-1.0, 1.0])])
    for upper, lower in ((UPPER_LIDS.ravel(), LOWER_LIDS.ravel()), (UPPER_INNER, LOWER_INNER)):
        both[:, upper] = both[:, lower] = (both[:, upper] + both[:, lower]) / 2
    mean = both.mean(0)
    _, deviations, directions = np.linalg.svd((both - both.mean(0)).reshape(len(both), -1), full_matrices=False)
    modes = deviations[:count, None] * directions[:count] / np.sqrt(len(both))
    return {"mean": mean, "modes": modes.reshape(-1, *mean.shape)}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    count = parser.parse_args().people
    torch.set_num_threads(1)
    rig, detector = AnnyRig.load(), BothWaysDetector(MediapipeDetector)
    errors = np.stack([errors_of(seed, rig, detector) for seed in range(FIRST, FIRST + count)])
    detector.close()
    tensors = {name: torch.from_numpy(value).float() for name, value in gaussian(errors, MODES).items()}
    write_tensors(FILE, tensors, {"people": str(count)})


if __name__ == "__main__":
    main()
