"""MediaPipe's graphs without their logs."""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

_LOGGING = 5
"""Answers after which a graph has nothing more to log."""


class Quiet:
    """MediaPipe's native code logs to file descriptor 2 whatever the log level is.

    The first thread that enters turns it away and the last one that leaves turns it back, so that detector and
    segmenter work side by side.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._saved = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, 2)
                os.close(sink)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                os.dup2(self._saved, 2)
                os.close(self._saved)


quiet = Quiet()


class Graph:
    """One of MediaPipe's graphs, started without its logs.

    Its nodes start, and log, on their own threads at whichever picture first reaches them; so it is silenced until
    some pictures got an answer, and no longer: what others write to stderr meanwhile is lost.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        with quiet:
            self._graph, self._answers = make(), 0
            self._warm()

    def process(self, picture: UInt8[np.ndarray, "h w 3"]) -> Any:
        """What the graph finds; None in all of its fields is no answer."""
        if self._answers >= _LOGGING:
            return self._graph.process(picture)
        with quiet:
            found = self._graph.process(picture)
        self._answers += any(getattr(found, name) is not None for name in found._fields)
        return found

    def reset(self) -> None:
        """Forget the pictures before."""
        with quiet:
            self._graph.reset()
            self._answers = 0
            self._warm()

    def close(self) -> None:
        self._graph.close()

    def _warm(self) -> None:
        """Start the nodes and wait for them, within the same silence that made the graph."""
        self.process(np.zeros((32, 32, 3), np.uint8))
