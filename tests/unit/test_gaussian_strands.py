"""Hair that no picture shows has locks in the tones of the hair that is seen."""

from dataclasses import dataclass
from typing import Any, cast

import torch

from avatar.core import Region
from avatar.models.gaussian_strands import palette, strands

CROWN = torch.tensor([0.0, -0.1, 0.0])
TONES = torch.linspace(0.1, 0.4, 32)[:, None] * torch.tensor([1.0, 0.8, 0.6])


@dataclass(frozen=True)
class Shot:
    rgb: torch.Tensor
    labels: torch.Tensor
    alpha: torch.Tensor


@dataclass(frozen=True)
class Seen:
    view: Shot


def seen(colours: torch.Tensor) -> Any:
    """A picture of hair alone."""
    labels = torch.full(colours.shape[:2], int(Region.HAIR), dtype=torch.uint8)
    return cast(Any, Seen(Shot(colours, labels, torch.ones(colours.shape[:2]))))


def back_of_head(turn: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    return CROWN + torch.stack([0.08 * turn.sin(), down, 0.08 * turn.cos()], -1)


def test_tones_run_from_dark_to_light_without_a_fringe_of_the_background():
    brown = torch.rand(40, 40, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.4, 0.3, 0.2])
    brown[:4] = torch.tensor([0.2, 0.5, 1.0])
    tones = palette([seen(brown)])
    assert tones is not None
    assert (tones.sum(1).diff() > 0).all()
    assert (tones[:, 0] > tones[:, 2]).all()


def test_too_little_hair_has_no_tones():
    assert palette([seen(torch.rand(10, 10, 3))]) is None
    assert palette([]) is None


def test_locks_run_down_and_differ_from_their_neighbours():
    turn = torch.linspace(-1.5, 1.5, 200)
    at = [strands(back_of_head(turn, torch.full_like(turn, down)), TONES, CROWN)[:, 0] for down in (0.0, 0.006)]
    assert at[0].std() > 0.02
    below = torch.corrcoef(torch.stack(at))[0, 1]
    beside = torch.corrcoef(torch.stack([at[0][:-12], at[0][12:]]))[0, 1]
    assert below > 0.5
    assert beside < below - 0.3


def test_every_tone_is_one_of_the_hair_and_the_same_each_time():
    points = back_of_head(torch.linspace(-3, 3, 500), torch.linspace(-0.1, 0.1, 500))
    colours = strands(points, TONES, CROWN)
    assert (colours >= TONES[0] - 1e-6).all() and (colours <= TONES[-1] + 1e-6).all()
    torch.testing.assert_close(colours, strands(points, TONES, CROWN))
    torch.testing.assert_close(colours[:, 0] * 0.6, colours[:, 2])
