"""What the machine could do, and what an operator asks of it, counted from first principles.

An operator's counts are the arithmetic that its formula needs where a splat is really drawn, and the bytes that it must
move if nothing is moved twice; work for nothing (pixels of a block that the splat misses, lists, sorting) counts as
none, so it shows as a lower share. Symbols are the sizes of the scene, see `scene_counts`.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avatar.ops import reference
from tests.perf.field_ops import GRID, POINTS
from tests.perf.head_scene import Splats
from tests.perf.splat_pairs import drawn_pairs, tile_lists

Counts = Mapping[str, float]


@dataclass(frozen=True)
class Need:
    """Operations and bytes, each a sum of numbers times symbols."""

    flops: Counts
    bytes: Counts

    def formula(self) -> str:
        parts = [
            " + ".join(f"{number:g} {symbol}" for symbol, number in some.items()) for some in (self.flops, self.bytes)
        ]
        return f"{parts[0]} flops, {parts[1]} bytes"


# A multiplication, an addition, a comparison or a division is one operation; 2^x is 16 (see exp2 in cuda_ext/simd.h).
NEEDS = {
    # Per pair: offsets 2, u and v 4, power 4, 2^x 16, bounds 4, light and weight 3, depth 2, colour 6.
    # Per splat: rotation 45, axes 60, projected axes 30, covariance and determinant 35, root factors 15, bounds 15.
    # Bytes: 56 in and a record of 64 out per splat, record and list entry of 68 per slot, 20 out per pixel.
    "rasterize forward": Need({"pairs": 41, "splats": 200}, {"splats": 120, "slots": 68, "pixels": 20}),
    # Per pair again 34 for the weight; s 8, colours 6, light and what is behind 4, dL/dln(alpha) 6, moments 15.
    # Per splat: the projection again and its derivative, 200 + 300. Per slot 13 sums of 10 floats, out and in.
    "rasterize backward": Need({"pairs": 73, "splats": 500, "slots": 13}, {"splats": 176, "slots": 148, "pixels": 32}),
    # Per channel: 11 taps of 5 maps down and across 110 + 110, formula 40, 3 maps back 66 + 66, L1 and sums 15.
    # Bytes: both pictures in twice, the gradient of SSIM out and in, the result out.
    "l1_ssim forward_backward": Need({"values": 407}, {"values": 28, "pixels": 8}),
    # Double precision: edges 60 a triangle, three weights 18 and their test 7 a covered pixel.
    "rasterize_mesh": Need({"triangles": 60, "covered": 25}, {"triangles": 60, "pixels": 24}),
    # Per splat: 13 sums of 20 terms 520, frame and activations 230. Bytes: basis 1040, rest state 72, results 56.
    "bind forward": Need({"splats": 750}, {"splats": 1168}),
    # The way back: 260 of the basis' gradient, 13 sums for the weights 520, frame 460; the basis in and out again.
    "bind forward and backward": Need({"splats": 2000}, {"splats": 3450}),
    # Half of the rows of 260 numbers: 14 each; the value and two means in and out.
    "adam": Need({"splats": 1820}, {"splats": 3160}),
    # Per point and level: place 12, weights 12, 8 corners of 2 features 32, row numbers 16. The table of 64 MB once.
    "hashgrid forward": Need({"points": 16 * 72}, {"points": 140, "rows": 8}),
    # Again the places and weights, and 8 corners of 2 features 32; gradients in, the table's out.
    "hashgrid forward_backward": Need({"points": 32 * 72}, {"points": 280, "rows": 16}),
    "rays composite forward": Need({"samples": 30}, {"samples": 28}),
    "rays composite forward_backward": Need({"samples": 75}, {"samples": 84}),
}


def add_shares(rows: dict[str, dict[str, Any]], limits: dict[str, float]) -> None:
    """Shares of the rows of other modules, whose sizes stand in their names."""
    for name, row in rows.items():
        of_splats = re.fullmatch(r"(bind|adam) (\d+) ?(.*)", name)
        of_points = re.fullmatch(r"field (hashgrid \w+), .*", name)
        if of_splats and (key := f"{of_splats[1]} {of_splats[3]}".strip()) in NEEDS:
            counts: Counts = {"splats": float(of_splats[2])}
        elif of_points and (key := of_points[1]) in NEEDS:
            counts = {"points": POINTS, "rows": GRID.rows}
        elif (key := name.removeprefix("field ")) in NEEDS and key.startswith("rays"):
            counts = {"samples": rows["rays samples"]["value"]}
        else:
            continue
        row.update(shares(key, counts, row["wall_ms"], limits), roofline=key, counts=counts)


def scene_counts(splats: Splats, view: dict[str, Any]) -> Counts:
    """Splats, slots (splat and tile of 32 px), pairs (splat and pixel that it draws) and pixels."""
    height, width = view["size"]
    tile = reference.TILE
    means, quats, scales, opacities, _ = splats
    with torch.no_grad():
        seen = reference.project(means, quats, scales, opacities, reference.View(**view))
        xx, xy, yy = seen.covariance.unbind(-1)
        conic = torch.stack([yy, -xy, xx], -1) / seen.determinant[:, None]
        grid = (-(-height // tile), -(-width // tile))
        starts, order = tile_lists(seen.mean, seen.reach, seen.depth, tile, grid)
        pairs, _ = drawn_pairs(seen.mean, conic, opacities[seen.index], starts, order, tile, (height, width))
    return {"splats": len(splats[0]), "slots": len(order), "pairs": len(pairs), "pixels": height * width}


def _best_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def machine_limits(repeats: int = 5) -> dict[str, float]:
    """Memory bandwidth (a + s b -> c on 64 MB each, McCalpin's triad) and arithmetic peak (float32 matrix product)."""
    n = 1 << 24
    a, b, c = (torch.rand(n) for _ in range(3))
    triad = _best_seconds(lambda: torch.add(a, b, alpha=0.5, out=c), repeats)
    side = 2048
    x, y, z = (torch.rand(side, side) for _ in range(3))
    # torch's library and numpy's differ by a factor of two on some processors: the faster one is the machine's.
    product = min(
        _best_seconds(lambda: torch.mm(x, y, out=z), repeats),
        _best_seconds(lambda: np.matmul(x.numpy(), y.numpy(), out=z.numpy()), repeats),
    )
    return {"bandwidth_GB_s": round(12e-9 * n / triad, 1), "peak_GFLOP_s": round(2e-9 * side**3 / product, 1)}


def shares(name: str, counts: Counts, milliseconds: float, limits: dict[str, float]) -> dict[str, float]:
    """Part of the machine's bandwidth and peak that `name` reaches, in percent."""
    need = NEEDS[name]
    flops, volume = (sum(number * counts[s] for s, number in some.items()) for some in (need.flops, need.bytes))
    return {
        "bandwidth_percent": round(100 * volume / (milliseconds * 1e6) / limits["bandwidth_GB_s"], 2),
        "peak_percent": round(100 * flops / (milliseconds * 1e6) / limits["peak_GFLOP_s"], 2),
    }
