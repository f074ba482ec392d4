import importlib
import sys

import pytest
import torch

from avatar.errors import InputError
from avatar.ops import lpips
from tests.lpips_files import SHAPES, states, write


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def weights():
    return states()


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    state, heads = weights
    return write(state, heads, tmp_path_factory.mktemp("weights"))


def layers_of_the_paper(state, picture):
    """The five activations, by torch's modules in the order of Krizhevsky 2014."""
    activations = []
    for number, *_ in SHAPES:
        if number in (3, 6):
            picture = torch.nn.MaxPool2d(3, 2)(picture)
        weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
        stride, padding = {0: (4, 2), 3: (1, 2)}.get(number, (1, 1))
        module = torch.nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
        module.load_state_dict({"weight": weight, "bias": bias})
        picture = module(picture).relu()
        activations.append(picture)
    return activations


def test_it_is_the_weighted_distance_of_unit_activations(weights, files):
    state, heads = weights
    a, b = noise(96, 80, 3), noise(96, 80, 3, seed=1)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    inputs = (((2 * p - 1 - shift) / scale).movedim(-1, 0)[None] for p in (a, b))
    expected = 0.0
    with torch.no_grad():
        for index, pair in enumerate(zip(*(layers_of_the_paper(state, i) for i in inputs), strict=True)):
            left, right = (torch.nn.functional.normalize(side, dim=1) for side in pair)
            expected += torch.nn.functional.conv2d((left - right) ** 2, heads[f"lin{index}.model.1.weight"]).mean()
    torch.testing.assert_close(lpips.load(files)(a, b), expected, rtol=1e-4, atol=1e-6)


def test_equal_pictures_have_none_and_noise_has_more(files):
    judge, a = lpips.load(files), noise(70, 70, 3)
    values = [judge(a, (a + s * (noise(70, 70, 3, seed=1) - 0.5)).clamp(0, 1)).item() for s in (0.0, 0.2, 0.8)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2]


def test_a_picture_can_be_led_by_it(files):
    judge, true = lpips.load(files), noise(64, 64, 3)
    drawn = noise(64, 64, 3, seed=1).requires_grad_()
    before = judge(drawn, true)
    before.backward()
    assert drawn.grad is not None and drawn.grad.abs().sum() > 0
    assert judge((drawn - 1e-2 * drawn.grad / drawn.grad.abs().max()).detach(), true) < before


def test_where_both_pictures_are_black_nothing_breaks(files):
    drawn = torch.zeros(64, 64, 3, requires_grad=True)
    value = lpips.load(files)(drawn, torch.zeros(64, 64, 3))
    value.backward()
    assert value == 0 and drawn.grad is not None and drawn.grad.isfinite().all()


def test_small_pictures_are_refused(files):
    with pytest.raises(ValueError, match="at least 64 px"):
        lpips.load(files)(noise(40, 90, 3), noise(40, 90, 3))


def test_files_are_found_where_torchvision_and_lpips_put_them(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    sys.modules.pop("lpips", None)
    assert lpips.weight_files() is None
    state, heads = weights
    made = write(state, heads, tmp_path / "hub" / "checkpoints")
    assert lpips.weight_files() is None
    package = tmp_path / "site" / "lpips"
    (package / "weights/v0.1").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs torchvision')\n")
    made.heads.rename(package / "weights/v0.1/alex.pth")
    importlib.invalidate_caches()
    found = lpips.weight_files()
    assert found == (made.backbone, package / "weights/v0.1/alex.pth")
    assert lpips.load(found)(noise(64, 64, 3), noise(64, 64, 3, seed=1)) > 0


def test_damaged_or_foreign_weights_are_named(weights, tmp_path):
    state, heads = weights
    whole = write(state, heads, tmp_path / "cut")
    whole.backbone.write_bytes(whole.backbone.read_bytes()[:-1000])
    with pytest.raises(InputError, match="SHA-256 does not begin with"):
        lpips.load(whole)
    with pytest.raises(InputError, match=r"lin0\.model\.1\.weight.*is missing"):
        lpips.load(write(state, {"other": torch.zeros(1)}, tmp_path / "foreign"))
    bad = write(state, heads, tmp_path / "bad")
    bad.heads.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a file of weights"):
        lpips.load(bad)
