import sys

import pytest
import torch

from avatar import ops
from avatar.ops import _backend
from avatar.ops.rasterize import rasterize
from tests.perf.head_scene import draw, head_scene

VIEW = {"T_camera_world": torch.eye(4), "focal": (60.0, 60.0), "center": (20.5, 16.5), "size": (32, 40)}


@pytest.fixture(params=["native", "reference"])
def backend(request, monkeypatch):
    if request.param == "native" and _backend.native() is None:
        pytest.skip("compiled operators are missing")
    monkeypatch.setenv("AVATAR_OPS", request.param)
    return request.param


def one_splat(**changes):
    splat = {
        "means": torch.tensor([[0.0, 0.0, 1.0]]),
        "quats": torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        "scales": torch.full((1, 3), 0.02),
        "opacities": torch.tensor([0.8]),
        "colours": torch.tensor([[1.0, 0.5, 0.25]]),
    }
    return {**splat, **{name: torch.as_tensor(value) for name, value in changes.items()}}


def test_one_splat_has_the_analytic_footprint(backend):
    colour, alpha, depth = rasterize(**one_splat(), **VIEW)
    assert alpha[16, 20] == pytest.approx(0.8, abs=1e-5)
    variance = (60 * 0.02) ** 2 + 0.3
    assert alpha[16, 23] == pytest.approx(0.8 * torch.exp(torch.tensor(-4.5 / variance)).item(), abs=1e-5)
    torch.testing.assert_close(colour, alpha[..., None] * torch.tensor([1.0, 0.5, 0.25]))
    torch.testing.assert_close(depth, alpha)
    assert alpha[0, 0] == 0


def test_the_nearer_splat_hides_the_farther_one(backend):
    near_last = {k: torch.cat([v, v]) for k, v in one_splat(opacities=[0.6]).items()}
    near_last["means"] = torch.tensor([[0.0, 0.0, 1.1], [0.0, 0.0, 1.0]])
    near_last["colours"] = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    colour, _, _ = rasterize(**near_last, **VIEW)
    torch.testing.assert_close(colour[16, 20], torch.tensor([0.6, 0.0, 0.24]), atol=1e-5, rtol=0)


def test_a_cropped_camera_draws_the_crop(backend):
    splats = head_scene(400)
    whole = draw(splats, {**VIEW, "focal": (90.0, 90.0)})
    part = draw(splats, {**VIEW, "focal": (90.0, 90.0), "center": (20.5 - 9, 16.5 - 5), "size": (21, 17)})
    for a, b in zip(part, whole, strict=True):
        torch.testing.assert_close(a, b[5:26, 9:26], atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"means": [[0.0, 0.0, -1.0]]},
        {"means": [[0.0, 0.0, 0.0]]},
        {"means": [[1e20, 0.0, 1.0]]},
        {"means": [[float("nan"), 0.0, 1.0]]},
        {"means": [[0.0, 0.0, float("inf")]]},
        {"opacities": [0.0]},
        {"opacities": [float("nan")]},
        {"scales": [[float("inf"), 0.1, 0.1]]},
        {"scales": [[1e30, 1e30, 1e30]]},
    ],
    ids=str,
)
def test_splats_that_cannot_be_seen_draw_nothing_and_get_no_gradient(backend, change):
    splat = {k: v.requires_grad_() for k, v in one_splat(**change).items()}
    out = rasterize(**splat, **VIEW)
    assert all((o == 0).all() for o in out)
    if backend == "native":
        gradients = torch.autograd.grad(torch.cat([o.flatten() for o in out]).sum(), list(splat.values()))
        assert all((g == 0).all() for g in gradients)


def test_degenerate_splats_are_finite(backend):
    for change in ({"scales": [[0.0, 0.0, 0.0]]}, {"quats": [[0.0, 0.0, 0.0, 0.0]]}, {"scales": [[50.0, 50.0, 50.0]]}):
        splat = {k: v.requires_grad_() for k, v in one_splat(**change).items()}
        colour, alpha, depth = rasterize(**splat, **VIEW)
        assert alpha.detach().max() == pytest.approx(0.8, abs=1e-3)
        gradients = torch.autograd.grad(colour.sum() + alpha.sum() + depth.sum(), list(splat.values()))
        assert all(torch.isfinite(g).all() for g in gradients)


def test_one_huge_splat_covers_the_picture(backend):
    _, alpha, _ = rasterize(**one_splat(scales=[[50.0, 50.0, 50.0]]), **VIEW)
    assert alpha.min() > 0.79


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (7, 0), (1, 1)])
def test_tiny_pictures_are_drawn(backend, size):
    splat = {k: v.requires_grad_() for k, v in one_splat().items()}
    colour, alpha, depth = rasterize(**splat, **{**VIEW, "size": size})
    assert colour.shape == (*size, 3) and alpha.shape == size and depth.shape == size
    (colour.sum() + alpha.sum()).backward()


def test_no_splats_give_an_empty_picture(backend):
    none = {k: v[:0].requires_grad_() for k, v in one_splat().items()}
    colour, alpha, _ = rasterize(**none, **VIEW)
    assert (colour == 0).all() and (alpha == 0).all()
    colour.sum().backward()


def test_many_channels_are_drawn_like_three(backend):
    *geometry, colours = head_scene(100)
    wide = draw((*geometry, colours.repeat(1, 23)), VIEW)[0]
    torch.testing.assert_close(wide, draw((*geometry, colours), VIEW)[0].repeat(1, 1, 23), atol=1e-6, rtol=0)


def test_strided_inputs_give_the_same_picture(backend):
    splats = head_scene(50)
    strided = [torch.stack([t, t], -1)[..., 0] for t in splats]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(draw(strided, VIEW), draw(splats, VIEW))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"means": torch.zeros(2, 3)}, "quats"),
        ({"quats": torch.zeros(1, 3)}, "quats"),
        ({"opacities": torch.zeros(1, 1)}, "opacities"),
        ({"colours": torch.zeros(1, 0)}, "colours"),
        ({"colours": torch.zeros(1, 3, dtype=torch.float64)}, "colours"),
        ({"scales": torch.ones(1, 3, dtype=torch.int32)}, "scales"),
        ({"means": torch.tensor(0.0)}, "means"),
        ({"T_camera_world": torch.eye(3)}, "T_camera_world"),
        ({"focal": (0.0, 1.0)}, "focal"),
        ({"center": (float("nan"), 1.0)}, "center"),
        ({"size": (-1, 4)}, "size"),
        ({"size": (4, 10**6)}, "size"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_by_name(backend, change, word):
    with pytest.raises(ValueError, match=word):
        rasterize(**{**one_splat(), **VIEW, **change})


def test_a_missing_library_is_described_and_replaced_by_the_reference(monkeypatch):
    monkeypatch.delenv("AVATAR_OPS", raising=False)
    monkeypatch.setitem(sys.modules, "avatar._ops", None)
    _backend._load.cache_clear()
    try:
        facts = ops.describe()
        assert facts["backend"] == "reference" and "setup.py" in facts["mend"] and facts["why"]
        assert rasterize(**one_splat(), **VIEW)[1].max() > 0.7
    finally:
        monkeypatch.undo()
        _backend._load.cache_clear()
