"""Operators on pictures [h w c], usually sRGB in [0, 1]."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from avatar.ops._backend import native

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def gaussian_kernel(sigma: float, radius: int | None = None) -> Float[Tensor, "k"]:
    """Weights of a 1-D Gaussian that sum to 1; three standard deviations to each side unless told."""
    radius = math.ceil(3 * sigma) if radius is None else radius
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (x / max(sigma, 1e-9)).square())
    return weights / weights.sum()


def gaussian_blur(image: Float[Tensor, "h w c"], sigma: float) -> Float[Tensor, "h w c"]:
    """Gaussian blur with the border pixels repeated outwards; sigma in pixels.

    Raises:
        ValueError: if sigma is negative.
    """
    if sigma < 0:
        raise ValueError(f"sigma {sigma} must not be negative")
    if sigma == 0 or image.numel() == 0:
        return image
    kernel = gaussian_kernel(sigma).to(image)
    radius = len(kernel) // 2
    planes = pad(image.movedim(-1, 0)[:, None], (radius, radius, radius, radius), mode="replicate")
    return _separable(planes, kernel)[:, 0].movedim(0, -1)


def _separable(planes: Float[Tensor, "n 1 h w"], kernel: Float[Tensor, "k"]) -> Float[Tensor, "n 1 a b"]:
    """Convolve rows, then columns; without padding."""
    # As channels of one picture: on a CPU, torch takes 20 times longer for a batch of single planes (887 and 41 ms for
    # 15 planes of 512x512, both ways).
    count = len(planes)
    rows, columns = kernel.view(1, 1, 1, -1).expand(count, 1, 1, -1), kernel.view(1, 1, -1, 1).expand(count, 1, -1, 1)
    picture = planes.movedim(0, 1)
    return conv2d(conv2d(picture, rows, groups=count), columns, groups=count).movedim(0, 1)


def ssim_map(a: Float[Tensor, "h w c"], b: Float[Tensor, "h w c"], *, padded: bool) -> Float[Tensor, "y x c"]:
    """Structural similarity per pixel and channel (Wang et al. 2004): 11x11 Gaussian window, sigma 1.5, range 1.

    Args:
        padded: True keeps the size by zeros around both pictures; False gives only whole windows, 10 px less.
    """
    kernel = gaussian_kernel(_SIGMA, _WINDOW // 2).to(a, non_blocking=True)
    planes = torch.stack([a, b, a * a, b * b, a * b]).movedim(-1, 1).flatten(0, 1)[:, None]
    if padded:
        planes = pad(planes, (_WINDOW // 2,) * 4)
    mean_a, mean_b, aa, bb, ab = _separable(planes, kernel)[:, 0].unflatten(0, (5, -1)).movedim(1, -1)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    variances = (aa - mean_a.square()) + (bb - mean_b.square())
    return luminance * (2 * (ab - mean_a * mean_b) + _C2) / (variances + _C2)


def ssim(a: Float[Tensor, "h w c"], b: Float[Tensor, "h w c"]) -> Float[Tensor, ""]:
    """Mean structural similarity over all whole 11x11 windows (Wang et al. 2004), pictures in [0, 1]; differentiable.

    Raises:
        ValueError: if the pictures differ in shape or are smaller than the window.
    """
    _check_pair(a, b)
    if min(a.shape[:2]) < _WINDOW:
        raise ValueError(f"picture of {tuple(a.shape[:2])} px is smaller than the {_WINDOW} px window")
    return ssim_map(a, b, padded=False).mean()


def l1_ssim(
    image: Float[Tensor, "h w c"], target: Float[Tensor, "h w c"], weight: Float[Tensor, "h w"] | None = None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Weighted mean absolute difference and weighted mean SSIM in one pass, differentiable in `image` only.

    SSIM is taken at every pixel, with zeros outside of both pictures. Both are sums of weight * value over pixels and
    channels, divided by the sum of the weights; weights that sum to zero give (0, 1).

    Raises:
        ValueError: if shapes, types or devices do not fit together.
    """
    _check_pair(image, target)
    if weight is None:
        weight = image.new_ones(image.shape[:2])
    if weight.shape != image.shape[:2] or weight.dtype != image.dtype or weight.device != image.device:
        raise ValueError(f"weight {weight.dtype} {tuple(weight.shape)} does not fit picture {tuple(image.shape)}")
    if native() is None or image.device.type != "cpu" or image.dtype != torch.float32 or not image.numel():
        return _l1_ssim_reference(image, target.detach(), weight.detach())
    wanted = image.requires_grad and torch.is_grad_enabled()
    return torch.ops.avatar.l1_ssim(image, target.detach(), weight.detach(), wanted)[:2]


def _l1_ssim_reference(image: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    if not image.numel():
        return image.sum() * 0, image.sum() * 0 + 1
    total = weight.sum() * image.shape[-1]
    nothing = total <= 0  # no branch: a GPU would have to be waited for
    share = (weight / total).masked_fill(nothing, 0)[..., None]
    similarity = ssim_map(image, target, padded=True)
    return (share * (image - target).abs()).sum(), (share * similarity).sum() + nothing


torch.library.define(
    "avatar::l1_ssim",
    "(Tensor image, Tensor target, Tensor weight, bool with_gradient) -> (Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("avatar::l1_ssim", "CPU")
def _l1_ssim(image, target, weight, with_gradient):
    """The compiled kernel: L1, SSIM, and for the way back the gradient of sum(weight * SSIM) and the sum of weights."""
    module = native()
    if module is None:
        raise RuntimeError("torch.ops.avatar.l1_ssim needs the compiled library; see avatar.ops.describe()")
    pictures = [t.contiguous() for t in (image, target, weight)]
    gradient = torch.empty_like(pictures[0]) if with_gradient else image.new_empty(0)
    difference, similarity, total = module.l1_ssim(
        [t.data_ptr() for t in pictures], tuple(image.shape), gradient.data_ptr(), torch.get_num_threads()
    )
    means = (difference / total, similarity / total) if total > 0 else (0.0, 1.0)
    return (*(image.new_tensor(mean) for mean in means), gradient, torch.tensor(total, dtype=torch.float64))


@torch.library.register_fake("avatar::l1_ssim")
def _(image, target, weight, with_gradient):
    gradient = torch.empty_like(image) if with_gradient else image.new_empty(0)
    return image.new_empty(()), image.new_empty(()), gradient, image.new_empty((), dtype=torch.float64)


torch.library.define(
    "avatar::l1_ssim_backward",
    "(Tensor image, Tensor target, Tensor weight, Tensor gradient, Tensor total, Tensor l1, Tensor ssim) -> Tensor",
)


@torch.library.impl("avatar::l1_ssim_backward", "CPU")
def _l1_ssim_backward(image, target, weight, gradient, total, *upstream):
    """From the upstream gradients of both means to the gradient of the picture."""
    module, out = native(), torch.empty_like(gradient)
    if module is None:
        raise RuntimeError("the compiled library is gone between forward and backward; see avatar.ops.describe()")
    if total <= 0:
        return out.zero_()
    pictures = [t.contiguous() for t in (image, target, weight)]
    pointers, scales = [t.data_ptr() for t in pictures], [float(g / total) for g in upstream]
    module.l1_ssim_backward(
        pointers, tuple(image.shape), gradient.data_ptr(), scales, out.data_ptr(), torch.get_num_threads()
    )
    return out


@torch.library.register_fake("avatar::l1_ssim_backward")
def _(image, target, weight, gradient, total, *upstream):
    return torch.empty_like(gradient)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:3], *output[2:])
    ctx.mark_non_differentiable(*output[2:])


def _backward(ctx, *upstream):
    gradient = torch.ops.avatar.l1_ssim_backward(*ctx.saved_tensors, *upstream[:2])
    return gradient, None, None, None


torch.library.register_autograd("avatar::l1_ssim", _backward, setup_context=_setup_context)


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.ndim != 3 or a.shape != b.shape:
        raise ValueError(f"pictures must be [h w c] of equal shape, are {tuple(a.shape)} and {tuple(b.shape)}")
    if a.dtype != b.dtype or a.device != b.device or not a.is_floating_point():
        raise ValueError(f"pictures must be float and alike, are {a.dtype} on {a.device} and {b.dtype} on {b.device}")
