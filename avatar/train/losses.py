"""How far a drawn picture is from the true one: L1 and SSIM with weights per pixel, and coverage."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from avatar.core import Region
from avatar.ops.image import l1_ssim
from avatar.train.config import LossConfig

if TYPE_CHECKING:
    from avatar.train.dataset import Sample

_FACE = (Region.SKIN, Region.BROWS, Region.NOSE, Region.EARS)


def region_weights(config: LossConfig) -> Float[Tensor, "11"]:
    """The weight of a pixel by its `Region`."""
    weights = torch.ones(len(Region))
    weights[Region.BACKGROUND] = config.background
    weights[[int(r) for r in _FACE]] = config.face
    weights[Region.EYES] = config.eyes
    weights[[int(Region.LIPS), int(Region.MOUTH)]] = config.mouth
    return weights


def picture_loss(
    image: Float[Tensor, "h w 3"], alpha: Float[Tensor, "h w"], sample: "Sample", config: LossConfig
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """The loss of a composited picture and its coverage against a sample, and its parts by name."""
    l1, similarity = l1_ssim(image, sample.rgb, sample.weight)
    cover = l1_loss(alpha, sample.alpha)
    loss = config.l1 * l1 + config.ssim * (1 - similarity) + config.alpha * cover
    mse = mse_loss(image.detach(), sample.rgb)
    # Not as floats: a GPU would have to be waited for.
    return loss, {"loss": loss.detach(), "l1": l1.detach(), "psnr": -10 * torch.log10(mse + 1e-12)}
