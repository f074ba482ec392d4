import pytest
import torch

from avatar.ops import image


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_ssim_follows_the_formula_of_one_window():
    a, b = noise(11, 11, 1).double(), noise(11, 11, 1, seed=1).double()
    kernel = image.gaussian_kernel(1.5, 5)
    window = (kernel[:, None] * kernel)[..., None]
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    torch.testing.assert_close(image.ssim(a, b), expected)


def test_equal_pictures_have_ssim_one_and_no_difference():
    a = noise(20, 24, 3)
    assert image.ssim(a, a).item() == pytest.approx(1, abs=1e-5)
    difference, similarity = image.l1_ssim(a, a)
    assert difference == 0 and similarity.item() == pytest.approx(1, abs=1e-5)


def test_ssim_falls_as_noise_grows():
    a = noise(32, 32, 3)
    values = [image.ssim(a, (a + s * (noise(32, 32, 3, seed=1) - 0.5)).clamp(0, 1)).item() for s in (0.1, 0.4, 0.8)]
    assert 1 > values[0] > values[1] > values[2] > 0


def test_weights_select_pixels():
    a, b = noise(30, 30, 3), noise(30, 30, 3, seed=1)
    weight = torch.zeros(30, 30)
    weight[4:9, 10:20] = 2
    difference, _ = image.l1_ssim(a, b, weight)
    torch.testing.assert_close(difference, (a - b)[4:9, 10:20].abs().mean())
    leaf = a.clone().requires_grad_()
    nothing = image.l1_ssim(leaf, b, torch.zeros(30, 30))
    assert [t.item() for t in nothing] == [0, 1]
    (nothing[0] + nothing[1]).backward()
    assert leaf.grad is not None and (leaf.grad == 0).all()


def test_blur_keeps_constants_and_the_sum_of_a_spot():
    torch.testing.assert_close(image.gaussian_blur(torch.full((9, 9, 2), 0.3), 2.0), torch.full((9, 9, 2), 0.3))
    spot = torch.zeros(31, 31, 1)
    spot[15, 15] = 1
    blurred = image.gaussian_blur(spot, 2.0)
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    spread = (blurred[..., 0] * (torch.arange(31) - 15).square()).sum().item()
    assert spread == pytest.approx(4, rel=0.03)


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="equal shape"):
        image.ssim(torch.zeros(20, 20, 3), torch.zeros(20, 21, 3))
    with pytest.raises(ValueError, match="smaller than"):
        image.ssim(torch.zeros(8, 20, 3), torch.zeros(8, 20, 3))
    with pytest.raises(ValueError, match="weight"):
        image.l1_ssim(torch.zeros(20, 20, 3), torch.zeros(20, 20, 3), torch.zeros(20, 19))
    with pytest.raises(ValueError, match="float"):
        image.l1_ssim(torch.zeros(20, 20, 3, dtype=torch.uint8), torch.zeros(20, 20, 3, dtype=torch.uint8))
