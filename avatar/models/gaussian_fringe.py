"""Takes the background out of the colours of splats at the outline.

What a film shows there is mixed with what is behind: coarse chroma, blur, errors of the matte. Before that background
nobody sees it, but from aside and before another one it is a stain. A colour at the outline that the person has nowhere
else, and that is one of the person's once some of the background is taken out, was mixed (as mattes explain pixels:
Levin et al. 2008).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar.core import MotionFrame, Region
from avatar.face.rig import PersonalRig
from avatar.models.gaussian_view import SOLID, Scene, View, grown

_VIEWS = 8
_MARGIN = 0.03
"""Of the picture's height, inside of the outline: farther in nothing is mixed."""
_EMPTY = 0.03
"""Coverage where nothing but the background shows."""
_SPREAD = 0.03
"""Of the picture's height, over which the background is blurred into the person (standard deviation)."""
_SKIPPED = 4
"""Every so many pixels are looked at for it."""
_FRONT = 0.012
"""Metres behind the drawn surface at which a splat still shows."""
_INSIDE = 0.25
"""Share of the views that show a splat away from the outline, from which nothing is mixed into it."""
_HEAD = (Region.SKIN, Region.NOSE, Region.EARS, Region.BROWS, Region.HAIR)
_BODY = (Region.NECK, Region.TORSO)
"""Parts that are cleaned; splats on the head have colours of the head and neck, those on the body of all parts."""
_FEW, _RARE = 200, 2e-4
"""Pixels that tell the colours of a part, and the share of them below which a colour is an error of the parsing."""
_COARSE, _FINE = 24, 32
"""Steps of a channel in which colours are counted, and in which distances are kept."""
_PICKED = 6000
"""Colours kept of a part."""
_NEAR = 0.06
"""Distance (sRGB, 0 to 1) at which a colour is one of the person's."""
_SHARES = [k / 20 for k in range(17)]
"""Tried shares of the background in a colour."""
_PRICE = 0.02
"""What a share costs in distance: of those that explain a colour the least one does."""


class Fringe:
    """Colours of the person and of the background, and where in some views the outline is."""

    def __init__(self, rig: PersonalRig, views: Sequence[View]) -> None:
        """Args: at least one view."""
        self._scenes = [Scene(rig, view) for view in views[:_VIEWS]]
        self._solid = [_away(scene.view.alpha > SOLID) for scene in self._scenes]
        self._behind = [_background(scene.view) for scene in self._scenes]
        tables = [self._distances((*_HEAD, Region.NECK)), self._distances((*_HEAD, *_BODY))]
        self._tables = torch.stack([*tables, torch.zeros_like(tables[0])])
        self._table = torch.full((len(Region),), len(tables))
        """Which table a part has; the last one takes everything for the person's."""
        for number, parts in enumerate((_HEAD, _BODY)):
            self._table[[int(part) for part in parts]] = number

    @torch.no_grad()
    def cleaned(
        self,
        means: Callable[[MotionFrame], Float[Tensor, "n 3"]],
        region: Int[Tensor, "n"],
        colour: Float[Tensor, "n 3"],
    ) -> tuple[Bool[Tensor, "n"], Float[Tensor, "n 3"]]:
        """Which splats have some of the background in their colour (sRGB), and all colours without it.

        Args:
            means: places of the splats in the world, by motion.
            region: what their triangles show.
        """
        edge, behind = self._seen(means)
        table = self._table[region]
        best, share = torch.full_like(colour[:, 0], torch.inf), torch.zeros_like(colour[:, 0])
        for part in _SHARES:
            own = (colour - part * behind) / (1 - part)
            step = (own.clamp(0, 1) * (_FINE - 1)).round().long()
            far = (self._tables[table, step[:, 0], step[:, 1], step[:, 2]] - _NEAR).clamp_min(0)
            cost = far + _PRICE * part + torch.where((own > -0.02).all(1), 0.0, torch.inf)
            better = cost < best
            best, share = torch.where(better, cost, best), torch.where(better, part, share)
        mixed = edge & (share > 0)
        own = (colour - share[:, None] * behind) / (1 - share[:, None])
        return mixed, torch.where(mixed[:, None], own.clamp(0, 1), colour)

    def _seen(
        self, means: Callable[[MotionFrame], Float[Tensor, "n 3"]]
    ) -> tuple[Bool[Tensor, "n"], Float[Tensor, "n 3"]]:
        """Splats that show at the outline only or not at all, and the background behind them."""
        shown, inside, behind = [], [], []
        for scene, solid, background in zip(self._scenes, self._solid, self._behind, strict=True):
            points = means(scene.view.motion)
            row, column, within = scene.pixels(points)
            front = within & (scene.local(points)[:, 2] < scene.depth_at(points) + _FRONT)
            shown.append(front)
            inside.append(front & solid[row, column])
            behind.append(background[row, column])
        share = torch.stack(inside).sum(0) / torch.stack(shown).sum(0).clamp_min(1)
        return share < _INSIDE, torch.stack(behind).median(0).values

    def _distances(self, parts: Sequence[Region]) -> Float[Tensor, "c c c"]:
        """How far colours are from all that these parts show away from the outline; zeros if they show too little."""
        from scipy.spatial import cKDTree

        codes = torch.tensor([int(part) for part in parts])
        found = [
            scene.view.rgb[solid & torch.isin(scene.view.labels.long(), codes)]
            for scene, solid in zip(self._scenes, self._solid, strict=True)
        ]
        pixels = torch.cat([*found, torch.zeros(0, 3)]).numpy()
        if len(pixels) < _FEW:
            return torch.zeros(_FINE, _FINE, _FINE)
        kind = (pixels * (_COARSE - 1)).astype(int) @ (_COARSE**2, _COARSE, 1)
        common = pixels[np.bincount(kind)[kind] >= max(3, _RARE * len(pixels))]
        common = common[:: max(len(common) // _PICKED, 1)]
        axis = np.linspace(0, 1, _FINE)
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        far = cKDTree(common).query(grid)[0] if len(common) else np.zeros(len(grid))
        return torch.from_numpy(far.reshape(_FINE, _FINE, _FINE)).float()


def _away(covered: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Pixels farther inside than the background mixes."""
    width = 2 * max(round(_MARGIN * len(covered)), 1) + 1
    return ~grown(~covered, width)


def _background(view: View) -> Float[Tensor, "h w 3"]:
    """The background near each pixel; far inside, where none is near, the pixel itself: nothing is cleaned there."""
    from scipy.ndimage import gaussian_filter

    rgb, h = view.rgb.numpy(), len(view.rgb)
    empty = (view.alpha < _EMPTY).float().numpy()[::_SKIPPED, ::_SKIPPED, None]
    known = np.concatenate([rgb[::_SKIPPED, ::_SKIPPED] * empty, empty], axis=2)
    blurred = gaussian_filter(known, (_SPREAD * h / _SKIPPED, _SPREAD * h / _SKIPPED, 0))
    blurred = blurred.repeat(_SKIPPED, 0).repeat(_SKIPPED, 1)[:h, : rgb.shape[1]]
    weight = blurred[..., 3:]
    return torch.from_numpy(np.where(weight > 1e-4, blurred[..., :3] / np.maximum(weight, 1e-4), rgb)).float()
