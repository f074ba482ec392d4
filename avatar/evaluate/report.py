"""From numbers of frames to the report: means of each row, strict JSON (no NaN, no infinity)."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from avatar.evaluate import metrics
from avatar.evaluate.score import PICTURE_METRICS, Series

SCHEMA = 2
CAP_DB = 100.0
"""A single frame that equals the true one counts as this many dB in a mean."""

ROW_NAMES = ("reenacted", "spoken", "nearest_frame", "ground_truth")
COLUMNS = (*PICTURE_METRICS, "lmd_px", "lip_gap_r", "lip_gap_slope", "flicker")
DEFINITIONS = {
    "psnr_frame": "PSNR in dB over the whole frame, everything drawn by us; mean of the frames' values.",
    "psnr_peer": (
        "PSNR in dB over the whole frame after the true torso, neck and background are put back: only inside the "
        "head of the true frame (face, hair, ears; grown by 1 % of the height) stand drawn pixels. This is how "
        "peers such as ER-NeRF and TalkingGaussian report a picture."
    ),
    "psnr_mouth": "PSNR in dB inside the box of the tracked lip points, larger by a quarter of its width on each side.",
    "ssim": "Structural similarity of the whole frame, 11x11 Gaussian window.",
    "ssim_peer": "The same after the composite of psnr_peer.",
    "flip": "Mean LDR-FLIP difference at 67 px a degree; 0 is equal.",
    "lpips": "Distance of what a trained network sees in both (Zhang et al. 2018, AlexNet, version 0.1); 0 is equal.",
    "lmd_px": (
        "Mean distance of 40 lip points found by the detector on drawn and on true frames, both moved to their own "
        "centre, in px of a picture 512 px high. As for films, it looks at each picture and at its mirror image. For "
        "ground_truth: the true frame after one more JPEG pass, which is what the detector itself is worth."
    ),
    "lip_gap_r": "Correlation over time of the inner lips' opening on drawn and on true frames.",
    "lip_gap_slope": "How much of the true opening is drawn: slope of the line through both; below 1 is mumbling.",
    "flicker": (
        "Mean change of the person from frame to frame where the true frames stand still (less than 2 grey levels "
        "around), over that of the true frames there, which is noise; 1 is as steady as the film."
    ),
}
HIGHER_IS_BETTER = {name: name not in ("flip", "lpips", "lmd_px", "flicker") for name in COLUMNS}


def mean_db(values: Float[np.ndarray, "t"]) -> float | None:
    """Mean of the frames' dB; None when all frames equal the true ones (infinite) or none was scored."""
    known = values[~np.isnan(values)]
    if not len(known) or np.isinf(known).all():
        return None
    return float(np.minimum(known, CAP_DB).mean())


def _mean(values: Float[np.ndarray, "t"]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _flicker(row: dict[str, Float[np.ndarray, "t"]]) -> float | None:
    ours, theirs = _mean(row["change"]), _mean(row["true_change"])
    return ours / theirs if ours is not None and theirs else None


def summary(row: dict[str, Float[np.ndarray, "t"]], true_gap: Float[np.ndarray, "t"]) -> dict[str, Any]:
    """One row of the report: every column, and from how many frames each kind of number comes."""
    r, slope = metrics.lip_gap_agreement(row["lip_gap_px"], true_gap)
    return {
        **{name: mean_db(row[name]) for name in COLUMNS if name.startswith("psnr")},
        **{name: _mean(row[name]) for name in ("ssim", "ssim_peer", "flip", "lpips", "lmd_px")},
        "lip_gap_r": r if math.isfinite(r) else None,
        "lip_gap_slope": slope if math.isfinite(slope) else None,
        "flicker": _flicker(row),
        "frames": {name: int((~np.isnan(row[name])).sum()) for name in (*PICTURE_METRICS, "lmd_px")},
    }


def rows_of(series: Series) -> dict[str, dict[str, Any] | None]:
    """All rows by name; None for a row that could not be drawn."""
    return {name: summary(series.rows[name], series.true_gap) if name in series.rows else None for name in ROW_NAMES}


def plain(value: Any) -> Any:
    """The same value for strict JSON: arrays become lists, numbers are rounded to 6 digits, NaN and infinity null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def frames_of(series: Series) -> dict[str, Any]:
    """Every number of every frame, for other tools; null where a frame was not scored."""
    return plain({"frame": series.indices, "true_lip_gap_px": series.true_gap, "rows": series.rows})


def worst_positions(series: Series, count: int) -> list[int]:
    """Positions of the lowest `psnr_frame` of `reenacted`, at least half a second (12 frames) apart, worst first."""
    chosen: list[int] = []
    for position in np.argsort(series.rows["reenacted"]["psnr_frame"]).tolist():
        if len(chosen) == count:
            break
        if all(abs(series.indices[position] - series.indices[other]) >= 12 for other in chosen):
            chosen.append(position)
    return chosen
