"""Frames between two cuts belong together: nothing is smoothed, followed or interpolated across a cut."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int


def spans(segments: Int[np.ndarray, "t"] | None, count: int) -> list[slice]:
    """The runs of frames with the same segment id, in order; all of `count` frames where there are no ids.

    Raises:
        ValueError: if there are ids for another number of frames.
    """
    if segments is None:
        return [slice(0, count)]
    if len(segments) != count:
        raise ValueError(f"{len(segments)} segment ids for {count} frames")
    edges = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), count]
    return [slice(a, b) for a, b in pairwise(edges) if b > a]


def in_each(
    work: Callable[[Float[np.ndarray, "u ..."]], Float[np.ndarray, "u ..."]],
    values: Float[np.ndarray, "t ..."],
    segments: Int[np.ndarray, "t"] | None,
) -> Float[np.ndarray, "t ..."]:
    """`work` done to the frames of each segment by themselves."""
    parts = [work(values[span]) for span in spans(segments, len(values))]
    return np.concatenate(parts) if parts else values
