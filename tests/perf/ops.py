"""One table of all native operators on a scene shaped like a head: times, ratios to the judges, share of the machine.

`python -m tests.perf.ops [--quick] [--json FILE]`; `make bench` runs all of it. The judges are plain torch and, after
`pip install --no-deps gsplat==1.5.3`, gsplat's torch code (see tests/perf/gsplat_torch.py). A ratio is the judge's best
run over our median, so other load on the machine makes it smaller, not larger.
"""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from avatar import ops
from avatar.ops import reference
from tests.perf import bars, gsplat_torch, pipeline, roofline
from tests.perf.head_scene import Splats, draw, head_scene, view_of_head
from tests.perf.picture_ops import mesh_row, picture_row
from tests.perf.timing import Row, Times, judged, milliseconds

SPLATS, SIZES = (10_000, 50_000, 100_000), (256, 512)
MODES = ("forward", "forward_backward")


def passes(rasterizer: Callable[..., Any], scene: Splats, view: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Forward, and forward with backward to all five inputs, of something that draws colour first."""
    leaves = [tensor.clone().requires_grad_() for tensor in scene]
    upstream = torch.randn(*view["size"], 3, generator=torch.Generator().manual_seed(1))

    def forward() -> None:
        with torch.no_grad():
            rasterizer(scene, view)

    def both() -> None:
        torch.autograd.grad(rasterizer(leaves, view)[0], leaves, upstream)

    return {"forward": forward, "forward_backward": both}


def reference_passes(scene: Splats, view: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The reference, band after band of 32 rows: its backward pass over a whole picture does not fit into memory."""
    (height, width), (cx, cy), band = view["size"], view["center"], reference.TILE
    crops = [
        {**view, "center": (cx, cy - top), "size": (min(band, height - top), width)} for top in range(0, height, band)
    ]
    works = [
        passes(lambda splats, crop: reference.rasterize(*splats, view=reference.View(**crop)), scene, crop)
        for crop in crops
    ]
    return {mode: lambda mode=mode: [work[mode]() for work in works] for mode in MODES}


def measure_rasterizer(splats: int, size: int, repeats: int) -> dict[str, Times]:
    """Forward, and forward with backward, of `ops.rasterize.rasterize`."""
    works = passes(draw, head_scene(splats), view_of_head(size))
    return {mode: milliseconds(work, repeats) for mode, work in works.items()}


def rasterizer_rows(splats: int, size: int, options: argparse.Namespace, limits: dict[str, float]) -> dict[str, Row]:
    """One row for forward and one for forward with backward."""
    scene, view = head_scene(splats), view_of_head(size)
    counts = roofline.scene_counts(scene, view)
    ours = measure_rasterizer(splats, size, options.repeats)
    judges: dict[str, dict[str, Times]] = {mode: {} for mode in MODES}
    if not options.quick:
        for mode, work in reference_passes(scene, view).items():
            judges[mode]["torch"] = milliseconds(work, 1)
    if gsplat_torch.available():
        for mode, work in passes(gsplat_torch.rasterizer(), scene, view).items():
            judges[mode]["gsplat"] = milliseconds(work, 2 if options.quick else 3)
    rows = {mode: judged(ours[mode], judges[mode]) for mode in MODES}
    forward, both = (ours[mode]["wall_ms"] for mode in MODES)
    # The second row shows the share of its backward half, whose time is the difference.
    for mode, part, took in (("forward", "forward", forward), ("forward_backward", "backward", both - forward)):
        name = f"rasterize {part}"
        rows[mode].update(roofline.shares(name, counts, max(took, 1e-3), limits), roofline=name, counts=counts)
    return {f"rasterize {mode} {splats}@{size}": row for mode, row in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="50,000 splats at 512 px only, without the slow judges")
    parser.add_argument("--frames", type=int, default=10_000, help="of the test that memory does not grow; 0: without")
    options = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:
        # Torch's threads must not spin while they wait: on a busy machine that slows the judges tenfold.
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "tests.perf.ops", *sys.argv[1:]])
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[:1]
    limits = roofline.machine_limits()
    rows: dict[str, Row] = {}
    all_splats, sizes = ((50_000,), (512,)) if options.quick else (SPLATS, SIZES)
    for size in sizes:
        for splats in all_splats:
            rows.update(rasterizer_rows(splats, size, options, limits))
            print(f"measured {splats}@{size}", file=sys.stderr)
        rows[f"l1_ssim forward_backward @{size}"] = picture_row(size, options.repeats, limits)
        rows[f"rasterize_mesh 9800@{size}"] = mesh_row(size, options, limits)
    rows.update(
        bars.rows_of_other_modules(
            {"threads": [options.threads], "repeats": [options.repeats], "splats": all_splats, "size": sizes}
        )
    )
    roofline.add_shares(rows, limits)
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": {**bars.machine(), "load": [round(value, 1) for value in (*load, os.getloadavg()[0])]},
        "ops": ops.describe(),
        "limits": limits,
        "rows": rows,
        "needs": {name: need.formula() for name, need in roofline.NEEDS.items()},
        "instruction_sets": bars.instruction_sets(measure_rasterizer, options.repeats),
        "growth": pipeline.measure_growth(options.frames) if options.frames and not options.quick else None,
        "tile_list_of_gsplat_s": None if options.quick else bars.gsplat_tile_list_seconds(),
    }
    results["bars"] = bars.verdicts(results)
    print(bars.as_text(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
