"""Work beside the main loop, a bounded amount at a time."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


class Background:
    """A context manager whose `submit` waits when too much is pending; errors come out of `submit` or the end.

    One thread keeps the order of calls, which encoders and video models need.
    """

    def __init__(self, threads: int = 1, pending: int = 8) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._limit = pending
        self._waiting: deque[Future[Any]] = deque()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Call `work(*arguments)` soon."""
        while len(self._waiting) >= self._limit:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(work, *arguments))

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """While whole frames are worked on side by side, OpenCV's and torch's own threads would only wait for each other.

    On 2 cores beside another program, the tracking of 600 frames took 47 s of processor time with them, 7 s without.
    """
    import cv2

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
