"""Work beside the main loop, a bounded amount at a time."""

import contextlib
import ctypes
import platform
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from threadpoolctl import threadpool_limits

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of malloc.h."""
_BLOCK, _KEPT = 32 << 20, 256 << 20
"""Bytes: blocks up to this size are kept, and so much of freed memory."""


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
    """While whole frames are worked on side by side, the libraries' own threads would only wait for each other.

    On 2 cores beside another program, the tracking of 600 frames took 47 s of processor time with them, 7 s without.
    """
    import cv2

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


@contextlib.contextmanager
def freed_memory_at_hand() -> Iterator[None]:
    """While whole frames are worked on, freed memory is kept for the next frame; only glibc needs to be told.

    It gives blocks as large as a picture back to the system at once. To fetch them anew page by page, 2,200 times a
    frame of 512x512, took a fifth of the processor time of parsing.
    """
    glibc = _glibc()
    if glibc is not None:
        glibc.mallopt(_MMAP_THRESHOLD, _BLOCK)
        glibc.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        if glibc is not None:
            glibc.mallopt(_TRIM_THRESHOLD, 2 * _BLOCK)  # where its own rule for large blocks would end
        return_freed_memory()


def return_freed_memory() -> None:
    """Give memory that was freed back to the system before something else needs much of it.

    After 400 steps on 20 s of film a process held 927 MB, of which 495 MB were freed.
    """
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(ctypes.c_size_t(0))


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
