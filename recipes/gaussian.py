"""Gaussian heads. Times are those of two CPU cores and 512x512 px."""

from dataclasses import replace

from avatar.models.gaussian_head import GaussianConfig
from avatar.train.config import TrainConfig


def base() -> TrainConfig:
    """Full quality in about 12 minutes."""
    return TrainConfig(name="gaussian/base", head=GaussianConfig(splats=40_000), steps=6000, seconds=15 * 60)


def fast() -> TrainConfig:
    """About 3 minutes."""
    config = base()
    return replace(config, name="gaussian/fast", head=replace(config.head, splats=24_000), steps=1800, seconds=5 * 60)


def smoke() -> TrainConfig:
    """Half a minute at a quarter of the pixels: shows that everything works, not how well."""
    config = base()
    head = replace(config.head, splats=6_000, basis=8)
    return replace(config, name="gaussian/smoke", head=head, steps=150, seconds=None, shrink=2, views=8)
