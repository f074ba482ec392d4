"""Reading ahead: while one picture is worked on, the next ones are decoded on another thread."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_PENDING = 3


def read_ahead(read: Callable[[int], Item], indices: Iterable[int]) -> Generator[tuple[int, Item], None, None]:
    """(index, read(index)) in order; `read` is called on one other thread, at most a few indices ahead.

    What `read` raises comes out at its index. Leaving the loop early ends the thread.
    """
    waiting: deque[tuple[int, Future[Item]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for index in indices:
                waiting.append((index, pool.submit(read, index)))
                if len(waiting) > _PENDING:
                    first, picture = waiting.popleft()
                    yield first, picture.result()
            while waiting:
                first, picture = waiting.popleft()
                yield first, picture.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
