"""Plots as SVG that reads on a light and on a dark page: no background, grey axes, colours of middle lightness."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_INK = "#808790"
COLOURS = {
    "true": "#808790",
    "reenacted": "#1f8ae0",
    "spoken": "#e0701f",
    "nearest_frame": "#9a6fd0",
    "ground_truth": "#2aa35a",
}
_SPARE = ("#1f8ae0", "#e0701f", "#2aa35a", "#9a6fd0", "#c9a400", "#d04a6f")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One picture of numbers."""

    title: str
    alt: str
    """What it shows, in a sentence, for those who do not see it."""
    svg: str


def lines(
    title: str, ylabel: str, x: Float[np.ndarray, "t"], curves: Mapping[str, Float[np.ndarray, "t"]], xlabel: str
) -> Plot:
    """Curves over one axis; a value that is not finite is left out, and a gap in time breaks the line.

    Args:
        curves: values by name; a name of a row has the colour of that row.
    """
    figure, axes = _figure(5.4, 2.7)
    for k, (name, values) in enumerate(curves.items()):
        known = np.isfinite(values)
        colour = COLOURS.get(name, _SPARE[k % len(_SPARE)])
        axes.plot(*_broken(x[known], values[known]), color=colour, linewidth=1.0, label=name.replace("_", " "))
    _dress(axes, title, xlabel, ylabel)
    if len(curves) > 1:
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": len(curves)}
        axes.legend(**place, frameon=False, labelcolor=_INK, fontsize=8, borderpad=0.2, handlelength=1.2)
    return Plot(title=title, alt=_spoken_summary(title, ylabel, curves), svg=_svg(figure))


def _broken(
    x: Float[np.ndarray, "t"], y: Float[np.ndarray, "t"]
) -> tuple[Float[np.ndarray, "u"], Float[np.ndarray, "u"]]:
    """The same points with a NaN wherever x jumps by more than five times the usual step."""
    if len(x) < 3:
        return x, y
    steps = np.diff(x)
    jumps = np.flatnonzero(steps > 5 * np.median(steps)) + 1
    return np.insert(x, jumps, np.nan), np.insert(y, jumps, np.nan)


def _dress(axes, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(title, color=_INK, fontsize=9.5, loc="left")
    axes.set_xlabel(xlabel, color=_INK, fontsize=9)
    axes.set_ylabel(ylabel, color=_INK, fontsize=9)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(color=_INK, alpha=0.25, linewidth=0.6)
    axes.margins(x=0.01)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_INK)


def _spoken_summary(title: str, ylabel: str, curves: Mapping[str, Float[np.ndarray, "t"]]) -> str:
    parts = []
    for name, values in curves.items():
        known = values[np.isfinite(values)]
        if len(known):
            parts.append(
                f"{name.replace('_', ' ')} from {known.min():.3g} to {known.max():.3g}, mean {known.mean():.3g}"
            )
    return f"{title} ({ylabel}): {'; '.join(parts)}." if parts else f"{title}: no numbers."


def heat(drawn: np.ndarray, true: np.ndarray, full: float = 64.0) -> np.ndarray:
    """Largest channel difference of each pixel in the colours of "magma": black is equal, bright is `full` or more.

    Args:
        drawn: uint8 [h w 3]; `true` the same.
        full: difference in 8-bit steps at the bright end.

    Returns:
        uint8 [h w 3].
    """
    import matplotlib

    difference = np.abs(drawn.astype(np.float32) - true.astype(np.float32)).max(axis=2) / full
    return (matplotlib.colormaps["magma"](np.clip(difference, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def smoothed(values: Sequence[float], width: int) -> Float[np.ndarray, "t"]:
    """Running median of an odd `width`, for a noisy curve."""
    from scipy.ndimage import median_filter

    return median_filter(np.asarray(values, np.float64), size=max(min(width, len(values)), 1), mode="nearest")


def bars(title: str, xlabel: str, values: Mapping[str, float]) -> Plot:
    """A horizontal bar for each name, first on top."""
    figure, axes = _figure(5.4, 1.1 + 0.2 * len(values))
    names = list(values)
    axes.barh(names, list(values.values()), color=_SPARE[0], height=0.7)
    axes.invert_yaxis()
    _dress(axes, title, xlabel, "")
    said = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    return Plot(title=title, alt=f"{title} ({xlabel}): {said or 'none'}.", svg=_svg(figure))


def boxes(title: str, xlabel: str, ylabel: str, values: Mapping[tuple[float, float], float]) -> Plot:
    """A grid of numbers by their place (x, y), darker for more, empty for none; y points down."""
    figure, axes = _figure(5.4, 3.4)
    x, y = sorted({place[0] for place in values}), sorted({place[1] for place in values})
    grid = np.array([[values.get((a, b), 0.0) for a in x] for b in y])
    half_x, half_y = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    extent = (x[0] - half_x, x[-1] + half_x, y[-1] + half_y, y[0] - half_y)
    strength = np.sqrt(grid / max(grid.max(), 1.0))
    colour = np.array([int(_SPARE[0][k : k + 2], 16) / 255 for k in (1, 3, 5)])
    axes.imshow(np.dstack([np.broadcast_to(colour, (*grid.shape, 3)), 0.85 * strength]), extent=extent, aspect="equal")
    for (a, b), value in values.items():
        if value:
            axes.text(a, b, f"{value:.0f}", ha="center", va="center", color=_INK, fontsize=7)
    _dress(axes, title, xlabel, ylabel)
    axes.set_xticks(x)
    axes.set_yticks(y)
    said = "; ".join(f"{value:.0f} at {a:.0f}, {b:.0f}" for (a, b), value in values.items() if value)
    return Plot(title=title, alt=f"{title}: {said or 'none'}.", svg=_svg(figure))


def _figure(width: float, height: float):
    """A figure about as wide in points as a phone is in px, so that its text can be read there, and its axes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _svg(figure) -> str:
    import matplotlib

    store = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "avatar"}):  # else the same plot has other names inside each time
        figure.savefig(store, format="svg", transparent=True, metadata={"Date": None})
    return store.getvalue()
