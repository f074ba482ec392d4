"""What runs beside the main loop, and the memory that it works in."""

import platform

import numpy as np
import pytest

from avatar.preprocess.background import freed_memory_at_hand

BLOCK, COUNT = 12 << 20, 8


def pages_fetched() -> int:
    """While as much memory as some frames need is taken, filled and freed three times."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        blocks = [np.ones(BLOCK, np.uint8) for _ in range(COUNT)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc needs to be told")
def test_freed_memory_is_not_fetched_again_page_by_page_and_is_given_back_at_the_end():
    with freed_memory_at_hand():
        pages_fetched()
        kept = pages_fetched()
    given_back = pages_fetched()
    assert kept < 0.1 * given_back
