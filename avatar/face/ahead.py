"""Work ahead of the one who asks: the next pictures are decoded, or worked on, on other threads; never all at once."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")
_PENDING = 3


def read_ahead(read: Callable[[int], Item], indices: Iterable[int]) -> Generator[tuple[int, Item], None, None]:
    """(index, read(index)) in order; `read` is called on one other thread, at most a few indices ahead.

    What `read` raises comes out at its index. Leaving the loop early ends the thread.
    """
    return side_by_side(lambda index: (index, read(index)), indices, threads=1)


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int = 2
) -> Generator[Result, None, None]:
    """work(item) of each, in order, on other threads, which are at most a few items ahead.

    An executor's `map` takes all items at once, which for the pictures of a minute is more than a gigabyte. What
    `work` raises comes out at its item. Leaving the loop early ends the threads.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > _PENDING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
