"""Times of the radiance field's operators, beside plain torch and drjit: `python -m tests.perf.field_ops`.

All run in one process, one after the other, on the same points; processor time adds all threads up.
"""

import argparse
import importlib.util
import json
import os
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import torch

from avatar.ops import describe, hashgrid, raymarch, reference_field
from avatar.ops.hashgrid import HashGrid
from avatar.ops.raymarch import Marching
from tests.perf.timing import Times, milliseconds

POINTS = 2**18
GRID = HashGrid(dimensions=3, levels=16, features=2, log2_rows=19, coarsest=16, finest=1024)


def random_points() -> torch.Tensor:
    """Anywhere in the cube."""
    return torch.rand(POINTS, 3, generator=torch.Generator().manual_seed(0))


def points_along_rays() -> torch.Tensor:
    """128 samples on each of 2048 rays that cross the cube from one face to the opposite one."""
    generator = torch.Generator().manual_seed(0)
    start, end = torch.rand(2, POINTS // 128, 1, 3, generator=generator)
    start[..., 2], end[..., 2] = 0.0, 1.0
    return (start + (end - start) * torch.linspace(0, 1, 128)[:, None]).reshape(-1, 3)


def hash_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Table, and what arrives at the features."""
    generator = torch.Generator().manual_seed(1)
    table = torch.rand(GRID.rows, GRID.features, generator=generator) * 2e-4 - 1e-4
    return table, torch.randn(POINTS, GRID.levels * GRID.features, generator=generator)


def measure_hashgrid(positions: torch.Tensor, repeats: int) -> dict[str, Times]:
    """The compiled operator: forward; forward and backward to the table; and to the positions as well.

    As for each judge, the gradient comes as its own output lies in memory; "row_major" has it point after point, which
    is turned round first.
    """
    table, by_point = hash_inputs()
    upstream = by_point.t().contiguous().t()
    leaf, moving = table.requires_grad_(), positions.clone().requires_grad_()

    def both(points: torch.Tensor, leaves: list[torch.Tensor], arriving: torch.Tensor = upstream) -> None:
        torch.autograd.grad(hashgrid.encode(points, leaf, GRID), leaves, arriving)

    return {
        "forward": milliseconds(lambda: hashgrid.encode(positions, table.detach(), GRID), repeats),
        "forward_backward": milliseconds(lambda: both(positions, [leaf]), repeats),
        "forward_backward_row_major": milliseconds(lambda: both(positions, [leaf], by_point), repeats),
        "forward_backward_positions": milliseconds(lambda: both(moving, [leaf, moving]), repeats),
    }


def measure_hashgrid_torch(positions: torch.Tensor, repeats: int) -> Times:
    """Forward and backward to the table of the reference, in float32."""
    table, upstream = hash_inputs()
    table.requires_grad_()

    def both() -> None:
        features = reference_field.encode(positions, table, GRID.resolutions, GRID.log2_rows)
        torch.autograd.grad(features, table, upstream)

    return milliseconds(both, repeats)


def measure_hashgrid_nerfstudio(positions: torch.Tensor) -> Times | str:
    """Forward and backward to the table of nerfstudio's plain torch encoding, or the reason why there is none.

    Its module imports a viewer that an encoding does not need; where that is not installed, a stand-in takes its place.
    """
    names = ("viser", "viser.transforms", "rich", "rich.console", "rich.progress", "rich.text")
    missing = {name: MagicMock() for name in names if importlib.util.find_spec(name.split(".")[0]) is None}
    try:
        with patch.dict(sys.modules, missing):
            from nerfstudio.field_components.encodings import HashEncoding
    except ImportError as error:
        return f"skipped: {error} (pip install --no-deps nerfstudio)"
    encoding = HashEncoding(
        num_levels=GRID.levels,
        min_res=GRID.coarsest,
        max_res=GRID.finest,
        log2_hashmap_size=GRID.log2_rows,
        features_per_level=GRID.features,
        implementation="torch",
    )
    upstream = hash_inputs()[1]
    return milliseconds(lambda: torch.autograd.grad(encoding(positions), encoding.hash_table, upstream), 2)


def drjit_or_why_not(threads: int) -> tuple[ModuleType | None, str]:
    """Dr.Jit with its LLVM backend and as many threads, or the reason why it cannot be measured."""
    try:
        import drjit
        from drjit.llvm.ad import Float32

        drjit.set_thread_count(threads)
        drjit.eval(Float32([1.0]) + 1)
    except (ImportError, RuntimeError) as error:
        return None, f"skipped: {error} (pip install drjit, and libLLVM of the system)"
    return drjit, ""


def measure_hashgrid_drjit(dr: ModuleType, positions: torch.Tensor, repeats: int) -> Times:
    """Forward and backward to the table of Dr.Jit's HashGridEncoding; both results are evaluated."""
    from drjit.llvm.ad import ArrayXf, Float32
    from drjit.nn import HashGridEncoding

    _, upstream = hash_inputs()
    growth = (GRID.finest / GRID.coarsest) ** (1 / (GRID.levels - 1))
    encoding = HashGridEncoding(
        Float32,
        GRID.dimensions,
        n_levels=GRID.levels,
        n_features_per_level=GRID.features,
        hashmap_size=2**GRID.log2_rows,
        base_resolution=GRID.coarsest,
        per_level_scale=growth,
    )
    start = dr.opaque(Float32, 1e-4, encoding.n_params)
    points = ArrayXf([Float32(axis.contiguous().numpy()) for axis in positions.T])
    arriving = [Float32(column.contiguous().numpy()) for column in upstream.T]
    dr.eval(start, points, arriving)

    def both() -> None:
        parameters = Float32(dr.detach(start))
        dr.enable_grad(parameters)
        encoding.set_params(parameters)
        features = list(encoding(points))
        dr.eval(features)
        for feature, gradient in zip(features, arriving, strict=True):
            dr.set_grad(feature, gradient)
        dr.enqueue(dr.ADMode.Backward, *features)
        dr.traverse(dr.ADMode.Backward)
        dr.eval(dr.grad(parameters))
        dr.sync_thread()

    return milliseconds(both, repeats)


def measure_rays(repeats: int) -> dict[str, Any]:
    """March 2^16 rays through a hollow ball of 128^3 cells; blend 3 channels, forward, and with backward."""
    side = torch.linspace(-1, 1, 128)
    radius = torch.stack(torch.meshgrid(side, side, side, indexing="ij")).norm(dim=0)
    occupied = (radius > 0.6) & (radius < 0.9)
    y, x = torch.meshgrid(torch.linspace(-0.4, 0.4, 256), torch.linspace(-0.4, 0.4, 256), indexing="ij")
    directions = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)
    origins = torch.tensor([0.5, 0.5, -1.0]).expand_as(directions).contiguous()
    marching = Marching(step=1 / 256)
    packed, _, starts, ends = raymarch.march(origins, directions, occupied, marching)
    densities = (20 * torch.rand(starts.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    values = torch.rand(len(starts), 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    plain = (densities.detach(), values.detach())
    upstream = torch.ones(len(origins), 3)

    def both(module: Any) -> None:
        colour = module.composite(densities, values, starts, ends, packed)[0]
        torch.autograd.grad(colour, (densities, values), upstream)

    return {
        "rays": len(origins),
        "samples": len(starts),
        "march": milliseconds(lambda: raymarch.march(origins, directions, occupied, marching), repeats),
        "composite forward": milliseconds(
            lambda: raymarch.composite(plain[0], plain[1], starts, ends, packed), repeats
        ),
        "composite forward_backward": milliseconds(lambda: both(raymarch), repeats),
        "composite forward_backward torch": milliseconds(lambda: both(reference_field), 3),
    }


def measure_field(threads: int = 2, repeats: int = 9) -> dict[str, Any]:
    """Everything above in one run, with ratios of processor times (forward and backward, to the table)."""
    torch.set_num_threads(threads)
    results: dict[str, Any] = {"ops": describe(), "threads": threads, "load": os.getloadavg()[0]}
    dr, reason = drjit_or_why_not(threads)
    for name, positions in (("random points", random_points()), ("points along rays", points_along_rays())):
        ours = measure_hashgrid(positions, repeats)
        results |= {f"hashgrid {mode}, {name}": times for mode, times in ours.items()}
        judges: dict[str, Times | str] = {
            "reference": measure_hashgrid_torch(positions, 2),
            "nerfstudio torch": measure_hashgrid_nerfstudio(positions),
            "drjit": reason if dr is None else measure_hashgrid_drjit(dr, positions, max(repeats // 2, 3)),
        }
        for judge, times in judges.items():
            results[f"hashgrid forward_backward {judge}, {name}"] = times
            if not isinstance(times, str):
                ratio = times["cpu_ms"] / ours["forward_backward"]["cpu_ms"]
                results[f"hashgrid ratio to {judge}, {name}"] = round(ratio, 1)
    results |= {f"rays {name}": value for name, value in measure_rays(repeats).items()}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = measure_field(options.threads, options.repeats)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for name, value in results.items():
        print(f"{name:60s} {value}")


if __name__ == "__main__":
    main()
