"""Radiance fields. Times are those of two CPU cores. `geneface` and `synctalk` take sizes from published systems."""

from dataclasses import replace

from avatar.models.field_head import FieldConfig
from avatar.models.field_net import EncodingConfig, NetConfig
from avatar.models.field_shell import ShellConfig
from avatar.models.field_upkeep import OccupancyConfig
from avatar.train.config import LossConfig, SamplingConfig, TrainConfig

_SAMPLING = SamplingConfig(coarse=0.0, crop_share=1.0, crop=96)
"""Windows only: a field's step costs what its rays cost. In the same time windows of 64 px learned 0.3 dB less,
of 128 px as much."""
_LOSS = LossConfig(alpha=1.0)
"""Coverage counts five times as much as for Gaussians: a field otherwise keeps a rim of the background's colour, which
the film's own background hides and any other shows."""
_SMALL = replace(_SAMPLING, crop=64)
"""For networks at each sample, which make a step 8 to 20 times dearer."""


def base() -> TrainConfig:
    """Full quality in 25 minutes."""
    return TrainConfig(
        name="field/base", head=FieldConfig(), loss=_LOSS, sampling=_SAMPLING, steps=20_000, seconds=25 * 60, views=12
    )


def fast() -> TrainConfig:
    """Four minutes."""
    return replace(base(), name="field/fast", steps=3000, seconds=4 * 60)


def smoke() -> TrainConfig:
    """Half a minute at a quarter of the pixels: shows that everything works, not how well."""
    config = base()
    encoding = EncodingConfig(levels=6, log2_rows=14, finest=128)
    head = replace(FieldConfig(encoding=encoding), code=8)
    sampling = replace(config.sampling, crop=48)
    return replace(
        config, name="field/smoke", head=head, sampling=sampling, steps=150, seconds=None, shrink=2, views=8
    )  # fmt: skip


def geneface() -> TrainConfig:
    """The renderer of GeneFace++ (Ye et al. 2023), as modules/radnerfs and egs/egs_bases/radnerf of its repository
    state it.

    The same: hash grid of 16 levels of 2 features, 16 to 2048 cells, 2^16 rows; motion made into 64 numbers; a 3-D
    ambient space with features of its own; density network of 3 layers of 128, colour network of 2 with spherical
    harmonics of the direction; 16 samples a ray; occupancy refreshed every 16 steps; Adam, 5e-4 for networks and 5e-3
    for grids, falling to a tenth; entropy of the rays' weights at 1e-4.

    Different: 68 landmarks from sound are here the ARKit coefficients, gaze and pose, which all our backbones take; no
    code for each frame; samples lie about the rig (which goes along with the head's bones, not with its actions), not
    in a cube of 128^3 cells; our torso is part of the field, theirs a 2-D deformation; windows with L1 and SSIM, not
    random rays with MSE, VGG features and a super-resolution network; no penalty on ambient motion away from the face;
    25 minutes of two cores are some 2,000 steps, and not 250,000 on a GPU.
    """
    encoding = EncodingConfig(levels=16, log2_rows=16, finest=2048)
    net = NetConfig(
        sample_layers=2, hidden=128, colour_layers=1, geometry=128, view_degree=2, ambient=3, attention=False
    )
    head = FieldConfig(
        encoding=encoding, net=net, shell=ShellConfig(steps=16, edge_steps=8, follows_face=False), code=64, nodes=0,
        occupancy=OccupancyConfig(opaque=1e-4), rate_table=5e-3, rate_network=5e-4, rate_motion=5e-4,
    )  # fmt: skip
    return replace(base(), name="field/geneface", head=head, sampling=_SMALL)


def synctalk() -> TrainConfig:
    """The head of SyncTalk (Peng et al. 2024), as its repository's nerf_triplane/network.py and main.py state it.

    The same: three planes of 12 levels of 1 feature, 64 to 512 cells, 2^14 rows; density network of 3 layers of 64 and
    colour network of 2, with spherical harmonics of the direction; the place says how much each part of the motion
    counts; 1e-2 for grids and 1e-3 for networks; entropy of the rays' weights at 1e-4.

    Different: 32 numbers from sound and 7 from the upper face are here 39 from all of the motion; 16 samples a ray
    about the rig (which goes along with the head's bones, not with its actions); L1 and SSIM on windows from the start,
    not rays with uncertainties first and LPIPS on lips then; no moving average of the weights; our torso is part of the
    field, theirs is taken from the film ("portrait") or a 2-D deformation; 25 minutes of two cores are some 5,000
    steps, not 160,000 on a GPU.
    """
    encoding = EncodingConfig(levels=0, plane_levels=12)
    net = NetConfig(sample_layers=2, hidden=64, colour_layers=1, geometry=64, view_degree=2)
    head = FieldConfig(
        encoding=encoding, net=net, shell=ShellConfig(steps=16, edge_steps=8, follows_face=False), code=39, nodes=0,
        occupancy=OccupancyConfig(opaque=1e-4), rate_network=1e-3,
    )  # fmt: skip
    return replace(base(), name="field/synctalk", head=head, sampling=_SMALL)
