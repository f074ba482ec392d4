"""Gaussian heads. Times are those of two CPU cores and 512x512 px."""

from dataclasses import replace

from avatar.models.gaussian_head import GaussianConfig
from avatar.train.config import TrainConfig


def base() -> TrainConfig:
    """Full quality in four to eight minutes, by the machine."""
    return TrainConfig(name="gaussian/base", head=GaussianConfig(splats=40_000), steps=7000, seconds=15 * 60)


def best() -> TrainConfig:
    """More splats and three times the steps, for minutes of film, in three times the time; LPIPS counts where its
    weights are."""
    config = base()
    head, loss = replace(config.head, splats=52_000), replace(config.loss, lpips=0.05)
    return replace(config, name="gaussian/best", head=head, loss=loss, steps=20_000, seconds=60 * 60)


def fast() -> TrainConfig:
    """About a minute: half of the steps at half size."""
    config = base()
    head, sampling = replace(config.head, splats=24_000), replace(config.sampling, coarse=0.5)
    return replace(config, name="gaussian/fast", head=head, sampling=sampling, steps=1200, seconds=2 * 60)


def smoke() -> TrainConfig:
    """Half a minute at a quarter of the pixels: shows that everything works, not how well."""
    config = base()
    head = replace(config.head, splats=6_000, basis=8)
    return replace(config, name="gaussian/smoke", head=head, steps=150, seconds=None, shrink=2, views=8)
