"""`python -m tests.perf.preprocess [CLIP] [--json FILE] [--out FOLDER]`: what each stage of `avatar preprocess` costs.

Wall seconds, processor seconds (all threads; they hardly depend on what else the machine does) and the largest
resident memory of the process tree while the stage ran, in 10^6 bytes. Linux: another process is watched.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.perf.processes import processor_seconds, resident_bytes

CLIP = Path(__file__).parents[3] / "shared" / "clips" / "anchor_71s.mp4"
BARS = {"seconds": 120.0, "peak_mb": 1500.0}
"""For 1,780 frames at 512x512 on 2 cores with nothing else to do."""
_LOOK_SECONDS = 0.1

Row = dict[str, float]


def measure(clip: Path, folder: Path, size: int) -> dict[str, Row]:
    """Rows by stage, as the manifest says what is being worked on; "start" is before the first, "all" the whole."""
    command = [sys.executable, "-m", "avatar", "preprocess", str(clip), "-o", str(folder), "--size", str(size)]
    start, rows, stage, last, used = time.perf_counter(), {}, "start", 0.0, 0.0
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        while process.poll() is None:
            stage = _begun(folder) or stage
            now, spent = time.perf_counter() - start, max(processor_seconds(process.pid), used)
            row = rows.setdefault(stage, {"seconds": 0.0, "processor_seconds": 0.0, "peak_mb": 0.0})
            row["seconds"] += now - last
            row["processor_seconds"] += spent - used
            row["peak_mb"] = max(row["peak_mb"], resident_bytes(process.pid) / 1e6)
            last, used = now, spent
            time.sleep(_LOOK_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    whole = {
        "seconds": time.perf_counter() - start,
        "processor_seconds": used,
        "peak_mb": max(row["peak_mb"] for row in rows.values()),
    }
    return {name: {k: round(v, 2) for k, v in row.items()} for name, row in {**rows, "all": whole}.items()}


def _begun(folder: Path) -> str | None:
    """The stage that runs."""
    try:
        begun = json.loads((folder / "workspace.json").read_text(encoding="utf-8"))["begun"]
    except FileNotFoundError:
        return None
    return next(iter(begun), None)


def main() -> int:
    """Print the rows, and write them where asked; exit code 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=CLIP)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="the workspace, kept; a temporary one by default")
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="perf_preprocess_")) / "me"
    try:
        rows = measure(options.clip, folder, options.size)
    finally:
        if not options.out:
            shutil.rmtree(folder.parent, ignore_errors=True)
    for name, row in rows.items():
        print(f"{name:8s} {row['seconds']:8.1f} s {row['processor_seconds']:8.1f} processor s {row['peak_mb']:8.0f} MB")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if all(rows["all"][name] <= bar for name, bar in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
