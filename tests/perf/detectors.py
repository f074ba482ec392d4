"""`python -m tests.perf.detectors --model face_landmarker.task [clip ...]`: how far two detectors of a face differ.

In percent of the distance between the outer eye corners; jitter is the rms second difference of the points in the same
unit; milliseconds of processor time a frame. It measures agreement: neither of the two is the truth.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from avatar.face.correspondence import GROUPS
from avatar.face.face_landmarker import FaceLandmarkerDetector
from avatar.face.landmarks import AbstractLandmarkDetector, MediapipeDetector
from avatar.media import open_clip

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
NAMES = ("anchor_71s", "talk_10", "expressions_20s")


def follow_clip(path: Path, detector: AbstractLandmarkDetector, frames: int) -> tuple[np.ndarray, float]:
    """The largest face's points [t 478 2], nan without a face, and milliseconds a frame."""
    clip, out, used = open_clip(path), [], 0.0
    for index in range(min(len(clip.frames), frames)):
        frame, start = clip.frames[index], time.process_time()
        faces = detector.detect(frame, index / clip.fps)
        used += time.process_time() - start
        out.append(faces[0].landmarks_px if faces else np.full((478, 2), np.nan))
    detector.close()
    return np.stack(out), 1e3 * used / len(out)


def jitter(points: np.ndarray, eyes: np.ndarray) -> float:
    return 100 * float(np.sqrt(np.nanmean((np.diff(points, 2, axis=0) ** 2).sum(-1))) / np.nanmean(eyes))


def compare(path: Path, model: Path, frames: int) -> dict[str, float]:
    a, a_ms = follow_clip(path, MediapipeDetector(), frames)
    b, b_ms = follow_clip(path, FaceLandmarkerDetector(model), frames)
    eyes = np.linalg.norm(a[:, 33] - a[:, 263], axis=-1)
    apart = 100 * np.linalg.norm(a - b, axis=-1) / eyes[:, None]
    facts = {"frames": len(a), "both": int(np.isfinite(apart[:, 0]).sum()), "mean": float(np.nanmean(apart))}
    facts |= {name: float(np.nanmean(apart[:, list(points)])) for name, points in GROUPS.items()}
    facts |= {"jitter_mediapipe": jitter(a, eyes), "jitter_landmarker": jitter(b, eyes)}
    return facts | {"ms_mediapipe": a_ms, "ms_landmarker": b_ms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", default=NAMES)
    parser.add_argument("--model", type=Path, default=CLIPS.parent / "models" / "face_landmarker.task")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {name: compare(CLIPS / f"{name}.mp4", options.model, options.frames) for name in options.clips}
    for name, facts in found.items():
        print(name, {key: round(value, 2) for key, value in facts.items()})
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
