import pytest
import torch

from avatar.ops import image


@pytest.mark.parametrize("shape", [(70, 133, 3), (200, 64, 4), (11, 11, 1), (3, 5, 3), (1, 1, 3)])
def test_l1_and_ssim_and_their_gradient_match_float64(build, shape):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(shape, generator=generator)
    picture = (target + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)
    weight = torch.rand(shape[:2], generator=generator)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaf = picture.to(dtype).requires_grad_()
        difference, similarity = image.l1_ssim(leaf, target.to(dtype), weight.to(dtype))
        (gradient,) = torch.autograd.grad(2 * difference - 3 * similarity, leaf)
        results.append([tensor.detach().double() for tensor in (difference, similarity, gradient)])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm() + 1e-6


def test_registered_operator_keeps_the_laws_of_torch_library(build):
    picture = torch.rand(12, 14, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.library.opcheck(torch.ops.avatar.l1_ssim.default, (picture, torch.zeros(12, 14, 3), torch.ones(12, 14), True))
