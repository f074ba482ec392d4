import pytest
import torch

from avatar import ops
from avatar.ops import reference
from avatar.ops.reference import View
from avatar.ops.rotation import axis_angle_to_matrix
from tests.perf.head_scene import draw, head_scene

BAND = 1e-4  # relative: thresholds may fall to the other side where alpha is this close to 1/255


def turned_view(height=97, width=110):
    T = torch.eye(4)
    T[:3, :3] = axis_angle_to_matrix(torch.tensor([0.1, 0.25, -0.1]))
    T[:3, 3] = torch.tensor([-0.12, 0.05, 0.05])
    return {"T_camera_world": T, "focal": (170.0, 180.0), "center": (50.5, 47.0), "size": (height, width)}


def leaves(splats, dtype=torch.float32):
    return [tensor.detach().to(dtype).requires_grad_() for tensor in splats]


def by_reference(splats, view):
    view = {**view, "T_camera_world": view["T_camera_world"].double()}
    background = view.pop("background", None)
    colour, alpha, depth = reference.rasterize(*splats, view=View(**view))
    return colour if background is None else colour + (1 - alpha)[..., None] * background, alpha, depth


def pixels_at_threshold(splats, view):
    """Pixels where some splat's alpha is within the band around 1/255."""
    height, width = view["size"]
    with torch.no_grad():
        means, quats, scales, opacities, _ = splats
        seen = reference.project(means, quats, scales, opacities, View(**view))
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        alpha = reference.alphas(seen, opacities[seen.index], torch.stack([x, y], -1).reshape(-1, 2).double() + 0.5)
    return ((alpha * 255 - 1).abs() < BAND).any(0).view(height, width)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_picture_and_gradients_of_a_head_match_the_float64_reference(build, channels):
    view = turned_view()
    *geometry, colours = head_scene(700)
    splats = (*geometry, colours[:, [0, 1, 2, 1, 0][:channels]])
    native_leaves, reference_leaves = leaves(splats), leaves(splats, torch.float64)
    found, expected = draw(native_leaves, view), by_reference(reference_leaves, view)

    flipped = pixels_at_threshold(reference_leaves, view)
    assert flipped.float().mean() < 0.02
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a[~flipped].double(), b[~flipped], rtol=0, atol=1e-4)
        assert (a.double() - b).abs().max() < 1.5 / 255

    upstream = [torch.randn(o.shape, generator=torch.Generator().manual_seed(i)) for i, o in enumerate(found)]
    upstream = [torch.where(flipped[..., None] if u.ndim == 3 else flipped, 0.0, u) for u in upstream]
    gradients = torch.autograd.grad(found, native_leaves, upstream)
    wanted = torch.autograd.grad(expected, reference_leaves, [u.double() for u in upstream])
    names = ("means", "quats", "scales", "opacities", "colours")
    errors = {name: relative_error(a.double(), b) for name, a, b in zip(names, gradients, wanted, strict=True)}
    assert max(errors.values()) < 1e-3, errors


@pytest.mark.parametrize("channels", [3, 70])
def test_background_and_camera_pose_match_and_get_gradients(build, channels):
    *geometry, colours = head_scene(600)
    splats = (*geometry, colours.repeat(1, 24)[:, :channels] * torch.linspace(0.5, 1, channels))
    pose, behind = turned_view()["T_camera_world"], torch.rand(97, 110, channels)
    upstream = torch.randn(97, 110, channels, generator=torch.Generator().manual_seed(3))
    flipped = pixels_at_threshold(leaves(splats, torch.float64), turned_view())
    results = []
    for dtype, drawing in ((torch.float32, draw), (torch.float64, by_reference)):
        some, (T, background) = leaves(splats, dtype), leaves((pose, behind), dtype)
        view = {**turned_view(), "T_camera_world": T, "background": background}
        colour, alpha, _ = drawing(some, view)
        given = torch.where(flipped[..., None], 0.0, upstream)
        gradients = torch.autograd.grad(
            (colour, alpha), (T, background, *some), (given.to(dtype), given[..., 0].to(dtype))
        )
        results.append((colour[~flipped], *gradients))
    (found, *found_gradients), (expected, *expected_gradients) = results
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    for a, b in zip(found_gradients, expected_gradients, strict=True):
        assert relative_error(a.double(), b) < 1e-3


def test_alpha_and_depth_alone_carry_gradients(build):
    view, splats = turned_view(40, 45), head_scene(200)
    native_leaves, reference_leaves = leaves(splats), leaves(splats, torch.float64)
    for out in (1, 2):
        found = torch.autograd.grad(draw(native_leaves, view)[out].sum(), native_leaves[:4])
        expected = torch.autograd.grad(by_reference(reference_leaves, view)[out].sum(), reference_leaves[:4])
        for a, b in zip(found, expected, strict=True):
            assert relative_error(a.double(), b) < 1e-3


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_small_numbers_of_splats_match(build, count):
    view, splats = turned_view(33, 65), head_scene(17)
    some = [tensor[:count] for tensor in splats]
    found, expected = draw(some, view), by_reference([t.double() for t in some], view)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-4)


def test_long_thin_splats_keep_their_shape_in_float32(build):
    splats = [t.clone() for t in head_scene(30)]
    splats[2][:, 0], splats[2][:, 1:] = 0.5, 2e-5
    view = turned_view(64, 64)
    found, expected = draw(splats, view), by_reference([t.double() for t in splats], view)
    assert expected[1].max() > 0.5
    flipped = pixels_at_threshold([t.double() for t in splats], view)
    assert (found[1].double() - expected[1])[~flipped].abs().max() < 5e-3


def test_results_do_not_depend_on_the_number_of_threads(build):
    view, splats = turned_view(200, 200), leaves(head_scene(9000))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            colour, alpha, depth = draw(splats, view)
            gradients = torch.autograd.grad(colour.sum() + depth.sum(), splats)
            results.append((colour, alpha, depth, *gradients))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradient_of_the_smooth_rasterizer_equals_finite_differences(monkeypatch):
    monkeypatch.setattr(reference, "MIN_ALPHA", 1e-14)
    monkeypatch.setattr(reference, "MAX_ALPHA", 1.0)
    monkeypatch.setattr(reference, "MIN_LIGHT", 0.0)
    splats = [t[:4].double() for t in head_scene(4)]
    splats[2] = splats[2] * 0.2
    view = View(T_camera_world=torch.eye(4).double(), focal=(14.0, 15.0), center=(4.0, 4.5), size=(8, 9))
    inputs = [t.clone().requires_grad_() for t in (*splats, view.T_camera_world)]

    def drawn(*given):
        return reference.rasterize(*given[:5], view=view._replace(T_camera_world=given[5]))

    assert torch.autograd.gradcheck(drawn, inputs, eps=1e-6, atol=1e-5)


def test_registered_operator_keeps_the_laws_of_torch_library(build):
    splats = leaves(head_scene(40))
    pose, behind = leaves((torch.eye(4), torch.rand(32, 40, 3)))
    arguments = (*splats, pose, behind, [50.0, 50.0, 16.0, 16.0], 32, 40)
    laws = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.avatar.rasterize_gaussians.default, arguments, test_utils=laws)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.skipif(not ops.describe()["cuda_kernels"], reason="the library is built without its CUDA half")
def test_cuda_kernel_draws_what_the_cpu_kernel_draws():
    view, splats = turned_view(), head_scene(3000)
    results = []
    for device in ("cpu", "cuda"):
        inputs = [t.to(device).requires_grad_() for t in splats]
        outputs = draw(inputs, view)
        upstream = [torch.randn(o.shape, generator=torch.Generator().manual_seed(0)).to(device) for o in outputs]
        results.append([t.detach().cpu() for t in (*outputs, *torch.autograd.grad(outputs, inputs, upstream))])
    for found, expected in zip(results[1][:3], results[0][:3], strict=True):
        assert ((found - expected).abs() > 1e-4).float().mean() < 1e-3  # pixels where a threshold falls otherwise
    for found, expected in zip(results[1][3:], results[0][3:], strict=True):
        assert relative_error(found, expected) < 1e-2
