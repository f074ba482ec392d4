"""The main job, timed and judged: `python -m tests.perf.main_job --json FILE [--clip FILE] [--skip-demo]`.

1. `avatar demo` with empty caches (or, with --fresh-clone, `make setup` and `make demo` in a clone of this repository).
2. `avatar build` of a real clip at 512x512, then `avatar drive` with a voice in another language.
3. The held-out numbers of that build, beside the floor of the nearest training frame.
"""

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from avatar.media import open_clip
from tests.perf.processes import Finished, run

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
BARS = {
    "demo_minutes": ("<=", 12.0),
    "build_minutes": ("<=", 25.0),
    "build_peak_mb": ("<=", 4000.0),
    "gain_over_nearest_db": (">=", 3.0),
    "psnr_peer_db": (">=", 27.0),
}
DEMO_FILES = ("me/avatar/avatar.json", "talking.mp4", "orbit.mp4", "me/report/index.html", "me/report/report.json")


def avatar_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "avatar", *map(str, arguments)]


def with_empty_caches(folder: Path) -> dict[str, str]:
    """The environment, with every cache that our parts use moved into a new folder."""
    cache = str(folder / "cache")
    return {**os.environ, "XDG_CACHE_HOME": cache, "MPLCONFIGDIR": cache, "TORCH_HOME": cache, "NUMBA_CACHE_DIR": cache}


def demo(folder: Path, fresh_clone: bool) -> dict[str, Any]:
    """Run the demo; seconds are those after installation."""
    env, out, setup = with_empty_caches(folder), folder / "demo", None
    if fresh_clone:
        clone = folder / "clone"
        checked(run(["git", "clone", "--quiet", str(ROOT), str(clone)]))
        setup = checked(run(["make", "setup"], cwd=clone, env=env))
        done, out = checked(run(["make", "demo"], cwd=clone, env=env)), clone / "demo"
    else:
        done = checked(run(avatar_command("demo", "-o", out), env=env))
    missing = [name for name in DEMO_FILES if not (out / name).exists()]
    if missing:
        raise SystemExit(f"{out}: the demo left no {', '.join(missing)}")
    films = {name: film(out / name) for name in ("talking.mp4", "orbit.mp4")}
    return {
        "folder": str(out),
        "run": dataclasses.asdict(done),
        "setup_seconds": setup and setup.seconds,
        "films": films,
        "report": headline(out / "me" / "report" / "report.json"),
    }


def build(clip: Path, voice: Path, folder: Path, recipe: str) -> dict[str, Any]:
    """Build an avatar of the clip and make it speak."""
    me, hello = folder / clip.stem, folder / f"{clip.stem}_{voice.stem}.mp4"
    env = with_empty_caches(folder)
    built = checked(run(avatar_command("build", clip, "-o", me, "--recipe", recipe, "--size", "512"), env=env))
    driven = checked(run(avatar_command("drive", me / "avatar", "--audio", voice, "-o", hello), env=env))
    return {
        "clip": clip.name,
        "recipe": recipe,
        "folder": str(me),
        "build": dataclasses.asdict(built),
        "drive": dataclasses.asdict(driven),
        "film": {"path": str(hello), **film(hello)},
        "report": headline(me / "report" / "report.json"),
    }


def checked(done: Finished) -> Finished:
    if done.code:
        raise SystemExit(f"exit code {done.code}: {done.command}")
    return done


def film(path: Path) -> dict[str, Any]:
    """Length and sound of a video that we made."""
    clip = open_clip(path)
    height, width = clip.frames[0].shape[:2]
    return {
        "seconds": round(clip.seconds, 2),
        "fps": clip.fps,
        "size": [height, width],
        "sound_seconds": None if clip.audio is None else round(clip.audio.seconds, 2),
    }


def headline(path: Path) -> dict[str, Any]:
    """The report without its long texts."""
    found = json.loads(path.read_text(encoding="utf-8"))
    found["provenance"].pop("definitions", None)
    return found


def judge(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every bar that this run could check, with its value and whether it holds."""
    values: dict[str, float] = {}
    if "demo" in result:
        values["demo_minutes"] = result["demo"]["run"]["seconds"] / 60
    if "build" in result:
        job, rows = result["build"], result["build"]["report"]["rows"]
        values["build_minutes"] = job["build"]["seconds"] / 60
        values["build_peak_mb"] = job["build"]["peak_mb"]
        values["gain_over_nearest_db"] = rows["reenacted"]["psnr_frame"] - rows["nearest_frame"]["psnr_frame"]
        values["psnr_peer_db"] = rows["reenacted"]["psnr_peer"]
    verdicts = {}
    for name, value in values.items():
        sign, bar = BARS[name]
        holds = value <= bar if sign == "<=" else value >= bar
        verdicts[name] = {"value": round(value, 3), "bar": f"{sign} {bar:g}", "holds": holds}
    return verdicts


def main() -> int:
    """Exit code 0 when every checked bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument("--clip", type=Path, default=SHARED / "clips" / "anchor_71s.mp4")
    parser.add_argument("--voice", type=Path, default=SHARED / "audio" / "fr_12s.wav")
    parser.add_argument("--recipe", default="gaussian/base")
    parser.add_argument("--out", type=Path, help="folder for all that is made; a new temporary one by default")
    parser.add_argument("--skip-demo", action="store_true")
    parser.add_argument("--skip-build", action="store_true")
    parser.add_argument("--fresh-clone", action="store_true", help="the demo in a clone, with its own installation")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="main_job_"))
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "python": platform.python_version()}}
    if not options.skip_demo:
        result["demo"] = demo(folder, options.fresh_clone)
    if not options.skip_build:
        result["build"] = build(options.clip.resolve(), options.voice.resolve(), folder, options.recipe)
    result["bars"] = judge(result)
    options.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name, verdict in result["bars"].items():
        print(f"{'ok  ' if verdict['holds'] else 'FAIL'} {name:22s} {verdict['value']:10.3f}  {verdict['bar']}")
    print(f"results in {folder}, numbers in {options.json}")
    return 0 if all(verdict["holds"] for verdict in result["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
