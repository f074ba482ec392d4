"""The operators as parts of torch: the laws of torch.library, torch.compile without a graph break, CUDA streams."""

import shutil

import pytest
import torch

from avatar import ops
from avatar.ops.image import l1_ssim
from tests.perf.head_scene import draw, head_scene

VIEW = {"T_camera_world": torch.eye(4), "focal": (60.0, 60.0), "center": (20.0, 16.0), "size": (32, 40)}
CAMERA = [*torch.eye(4).flatten().tolist(), 60.0, 60.0, 20.0, 16.0]

needs_native = pytest.mark.skipif(ops.describe()["backend"] != "native", reason="compiled operators are missing")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def splats(count=60):
    return [tensor.requires_grad_() for tensor in head_scene(count)]


def pictures():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(32, 40, 3, generator=generator), torch.rand(32, 40, generator=generator)


def loss(means, quats, scales, opacities, colours):
    target, weight = pictures_of_test
    colour, alpha, depth = draw((means, quats, scales, opacities, colours), VIEW)
    difference, similarity = l1_ssim(colour + (1 - alpha)[..., None], target, weight)
    return difference - similarity + 0.1 * depth.mean()


pictures_of_test = pictures()


@needs_native
@pytest.mark.parametrize("law", ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"])
def test_rasterizer_keeps_the_laws_of_torch_library(law):
    torch.library.opcheck(torch.ops.avatar.rasterize_gaussians.default, (*splats(), CAMERA, 32, 40), test_utils=law)


@needs_native
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_training_loss_compiles_as_one_graph_and_keeps_value_and_gradients(backend):
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    torch._dynamo.reset()
    leaves = splats()
    expected = loss(*leaves)
    wanted = torch.autograd.grad(expected, leaves)
    found = torch.compile(loss, backend=backend, fullgraph=True)(*leaves)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, leaves), wanted, strict=True):
        torch.testing.assert_close(a, b)
