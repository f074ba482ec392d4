"""Times of a piece of work: medians, because other programs use the machine too."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Times = dict[str, float]
Row = dict[str, Any]


def milliseconds(work: Callable[[], object], repeats: int) -> Times:
    """Median wall and processor time of `work`; the second adds all threads up and hardly depends on other load."""
    if repeats > 1:  # work that is run once is long enough to do without a warm-up
        work()
    wall, processor = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_cpu)
    return {
        "wall_ms": round(1e3 * statistics.median(wall), 3),
        "best_ms": round(1e3 * min(wall), 3),
        "cpu_ms": round(1e3 * statistics.median(processor), 3),
        "runs": repeats,
    }


def judged(times: Times, judges: dict[str, Times]) -> Row:
    """Our times with those of the judges, and the ratios: the judge's best run over our median."""
    ratios = {f"x_{name}": round(judge["best_ms"] / times["wall_ms"], 1) for name, judge in judges.items()}
    return {**times, **ratios, "judges": judges}


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """The library reads its instruction set from the environment at each call, and so does the choice of backend."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({} if before is None else {name: before})
