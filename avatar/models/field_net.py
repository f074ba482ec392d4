"""What a field is made of: tables of features over the canonical space, and the networks that read them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar.ops.hashgrid import HashGrid, encode

_START = 1e-2
"""Largest feature at the start of training."""
_GAIN = 10.0
"""Features are tenths, so that their rate need not be another than is usual for tables; networks want units."""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """Tables over the canonical space: of cells (Müller et al. 2022), and of three planes (ER-NeRF, Li et al. 2023)."""

    levels: int = 10
    """Of the cells; 0 leaves them out."""
    features: int = 2
    log2_rows: int = 17
    coarsest: int = 16
    finest: int = 512
    """Cells along the longest side of a person's box, some 0.9 m, on the last level."""
    plane_levels: int = 0
    """Of each plane; 0 leaves them out."""
    plane_features: int = 1
    plane_log2_rows: int = 14
    plane_coarsest: int = 64
    plane_finest: int = 512


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """Sizes of what makes densities and colours of features."""

    sample_layers: int = 0
    """Hidden layers of the network that each sample goes through. 0 has none: features are blended along the ray, and
    one network makes a colour of them for each pixel."""
    hidden: int = 64
    colour_layers: int = 2
    geometry: int = 15
    """Numbers from the density network to the colour network; with `sample_layers` only."""
    view_degree: int = 0
    """Of the spherical harmonics of the viewing direction, up to 2; with `sample_layers` only."""
    ambient: int = 0
    """Dimensions, 2 or 3, of a space into which motion and place lead, with features of its own (RAD-NeRF, Tang et al.
    2022); 0 for none, and with `sample_layers` only."""
    attention: bool = True
    """Let the place say how much each part of the motion counts (ER-NeRF)."""


class Encoding(nn.Module):
    """Features of points in the unit cube."""

    def __init__(self, config: EncodingConfig):
        """Raises: ValueError for a table that the operator cannot read."""
        super().__init__()
        c, grids, axes = config, [], []
        if c.levels:
            sizes = {"features": c.features, "log2_rows": c.log2_rows, "coarsest": c.coarsest, "finest": c.finest}
            grids, axes = [HashGrid(levels=c.levels, **sizes)], [(0, 1, 2)]
        if c.plane_levels:
            plane = HashGrid(
                dimensions=2, levels=c.plane_levels, features=c.plane_features, log2_rows=c.plane_log2_rows,
                coarsest=c.plane_coarsest, finest=c.plane_finest,
            )  # fmt: skip
            grids, axes = [*grids, *[plane] * 3], [*axes, (0, 1), (1, 2), (0, 2)]
        self._grids, self._axes = grids, axes
        self.tables = nn.ParameterList(_table(grid) for grid in grids)
        self.width = sum(grid.levels * grid.features for grid in grids)

    def forward(self, points: Float[Tensor, "s 3"]) -> Float[Tensor, "s f"]:
        """Features, table after table."""
        parts = [
            encode(points if len(axes) == 3 else points[:, list(axes)], table, grid)
            for axes, table, grid in zip(self._axes, self.tables, self._grids, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class AbstractFieldNet(nn.Module, ABC):
    """From features and motion to densities and colours."""

    degree = 0
    """Of the spherical harmonics of the viewing direction; 0 does not look at it."""

    @abstractmethod
    def samples(
        self, features: Float[Tensor, "s f"], code: Float[Tensor, "k"], way: Float[Tensor, "s 3"] | None
    ) -> tuple[Float[Tensor, "s"], Float[Tensor, "s c"]]:
        """What is added to the logarithm of the prior's density, and values that are blended along the ray.

        Args:
            code: of the motion.
            way: unit viewing direction in the canonical space, where `degree` is not 0.
        """

    @abstractmethod
    def pixels(self, blended: Float[Tensor, "r c"], code: Float[Tensor, "k"]) -> Float[Tensor, "r 3"]:
        """sRGB in [0, 1] of blended values that were divided by their alpha."""

    def tables(self) -> list[nn.Parameter]:
        """Those that are tables of features."""
        return []


class DeferredNet(AbstractFieldNet):
    """Density is linear in the features, with weights that motion sets; features are blended along the ray, and one
    network makes a colour of them for each pixel (deferred shading, after Hedman et al. 2021).

    A network for each sample takes more time on a processor than all the rest.
    """

    def __init__(self, features: int, code: int, config: NetConfig):
        """Args: numbers of features of a sample, and of the motion's code."""
        super().__init__()
        self.base = nn.Parameter(torch.randn(features) * 0.1)
        self.swing = nn.Linear(code, features, bias=False)
        nn.init.zeros_(self.swing.weight)
        self.attention = nn.Linear(features, code) if config.attention else None
        self.mix = _network(features + code, [config.hidden] * config.colour_layers, 3)

    def samples(
        self, features: Float[Tensor, "s f"], code: Float[Tensor, "k"], way: Float[Tensor, "s 3"] | None
    ) -> tuple[Float[Tensor, "s"], Float[Tensor, "s c"]]:
        return features @ (self.base + self.swing(code)) * _GAIN, features

    def pixels(self, blended: Float[Tensor, "r c"], code: Float[Tensor, "k"]) -> Float[Tensor, "r 3"]:
        scaled = blended * _GAIN
        return torch.sigmoid(self.mix(torch.cat([scaled, _attended(self.attention, scaled, code)], 1)))


class SampleNet(AbstractFieldNet):
    """Density and colour of each sample by networks, as in RAD-NeRF (Tang et al. 2022) and its successors."""

    def __init__(self, features: int, code: int, config: NetConfig):
        """Args: numbers of features of a sample, and of the motion's code."""
        super().__init__()
        self.degree = config.view_degree
        self.attention = nn.Linear(features, code) if config.attention else None
        self.ambient, self._grid, inner = None, None, features + code
        if config.ambient:
            self.ambient = _network(features + code, [config.hidden] * 2, config.ambient)
            self._grid = HashGrid(dimensions=config.ambient, levels=8, log2_rows=14, finest=512)
            self.ambient_table = _table(self._grid)
            inner += self._grid.levels * self._grid.features
        self.dense = _network(inner, [config.hidden] * config.sample_layers, 1 + config.geometry)
        seen = (config.view_degree + 1) ** 2 if config.view_degree else 0
        self.colour = _network(config.geometry + seen, [config.hidden] * config.colour_layers, 3)

    def samples(
        self, features: Float[Tensor, "s f"], code: Float[Tensor, "k"], way: Float[Tensor, "s 3"] | None
    ) -> tuple[Float[Tensor, "s"], Float[Tensor, "s c"]]:
        scaled = features * _GAIN
        known = torch.cat([scaled, _attended(self.attention, scaled, code)], 1)
        if self.ambient is not None and self._grid is not None:
            where = torch.sigmoid(self.ambient(known))
            known = torch.cat([known, _GAIN * encode(where, self.ambient_table, self._grid)], 1)
        out = self.dense(known)
        inside = out[:, 1:] if way is None else torch.cat([out[:, 1:], harmonics(way, self.degree)], 1)
        return out[:, 0], torch.sigmoid(self.colour(inside))

    def pixels(self, blended: Float[Tensor, "r c"], code: Float[Tensor, "k"]) -> Float[Tensor, "r 3"]:
        return blended

    def tables(self) -> list[nn.Parameter]:
        return [] if self.ambient is None else [self.ambient_table]


def field_net(features: int, code: int, config: NetConfig) -> AbstractFieldNet:
    """The network that the sizes ask for."""
    return (SampleNet if config.sample_layers else DeferredNet)(features, code, config)


def harmonics(way: Float[Tensor, "s 3"], degree: int) -> Float[Tensor, "s h"]:
    """Real spherical harmonics of unit vectors without their constant factors, degrees 0 to 1 or 2."""
    x, y, z = way.unbind(-1)
    columns = [torch.ones_like(x), x, y, z]
    if degree > 1:
        columns += [x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1]
    return torch.stack(columns, -1)


def _attended(gate: nn.Linear | None, features: Float[Tensor, "s f"], code: Float[Tensor, "k"]) -> Float[Tensor, "s k"]:
    """The motion as it counts at each place."""
    if gate is None:
        return code.expand(len(features), -1)
    return torch.sigmoid(gate(features)) * code


def _table(grid: HashGrid) -> nn.Parameter:
    return nn.Parameter((torch.rand(grid.rows, grid.features) * 2 - 1) * _START)


def _network(inputs: int, hidden: list[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
