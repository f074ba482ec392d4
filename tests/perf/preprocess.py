"""`python -m tests.perf.preprocess CLIP [--json FILE] [--out FOLDER] [--profile]`: what each stage of preprocess costs.

Wall seconds, processor seconds (all threads; they hardly depend on what else the machine does) and the largest
resident memory of the process tree while the stage ran, in 10^6 bytes. Linux.
"""

import argparse
import cProfile
import json
import pstats
import resource
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from avatar.events import Done, Event
from avatar.preprocess import PreprocessConfig, preprocess
from tests.perf.processes import resident_bytes

CLIP = Path(__file__).parents[3] / "shared" / "clips" / "anchor_71s.mp4"
BARS = {"seconds": 120.0, "peak_mb": 1500.0}
"""For 1,780 frames at 512x512 on 2 cores with nothing else to do."""
_LOOK_SECONDS = 0.05


def processor_seconds() -> float:
    """Of this process and the children that it waited for, since their start."""
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


@dataclass
class Meter:
    """A listener that notes the cost of each stage; sampling the memory runs beside the work."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    _peak: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _last: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> "Meter":
        self._last = time.perf_counter(), processor_seconds()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            self._peak = max(self._peak, resident_bytes())

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Done):
            return
        wall, processor = time.perf_counter(), processor_seconds()
        self.rows[event.stage] = {
            "seconds": round(wall - self._last[0], 2),
            "processor_seconds": round(processor - self._last[1], 2),
            "peak_mb": round(max(self._peak, resident_bytes()) / 1e6, 1),
        }
        self._peak, self._last = 0, (wall, processor)


def measure(clip: Path, folder: Path, size: int) -> dict[str, dict[str, float]]:
    """Preprocess a clip; the row "all" adds the stages up."""
    with Meter() as meter:
        preprocess(clip, folder, PreprocessConfig(size=size), meter)
    rows = list(meter.rows.values())
    total = {key: round(sum(row[key] for row in rows), 2) for key in ("seconds", "processor_seconds")}
    return {**meter.rows, "all": {**total, "peak_mb": max(row["peak_mb"] for row in rows)}}


def main() -> int:
    """Print the rows, and write them where asked; exit code 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=CLIP)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="the workspace, kept; a temporary one by default")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--profile", action="store_true", help="the main thread's functions by their own time")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="perf_preprocess_")) / "me"
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    try:
        rows = measure(options.clip, folder, options.size)
    finally:
        if not options.out:
            shutil.rmtree(folder.parent, ignore_errors=True)
    if options.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    for name, row in rows.items():
        print(f"{name:8s} {row['seconds']:8.1f} s {row['processor_seconds']:8.1f} processor s {row['peak_mb']:8.0f} MB")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if all(rows["all"][name] <= bar for name, bar in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
