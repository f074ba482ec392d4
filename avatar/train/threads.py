"""How many threads pay: on a machine that others use too, two threads that wait for each other are slower than one."""

import torch

_FIRST, _EVERY, _TRIAL, _BLOCK = 20, 400, 24, 3


class ThreadTuner:
    """Tries one thread against `most` for a few steps now and then, and keeps the faster."""

    def __init__(self, most: int, *, tries: bool = True):
        """Args: `most` threads; 1 means that there is nothing to try, as does `tries` False."""
        self.most, self.best, self.tries = max(most, 1), max(most, 1), tries
        self._count = 0
        self._times: dict[int, list[float]] = {}

    def before(self) -> None:
        """Set the threads of the step that comes."""
        torch.set_num_threads(self._now())

    def after(self, seconds: float) -> None:
        """Take note of how long the step was."""
        if self._trial() is not None:
            self._times.setdefault(self._now(), []).append(seconds)
        self._count += 1
        if self._trial() is None and self._times:
            # The middle step: a window of 256 px and a whole picture differ, one hiccup should not decide.
            self.best = min(self._times, key=lambda n: sorted(self._times[n])[len(self._times[n]) // 2])
            self._times = {}

    def _trial(self) -> int | None:
        """Position inside of a trial, or None."""
        at = (self._count - _FIRST) % _EVERY
        return at if self.tries and self.most > 1 and self._count >= _FIRST and at < _TRIAL else None

    def _now(self) -> int:
        at = self._trial()
        return self.best if at is None else (1, self.most)[at // _BLOCK % 2]
