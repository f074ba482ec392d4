"""The temporal solve: Gauss-Newton over all frames at once, banded, with the actions kept in [0, 1].

Each Gauss-Newton model is a box-constrained quadratic programme; it is solved by primal-dual active sets
(Hintermüller, Ito and Kunisch 2002), each step of which is one banded Cholesky factorisation.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import solveh_banded

from avatar.face.segments import spans
from avatar.face.solver import UNKNOWNS, K, Observed, PointModel, State, normal_equations
from avatar.face.solver_prior import Prior, of_frames

_WINDOW, _OVERLAP = 500, 25
_THREADS = 2
"""Windows are solved side by side; LAPACK and matrix products let others run."""
_DAMPING = 1e-3
"""For unknowns that nothing ties down, as in frames without a face."""


@dataclass(frozen=True, kw_only=True)
class Banded:
    """blocks on the diagonal, plus first and second differences over time of each unknown by itself."""

    blocks: Float[np.ndarray, "t n n"]
    first: Float[np.ndarray, "n"]
    second: Float[np.ndarray, "n"]

    def times(self, x: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t n"]:
        """The product with a vector."""
        return (self.blocks @ x[..., None])[..., 0] + self.stiffness(x)

    def stiffness(self, x: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t n"]:
        """Only the part of the differences over time."""
        out = np.zeros_like(x)
        one = self.first * np.diff(x, axis=0)
        out[:-1] -= one
        out[1:] += one
        two = self.second * np.diff(x, 2, axis=0)
        if len(two):
            out[:-2] += two
            out[1:-1] -= 2 * two
            out[2:] += two
        return out

    def bands(self) -> Float[np.ndarray, "b tn"]:
        """Lower bands for LAPACK."""
        t, n = self.blocks.shape[:2]
        diagonals = _difference_diagonals(t)
        out = np.zeros((2 * n + 1, t, n))
        for d in range(n):
            out[d, :, : n - d] = np.diagonal(self.blocks, -d, 1, 2)
        out[0] += diagonals[0][0][:, None] * self.first + diagonals[1][0][:, None] * self.second
        out[n] = diagonals[0][1][:, None] * self.first + diagonals[1][1][:, None] * self.second
        out[2 * n] = diagonals[1][2][:, None] * self.second
        return out.reshape(2 * n + 1, t * n)[: t * n]


def _difference_diagonals(t: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Diagonals 0, 1, 2 of D'D for first and for second differences."""
    first = [np.zeros(t) for _ in range(3)]
    second = [np.zeros(t) for _ in range(3)]
    if t > 1:
        first[0][:-1] += 1
        first[0][1:] += 1
        first[1][:-1] -= 1
    if t > 2:
        for shift, square in ((0, 1), (1, 4), (2, 1)):
            second[0][shift : t - 2 + shift] += square
        second[1][: t - 2] -= 2
        second[1][1 : t - 1] -= 2
        second[2][: t - 2] += 1
    return first, second


def box_step(
    system: Banded, gradient: Float[np.ndarray, "t n"], x: Float[np.ndarray, "t k"], rounds: int = 4
) -> Float[np.ndarray, "t n"]:
    """The step that minimises the quadratic model while x + step stays in [0, 1] for the first k unknowns."""
    t, n = gradient.shape
    k = x.shape[1]
    bands = system.bands()
    low = np.zeros((t, n), bool)
    high = low.copy()
    low[:, :k], high[:, :k] = (x <= 0) & (gradient[:, :k] > 0), (x >= 1) & (gradient[:, :k] < 0)
    step = np.zeros((t, n))
    for _ in range(rounds):
        fixed = np.zeros((t, n))
        fixed[:, :k] = np.where(low[:, :k], -x, np.where(high[:, :k], 1 - x, 0))
        free = ~(low | high)
        step = fixed + _solve_free(bands, -(gradient + system.times(fixed)), free)
        pull = gradient + system.times(step)
        new_low, new_high = low & (pull > 0), high & (pull < 0)
        new_low[:, :k] |= free[:, :k] & (x + step[:, :k] < -1e-9)
        new_high[:, :k] |= free[:, :k] & (x + step[:, :k] > 1 + 1e-9)
        if (new_low == low).all() and (new_high == high).all():
            break
        low, high = new_low, new_high
    step[:, :k] = np.clip(x + step[:, :k], 0, 1) - x
    return step


def _solve_free(bands: np.ndarray, right: np.ndarray, free: Bool[np.ndarray, "t n"]) -> Float[np.ndarray, "t n"]:
    keep = free.reshape(-1).astype(float)
    part = bands * keep
    for d in range(1, len(part)):
        part[d, :-d] *= keep[d:]
    part[0] += 1 - keep
    solved = solveh_banded(part, (right * free).reshape(-1), overwrite_ab=True, lower=True, check_finite=False)
    return solved.reshape(right.shape)


def solve_sequence(
    model: PointModel,
    observed: Observed,
    prior: Prior,
    state: State,
    *,
    focal: float,
    iterations: int,
    segments: Int[np.ndarray, "t"] | None = None,
) -> State:
    """All frames' unknowns, given the person; in overlapping windows so that memory does not grow with the clip.

    Args:
        segments: ids of the frames between cuts; each segment is solved by itself.

    Raises:
        ValueError: if the numbers of frames differ.
    """
    if not len(state) == len(observed.points) == len(prior.centre):
        raise ValueError("state, observations and prior must have equally many frames")

    def part(window: tuple[slice, int]) -> State:
        span, start = window
        first, last = max(start - _OVERLAP, span.start), min(start + _WINDOW + _OVERLAP, span.stop)
        some = slice(first, last)
        local = of_frames(prior, some)
        solved = state.select(some)
        for _ in range(iterations):
            solved = _iterate(model, observed.select(some), local, solved, focal)
        return solved.select(slice(start - first, min(start + _WINDOW, span.stop) - first))

    windows = [(s, start) for s in spans(segments, len(state)) for start in range(s.start, s.stop, _WINDOW)]
    if len(windows) == 1:
        return part(windows[0])
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(part, windows))
    return State(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(state)})


def _iterate(model: PointModel, observed: Observed, prior: Prior, state: State, focal: float) -> State:
    blocks, gradient = normal_equations(model, state, observed, focal)
    blocks += prior.precision + _DAMPING * np.eye(UNKNOWNS)
    system = Banded(blocks=blocks, first=prior.first, second=prior.second)
    x = state.vector()
    gradient += _prior_gradient(prior, x) + system.stiffness(x)
    return state.moved(box_step(system, gradient, x[:, :K]))


def _prior_gradient(prior: Prior, x: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t n"]:
    free = x - prior.centre
    free[:, K + 4 :] = 0
    return free @ prior.precision + prior.linear


def solve_single(
    model: PointModel, observed: Observed, prior: Prior, state: State, *, focal: float, iterations: int
) -> State:
    """Each frame by itself."""
    nothing = np.zeros(UNKNOWNS)
    alone = replace(prior, first=nothing, second=nothing)
    return solve_sequence(model, observed, alone, state, focal=focal, iterations=iterations)
