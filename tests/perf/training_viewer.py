"""What watching costs a training: `python -m tests.perf.training_viewer WORKSPACE --json FILE [--rounds 8]`.

Trains on a prepared workspace as `avatar train --viewer` does. Rounds alternate: in one somebody looks (a page that
asks for the state every 2 s and drags without a pause, so that every answer is followed by the next question), in the
next nobody does. The bar: a step takes at most 5 % longer while somebody looks (median of neighbouring rounds' ratios).
Nothing is written into the workspace. The machine's load is told: on a busy one the ratios scatter, and
`processor_more`, the same ratio of processor time, says more.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avatar.events import Draft, Event
from avatar.recipes import recipe
from avatar.train.loop import train
from avatar.viewer.training import TrainingWatch

BAR = 0.05


_DRAG = """
import math, sys, time, urllib.error, urllib.request
asked = 0.0
while True:
    if time.monotonic() - asked > 2.0:
        asked = time.monotonic()
        urllib.request.urlopen(sys.argv[1] + "state").read()
    try:
        side = 0.5 * math.sin(3 * time.monotonic())
        urllib.request.urlopen(f"{sys.argv[1]}draft.jpg?yaw={side:.3f}").read()
        print("picture", flush=True)
    except urllib.error.HTTPError:
        time.sleep(0.2)
    time.sleep(0.06)
"""
"""What the page does while the mouse moves."""


class Rounds:
    """A sink between the training and its watch: times the rounds, and opens and shuts the page."""

    def __init__(self, watch: TrainingWatch, rounds: int, steps: int) -> None:
        self.watch, self.rounds, self.steps = watch, rounds, steps
        self.times: list[tuple[float, float]] = []
        """Wall and processor seconds a step, of each round."""
        self.address, self.pictures = "", 0
        self._page: subprocess.Popen[str] | None = None
        self._began, self._first = (0.0, 0.0), -1

    def __call__(self, event: Event) -> None:
        self.watch(event)
        if isinstance(event, Draft):
            self._tick(event.step)

    def _tick(self, step: int) -> None:
        now = time.perf_counter(), time.process_time()
        if self._first < 0:  # the first steps tune threads and fill caches
            if step >= 2 * self.steps:
                self._first, self._began = step, now
            return
        if step - self._first < self.steps:
            return
        wall, spent = ((new - old) / (step - self._first) for new, old in zip(now, self._began, strict=True))
        self.times.append((wall, spent))
        self.shut() if self._page else self._open()
        if len(self.times) >= self.rounds:
            raise KeyboardInterrupt
        self._first, self._began = step, (time.perf_counter(), time.process_time())

    def _open(self) -> None:
        command = [sys.executable, "-c", _DRAG, self.address]
        self._page = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.watch.draft._allowance.left = 0.0  # as after looking for long: nothing is saved up

    def shut(self) -> None:
        """Nobody looks any more."""
        if self._page is not None:
            self._page.kill()
            self.pictures += len(self._page.communicate()[0].splitlines())
            self._page = None
        self.watch.draft._asked = -1e9


def measured(workspace: Path, named: str, rounds: int, steps: int) -> dict[str, Any]:
    """Seconds a step, of rounds nobody and somebody looks at in turn."""
    watch = TrainingWatch(lambda event: None)
    timed = Rounds(watch, rounds + 1, steps)
    watch.open(0, lambda address: setattr(timed, "address", address))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "workspace"
        copy.mkdir()
        for item in workspace.iterdir():
            if item.name not in ("avatar", "train", "report", "workspace.json"):
                (copy / item.name).symlink_to(item.resolve())
        shutil.copy(workspace / "workspace.json", copy)
        try:
            train(copy, replace(recipe(named), checkpoint_every=10**9), timed)
        except KeyboardInterrupt:
            pass
        finally:
            timed.shut()
            watch.close()
    times = np.array(timed.times[: rounds // 2 * 2]).reshape(-1, 2, 2)  # without, with
    more, ratios = times[:, 1, 1] / times[:, 0, 1] - 1, times[:, 1, 0] / times[:, 0, 0] - 1
    times = times[..., 0]
    return {
        "step_ms_alone": round(1e3 * float(np.median(times[:, 0])), 2),
        "step_ms_watched": round(1e3 * float(np.median(times[:, 1])), 2),
        "slower": round(float(np.median(ratios)), 4),
        "slower_each": [round(float(r), 3) for r in ratios],
        "processor_more": round(float(np.median(more)), 4),
        "pictures": timed.pictures,
        "pictures_a_second": round(timed.pictures / max(float(times[:, 1].sum()) * steps, 1e-9), 2),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> int:
    """Exit code 0 when the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="a folder that avatar preprocess made")
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument("--recipe", default="gaussian/base")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100, help="of a round")
    options = parser.parse_args()
    result = measured(options.workspace, options.recipe, options.rounds, options.steps)
    result["holds"] = result["slower"] <= BAR
    options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    verdict = "ok  " if result["holds"] else "FAIL"
    print(f"{verdict} slower {result['slower']:10.4f}  <= {BAR:g}   ({result['pictures_a_second']} pictures a second)")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
