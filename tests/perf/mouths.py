"""Mouths as they were filmed: opening and width from MediaPipe's mesh, and how well curves agree with them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from avatar.media import open_clip
from avatar.speech.offset import Offset

RIGID = [33, 133, 362, 263, 168, 6, 197, 195, 5, 10, 151, 9, 8, 127, 356, 70, 300]
WARM_UP = 2
"""First frames, where the mesh still settles."""
NEAR = 0.08
"""Seconds by which a predicted closure may miss."""
LARGEST_LAG = 0.20
"""Seconds within which the lag is looked for."""


@dataclass(frozen=True, kw_only=True)
class Mouth:
    """What was filmed, in face heights; nan where no face was found."""

    opening: Float[np.ndarray, "t"]
    width: Float[np.ndarray, "t"]
    fps: float


def measure(path: Path) -> Mouth:
    """Follow the mouth through a clip."""
    import mediapipe as mp

    clip = open_clip(path)
    points = np.full((len(clip.frames), 478, 3), np.nan)
    with mp.solutions.face_mesh.FaceMesh(refine_landmarks=True) as mesh:  # type: ignore[attr-defined]
        for i in range(len(clip.frames)):
            frame = clip.frames[i]
            found = mesh.process(frame).multi_face_landmarks
            if found and i >= WARM_UP:
                h, w = frame.shape[:2]
                points[i] = [(p.x * w, p.y * h, p.z * w) for p in found[0].landmark]
    seen = np.isfinite(points[:, 0, 0])
    reference = np.median(points[seen], axis=0)
    for i in np.flatnonzero(seen):
        points[i] = aligned(points[i], reference)
    height = np.linalg.norm(reference[10] - reference[152])

    def apart(a: int, b: int) -> np.ndarray:
        return np.linalg.norm((points[:, a] - points[:, b])[:, :2], axis=1) / height

    opening = (apart(13, 14) + apart(82, 87) + apart(312, 317)) / 3
    return Mouth(opening=opening, width=apart(61, 291), fps=clip.fps)


def aligned(points: Float[np.ndarray, "l 3"], reference: Float[np.ndarray, "l 3"]) -> Float[np.ndarray, "l 3"]:
    """Similarity transform of the rigid points onto the reference (Umeyama 1991)."""
    a, b = points[RIGID], reference[RIGID]
    a0, b0 = a - a.mean(0), b - b.mean(0)
    U, S, Vt = np.linalg.svd(a0.T @ b0)
    D = np.diag([1.0, 1.0, np.sign(np.linalg.det(Vt.T @ U.T))])
    scale = (S * np.diag(D)).sum() / (a0**2).sum()
    return scale * (points - a.mean(0)) @ (Vt.T @ D @ U.T).T + b.mean(0)


def measured(path: Path, cache: Path | None) -> Mouth:
    """The mouth of a clip; with a cache folder it is followed once only."""
    kept = cache / f"mouth_{path.stem}.npz" if cache else None
    if kept is None or not kept.exists():
        mouth = measure(path)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, opening=mouth.opening, width=mouth.width, fps=mouth.fps)
        return mouth
    with np.load(kept) as file:
        return Mouth(opening=file["opening"], width=file["width"], fps=float(file["fps"]))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    use = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[use], b[use])[0, 1])


def closures(opening: Float[np.ndarray, "t"], fps: float, *, deep: float, flanked: bool) -> Float[np.ndarray, "k"]:
    """Seconds of local minima below `deep` of the 5-95 % range; flanked ones open past a third within 0.25 s around."""
    low, high = np.nanpercentile(opening, [5, 95])
    level = (opening - low) / max(high - low, 1e-9)
    reach, out = round(0.25 * fps), []
    for i in range(reach, len(level) - reach):
        part = level[i - reach : i + reach + 1]
        if not np.isfinite(part).all() or level[i] > deep or level[i] > part[reach - 1 : reach + 2].min():
            continue
        wide = min(part[:reach].max(), part[reach + 1 :].max()) > 0.33
        if (wide or not flanked) and (not out or i / fps - out[-1] > 0.12 or not flanked):
            out.append(i / fps)
    return np.array(out)


def hits(found: np.ndarray, wanted: np.ndarray) -> float:
    """Share of `wanted` that has one of `found` within `NEAR`."""
    if not len(wanted):
        return float("nan")
    return float(np.mean([len(found) > 0 and np.abs(found - w).min() <= NEAR for w in wanted]))


def lag(times: np.ndarray, curve: np.ndarray, wanted: np.ndarray, moments: np.ndarray) -> float:
    """Seconds by which `curve` (at `times`) comes late against `wanted` (at `moments`): where r is highest."""
    shifts = np.arange(-LARGEST_LAG, LARGEST_LAG + 1e-9, 0.01)
    return float(shifts[np.argmax([correlation(np.interp(moments + s, times, curve), wanted) for s in shifts])])


def draw(path: Path, mouth: Mouth, curves: dict[str, np.ndarray], offset: Offset) -> None:
    """Measured (black) and predicted (red) curves, both standardised."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(2, 1, figsize=(20, 6), sharex=True)
    times = np.arange(len(mouth.opening)) / mouth.fps
    for axis, (name, measured) in zip(axes, (("opening", mouth.opening), ("width", mouth.width)), strict=True):
        for curve, colour in ((measured, "k"), (curves[name], "r")):
            axis.plot(times, (curve - np.nanmean(curve)) / np.nanstd(curve), colour, lw=1)
        axis.set_ylabel(name)
        axis.set_xlim(0, min(times[-1], 20))
    axes[0].set_title(f"{path.stem}: offset {1000 * offset.seconds:.0f} ms, confidence {offset.confidence:.2f}")
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    plt.close(figure)
