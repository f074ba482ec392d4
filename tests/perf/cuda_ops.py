"""Time and check the CUDA rasteriser on this machine's GPU: `python -m tests.perf.cuda_ops [--json FILE]`.

The scenes are those of `tests.perf.ops`. Each is drawn by the CUDA kernels, compared with the CPU kernel, and drawn by
gsplat too where it is installed (colour alone there; ours always makes depth as well). Times are medians between CUDA
events, so the host's share counts where the device waits for it.
"""

import argparse
import datetime
import importlib.util
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar import ops
from tests.perf.head_scene import draw, head_scene, view_of_head

CASES = ((10_000, 512), (50_000, 512), (100_000, 512), (50_000, 1024))
WARM_UP = 20


def milliseconds(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median and best time of `work` on the current stream."""
    for _ in range(WARM_UP):
        work()
    torch.cuda.synchronize()
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for start, end in marks:
        start.record()
        work()
        end.record()
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) for start, end in marks]
    return {"median_ms": round(statistics.median(times), 4), "best_ms": round(min(times), 4)}


def gsplat_draw(splats: list[Tensor], view: dict[str, Any]) -> Tensor:
    """The same picture by gsplat."""
    import gsplat

    (fx, fy), (cx, cy), (height, width) = view["focal"], view["center"], view["size"]
    means, quats, scales, opacities, colours = splats
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]], device=means.device)
    viewmats = view["T_camera_world"].to(means.device)[None]
    return gsplat.rasterization(
        means, quats, scales, opacities, colours, viewmats, K[None], width, height, packed=False
    )[0][0]  # fmt: skip


def times_of(paint: Callable[[list[Tensor]], Tensor], splats: list[Tensor], repeats: int) -> dict[str, Any]:
    """Forward without gradients, and forward with backward to all fields of the splats."""
    leaves = [tensor.clone().requires_grad_() for tensor in splats]
    with torch.no_grad():
        upstream = torch.randn_like(paint(splats))
        forward = milliseconds(lambda: paint(splats), repeats)
    back = milliseconds(lambda: torch.autograd.grad(paint(leaves), leaves, upstream), repeats)
    return {"forward": forward, "forward_backward": back}


def parity(count: int, size: int) -> dict[str, Any]:
    """Of the CUDA kernels with the CPU kernel: pixels that differ, and relative errors of the gradients."""
    view, results = view_of_head(size), []
    for device in ("cpu", "cuda"):
        leaves = [tensor.to(device).requires_grad_() for tensor in head_scene(count)]
        pose = view["T_camera_world"].clone().requires_grad_()
        images = draw(leaves, {**view, "T_camera_world": pose})
        upstream = [torch.randn(i.shape, generator=torch.Generator().manual_seed(k)) for k, i in enumerate(images)]
        gradients = torch.autograd.grad(images, (*leaves, pose), [u.to(device) for u in upstream])
        results.append(([i.detach().cpu() for i in images], [g.cpu() for g in gradients]))
    (wanted, wanted_gradients), (found, found_gradients) = results
    different = [(a - b).abs() > 1e-4 for a, b in zip(found, wanted, strict=True)]
    names = ("means", "quats", "scales", "opacities", "colours", "pose")
    pairs = zip(names, found_gradients, wanted_gradients, strict=True)
    return {
        "share of values that differ by more than 1e-4": [round(d.float().mean().item(), 7) for d in different],
        "relative error of gradients": {n: float(f"{((a - b).norm() / b.norm()).item():.2e}") for n, a, b in pairs},
    }


def measure(count: int, size: int, repeats: int, with_gsplat: bool) -> dict[str, Any]:
    """All figures of one scene."""
    view, splats = view_of_head(size), [tensor.cuda() for tensor in head_scene(count)]
    result: dict[str, Any] = {"parity with the CPU kernel": parity(count, size)}
    result["avatar"] = times_of(lambda s: draw(s, view)[0], splats, repeats)
    if with_gsplat:
        result["gsplat"] = times_of(lambda s: gsplat_draw(s, view), splats, repeats)
        for mode in ("forward", "forward_backward"):
            ratio = result["gsplat"][mode]["median_ms"] / result["avatar"][mode]["median_ms"]
            result[f"{mode}: times faster than gsplat"] = round(ratio, 2)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("cuda-ops: skipped, torch finds no CUDA device on this machine")
        return 0
    if not ops.describe()["cuda_kernels"]:
        print("cuda-ops: there is a GPU, but the operators were built without CUDA: install the CUDA toolkit, then")
        print("AVATAR_CUDA=1 python setup.py build_ext --inplace")
        return 1
    with_gsplat = importlib.util.find_spec("gsplat") is not None
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "torch": torch.__version__,
        "gsplat": "compared" if with_gsplat else "not installed",
        "command": "python -m tests.perf.cuda_ops",
    }
    for count, size in CASES:
        results[f"{count} splats, {size}x{size}"] = measure(count, size, options.repeats, with_gsplat)
    text = json.dumps(results, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
