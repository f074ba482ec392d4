"""Metrics against degradations whose order is known."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from avatar.evaluate import metrics


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.random((96, 96, 3)), (2, 2, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0)).round().astype(np.uint8)


def _noisy(picture: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _shifted(picture: np.ndarray, pixels: float) -> np.ndarray:
    return np.roll(picture, round(pixels), axis=1)


@pytest.mark.parametrize("degrade", [_blurred, _noisy, _shifted])
@pytest.mark.parametrize("name", ["psnr", "ssim", "flip"])
def test_more_damage_scores_worse(picture, degrade, name):
    if name == "flip":
        pytest.importorskip("flip_evaluator")
    scores = [getattr(metrics, name)(degrade(picture, strength), picture) for strength in (1, 3, 6)]
    assert scores == sorted(scores, reverse=name != "flip")
    assert len(set(scores)) == 3


def test_psnr_of_a_known_error_is_exact(picture):
    base = np.full_like(picture, 100)
    assert metrics.psnr(base + 5, base) == pytest.approx(20 * math.log10(255 / 5), abs=1e-6)
    assert metrics.psnr(base, base) == math.inf


def test_psnr_looks_only_at_the_mask(picture):
    drawn, mask = picture.copy(), np.zeros(picture.shape[:2], bool)
    mask[:10] = True
    drawn[10:] = 255 - drawn[10:]
    assert metrics.psnr(drawn, picture, mask) == math.inf
    assert math.isnan(metrics.psnr(drawn, picture, np.zeros_like(mask)))


def _face(gap: float) -> np.ndarray:
    points = np.random.default_rng(2).uniform(100, 300, (478, 2))
    for upper, lower in metrics._GAP_PAIRS:
        points[lower] = points[upper] + (0, gap)
    return points


def test_lip_distance_ignores_where_the_mouth_is_but_not_its_shape():
    face = _face(10.0)
    assert metrics.lip_distance_px(face + np.array([7.0, -3.0]), face, 512) == pytest.approx(0.0, abs=1e-9)
    assert metrics.lip_distance_px(face * 1.1, face, 512) > 1.0
    assert metrics.lip_distance_px(face / 2, face / 2 * 1.1, 256) == pytest.approx(
        metrics.lip_distance_px(face, face * 1.1, 512)
    )


def test_lip_gap_is_the_opening_in_px_of_a_512_picture():
    assert metrics.lip_gap_px(_face(10.0), 512) == pytest.approx(10.0)
    assert metrics.lip_gap_px(_face(10.0), 256) == pytest.approx(20.0)


def test_slope_tells_mumbling_from_true_opening():
    true = np.abs(np.sin(np.arange(60) / 5.0)) * 12
    r, slope = metrics.lip_gap_agreement(0.4 * true + 1.0, true)
    assert r == pytest.approx(1.0)
    assert slope == pytest.approx(0.4)
    gone = true.copy()
    gone[::2] = np.nan
    assert metrics.lip_gap_agreement(gone, true)[1] == pytest.approx(1.0)
    assert math.isnan(metrics.lip_gap_agreement(true, np.full(60, 3.0))[0])


def test_jitter_grows_with_shake_and_not_with_a_steady_turn():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(3)
    steady = np.linspace(0, 0.6, 200)[:, None] * np.array([0.0, 1.0, 0.0])
    shaken = steady + rng.normal(0, np.radians(0.1), (200, 3))
    assert metrics.pose_jitter_deg(Rotation.from_rotvec(steady).as_matrix()) < 1e-3
    # the second difference of white noise of sigma s has an rms length of sqrt(6 * 3) s
    assert metrics.pose_jitter_deg(Rotation.from_rotvec(shaken).as_matrix()) == pytest.approx(0.1 * 18**0.5, rel=0.2)
    assert math.isnan(metrics.pose_jitter_deg(np.eye(3)[None]))


def test_mouth_window_stays_inside_the_picture():
    points = np.zeros((478, 2))
    points[list(metrics.LIPS)] = np.random.default_rng(4).uniform(0, 40, (40, 2))
    rows, columns = metrics.mouth_window(points, (30, 30))
    assert (rows.start, columns.start) == (0, 0)
    assert rows.stop <= 30
    assert columns.stop <= 30


def test_ssim_counts_whole_windows_only(picture):
    import torch

    from avatar.ops import image

    other = _noisy(picture, 12)
    a, b = (torch.from_numpy(p.astype(np.float32) / 255) for p in (other, picture))
    assert metrics.ssim(other, picture) == pytest.approx(float(image.ssim(a, b)), abs=1e-5)


def test_flicker_counts_where_the_film_stands_still_and_nowhere_else():
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 190, (80, 80, 3)).astype(np.uint8)

    def taken(noise: float, moved: int = 0) -> np.ndarray:
        shot = scene.astype(float) + rng.normal(0, noise, scene.shape)
        shot[:, 40:] = np.roll(shot[:, 40:], moved, 0)
        return shot.round().clip(0, 255).astype(np.uint8)

    everywhere, film = np.ones((80, 80), bool), (taken(0.5), taken(0.5, moved=7))
    still = metrics.still_region(*film, everywhere)
    assert still[:, :30].all() and not still[:, 45:75].any()  # the half that moves is left out
    noise = metrics.change(*film, still)
    steady, shaky = (metrics.change(taken(n), taken(n), still) for n in (0.2, 3.0))
    assert steady < noise < 1.0 < shaky / 3
    right = np.zeros((80, 80), bool)
    right[:, 60:] = True
    nowhere = metrics.still_region(*film, right)
    assert math.isnan(metrics.change(*film, nowhere))


def test_flicker_is_the_mean_over_all_channels():
    black, red = np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0] = 30
    assert metrics.change(black, red, np.full((8, 8), 255, np.uint8)) == 10.0


def test_an_error_that_is_cut_to_a_mask_counts_over_the_whole_picture():
    true = np.zeros((10, 10, 3), np.uint8)
    drawn, head = true.copy(), np.zeros((10, 10), bool)
    drawn[:4] = 100
    drawn[8:] = 255
    head[:4] = True
    error = metrics.squared_error(drawn, true)
    composite = np.where(head[..., None], drawn, true)
    assert metrics.decibels(error[head], error.size) == pytest.approx(metrics.psnr(composite, true))
