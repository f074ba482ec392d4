"""What a training does, as plain values; recipes make complete ones."""

from dataclasses import dataclass, field

from avatar.models.base import AbstractHeadConfig


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the picture loss; see `avatar.train.losses`."""

    l1: float = 0.8
    ssim: float = 0.2
    alpha: float = 0.2
    background: float = 0.3
    """Weight of a background pixel; a pixel of hair, clothes or skin has 1."""
    face: float = 1.5
    eyes: float = 4.0
    mouth: float = 4.0
    """Of lips and of what is between them."""
    lpips: float = 0.0
    """Of `avatar.ops.lpips`, where this machine has its weights; without them the training does without."""
    lpips_from: float = 0.6
    """Share of the training after which it counts: details are judged once there are some."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which frames, and how much of them, a step sees."""

    rare: float = 1.0
    """0 draws frames evenly; 1 doubles the chance of the rarest poses, widest mouths and shut eyes, and so on."""
    coarse: float = 0.25
    """Share of the training that is drawn at half size."""
    crop_share: float = 0.5
    """Share of the steps at full size that draw only a window on face or body."""
    crop: int = 256
    """Height and width of the window, px."""
    cache_mb: int = 900


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training."""

    name: str
    """Of the recipe."""
    head: AbstractHeadConfig
    loss: LossConfig = field(default_factory=LossConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    steps: int = 6000
    seconds: float | None = None
    """Stop after this time even if steps are left; the learning rates fall accordingly."""
    shrink: int = 1
    """Train at 1/shrink of the working size; for trials only, the avatar's camera shrinks too."""
    views: int = 24
    """Pictures that the start is made from."""
    threads: int = 2
    """At most; one is taken where it is faster, and 1 makes a training repeat exactly."""
    seed: int = 0
    report_every: int = 25
    preview_every: int = 500
    checkpoint_every: int = 500
