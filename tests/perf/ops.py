"""Median times of the native operators on a scene shaped like a head: `python -m tests.perf.ops [--json FILE]`."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from avatar import ops
from tests.perf.head_scene import draw, head_scene, view_of_head

SPLATS = (10_000, 50_000)
SIZES = (256, 512)


def milliseconds(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median wall and processor time of `work`; the second adds all threads up and hardly depends on other load."""
    work()
    wall, processor = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_cpu)
    return {
        "wall_ms": round(1e3 * statistics.median(wall), 2),
        "best_ms": round(1e3 * min(wall), 2),
        "cpu_ms": round(1e3 * statistics.median(processor), 2),
    }


def measure_rasterizer(splats: int, size: int, repeats: int) -> dict[str, dict[str, float]]:
    """Forward, and forward with backward, of `ops.rasterize.rasterize`."""
    scene = head_scene(splats)
    view = view_of_head(size)

    def forward() -> torch.Tensor:
        return draw(scene, view)[0]

    leaves = [tensor.clone().requires_grad_() for tensor in scene]
    upstream = torch.randn(size, size, 3, generator=torch.Generator().manual_seed(1))

    def both() -> None:
        colour, _, _ = draw(leaves, view)
        torch.autograd.grad(colour, leaves, upstream)

    return {"forward": milliseconds(forward, repeats), "forward_backward": milliseconds(both, repeats)}


def measure_picture(size: int, repeats: int) -> dict[str, float]:
    """Forward with backward of `ops.image.l1_ssim`."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(size, size, 3, generator=generator).requires_grad_()
    target = torch.rand(size, size, 3, generator=generator)
    weight = torch.rand(size, size, generator=generator)

    def work() -> None:
        difference, similarity = ops.image.l1_ssim(image, target, weight)
        torch.autograd.grad(difference - similarity, image)

    return milliseconds(work, repeats)


def measure_mesh(size: int, repeats: int) -> dict[str, float]:
    """A sphere of 9,800 triangles that fills most of the picture."""
    u, v = torch.meshgrid(torch.linspace(0, 6.2832, 71), torch.linspace(0, 3.1416, 71), indexing="ij")
    ball = torch.stack([u.cos() * v.sin(), v.cos(), u.sin() * v.sin()], -1).reshape(-1, 3) * 0.1
    corner = (torch.arange(70)[:, None] * 71 + torch.arange(70)).reshape(-1)
    faces = torch.cat([corner[:, None] + torch.tensor(offsets) for offsets in ([0, 1, 71], [1, 72, 71])])
    vertices = ball + torch.tensor([0.0, 0.0, 0.55])
    focal, center = (2.0 * size, 2.0 * size), (size / 2, size / 2)
    return milliseconds(lambda: ops.mesh.rasterize_mesh(vertices, faces, focal, center, (size, size)), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, object] = {"ops": ops.describe()}
    for size in SIZES:
        for splats in SPLATS:
            for mode, times in measure_rasterizer(splats, size, options.repeats).items():
                results[f"rasterize {mode} {splats}@{size}"] = times
        results[f"l1_ssim forward_backward @{size}"] = measure_picture(size, options.repeats)
        results[f"rasterize_mesh 9800@{size}"] = measure_mesh(size, options.repeats)
    for name, value in results.items():
        print(f"{name:42s} {value}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
