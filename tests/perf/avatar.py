"""`python -m tests.perf.avatar --json FILE [--only JOB ...] [--out FOLDER]`: the avatars themselves, judged.

Jobs: the real clips at 512x512 with `base`, the longest also with `fast`; the synthetic speaker with side views that no
camera filmed, with shoulders to the front and turning as on a swivel chair; five random drawn people. Each is built by
the command as a user would, then scored on held-out frames.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar.core import RenderRequest
from avatar.drive.sources import from_voice, placed, read_voice
from avatar.media.workspace import Workspace
from avatar.models.avatar_model import AvatarModel
from avatar.synthetic.clip import ClipSettings, write_clip
from tests.perf.main_job import SHARED, avatar_command, checked, headline, with_empty_caches
from tests.perf.processes import run

CLIPS, VOICE = SHARED / "clips", SHARED / "audio" / "fr_12s.wav"
PEOPLE = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One avatar."""

    name: str
    recipe: str = "gaussian/base"
    clip: str | None = None
    """A real clip, or None for a drawn person."""
    seed: int = 0
    size: int = 512
    seconds: float = 24.0
    turn_deg: float = 0.0
    """How far a drawn person turns the whole body to both sides, as README advises."""


JOBS = (
    Job(name="anchor_71s", clip="anchor_71s.mp4"),
    Job(name="anchor_71s fast", clip="anchor_71s.mp4", recipe="gaussian/fast"),
    Job(name="anchor_de_20s", clip="anchor_de_20s.mp4"),
    Job(name="speech_en_8s", clip="speech_en_8s.mp4"),
    Job(name="speaker", size=384),
    Job(name="speaker turning", size=384, turn_deg=30.0),
    *(Job(name=f"person {seed}", seed=seed, size=384, seconds=10.0) for seed in PEOPLE),
)
SIDES = ((-15, 30), (15, 30), (-30, 27), (30, 27))
"""Degrees and dB, of the whole picture and (harder) of the person's pixels alone."""
BARS: tuple[tuple[str, str, str, float], ...] = (
    ("anchor_71s", "reenacted.psnr_peer", ">=", 33),
    ("anchor_71s", "reenacted.psnr_frame", ">=", 27),
    ("anchor_71s", "reenacted.ssim_peer", ">=", 0.95),
    ("anchor_71s", "reenacted.psnr_mouth", ">=", 27),
    ("anchor_71s", "reenacted.lmd_px", "<=", 1.6),
    ("anchor_71s", "reenacted.lip_gap_r", ">=", 0.97),
    ("anchor_71s", "reenacted.lip_gap_slope", ">=", 0.9),
    ("anchor_71s", "reenacted.lip_gap_slope", "<=", 1.1),
    ("anchor_71s", "spoken.psnr_peer", ">=", 31),
    ("anchor_71s", "spoken.lmd_px", "<=", 2.6),
    ("anchor_71s", "minutes", "<=", 10),
    ("anchor_71s", "peak_mb", "<=", 3000),
    ("anchor_71s fast", "minutes", "<=", 4),
    ("anchor_de_20s", "reenacted.psnr_peer", ">=", 33),
    ("speech_en_8s", "reenacted.psnr_peer", ">=", 27),
    *(
        (name, f"{pixels}.{yaw}", ">=", bar)
        for name in ("speaker", "speaker turning")
        for pixels in ("views.frame", "views")
        for yaw, bar in SIDES
    ),
    ("anchor_71s", "drive_fps", ">=", 25),
    ("anchor_71s", "reenacted.flicker", "<=", 1.1),
    ("anchor_71s", "file_mb", "<=", 20),
    ("anchor_71s", "load_seconds", "<=", 1),
)


def measure(job: Job, folder: Path) -> dict[str, Any]:
    """Build one avatar and score it."""
    me, truth = folder / job.name.replace(" ", "_"), None
    if job.clip is None:
        truth = folder / f"drawn_{job.name.replace(' ', '_')}"
        settings = ClipSettings(
            seconds=job.seconds, size=job.size, seed=job.seed, sound=job.seed == 0, turn_deg=job.turn_deg
        )
        video = write_clip(truth, settings, workers=2).video
    else:
        video = CLIPS / job.clip
    env = with_empty_caches(folder)
    command = avatar_command("build", video, "-o", me, "--recipe", job.recipe, "--size", str(job.size))
    built = checked(run(command, env=env))
    if truth is not None:
        from avatar.evaluate import evaluate

        evaluate(me, truth=truth)
    report = headline(me / "report" / "report.json")
    sides = report.get("views") or {}
    views = {**sides.get("psnr", {}), "frame": sides.get("psnr_frame", {})}
    facts = {
        "minutes": built.seconds / 60,
        "peak_mb": built.peak_mb,
        "file_mb": report["file_mb"],
        "build": asdict(built),
    }
    return {**facts, **report["rows"], "views": views, **drive(me)}


def drive(me: Path, frames: int = 200) -> dict[str, float]:
    """Frames a second from motion to picture at the avatar's own size, and seconds to load the file."""
    start = time.perf_counter()
    avatar = AvatarModel.load(me / "avatar")
    loaded = time.perf_counter() - start
    if VOICE.exists():
        motion = placed(from_voice(read_voice(VOICE), avatar), avatar)
    else:
        from avatar.face.track_io import load_track

        motion = load_track(Workspace.open(me).path("track.safetensors")).motion
    spent = []
    for index in range(min(frames, len(motion))):
        start = time.perf_counter()
        avatar.render(RenderRequest(camera=avatar.meta.camera, motion=motion.frame(index)))
        spent.append(time.perf_counter() - start)
    return {"drive_fps": 1 / float(np.median(spent)), "load_seconds": loaded}


def value_of(result: dict[str, Any], path: str) -> float | None:
    """A number by its dotted path."""
    found: Any = result
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def main() -> int:
    """Exit code 0 when every checked bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument("--only", nargs="*", help="names of jobs; all by default")
    parser.add_argument("--out", type=Path, help="folder for all that is made; a new temporary one by default")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="avatars_"))
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for job in JOBS:
        if (options.only and job.name not in options.only) or (job.clip and not (CLIPS / job.clip).exists()):
            continue
        results[job.name] = measure(job, folder)
        options.json.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if "anchor_71s" in results and "anchor_71s fast" in results:
        worse = value_of(results["anchor_71s"], "reenacted.psnr_peer") - value_of(  # type: ignore[operator]
            results["anchor_71s fast"], "reenacted.psnr_peer"
        )
        print(f"fast is {worse:.2f} dB worse than base (bar 1.5)")
    failed = 0
    for name, path, sign, bar in BARS:
        value = value_of(results.get(name, {}), path)
        if value is None:
            continue
        holds = value >= bar if sign == ">=" else value <= bar
        failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {name:16s} {path:24s} {value:9.3f}  {sign} {bar:g}")
    people = [results[f"person {seed}"] for seed in PEOPLE if f"person {seed}" in results]
    for yaw in ("-30", "-15", "15", "30") if people else ():
        picture = np.mean([p["views"]["frame"][yaw] for p in people])
        person = np.mean([p["views"][yaw] for p in people])
        print(f"people at {yaw:>3s} degrees: picture {picture:.2f} dB, the person's pixels {person:.2f} dB")
    print(f"results in {folder}, numbers in {options.json}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
