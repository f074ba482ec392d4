"""Rows of the benchmark for the operators on pictures: L1 with SSIM, and the z-buffer of a mesh."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from avatar import ops
from tests.perf import roofline
from tests.perf.timing import Row, environment, judged, milliseconds


def torch_l1_ssim(image: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What one writes in torch: five depthwise convolutions with an 11x11 window; the fastest way found there."""
    kernel = ops.image.gaussian_kernel(1.5, 5).float()
    window = (kernel[:, None] * kernel).expand(image.shape[-1], 1, 11, 11).contiguous()

    def blur(picture: Tensor) -> Tensor:
        return conv2d(picture, window, padding=5, groups=len(window))

    a, b = image.movedim(-1, 0)[None], target.movedim(-1, 0)[None]
    mean_a, mean_b = blur(a), blur(b)
    squares_a, squares_b, product = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    variance_a, variance_b = blur(a * a) - squares_a, blur(b * b) - squares_b
    similarity = (2 * product + 1e-4) * (2 * (blur(a * b) - product) + 9e-4)
    similarity = similarity / ((squares_a + squares_b + 1e-4) * (variance_a + variance_b + 9e-4))
    share = weight / (weight.sum() * image.shape[-1])
    return (share * (a - b).abs()).sum(), (share * similarity).sum()


def picture_row(size: int, repeats: int, limits: dict[str, float]) -> Row:
    """Forward with backward of `ops.image.l1_ssim`."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(size, size, 3, generator=generator).requires_grad_()
    target = torch.rand(size, size, 3, generator=generator)
    weight = torch.rand(size, size, generator=generator)

    def work(measure: Callable[..., Any]) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: torch.autograd.grad(torch.stack(measure(image, target, weight)).dot(sign), image)

    sign = torch.tensor([1.0, -1.0])
    ours, theirs = work(ops.image.l1_ssim), work(torch_l1_ssim)
    torch.testing.assert_close(ours()[0], theirs()[0], rtol=1e-3, atol=1e-9)
    row = judged(milliseconds(ours, repeats), {"torch": milliseconds(theirs, repeats)})
    return _with_shares(row, "l1_ssim forward_backward", {"values": 3 * size * size, "pixels": size * size}, limits)


def mesh_row(size: int, options: argparse.Namespace, limits: dict[str, float]) -> Row:
    """A sphere of 9,800 triangles that fills most of the picture."""
    u, v = torch.meshgrid(torch.linspace(0, 6.2832, 71), torch.linspace(0, 3.1416, 71), indexing="ij")
    ball = torch.stack([u.cos() * v.sin(), v.cos(), u.sin() * v.sin()], -1).reshape(-1, 3) * 0.1
    corner = (torch.arange(70)[:, None] * 71 + torch.arange(70)).reshape(-1)
    faces = torch.cat([corner[:, None] + torch.tensor(offsets) for offsets in ([0, 1, 71], [1, 72, 71])])
    vertices = ball + torch.tensor([0.0, 0.0, 0.55])
    focal, center = (2.0 * size, 2.0 * size), (size / 2, size / 2)

    def work() -> Tensor:
        return ops.mesh.rasterize_mesh(vertices, faces, focal, center, (size, size))[0]

    times, judges = milliseconds(work, options.repeats), {}
    if not options.quick:
        with environment("AVATAR_OPS", "reference"):
            judges["torch"] = milliseconds(work, 1)
    # A covered pixel lies in two triangles of the ball, front and back.
    counts = {"triangles": len(faces), "covered": 2 * int((work() >= 0).sum()), "pixels": size * size}
    return _with_shares(judged(times, judges), "rasterize_mesh", counts, limits)


def _with_shares(row: Row, name: str, counts: roofline.Counts, limits: dict[str, float]) -> Row:
    return {**row, **roofline.shares(name, counts, row["wall_ms"], limits), "roofline": name, "counts": counts}
