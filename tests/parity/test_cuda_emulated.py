"""The CUDA sources, run on the CPU by tests/cuda_on_cpu, against the float64 reference: their logic, not speed."""

import subprocess

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from avatar.ops import reference
from avatar.ops.reference import View
from tests.cuda_on_cpu import build, device
from tests.parity.test_rasterize import by_reference, leaves, pixels_at_threshold, relative_error, turned_view
from tests.perf.head_scene import draw, head_scene

NAMES = ("means", "quats", "scales", "opacities", "colours", "pose", "background")


@pytest.fixture(scope="module", autouse=True)
def library():
    reason = build.missing()
    if reason:
        pytest.skip(f"the CUDA sources cannot be run on this machine's CPU: {reason}")
    try:
        build.load()
    except subprocess.CalledProcessError as error:
        pytest.fail(f"the CUDA sources do not compile for the CPU: {error}")


def scene(count, channels):
    *geometry, colours = head_scene(count)
    return (*geometry, colours.repeat(1, 7)[:, :channels] * torch.linspace(0.5, 1, channels))


def total(tensors):
    return torch.cat([t.flatten() for t in tensors]).sum()


def both(splats, view, channels):
    """Picture and gradients to splats, pose and background: by the CUDA kernels and by the reference."""
    height, width = view["size"]
    behind = torch.rand(height, width, channels, generator=torch.Generator().manual_seed(2))
    flipped = pixels_at_threshold(leaves(splats, torch.float64), view)
    upstream = [torch.randn(height, width, k, generator=torch.Generator().manual_seed(k)) for k in (channels, 1, 2)]
    upstream = [torch.where(flipped[..., None], 0.0, u) for u in upstream]
    upstream = [upstream[0], upstream[1][..., 0], upstream[2][..., 0]]
    results = []
    for dtype in (torch.float32, torch.float64):
        some, (T, background) = leaves(splats, dtype), leaves((view["T_camera_world"], behind), dtype)
        full = {**view, "T_camera_world": T, "background": background}
        if dtype == torch.float32:
            with device.cuda_on_cpu() as calls:
                image = draw(some, full)
                gradients = torch.autograd.grad(image, (*some, T, background), upstream)
            steps = -(-channels // 16)
            wanted = ["avatar::rasterize_gaussians"] * steps + ["avatar::rasterize_gaussians_backward"] * steps
            assert calls == wanted, "another implementation was tested"
        else:
            image = by_reference(some, full)
            gradients = torch.autograd.grad(image, (*some, T, background), [u.double() for u in upstream])
        results.append((image, gradients))
    return results, flipped


@pytest.mark.parametrize(("count", "channels"), [(1200, 3), (700, 1), (700, 5), (500, 17)])
def test_picture_and_gradients_of_a_head_match_the_float64_reference(count, channels):
    ((found, found_gradients), (wanted, wanted_gradients)), flipped = both(
        scene(count, channels), turned_view(), channels
    )
    assert flipped.float().mean() < 0.03
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a[~flipped].double(), b[~flipped], rtol=0, atol=1e-4)
        assert (a.double() - b).abs().max() < 1.5 / 255
    pairs = zip(NAMES, found_gradients, wanted_gradients, strict=True)
    errors = {name: relative_error(a.double(), b) for name, a, b in pairs}
    assert max(errors.values()) < 1e-3, errors


def test_deep_lists_of_opaque_and_faint_splats_match():
    """Hundreds of splats in each tile: several batches of threads, many buckets, pixels that go dark in between."""
    splats = list(scene(1300, 3))
    splats[3] = torch.where(torch.arange(1300) % 3 > 0, 0.02, splats[3])
    view = {**turned_view(40, 52), "focal": (45.0, 50.0), "center": (25.0, 22.0)}
    ((found, found_gradients), (wanted, wanted_gradients)), flipped = both(splats, view, 3)
    seen = reference.project(*(t.double() for t in splats[:4]), view=View(**view))
    in_tile = ((seen.mean + seen.reach > 16) & (seen.mean - seen.reach < 32)).all(-1).sum()
    assert in_tile > 512 and (wanted[1] > 0.9999).sum() > 5 and flipped.float().mean() < 0.1
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a[~flipped].double(), b[~flipped], rtol=0, atol=1e-4)
    for a, b in zip(found_gradients, wanted_gradients, strict=True):
        assert relative_error(a.double(), b) < 1e-3


def test_large_splats_that_a_warp_lists_together_match():
    splats = [t[:45] for t in scene(45, 3)]
    splats[2] = splats[2] * torch.where(torch.arange(45) % 4 > 0, 4.0, 0.3)[:, None]
    view = {**turned_view(620, 21), "focal": (60.0, 1100.0), "center": (11.0, 350.0)}
    ((found, found_gradients), (wanted, wanted_gradients)), flipped = both(splats, view, 3)
    seen = reference.project(*(t.double() for t in splats[:4]), view=View(**view))
    tiles_tall = seen.reach[:, 1] / 8
    assert (tiles_tall > 34).any() and (tiles_tall < 7).any()
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a[~flipped].double(), b[~flipped], rtol=0, atol=1e-4)
    for a, b in zip(found_gradients, wanted_gradients, strict=True):
        assert relative_error(a.double(), b) < 1e-3


@pytest.mark.parametrize(
    ("x", "y", "opacity"),
    [(44.5, 13.5, 0.02), (29.5, 20.5, 0.9), (2.5, 37.5, 0.9), (45.0, 38.0, 0.9), (-0.6, 3.0, 0.9)],
)
def test_a_small_splat_at_the_border_matches(x, y, opacity):
    """The lanes of its patch that have no pixel work on pixels that other lanes collected."""
    view = {**turned_view(39, 46), "T_camera_world": torch.eye(4)}
    (fx, fy), (cx, cy) = view["focal"], view["center"]
    splats = [t[:1] for t in scene(17, 3)]
    splats[0] = torch.tensor([[(x - cx) / fx, (y - cy) / fy, 1.0]])
    splats[2], splats[3] = torch.tensor([[0.001, 0.003, 0.002]]), torch.tensor([opacity])
    ((found, found_gradients), (wanted, wanted_gradients)), _ = both(splats, view, 3)
    assert wanted[1].max() > 0.2 * opacity
    for a, b in zip((*found, *found_gradients), (*wanted, *wanted_gradients), strict=True):
        assert relative_error(a.double(), b) < 1e-3


@pytest.mark.parametrize("count", [0, 1, 33])
@pytest.mark.parametrize("size", [(33, 65), (1, 1), (0, 7)])
def test_small_numbers_of_splats_and_pixels_match(count, size):
    splats, view = scene(count, 3), turned_view(*size)
    splats[0][:1] = torch.tensor([-0.1, -0.2, 0.6])
    some = leaves(splats)
    with device.cuda_on_cpu():
        found = draw(some, view)
        gradients = torch.autograd.grad(total(found), some)
    doubles = leaves(splats, torch.float64)
    wanted = by_reference(doubles, view)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-4)
    expected = torch.autograd.grad(total(wanted) + 0 * total(doubles), doubles)
    for a, b in zip(gradients, expected, strict=True):
        assert a.shape == b.shape and relative_error(a.double(), b) < 1e-3


def test_splats_with_no_place_in_the_picture_draw_nothing():
    nan, infinity = float("nan"), float("inf")
    means = [[0, 0, -1.0], [0, 0, 0], [1e20, 0, 1], [nan, 0, 1], [0, 0, infinity], [0, 0, 1], [0, 0, 1]]
    splats = leaves([t[: len(means)] for t in scene(17, 3)])
    with torch.no_grad():
        splats[0].copy_(torch.tensor(means))
        splats[2][5], splats[3][6] = infinity, nan
    with device.cuda_on_cpu():
        out = draw(splats, {**turned_view(40, 52), "T_camera_world": torch.eye(4)})
        gradients = torch.autograd.grad(total(out), splats)
    assert all((o == 0).all() for o in out) and all((g == 0).all() for g in gradients)


def test_pictures_with_more_tiles_than_16_bits_number_are_drawn():
    splats = [t[:2] for t in scene(17, 3)]
    splats[0] = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.1]])
    focal, center = (200.0, 200.0), (40.0, 16100.0)
    view = {"T_camera_world": torch.eye(4), "focal": focal, "center": center, "size": (16128, 1056)}
    with device.cuda_on_cpu():
        colour, alpha, _ = draw(splats, view)
    small = {**view, "center": (40.0, 16100.0 - 16000), "size": (128, 96)}
    expected, _, _ = by_reference([t.double() for t in splats], small)
    torch.testing.assert_close(colour[16000:, :96].double(), expected, rtol=0, atol=1e-4)
    assert alpha[:15000].max() == 0


def test_fake_tensors_on_cuda_get_the_shapes_of_the_kernels():
    splats, size = scene(33, 5), (33, 65)
    arguments = (torch.eye(4), None, [60.0, 60.0, 30.0, 15.0], *size)
    with device.cuda_on_cpu():
        found = torch.ops.avatar.rasterize_gaussians(*splats, *arguments)
    with FakeTensorMode(shape_env=ShapeEnv()):
        fakes = [torch.empty(t.shape, device="cuda") for t in splats]
        expected = torch.ops.avatar.rasterize_gaussians(*fakes, torch.eye(4), *arguments[1:])
    shapes = [[tuple(t.shape) for t in some[:5]] for some in (found, expected)]
    assert shapes[0] == shapes[1]
    assert [(t.dtype, t.ndim) for t in found] == [(t.dtype, t.ndim) for t in expected]


def test_launches_are_read_as_calls():
    assert build.without_launches("if (n) k<<<b, t, 0, s>>>(a, f(c));") == (
        "if (n) cuda_on_cpu::Configured(b, t, 0, s)(k, a, f(c));"
    )
    assert build.without_launches("draw<3><<<g(a, b), t>>>();") == "cuda_on_cpu::Configured(g(a, b), t)(draw<3>);"
