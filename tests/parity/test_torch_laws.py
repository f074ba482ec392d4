"""The operators as parts of torch: the laws of torch.library, torch.compile without a graph break, CUDA streams."""

import shutil

import pytest
import torch

from avatar import ops
from avatar.ops.image import l1_ssim
from avatar.ops.rasterize import rasterize
from tests.perf.head_scene import head_scene

VIEW = {"T_camera_world": torch.eye(4), "focal": (60.0, 60.0), "center": (20.0, 16.0), "size": (32, 40)}
LENS = [60.0, 60.0, 20.0, 16.0]

needs_native = pytest.mark.skipif(ops.describe()["backend"] != "native", reason="compiled operators are missing")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def leaves(device="cpu"):
    return [tensor.to(device).requires_grad_() for tensor in head_scene(60)]


def pictures(device="cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = ((32, 40, 3), (32, 40), (32, 40, 3))
    return [torch.rand(shape, generator=generator).to(device) for shape in shapes]


def loss(splats, target, weight, background):
    """What a training step computes."""
    means, quats, scales, opacities, colours = splats
    colour, _, depth = rasterize(means, quats, scales, opacities, colours, **VIEW, background=background)
    difference, similarity = l1_ssim(colour, target, weight)
    return difference - similarity + 0.1 * depth.mean()


LAWS = ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]


@needs_native
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("behind", [False, True])
def test_rasterizer_keeps_the_laws_of_torch_library(law, behind):
    pose, background = torch.eye(4).requires_grad_(), pictures()[2].requires_grad_() if behind else None
    inputs = (*leaves(), pose, background, LENS, 32, 40)
    torch.library.opcheck(torch.ops.avatar.rasterize_gaussians.default, inputs, test_utils=law)


@needs_native
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_training_loss_compiles_as_one_graph_and_keeps_value_and_gradients(backend):
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    torch._dynamo.reset()
    splats, others = leaves(), pictures()
    expected = loss(splats, *others)
    wanted = torch.autograd.grad(expected, splats)
    found = torch.compile(loss, backend=backend, fullgraph=True)(splats, *others)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, splats), wanted, strict=True):
        torch.testing.assert_close(a, b)


@needs_cuda
@pytest.mark.skipif(not ops.describe()["cuda_kernels"], reason="the library is built without its CUDA half")
def test_kernels_run_on_the_current_cuda_stream():
    """A stream that first sleeps: kernels on any other stream would read the inputs before they are written."""
    splats, others = [t.detach() for t in leaves("cuda")], pictures("cuda")
    expected = loss(splats, *others)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = [torch.zeros_like(t) for t in splats]
        torch.cuda._sleep(200_000_000)
        for target, source in zip(late, splats, strict=True):
            target.copy_(source)
        found = loss(late, *others)
    stream.synchronize()
    torch.testing.assert_close(found, expected)
